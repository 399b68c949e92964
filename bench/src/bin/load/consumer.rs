//! A connection that fetches.

use crate::connection::Connection;
use crate::histograms::Latencies;
use crate::plan::Plan;
use crate::request::{due_of, number_of, sender_of};
use crate::setup::{EARLIEST, offsets};
use bytes::Bytes;
use ringlog_engine::{batch, records};
use ringlog_wire::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic};
use ringlog_wire::{ApiKey, ErrorCode, Message, Part, Reader, ResponseHeader, encode_request};
use std::collections::HashMap;
use std::io;

pub(crate) struct Consumer {
    pub(crate) connection: Connection,
    places: Vec<Place>,
    correlation: i32,
    asked: u64,
    /// Records read so far.
    pub(crate) records: u64,
    /// Records that were deleted before they could be read: only who catches up may meet that.
    pub(crate) deleted: u64,
    /// The number that a sender's next record must have in a partition.
    numbers: HashMap<(i32, u32), u64>,
}

/// Where a consumer is in one partition.
pub(crate) struct Place {
    pub(crate) partition: i32,
    pub(crate) next: i64,
    /// Where to end, for who catches up.
    pub(crate) end: Option<i64>,
}

impl Place {
    fn is_left(&self) -> bool {
        self.end.is_none_or(|end| self.next < end)
    }
}

/// What an answer brought.
#[derive(Default)]
pub(crate) struct Fetched {
    pub(crate) bytes: u64,
    pub(crate) records: u64,
    /// When it was asked for.
    pub(crate) asked: u64,
}

/// As high as needs no topic ids.
const VERSION: i16 = 12;
const MAX_WAIT_MS: i32 = 500;

impl Consumer {
    pub(crate) fn new(connection: Connection, places: Vec<Place>) -> Self {
        Self { connection, places, correlation: 0, asked: 0, records: 0, deleted: 0, numbers: HashMap::new() }
    }

    /// Whether it has read all that it was to catch up with.
    pub(crate) fn is_done(&self) -> bool {
        !self.places.iter().any(Place::is_left)
    }

    pub(crate) fn ask(&mut self, plan: &Plan, now: u64) -> io::Result<()> {
        if self.is_done() {
            return Ok(());
        }
        let of_partition = |place: &Place| FetchPartition {
            partition: place.partition,
            fetch_offset: place.next,
            partition_max_bytes: plan.fetch_bytes,
            ..Default::default()
        };
        let topic = FetchTopic {
            topic: plan.topic.as_str().into(),
            partitions: self.places.iter().filter(|place| place.is_left()).map(of_partition).collect(),
            ..Default::default()
        };
        let request = FetchRequest {
            max_wait_ms: MAX_WAIT_MS,
            min_bytes: 1,
            max_bytes: plan.fetch_bytes,
            topics: vec![topic],
            ..Default::default()
        };
        self.correlation = self.correlation.wrapping_add(1);
        self.asked = now;
        let parts =
            encode_request(VERSION, self.correlation, Some("load"), &request).map_err(io::Error::other)?;
        for part in parts {
            let Part::Bytes(bytes) = part else { unreachable!("a fetch has no records") };
            self.connection.send(&bytes)?;
        }
        Ok(())
    }

    /// Takes the answer in, if it is there. `latencies` are from when a batch's first record was due.
    pub(crate) fn fetched(
        &mut self,
        plan: &Plan,
        now: impl Fn() -> u64,
        mut latencies: Option<&mut Latencies>,
    ) -> io::Result<Option<Fetched>> {
        let Some(frame) = self.connection.frame() else { return Ok(None) };
        let mut reader = Reader::new(&frame);
        let header = ResponseHeader::read(&mut reader, ApiKey::Fetch, VERSION).map_err(io::Error::other)?;
        if header.correlation_id != self.correlation {
            return Err(io::Error::other("an answer to another fetch"));
        }
        let response = FetchResponse::decode(&mut reader, VERSION).map_err(io::Error::other)?;
        let mut fetched = Fetched { asked: self.asked, ..Fetched::default() };
        let now = now();
        // In another order than asked, perhaps: Kafka turns those with news to the end.
        for answer in response.responses.iter().flat_map(|topic| &topic.partitions) {
            let index = answer.partition_index;
            let place = self.places.iter_mut().find(|place| place.partition == index);
            let place = place.ok_or_else(|| io::Error::other("a partition that nobody asked for"))?;
            if answer.error_code == ErrorCode::OffsetOutOfRange && plan.catch_up {
                let mut connection = Connection::open(plan.broker)?;
                let earliest = offsets(plan, &mut connection, EARLIEST)?
                    .ok_or_else(|| io::Error::other("no offsets"))?;
                let earliest = earliest[usize::try_from(index).expect("an own partition")];
                if earliest <= place.next {
                    return Err(io::Error::other(format!(
                        "partition {index} begins at {earliest} and has nothing at {}",
                        place.next
                    )));
                }
                self.deleted += earliest.abs_diff(place.next);
                place.next = earliest;
                self.numbers.retain(|(partition, _), _| *partition != index);
                continue;
            }
            if answer.error_code != ErrorCode::None {
                return Err(io::Error::other(format!("partition {index}: {:?}", answer.error_code)));
            }
            let next = &mut place.next;
            let mut rest = answer.records.bytes().cloned().unwrap_or_default();
            fetched.bytes += rest.len() as u64;
            // The last batch may have been cut off.
            while let Some(len) = batch::whole_len(&rest) {
                let one = rest.split_to(len);
                let header =
                    batch::Header::parse(&one).map_err(|error| io::Error::other(format!("{error:?}")))?;
                if header.next_offset() <= *next {
                    continue;
                }
                if header.base_offset > *next {
                    let (found, next) = (header.base_offset, *next);
                    return Err(io::Error::other(format!("offset {found} where {next} was to come")));
                }
                if plan.verify {
                    verify(&one, index, &mut self.numbers)?;
                }
                fetched.records += u64::try_from(header.next_offset() - *next).unwrap_or(0);
                *next = header.next_offset();
                if let Some(latencies) = &mut latencies
                    && let Some(value) = records::first(&one).and_then(|record| record.value)
                    && let Some(due) = due_of(&value)
                {
                    latencies.note(now.saturating_sub(due));
                }
            }
            if plan.again_at.is_some_and(|end| *next >= end) {
                *next = 0;
            }
        }
        self.records += fetched.records;
        Ok(Some(fetched))
    }
}

/// Its checksum holds, and it follows what its sender wrote to this partition before.
fn verify(one: &Bytes, partition: i32, numbers: &mut HashMap<(i32, u32), u64>) -> io::Result<()> {
    let wrong = |what: String| Err(io::Error::other(format!("partition {partition}: {what}")));
    let header = match batch::verify(one) {
        Ok(header) => header,
        Err(error) => return wrong(format!("{error:?}")),
    };
    let value = records::first(one).and_then(|record| record.value);
    let Some((sender, number)) = value.as_deref().and_then(|value| sender_of(value).zip(number_of(value)))
    else {
        return wrong("a batch that the load generator has not made, or compressed".into());
    };
    let after = number + u64::from(header.record_count.unsigned_abs());
    match numbers.insert((partition, sender), after) {
        Some(expected) if expected != number => {
            wrong(format!("producer {sender}'s record {number} where {expected} was to come"))
        }
        _ => Ok(()),
    }
}

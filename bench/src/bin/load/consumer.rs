//! A connection that fetches.

use crate::connection::Connection;
use crate::histograms::Latencies;
use crate::plan::Plan;
use crate::request::due_of;
use ringlog_engine::{batch, records};
use ringlog_wire::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic};
use ringlog_wire::{ApiKey, ErrorCode, Message, Part, Reader, ResponseHeader, encode_request};
use std::io;

pub(crate) struct Consumer {
    pub(crate) connection: Connection,
    /// Its partitions, and the next offset of each.
    partitions: Vec<(i32, i64)>,
    correlation: i32,
    asked: u64,
    /// Records read so far.
    pub(crate) records: u64,
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
    pub(crate) fn new(connection: Connection, partitions: impl Iterator<Item = i32>) -> Self {
        let partitions = partitions.map(|partition| (partition, 0)).collect();
        Self { connection, partitions, correlation: 0, asked: 0, records: 0 }
    }

    pub(crate) fn ask(&mut self, plan: &Plan, now: u64) -> io::Result<()> {
        let of_partition = |(partition, offset): &(i32, i64)| FetchPartition {
            partition: *partition,
            fetch_offset: *offset,
            partition_max_bytes: plan.fetch_bytes,
            ..Default::default()
        };
        let topic = FetchTopic {
            topic: plan.topic.as_str().into(),
            partitions: self.partitions.iter().map(of_partition).collect(),
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
            if answer.error_code != ErrorCode::None {
                let index = answer.partition_index;
                return Err(io::Error::other(format!("partition {index}: {:?}", answer.error_code)));
            }
            let place = self.partitions.iter_mut().find(|(index, _)| *index == answer.partition_index);
            let (_, next) = place.ok_or_else(|| io::Error::other("a partition that nobody asked for"))?;
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

//! `ringlog consume`: records become lines of standard output.

use super::client::{Client, check};
use super::{BrokerAddress, Failure};
use bytes::Bytes;
use clap::Args;
use ringlog_engine::batch::whole_len;
use ringlog_engine::records::{Record, decode};
use ringlog_wire::fetch::{FetchPartition, FetchRequest, FetchTopic};
use ringlog_wire::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use ringlog_wire::{ByteString, ErrorCode, Part, Records};
use std::collections::BTreeMap;
use std::io::{BufWriter, ErrorKind, Write};

#[derive(Args)]
pub(super) struct Arguments {
    /// The topic to read
    topic: String,
    /// Begin with the oldest record instead of the next one to come
    #[arg(long)]
    from_beginning: bool,
    /// Read this partition only
    #[arg(long, value_name = "N")]
    partition: Option<i32>,
    /// Show each record's key, and a tab, before its value
    #[arg(long)]
    key: bool,
    /// End after this many records
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// End when there is nothing more to read
    #[arg(long)]
    exit: bool,
    #[command(flatten)]
    broker: BrokerAddress,
}

/// The highest version that names topics by name instead of by id.
const VERSION_BY_NAME: i16 = 12;
const EARLIEST: i64 = -2;
const LATEST: i64 = -1;
const FETCH_BYTES: i32 = 16 << 20;
const PARTITION_BYTES: i32 = 4 << 20;
/// A fetch waits this long for something to come.
const WAIT_MS: i32 = 500;
/// The most a compressed batch may grow to.
const BATCH_BYTES_MAX: usize = 1 << 30;
/// Records between two lines about progress.
const PROGRESS_RECORDS: u64 = 1_000_000;

pub(super) fn run(arguments: Arguments) -> Result<(), Failure> {
    let mut client = Client::connect(&arguments.broker.address)?;
    let topic = client.topic(&arguments.topic, false)?;
    let partitions: Vec<i32> = topic
        .partitions
        .iter()
        .map(|partition| partition.partition_index)
        .filter(|index| arguments.partition.is_none_or(|wanted| wanted == *index))
        .collect();
    if partitions.is_empty() {
        return Err(Failure(format!("{} has no such partition", arguments.topic)));
    }
    let sought = if arguments.from_beginning { EARLIEST } else { LATEST };
    let mut positions = offsets(&mut client, &arguments.topic, &partitions, sought)?;
    let mut out = Output { out: BufWriter::new(std::io::stdout().lock()), arguments: &arguments, shown: 0 };
    loop {
        let fetched = fetch(&mut client, &arguments.topic, &mut positions, &mut out)?;
        let done = arguments.count.is_some_and(|count| out.shown >= count);
        if out.flush()? == Reading::NobodyReads || done || (arguments.exit && fetched == 0) {
            break;
        }
    }
    eprintln!("{} records read from {}", out.shown, arguments.topic);
    Ok(())
}

fn offsets(
    client: &mut Client,
    topic: &str,
    partitions: &[i32],
    timestamp: i64,
) -> Result<BTreeMap<i32, i64>, Failure> {
    let partitions = partitions
        .iter()
        .map(|index| ListOffsetsPartition { partition_index: *index, timestamp, ..Default::default() })
        .collect();
    let topics = vec![ListOffsetsTopic { name: ByteString::from(topic), partitions }];
    let response = client.call(&ListOffsetsRequest { replica_id: -1, topics, ..Default::default() })?;
    let mut offsets = BTreeMap::new();
    for partition in response.topics.iter().flat_map(|topic| &topic.partitions) {
        check(
            partition.error_code,
            &format!("look up offsets of {topic} partition {}", partition.partition_index),
        )?;
        offsets.insert(partition.partition_index, partition.offset);
    }
    Ok(offsets)
}

/// Fetches once and shows what came; returns how many records that were.
fn fetch(
    client: &mut Client,
    topic: &str,
    positions: &mut BTreeMap<i32, i64>,
    out: &mut Output<'_>,
) -> Result<u64, Failure> {
    let partitions = positions
        .iter()
        .map(|(index, offset)| FetchPartition {
            partition: *index,
            fetch_offset: *offset,
            partition_max_bytes: PARTITION_BYTES,
            ..Default::default()
        })
        .collect();
    let request = FetchRequest {
        replica_id: -1,
        max_wait_ms: WAIT_MS,
        min_bytes: 1,
        max_bytes: FETCH_BYTES,
        session_epoch: -1,
        topics: vec![FetchTopic { topic: ByteString::from(topic), partitions, ..Default::default() }],
        ..Default::default()
    };
    let response = client.call_up_to(&request, VERSION_BY_NAME)?;
    check(response.error_code, "fetch")?;
    let before = out.shown;
    for partition in response.responses.iter().flat_map(|topic| &topic.partitions) {
        let position =
            positions.get_mut(&partition.partition_index).expect("only what was asked for is answered");
        if partition.error_code == ErrorCode::OffsetOutOfRange {
            // What was there has been removed meanwhile: go on with what is left.
            *position = partition.log_start_offset.max(0);
            continue;
        }
        check(partition.error_code, &format!("read {topic} partition {}", partition.partition_index))?;
        for bytes in memory(&partition.records) {
            show(bytes, position, out)?;
        }
    }
    Ok(out.shown - before)
}

fn memory(records: &Records) -> Vec<Bytes> {
    match records {
        Records::Null => Vec::new(),
        Records::Bytes(bytes) => vec![bytes.clone()],
        Records::Chain(parts) => parts
            .iter()
            .map(|part| match part {
                Part::Bytes(bytes) => bytes.clone(),
                Part::External { .. } => unreachable!("what is received is in memory"),
            })
            .collect(),
    }
}

/// Shows the records from `position` on. The last batch may be cut short; the first may begin before.
fn show(mut bytes: Bytes, position: &mut i64, out: &mut Output<'_>) -> Result<(), Failure> {
    while let Some(len) = whole_len(&bytes) {
        let batch = bytes.split_to(len);
        for record in decode(&batch, BATCH_BYTES_MAX)? {
            if record.offset >= *position {
                out.record(&record)?;
                *position = record.offset + 1;
            }
        }
    }
    Ok(())
}

/// Standard output, and what has been shown on it.
struct Output<'a> {
    out: BufWriter<std::io::StdoutLock<'a>>,
    arguments: &'a Arguments,
    shown: u64,
}

#[derive(PartialEq, Eq)]
enum Reading {
    GoesOn,
    NobodyReads,
}

impl Output<'_> {
    fn record(&mut self, record: &Record) -> Result<(), Failure> {
        if self.arguments.count.is_some_and(|count| self.shown >= count) {
            return Ok(());
        }
        self.shown += 1;
        if self.shown.is_multiple_of(PROGRESS_RECORDS) {
            eprintln!("{} records", self.shown);
        }
        let key: &[u8] = record.key.as_deref().unwrap_or_default();
        let value: &[u8] = record.value.as_deref().unwrap_or_default();
        let parts: &[&[u8]] = if self.arguments.key { &[key, b"\t", value, b"\n"] } else { &[value, b"\n"] };
        for part in parts {
            match self.out.write_all(part) {
                // Noticed, and acted on, at the next flush.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
                result => result?,
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<Reading, Failure> {
        match self.out.flush() {
            Ok(()) => Ok(Reading::GoesOn),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Reading::NobodyReads),
            Err(error) => Err(error.into()),
        }
    }
}

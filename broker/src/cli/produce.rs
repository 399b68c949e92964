//! `ringlog produce`: lines of standard input become records.

use super::client::{Client, check};
use super::{BrokerAddress, Failure};
use clap::Args;
use ringlog_engine::batch::Codec;
use ringlog_engine::records::Builder;
use ringlog_wire::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use ringlog_wire::{ByteString, Records};
use std::io::BufRead;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

#[derive(Args)]
pub(super) struct Arguments {
    /// The topic to write to
    topic: String,
    /// Each line is a key, a tab and a value; lines with one key go to one partition
    #[arg(long)]
    key: bool,
    /// Write to this partition only
    #[arg(long, value_name = "N")]
    partition: Option<i32>,
    #[command(flatten)]
    broker: BrokerAddress,
}

/// The highest version that names topics by name instead of by id.
const VERSION_BY_NAME: i16 = 12;
/// A batch is sent at this size, half of what a broker takes by default…
const BATCH_BYTES: usize = 512 * 1024;
/// …or when no line has come for this long.
const LINGER: Duration = Duration::from_millis(5);
/// Lines read ahead.
const LINES_AHEAD: usize = 10_000;
/// Records between two lines about progress.
const PROGRESS_RECORDS: u64 = 1_000_000;

pub(super) fn run(arguments: Arguments) -> Result<(), Failure> {
    let mut client = Client::connect(&arguments.broker.address)?;
    let topic = client.topic(&arguments.topic, true)?;
    let partitions = topic.partitions.len();
    if let Some(partition) = arguments.partition {
        let known = topic.partitions.iter().any(|known| known.partition_index == partition);
        if !known {
            return Err(Failure(format!(
                "{} has no partition {partition}, only 0 to {}",
                arguments.topic,
                partitions - 1
            )));
        }
    }
    let lines = read_lines()?;
    let mut sent: u64 = 0;
    let mut turn = 0;
    while let Some(first) = next(&lines, None)? {
        let mut batches: Vec<Builder> = (0..partitions).map(|_| Builder::new(Codec::None)).collect();
        let mut line = Some(first);
        while let Some(text) = line {
            let (key, value) = split(&text, arguments.key)?;
            let partition = match (arguments.partition, key) {
                (Some(partition), _) => usize::try_from(partition).expect("a known partition"),
                (None, Some(key)) => partition_of(key, partitions),
                (None, None) => turn % partitions,
            };
            batches[partition].push(now(), key, Some(value), &[]);
            line = if batches[partition].len() < BATCH_BYTES { next(&lines, Some(LINGER))? } else { None };
        }
        turn += 1;
        let before = sent;
        sent += send(&mut client, &arguments.topic, batches)?;
        if sent / PROGRESS_RECORDS > before / PROGRESS_RECORDS {
            eprintln!("{sent} records");
        }
    }
    eprintln!("{sent} records written to {}", arguments.topic);
    Ok(())
}

/// Sends what there is for each partition; on stable storage when it returns.
fn send(client: &mut Client, topic: &str, batches: Vec<Builder>) -> Result<u64, Failure> {
    let mut count = 0;
    let partitions = (0..).zip(batches).filter(|(_, batch)| !batch.is_empty()).map(|(index, batch)| {
        count += u64::try_from(batch.count()).expect("counts are not negative");
        PartitionProduceData { index, records: Records::Bytes(batch.build()) }
    });
    let topic_data = TopicProduceData {
        name: ByteString::from(topic),
        partition_data: partitions.collect(),
        ..Default::default()
    };
    let request =
        ProduceRequest { transactional_id: None, acks: -1, timeout_ms: 30_000, topic_data: vec![topic_data] };
    let response = client.call_up_to(&request, VERSION_BY_NAME)?;
    for partition in response.responses.iter().flat_map(|topic| &topic.partition_responses) {
        let what = format!("write to {topic} partition {}", partition.index);
        check(partition.error_code, partition.error_message.as_deref().unwrap_or(&what))?;
    }
    Ok(count)
}

/// Lines of standard input, read by a thread of their own so that a pause between them can be noticed.
fn read_lines() -> Result<Receiver<std::io::Result<Vec<u8>>>, Failure> {
    let (sender, lines) = sync_channel(LINES_AHEAD);
    std::thread::Builder::new().name("stdin".into()).spawn(move || {
        for line in std::io::stdin().lock().split(b'\n') {
            let failed = line.is_err();
            if sender.send(line).is_err() || failed {
                return;
            }
        }
    })?;
    Ok(lines)
}

/// The next line; `None` at the end, or when none comes in time.
fn next(
    lines: &Receiver<std::io::Result<Vec<u8>>>,
    within: Option<Duration>,
) -> Result<Option<Vec<u8>>, Failure> {
    let line = match within {
        None => lines.recv().map_err(|_| RecvTimeoutError::Disconnected),
        Some(within) => lines.recv_timeout(within),
    };
    match line {
        Ok(line) => Ok(Some(line.map_err(|error| Failure(format!("read standard input: {error}")))?)),
        Err(_) => Ok(None),
    }
}

fn split(line: &[u8], with_key: bool) -> Result<(Option<&[u8]>, &[u8]), Failure> {
    if !with_key {
        return Ok((None, line));
    }
    let tab = line.iter().position(|byte| *byte == b'\t');
    let tab = tab.ok_or_else(|| {
        Failure(format!("no tab in `{}`: with --key a line is KEY<tab>VALUE", String::from_utf8_lossy(line)))
    })?;
    Ok((Some(&line[..tab]), &line[tab + 1..]))
}

/// Where the Java client's default partitioner puts this key: murmur2, without its sign, over the partitions.
fn partition_of(key: &[u8], partitions: usize) -> usize {
    let hash = murmur2(key) & 0x7fff_ffff;
    usize::try_from(hash).expect("31 bits") % partitions
}

/// Austin Appleby's MurmurHash2 with the seed Kafka's clients use.
fn murmur2(bytes: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mix = |mut k: u32| {
        k = k.wrapping_mul(M);
        k ^= k >> 24;
        k.wrapping_mul(M)
    };
    let mut hash = 0x9747_b28c ^ u32::try_from(bytes.len()).expect("keys are short");
    let mut words = bytes.chunks_exact(4);
    for word in &mut words {
        let word = u32::from_le_bytes(word.try_into().expect("four bytes"));
        hash = hash.wrapping_mul(M) ^ mix(word);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        for (at, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * at);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ hash >> 15
}

/// The time, in milliseconds since 1970.
#[expect(clippy::disallowed_methods, reason = "a client stamps its records with the time")]
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hashes as Apache Kafka's own tests have them (`UtilsTest.testMurmur2`).
    #[test]
    fn keys_hash_as_in_the_java_client() {
        let check = |key: &str, hash: i32| assert_eq!(murmur2(key.as_bytes()).cast_signed(), hash, "{key}");
        check("21", -973_932_308);
        check("foobar", -790_332_482);
        check("a-little-bit-long-string", -985_981_536);
        check("a-little-bit-longer-string", -1_486_304_829);
        check("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971);
        check("abc", 479_470_107);
    }

    #[test]
    fn a_line_with_a_key_needs_its_tab() {
        assert_eq!(split(b"k\tv\tw", true).ok(), Some((Some(&b"k"[..]), &b"v\tw"[..])));
        assert_eq!(split(b"k\tv", false).ok(), Some((None, &b"k\tv"[..])));
        assert!(split(b"kv", true).is_err());
    }
}

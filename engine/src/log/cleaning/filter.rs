//! One batch as a cleaned log keeps it (Kafka's `MemoryRecords.filterTo` and `Cleaner.shouldRetainRecord`).
//!
//! Offsets, epoch and producer stay as they are, and so does a batch of which everything stays. A batch that keeps its first marks of
//! deletion gets the time at which they may go, its *delete horizon*, in the place of its base timestamp.

use super::offset_map::OffsetMap;
use crate::batch::{self, Codec, DELETE_HORIZON, HEADER_LEN, Header};
use crate::limits::DECOMPRESSED_BYTES_MAX;
use crate::log::Offset;
use crate::log::append::NO_TIMESTAMP;
use crate::records::{self, RecordsError};
use bytes::{Buf, Bytes};

/// By what batches are looked through.
pub(super) struct Rules {
    /// When the round began, in wall-clock milliseconds.
    pub(super) now: i64,
    /// `delete.retention.ms`.
    pub(super) delete_retention_ms: u64,
}

/// What becomes of a batch.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// It stays as it is.
    Whole,
    /// This stays of it.
    Part(Vec<u8>),
    /// None of its records; this is its header, as a batch of its own.
    Header(Vec<u8>),
}

/// A record, as far as cleaning needs to know it.
struct Seen {
    offset: Offset,
    /// Its time, less the batch's base timestamp.
    timestamp_delta: i64,
    key: Option<Bytes>,
    is_deletion: bool,
    /// All of it, with the length in front.
    bytes: Bytes,
    /// Where what follows the timestamp begins in it.
    after_timestamp: usize,
    attributes: u8,
}

/// The records of a batch, one after the other.
struct Records {
    body: Bytes,
    left: i32,
    base_offset: Offset,
}

impl Records {
    fn of(batch: &Bytes, header: &Header) -> Result<Self, RecordsError> {
        let codec = header.codec().ok_or(RecordsError::UnknownCodec)?;
        let body = records::decompress(codec, &batch.slice(HEADER_LEN..), DECOMPRESSED_BYTES_MAX)?;
        Ok(Self { body, left: header.record_count, base_offset: header.base_offset })
    }

    fn next(&mut self) -> Result<Option<Seen>, RecordsError> {
        if self.left <= 0 {
            return if self.body.is_empty() { Ok(None) } else { Err(RecordsError::Malformed) };
        }
        self.left -= 1;
        let start = self.body.clone();
        let len = records::length(&mut self.body)?;
        if len == 0 || len > self.body.len() {
            return Err(RecordsError::Malformed);
        }
        let all = start.slice(..start.len() - self.body.len() + len);
        let mut record = self.body.split_to(len);
        let attributes = record.get_u8();
        let timestamp_delta = records::varint(&mut record)?;
        let after_timestamp = all.len() - record.len();
        let offset_delta = records::varint(&mut record)?;
        let key = records::nullable(&mut record)?;
        let is_deletion = records::varint(&mut record)? < 0;
        let offset = self.base_offset.wrapping_add(offset_delta);
        Ok(Some(Seen { offset, timestamp_delta, key, is_deletion, bytes: all, after_timestamp, attributes }))
    }
}

/// Notes the keys of a batch's records from an offset on. False where the map is full: it has been looked at up to the record before.
pub(super) fn note(
    map: &mut OffsetMap,
    batch: &Bytes,
    header: &Header,
    from: Offset,
) -> Result<bool, RecordsError> {
    let mut records = Records::of(batch, header)?;
    while let Some(record) = records.next()? {
        if record.offset < from {
            continue;
        }
        match &record.key {
            Some(key) if !map.put(key, record.offset) => return Ok(false),
            Some(_) => {}
            None => map.looked_at(record.offset),
        }
    }
    map.looked_at(header.last_offset());
    Ok(true)
}

/// What stays of a batch.
pub(super) fn filter(
    map: &OffsetMap,
    rules: &Rules,
    batch: &Bytes,
    header: &Header,
) -> Result<Kept, RecordsError> {
    if header.is_control() {
        return Ok(Kept::Whole);
    }
    if header.is_emptied() {
        return Ok(Kept::Header(batch.to_vec()));
    }
    let mut records = Records::of(batch, header)?;
    let mut kept = Vec::new();
    let mut keeps_deletions = false;
    while let Some(record) = records.next()? {
        let looked_at = record.offset <= map.latest();
        if looked_at && !stays(map, rules, header, &record) {
            continue;
        }
        keeps_deletions |= looked_at && record.is_deletion;
        kept.push(record);
    }
    if kept.is_empty() {
        return Ok(Kept::Header(emptied(header)));
    }
    let sets_horizon = keeps_deletions && header.delete_horizon().is_none();
    let all = usize::try_from(header.record_count).is_ok_and(|count| count == kept.len());
    if all && !sets_horizon {
        return Ok(Kept::Whole);
    }
    Ok(Kept::Part(rebuilt(rules, header, &kept, sets_horizon)))
}

fn stays(map: &OffsetMap, rules: &Rules, header: &Header, record: &Seen) -> bool {
    // Without a key it means nothing to a compacted topic.
    let Some(key) = &record.key else { return false };
    if map.get(key).is_some_and(|last| last > record.offset) {
        return false;
    }
    !record.is_deletion || header.delete_horizon().is_none_or(|horizon| rules.now < horizon)
}

/// A batch of these records of another one.
fn rebuilt(rules: &Rules, header: &Header, kept: &[Seen], sets_horizon: bool) -> Vec<u8> {
    let mut header = *header;
    let base_before = header.base_timestamp;
    if sets_horizon {
        let retention = i64::try_from(rules.delete_retention_ms).unwrap_or(i64::MAX);
        header.base_timestamp = rules.now.saturating_add(retention);
        header.attributes |= DELETE_HORIZON;
    }
    let mut body = Vec::with_capacity(kept.iter().map(|record| record.bytes.len() + 9).sum());
    let mut newest = NO_TIMESTAMP;
    for record in kept {
        let timestamp = base_before.wrapping_add(record.timestamp_delta);
        newest = newest.max(timestamp);
        if !sets_horizon {
            body.extend_from_slice(&record.bytes);
            continue;
        }
        let rest = &record.bytes[record.after_timestamp..];
        let mut delta = Vec::with_capacity(10);
        records::put_varint(&mut delta, timestamp.wrapping_sub(header.base_timestamp));
        let len = 1 + delta.len() + rest.len();
        records::put_varint(&mut body, i64::try_from(len).expect("a record is below 2 GiB"));
        body.push(record.attributes);
        body.extend_from_slice(&delta);
        body.extend_from_slice(rest);
    }
    if !header.is_log_append_time() {
        header.max_timestamp = newest;
    }
    header.record_count = i32::try_from(kept.len()).expect("no more than there were");
    let codec = header.codec().unwrap_or(Codec::None);
    batch::assemble(&header, &records::compress(codec, body))
}

/// A batch without its records (Kafka's `DefaultRecordBatch.writeEmptyHeader`): it tells its producer's last sequence, and that the
/// log has come as far.
fn emptied(header: &Header) -> Vec<u8> {
    let kind = batch::LOG_APPEND_TIME | batch::TRANSACTIONAL | batch::CONTROL;
    let header = Header {
        attributes: header.attributes & kind,
        base_timestamp: NO_TIMESTAMP,
        record_count: 0,
        ..*header
    };
    batch::assemble(&header, &[])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::{Builder, Record, decode};

    const CODECS: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];
    const RULES: Rules = Rules { now: 1_000_000, delete_retention_ms: 500 };

    type Sent = (Option<&'static [u8]>, Option<&'static [u8]>);

    /// A batch of these records from offset 100 on, a millisecond after each other from 5,000 on.
    fn batch(codec: Codec, records: &[Sent]) -> (Bytes, Header) {
        let mut builder = Builder::new(codec).producer(7, 3, 40);
        for (n, (key, value)) in (0..).zip(records) {
            builder.push(5_000 + n, *key, *value, &[(b"h", Some(b"x")), (b"i", None)]);
        }
        let mut batch = builder.build().to_vec();
        batch::stamp(&mut batch, 100, 9);
        let header = batch::verify(&batch).unwrap();
        (batch.into(), header)
    }

    fn map(known: &[(&[u8], Offset)], latest: Offset) -> OffsetMap {
        let mut map = OffsetMap::new(64, 0.9, (5, 6));
        for (key, offset) in known {
            assert!(map.put(key, *offset));
        }
        map.looked_at(latest);
        map
    }

    fn part(kept: Kept) -> (Header, Vec<Record>) {
        let Kept::Part(bytes) = kept else { panic!("{kept:?}") };
        let header = batch::verify(&bytes).expect("a batch");
        (header, decode(&bytes.into(), 1 << 20).expect("whole"))
    }

    const A: Sent = (Some(b"a"), Some(b"1"));
    const B: Sent = (Some(b"b"), Some(b"2"));
    const GONE: Sent = (Some(b"g"), None);
    const KEYLESS: Sent = (None, Some(b"3"));

    #[test]
    fn what_is_older_than_the_last_of_its_key_goes_in_every_codec() {
        for codec in CODECS {
            let (bytes, header) = batch(codec, &[A, B, A, KEYLESS, B]);
            let before = decode(&bytes, 1 << 20).unwrap();
            let map = map(&[(b"a", 102), (b"b", 500)], 500);
            let (kept, records) = part(filter(&map, &RULES, &bytes, &header).unwrap());
            // The last of `a` is here; of `b` it is elsewhere; what has no key goes.
            assert_eq!(records, [before[2].clone()], "{codec:?}");
            assert_eq!((kept.base_offset, kept.last_offset(), kept.leader_epoch), (100, 104, 9));
            assert_eq!((kept.producer_id, kept.producer_epoch, kept.base_sequence), (7, 3, 40));
            assert_eq!((kept.codec(), kept.record_count), (Some(codec), 1));
            assert_eq!((kept.base_timestamp, kept.max_timestamp), (5_000, 5_002));
            assert_eq!(kept.delete_horizon(), None);
        }
    }

    #[test]
    fn a_batch_of_which_all_stays_is_not_touched() {
        let (bytes, header) = batch(Codec::Gzip, &[A, B]);
        let map = map(&[(b"a", 100), (b"c", 7)], 500);
        assert_eq!(filter(&map, &RULES, &bytes, &header), Ok(Kept::Whole));
    }

    #[test]
    fn what_has_not_been_looked_at_stays() {
        let (bytes, header) = batch(Codec::None, &[A, KEYLESS, GONE]);
        let map = map(&[], 99);
        assert_eq!(filter(&map, &RULES, &bytes, &header), Ok(Kept::Whole));
    }

    #[test]
    fn a_batch_of_which_nothing_stays_keeps_its_header() {
        for codec in CODECS {
            let (bytes, header) = batch(codec, &[A, A]);
            let map = map(&[(b"a", 200)], 200);
            let Kept::Header(left) = filter(&map, &RULES, &bytes, &header).unwrap() else {
                panic!("nothing stays")
            };
            let left = Bytes::from(left);
            let kept = batch::verify(&left).expect("a batch");
            assert_eq!((kept.record_count, kept.total_len()), (0, HEADER_LEN));
            assert_eq!((kept.base_offset, kept.last_offset(), kept.leader_epoch), (100, 101, 9));
            assert_eq!((kept.producer_id, kept.producer_epoch, kept.base_sequence), (7, 3, 40));
            assert_eq!((kept.base_timestamp, kept.max_timestamp), (-1, 5_001));
            assert_eq!(decode(&left, 1 << 20), Ok(Vec::new()));
            assert_eq!(filter(&map, &RULES, &left, &kept), Ok(Kept::Header(left.to_vec())));
        }
    }

    #[test]
    fn a_mark_of_deletion_stays_for_its_time_and_then_goes() {
        for codec in CODECS {
            let (bytes, header) = batch(codec, &[A, GONE, B]);
            let before = decode(&bytes, 1 << 20).unwrap();
            let map = map(&[(b"g", 101)], 500);
            let (marked, records) = part(filter(&map, &RULES, &bytes, &header).unwrap());
            assert_eq!(records, before, "all is there, with its time");
            assert_eq!(marked.delete_horizon(), Some(1_000_500));
            assert_eq!(marked.max_timestamp, 5_002);
            let Kept::Part(bytes) = filter(&map, &RULES, &bytes, &header).unwrap() else { unreachable!() };
            let bytes = Bytes::from(bytes);
            for now in [1_000_001, 1_000_499] {
                let rules = Rules { now, ..RULES };
                assert_eq!(filter(&map, &rules, &bytes, &marked), Ok(Kept::Whole));
            }
            let rules = Rules { now: 1_000_500, ..RULES };
            let (kept, records) = part(filter(&map, &rules, &bytes, &marked).unwrap());
            assert_eq!(records, [before[0].clone(), before[2].clone()]);
            assert_eq!(kept.delete_horizon(), Some(1_000_500), "it is said once");
        }
    }

    #[test]
    fn a_full_map_has_looked_at_what_it_holds() {
        let (bytes, header) = batch(Codec::Lz4, &[A, B, A, GONE, B]);
        let mut map = OffsetMap::new(3, 1.0, (0, 0));
        assert_eq!(note(&mut map, &bytes, &header, 0), Ok(false));
        assert_eq!(
            (map.latest(), map.get(b"a"), map.get(b"b"), map.get(b"g")),
            (102, Some(102), Some(101), None)
        );
        let mut map = OffsetMap::new(8, 1.0, (0, 0));
        assert_eq!(note(&mut map, &bytes, &header, 103), Ok(true));
        assert_eq!(
            (map.latest(), map.get(b"a"), map.get(b"b"), map.get(b"g")),
            (104, None, Some(104), Some(103))
        );
    }

    #[test]
    fn control_batches_stay() {
        let mut builder = Builder::new(Codec::None).producer(1, 0, -1).transactional().control();
        builder.push(1, Some(&[0; 4]), Some(&[0; 6]), &[]);
        let bytes = builder.build();
        let header = batch::verify(&bytes).unwrap();
        assert_eq!(filter(&map(&[(&[0; 4], 99)], 99), &RULES, &bytes, &header), Ok(Kept::Whole));
    }

    #[test]
    fn records_that_cannot_be_read_are_told() {
        let (bytes, header) = batch(Codec::None, &[A, B]);
        let header = Header { record_count: 3, ..header };
        assert!(filter(&map(&[], 0), &RULES, &bytes, &header).is_err());
    }
}

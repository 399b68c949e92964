//! Transactions in a log that Apache Kafka wrote: which were aborted. Kafka's `.txnindex`.
//!
//! ```text
//!   entry: version i16 = 0 | producer id i64 | first offset i64 | last offset i64 | last stable offset i64
//! ```
//!
//! An entry lies in the index of the segment that holds the transaction's marker, which is its last offset.

use super::files::{read_file, remove_file, write_file};
use super::{Log, LogDir, Offset, ReadParts};
use crate::batch::Header;
use crate::io::Io;
use crate::records;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::io;

/// A transaction whose records readers of committed records must skip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// Whose it was.
    pub producer_id: i64,
    /// The offset of its first record.
    pub first_offset: Offset,
    /// The offset of its marker.
    pub last_offset: Offset,
    /// Everything before this offset was decided when it was aborted.
    pub last_stable_offset: Offset,
}

/// The ending of the index's file.
pub(super) const TRANSACTION_INDEX: &str = "txnindex";

const ENTRY_BYTES: usize = 34;
const VERSION: i16 = 0;

impl AbortedTransaction {
    fn encode(&self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        bytes[..2].copy_from_slice(&VERSION.to_be_bytes());
        let numbers = [self.producer_id, self.first_offset, self.last_offset, self.last_stable_offset];
        for (place, number) in bytes[2..].chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_be_bytes());
        }
        bytes
    }
}

/// As in the file.
pub(super) fn encode(entries: &[AbortedTransaction]) -> Vec<u8> {
    entries.iter().flat_map(AbortedTransaction::encode).collect()
}

/// From a file; `None` if its entries are not whole, make no sense or do not go forward.
pub(super) fn decode(bytes: &[u8]) -> Option<Vec<AbortedTransaction>> {
    let (entries, rest) = bytes.as_chunks::<ENTRY_BYTES>();
    let mut aborted: Vec<AbortedTransaction> = Vec::with_capacity(entries.len());
    for entry in entries {
        let number = |at: usize| entry[at..].first_chunk().map(|bytes| i64::from_be_bytes(*bytes));
        let one = AbortedTransaction {
            producer_id: number(2)?,
            first_offset: number(10)?,
            last_offset: number(18)?,
            last_stable_offset: number(26)?,
        };
        let sane = entry[..2] == VERSION.to_be_bytes() && one.first_offset <= one.last_offset;
        if !sane || aborted.last().is_some_and(|last| last.last_offset >= one.last_offset) {
            return None;
        }
        aborted.push(one);
    }
    rest.is_empty().then_some(aborted)
}

/// Follows the transactions of a log, batch after batch.
#[derive(Debug, Default)]
pub(super) struct Transactions {
    /// The first offset of each producer's open one.
    pub(super) open: BTreeMap<i64, Offset>,
    pub(super) aborted: Vec<AbortedTransaction>,
}

impl Transactions {
    /// Takes note of the next batch; `None` if it is a marker that makes no sense.
    pub(super) fn note(&mut self, header: &Header, batch: &Bytes) -> Option<()> {
        if !header.is_control() {
            if header.is_transactional() {
                self.open.entry(header.producer_id).or_insert(header.base_offset);
            }
            return Some(());
        }
        let marker = records::decode(batch, MARKER_BYTES_MAX).ok()?.into_iter().next()?;
        // Key: version i16, what it says i16.
        let says = marker.key?.get(2..4).map(|says| i16::from_be_bytes([says[0], says[1]]))?;
        if !(ABORT..=COMMIT).contains(&says) {
            return Some(());
        }
        let Some(first_offset) = self.open.remove(&header.producer_id) else { return Some(()) };
        if says == ABORT {
            let undecided = self.open.values().min().copied();
            self.aborted.push(AbortedTransaction {
                producer_id: header.producer_id,
                first_offset,
                last_offset: header.last_offset(),
                last_stable_offset: undecided.unwrap_or(header.next_offset()),
            });
        }
        Some(())
    }
}

/// What a marker's key says.
const ABORT: i16 = 0;
const COMMIT: i16 = 1;

/// A marker is a few bytes.
const MARKER_BYTES_MAX: usize = 1 << 16;

impl Log {
    /// The aborted transactions that have records at or past `from`, and any below `up_to`, in the order of their markers.
    pub fn aborted_transactions(&self, from: Offset, up_to: Offset) -> Vec<AbortedTransaction> {
        let state = self.0.state.borrow();
        let begin = state.aborted.partition_point(|aborted| aborted.last_offset < from);
        state.aborted[begin..].iter().filter(|aborted| aborted.first_offset < up_to).copied().collect()
    }

    /// Those that records which were read from `from` on may be of: a reader of committed records has to know them, and no others.
    pub fn aborted_in(&self, from: Offset, read: &ReadParts) -> Vec<AbortedTransaction> {
        self.aborted_transactions(from, read.end)
    }

    /// The log has been cut to this offset: so is what is known of aborted transactions, in memory and on disk.
    pub(super) async fn cut_aborted_transactions(&self, base: Offset, end: Offset) -> io::Result<()> {
        let kept = {
            let state = self.0.state.borrow();
            let kept = state.aborted.partition_point(|aborted| aborted.last_offset < end);
            if kept == state.aborted.len() {
                return Ok(());
            }
            Box::<[_]>::from(&state.aborted[..kept])
        };
        let in_segment = kept.partition_point(|aborted| aborted.last_offset < base);
        replace_index(self.0.shard.io(), &self.0.place, base, &kept[in_segment..]).await?;
        self.0.state.borrow_mut().aborted = kept;
        Ok(())
    }
}

/// Reads the indexes of these segments, of a log that ends at `end`. Entries past it tell of what a truncation that was cut short has
/// taken away: they are dropped, on disk too, before anything else gets their offsets.
pub(super) async fn load(
    io: &Io,
    place: &LogDir,
    bases: &[Offset],
    end: Offset,
) -> io::Result<Vec<AbortedTransaction>> {
    let mut aborted: Vec<AbortedTransaction> = Vec::new();
    for &base in bases {
        let path = place.offset_file(base, TRANSACTION_INDEX);
        let Some(bytes) = read_file(io, place, &path).await? else { continue };
        let damaged = || {
            let what = format!("{} is damaged: restore it from a copy", path.display());
            io::Error::new(io::ErrorKind::InvalidData, what)
        };
        let mut entries = decode(&bytes).ok_or_else(damaged)?;
        let kept = entries.partition_point(|one| one.last_offset < end);
        if kept < entries.len() {
            entries.truncate(kept);
            replace_index(io, place, base, &entries).await?;
        }
        let follow = entries.first().zip(aborted.last());
        if follow.is_some_and(|(next, last)| next.last_offset <= last.last_offset) {
            return Err(damaged());
        }
        aborted.extend(entries);
    }
    Ok(aborted)
}

/// Replaces a segment's index; without entries there is none.
pub(super) async fn replace_index(
    io: &Io,
    place: &LogDir,
    base: Offset,
    entries: &[AbortedTransaction],
) -> io::Result<()> {
    let path = place.offset_file(base, TRANSACTION_INDEX);
    if entries.is_empty() {
        remove_file(io, place, &path).await?;
    } else {
        write_file(io, place, &path, Bytes::from(encode(entries))).await?;
    }
    io.sync_dir(place.dir, place.path.clone()).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{Codec, verify};
    use crate::records::Builder;

    fn one(
        producer_id: i64,
        first_offset: Offset,
        last_offset: Offset,
        stable: Offset,
    ) -> AbortedTransaction {
        AbortedTransaction { producer_id, first_offset, last_offset, last_stable_offset: stable }
    }

    #[test]
    fn entries_are_as_kafka_writes_them_and_damaged_ones_are_refused() {
        let entries = [one(7, 10, 20, 21), one(8, 5, 30, 31)];
        let bytes = encode(&entries);
        let expected = [&[0; 9][..], &[7], &[0; 7], &[10], &[0; 7], &[20], &[0; 7], &[21]].concat();
        assert_eq!(bytes[..34], expected);
        assert_eq!(decode(&bytes).as_deref(), Some(&entries[..]));
        assert_eq!(decode(&[]).as_deref(), Some(&[][..]));
        assert_eq!(decode(&bytes[..67]), None, "not whole");
        assert_eq!(decode(&[&bytes[34..], &bytes[..34]].concat()), None, "backward");
        assert_eq!(decode(&encode(&[one(7, 21, 20, 21)])), None, "begins after its end");
    }

    /// A batch of one record from this producer, a marker if it says so.
    fn batch(producer_id: i64, offset: Offset, marker: Option<i16>) -> Bytes {
        let mut builder = Builder::new(Codec::None).producer(producer_id, 0, 0).transactional();
        if let Some(says) = marker {
            builder = builder.control();
            let key = [&0_i16.to_be_bytes()[..], &says.to_be_bytes()].concat();
            builder.push(1, Some(&key), Some(&[0; 6]), &[]);
        } else {
            builder.push(1, None, Some(b"v"), &[]);
        }
        let mut batch = builder.build().to_vec();
        crate::batch::stamp(&mut batch, offset, 0);
        batch.into()
    }

    #[test]
    fn transactions_end_with_their_producers_marker() {
        let mut transactions = Transactions::default();
        let log = [(1, None), (2, None), (1, None), (1, Some(ABORT)), (2, Some(COMMIT)), (2, Some(ABORT))];
        for (offset, (producer_id, marker)) in (10..).zip(log) {
            let batch = batch(producer_id, offset, marker);
            let header = verify(&batch).expect("a batch that was built is valid");
            assert_eq!(transactions.note(&header, &batch), Some(()));
        }
        // The second producer's was still open, and its last marker ends nothing.
        assert_eq!(transactions.aborted, [one(1, 10, 13, 11)]);
        assert!(transactions.open.is_empty());
    }
}

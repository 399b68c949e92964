//! What comes from a file is checked before it is handed out: batches by their CRC and their place, indexes by the batches they point to.
//!
//! Each part of a segment is read into memory and checked once; from then on it may be sent from its file without being looked at
//! (`sendfile`). What changes on the disk after that meets the CRC that consumers check.

use super::append::NO_TIMESTAMP;
use super::error::ReadError;
use super::scan::Scan;
use super::{Gaps, Log, Offset};
use crate::batch::{self, Header};
use std::collections::BTreeMap;
use std::ops::Range;

/// The parts of one segment's file that have been checked, as file positions.
#[derive(Debug, Default)]
pub(super) struct Verified(BTreeMap<u64, u64>);

impl Verified {
    /// Whether all of a range has been checked.
    pub(super) fn covers(&self, range: &Range<u64>) -> bool {
        let before = self.0.range(..=range.start).next_back();
        before.is_some_and(|(_, end)| *end >= range.end)
    }

    /// A range has been checked. It grows together with those it meets.
    pub(super) fn add(&mut self, range: Range<u64>) {
        let Range { mut start, mut end } = range;
        let touched: Vec<u64> = self
            .0
            .range(..=end)
            .rev()
            .take_while(|(_, there)| **there >= start)
            .map(|(start, _)| *start)
            .collect();
        if touched.is_empty() && self.0.len() >= RANGES_MAX {
            return;
        }
        for at in touched {
            let there = self.0.remove(&at).expect("just seen");
            (start, end) = (start.min(at), end.max(there));
        }
        self.0.insert(start, end);
    }
}

/// Ranges remembered of one segment: readers at as many places of it. More are checked again and again.
const RANGES_MAX: usize = 64;

impl Log {
    /// How many of these bytes, batches from `pos` on, are whole and what was written. Zero if the first of them is not.
    pub(super) fn verified_len(&self, base: Offset, pos: u64, bytes: &[u8]) -> usize {
        let mut end = 0;
        let mut expected = None;
        while let Some(len) = batch::whole_len(&bytes[end..]) {
            let Ok(header) = batch::verify(&bytes[end..end + len]) else { break };
            if !self.is_in_place(&header, expected) {
                break;
            }
            expected = Some(header.next_offset());
            end += len;
        }
        let mut state = self.0.state.borrow_mut();
        if let Some(segment) = state.segments.get_mut(&base) {
            let settled = segment.settled().min(pos + end as u64);
            if pos < settled {
                segment.verified.add(pos..settled);
            }
        }
        end
    }

    /// Whether all of a range of a segment's file has been checked before.
    pub(super) fn is_verified(&self, base: Offset, range: Range<u64>) -> bool {
        let state = self.0.state.borrow();
        state.segments.get(&base).is_some_and(|segment| segment.verified.covers(&range))
    }

    /// Whether a batch may lie where it was found, going by what its CRC does not cover: its base offset and its leader epoch.
    /// `expected` is where the batch before it ends.
    pub(super) fn is_in_place(&self, header: &Header, expected: Option<Offset>) -> bool {
        let state = self.0.state.borrow();
        let gaps = state.gaps != Gaps::None;
        let follows = expected
            .is_none_or(|expected| header.base_offset == expected || (gaps && header.base_offset > expected));
        // The epochs of a log that Apache Kafka wrote are its own business.
        let known = state.epochs.at(header.base_offset);
        let epoch = gaps || known.is_none_or(|epoch| epoch == header.leader_epoch);
        follows && epoch
    }

    /// Whether the batch that an entry of the offset index points to is the one it speaks of.
    pub(super) fn is_entrys(&self, header: &Header, entry: Offset) -> bool {
        let gaps = self.0.state.borrow().gaps != Gaps::None;
        // Kafka may point to the first of several batches appended together.
        header.last_offset() == entry || (gaps && header.base_offset <= entry)
    }

    /// Whether the newest entry of a segment's time index, by which segments are passed over, speaks of a batch that is there, and no
    /// batch near the segment's end is newer.
    pub(super) async fn time_index_holds(&self, base: Offset) -> Result<bool, ReadError> {
        let (last, near, size) = {
            let state = self.0.state.borrow();
            let Some(segment) = state.segments.get(&base) else { return Ok(true) };
            let Some(indexes) = segment.indexes.as_ref() else { return Ok(true) };
            (
                indexes.times.last(),
                u64::from(indexes.offsets.start_before(segment.size)),
                segment.written_size,
            )
        };
        if let Some((timestamp, offset)) = last
            && !self.time_entry_holds(base, timestamp, offset).await?
        {
            return Ok(false);
        }
        let newest = last.map_or(NO_TIMESTAMP, |(timestamp, _)| timestamp);
        let io_error = |error| ReadError::Io { file: self.log_path(base), error };
        let Some(source) = self.filed_source(base).await.map_err(io_error)? else { return Ok(true) };
        let mut scan = Scan::near(self.0.shard.io(), source, near, size);
        while let Some(header) = scan.peek().await.map_err(io_error)? {
            if header.max_timestamp > newest && !header.is_emptied() {
                return Ok(false);
            }
            scan.skip(&header);
        }
        Ok(true)
    }

    /// Whether an entry of the time index speaks of a batch that is there: one with this largest timestamp around this offset.
    pub(super) async fn time_entry_holds(
        &self,
        base: Offset,
        timestamp: i64,
        offset: Offset,
    ) -> Result<bool, ReadError> {
        let file = self.log_path(base);
        let io_error = |error| ReadError::Io { file: file.clone(), error };
        let Some(source) = self.filed_source(base).await.map_err(io_error)? else { return Ok(true) };
        let (near, size) = {
            let state = self.0.state.borrow();
            let Some(segment) = state.segments.get(&base) else { return Ok(true) };
            let Some(indexes) = segment.indexes.as_ref() else { return Ok(true) };
            (u64::from(indexes.offsets.lookup(offset)), segment.written_size)
        };
        let mut scan = Scan::near(self.0.shard.io(), source, near, size);
        while let Some(header) = scan.peek().await.map_err(io_error)? {
            if header.last_offset() >= offset {
                return Ok(header.base_offset <= offset && header.max_timestamp == timestamp);
            }
            scan.skip(&header);
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_grow_together() {
        let mut verified = Verified::default();
        assert!(!verified.covers(&(0..1)));
        for range in [10..20, 30..40, 20..25] {
            verified.add(range);
        }
        assert!(verified.covers(&(10..25)) && verified.covers(&(30..40)) && !verified.covers(&(24..31)));
        verified.add(22..35);
        assert_eq!(verified.0, BTreeMap::from([(10, 40)]));
        verified.add(0..5);
        assert!(!verified.covers(&(4..11)));
    }

    #[test]
    fn ranges_are_bounded() {
        let mut verified = Verified::default();
        for at in 0..1000 {
            verified.add(at * 10..at * 10 + 5);
        }
        assert_eq!(verified.0.len(), RANGES_MAX);
        verified.add(0..10_000);
        assert_eq!(verified.0, BTreeMap::from([(0, 10_000)]));
    }
}

//! Finding records by time.

use super::error::ReadError;
use super::scan::Scan;
use super::{Log, Offset};
use crate::batch::Header;
use crate::limits::DECOMPRESSED_BYTES_MAX;
use crate::records;
use bytes::Bytes;
use std::io;

/// A record found by its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimedOffset {
    /// Its offset.
    pub offset: Offset,
    /// Its timestamp.
    pub timestamp: i64,
    /// The leader epoch it was written in, if known.
    pub leader_epoch: Option<i32>,
}

impl Log {
    /// The first record of this time or later (Kafka's `fetchOffsetByTimestamp`); `None` if there is none.
    pub async fn offset_for_time(&self, timestamp: i64) -> Result<Option<TimedOffset>, ReadError> {
        let truncations = self.truncations();
        let result = self.first_of_time(timestamp).await;
        self.unless_cut(truncations, result)
    }

    async fn first_of_time(&self, timestamp: i64) -> Result<Option<TimedOffset>, ReadError> {
        let mut next = self.segment_of(self.marks().log_start);
        while let Some(base) = next {
            if self.max_timestamp_of(base).await?.is_some_and(|(max, _)| max >= timestamp) {
                let found = self.find_in_segment(base, timestamp).await?;
                if found.is_some() {
                    return Ok(found);
                }
            }
            next = self.segment_after(base);
        }
        Ok(None)
    }

    /// The record with the largest timestamp, the first of several (KIP-734); `None` if no record has one.
    pub async fn max_timestamp(&self) -> Result<Option<TimedOffset>, ReadError> {
        let truncations = self.truncations();
        let result = self.last_of_time().await;
        self.unless_cut(truncations, result)
    }

    async fn last_of_time(&self) -> Result<Option<TimedOffset>, ReadError> {
        let mut next = self.segment_of(self.marks().log_start);
        let mut largest: Option<(i64, Offset)> = None;
        while let Some(base) = next {
            if let Some((max, _)) = self.max_timestamp_of(base).await?
                && largest.is_none_or(|(known, _)| max > known)
            {
                largest = Some((max, base));
            }
            next = self.segment_after(base);
        }
        let Some((timestamp, base)) = largest else { return Ok(None) };
        self.find_in_segment(base, timestamp).await
    }

    /// The largest timestamp in a segment.
    async fn max_timestamp_of(&self, base: Offset) -> Result<Option<(i64, Offset)>, ReadError> {
        let known =
            |log: &Self| log.0.state.borrow().segments.get(&base).and_then(|segment| segment.max_timestamp);
        if let Some(max) = known(self) {
            return Ok(Some(max));
        }
        self.load_indexes(base).await?;
        Ok(known(self))
    }

    /// The first record of this time or later in one segment.
    async fn find_in_segment(&self, base: Offset, timestamp: i64) -> Result<Option<TimedOffset>, ReadError> {
        let place = self.log_path(base);
        let io_error = |error: io::Error| ReadError::Io { file: place.clone(), error };
        self.load_indexes(base).await?;
        let Some(file) = self.file_to_read(base).await.map_err(io_error)? else { return Ok(None) };
        let (near, size, from) = {
            let state = self.0.state.borrow();
            let Some(segment) = state.segments.get(&base) else { return Ok(None) };
            let Some(indexes) = segment.indexes.as_ref() else { return Ok(None) };
            let near = indexes.offsets.lookup(indexes.times.lookup(timestamp));
            (u64::from(near), segment.written_size, state.marks.log_start)
        };
        let mut scan = Scan::near(self.0.shard.io(), file, near, size);
        while scan.pos() < size {
            let pos = scan.pos();
            let corrupt = || ReadError::Corrupt { file: place.clone(), pos, offset: base };
            let header = scan.peek().await.map_err(io_error)?.ok_or_else(corrupt)?;
            if header.max_timestamp < timestamp || header.last_offset() < from {
                scan.skip(&header);
                continue;
            }
            let batch = scan.next().await.map_err(io_error)?.ok_or_else(corrupt)?;
            if let Some((offset, timestamp)) = first_at_or_after(&batch.bytes, &batch.header, from, timestamp)
            {
                let leader_epoch = self.0.state.borrow().epochs.at(offset);
                return Ok(Some(TimedOffset { offset, timestamp, leader_epoch }));
            }
        }
        Ok(None)
    }
}

/// The offset and time of the first record of a batch, from an offset on, that is of this time or later. Where the records
/// cannot be read, the first one stands for all: no record of that time is passed over.
fn first_at_or_after(batch: &Bytes, header: &Header, from: Offset, timestamp: i64) -> Option<(Offset, i64)> {
    let first = (header.base_offset.max(from), header.max_timestamp);
    if header.is_log_append_time() {
        return Some(first);
    }
    let Ok(records) = records::decode(batch, DECOMPRESSED_BYTES_MAX) else { return Some(first) };
    let found = records.iter().find(|record| record.timestamp >= timestamp && record.offset >= from);
    found.map(|record| (record.offset, record.timestamp))
}

//! Finding records by time.

use super::error::ReadError;
use super::locating::Located;
use super::{Log, Offset};
use crate::batch::{self, Header};
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
        let _reading = self.0.reading.take(1).await;
        let truncations = self.truncations();
        let result = self.first_of_time(timestamp).await;
        self.judged_read(truncations, result)
    }

    async fn first_of_time(&self, timestamp: i64) -> Result<Option<TimedOffset>, ReadError> {
        let mut next = self.first_segment()?;
        while let Some(base) = next {
            match self.first_of_time_in(base, timestamp).await {
                Ok(None) => {}
                Err(_) if self.is_gone(base) => {}
                found => return found,
            }
            next = self.segment_after(base);
        }
        Ok(None)
    }

    async fn first_of_time_in(&self, base: Offset, timestamp: i64) -> Result<Option<TimedOffset>, ReadError> {
        match self.max_timestamp_of(base).await? {
            Some((max, _)) if max >= timestamp => self.find_in_segment(base, timestamp).await,
            _ => Ok(None),
        }
    }

    /// Whether a segment that was here has been removed: what a read of it met is no damage.
    fn is_gone(&self, base: Offset) -> bool {
        !self.0.state.borrow().segments.contains_key(&base)
    }

    /// The record with the largest timestamp, the first of several (KIP-734); `None` if no record has one.
    pub async fn max_timestamp(&self) -> Result<Option<TimedOffset>, ReadError> {
        let _reading = self.0.reading.take(1).await;
        let truncations = self.truncations();
        let result = self.last_of_time().await;
        self.judged_read(truncations, result)
    }

    async fn last_of_time(&self) -> Result<Option<TimedOffset>, ReadError> {
        let mut next = self.first_segment()?;
        let mut largest: Option<(i64, Offset)> = None;
        while let Some(base) = next {
            match self.max_timestamp_of(base).await {
                Ok(Some((max, _))) if largest.is_none_or(|(known, _)| max > known) => {
                    largest = Some((max, base));
                }
                Err(error) if !self.is_gone(base) => return Err(error),
                _ => {}
            }
            next = self.segment_after(base);
        }
        let Some((timestamp, base)) = largest else { return Ok(None) };
        match self.find_in_segment(base, timestamp).await {
            // It is being deleted: the next one asked finds another.
            Err(_) if self.is_gone(base) => Ok(None),
            found => found,
        }
    }

    /// The time of what a reader at this offset gets next: that of the first record of its batch. `None` where there is nothing (yet) to
    /// read, or it carries no time. One header is read, and of a file no more than what lies between two entries of its index.
    pub async fn time_from(&self, offset: Offset) -> Result<Option<i64>, ReadError> {
        let mut from = offset.max(self.marks().log_start);
        while from < self.marks().written {
            let header = match self.header_in_memory(from) {
                Some(header) => header,
                None => {
                    let _reading = self.0.reading.take(1).await;
                    let truncations = self.truncations();
                    let result = self.header_in_files(from).await;
                    match self.judged_read(truncations, result)? {
                        Some(header) => header,
                        None => return Ok(None),
                    }
                }
            };
            if !header.is_emptied() {
                return Ok(header.first_time());
            }
            from = header.next_offset();
        }
        Ok(None)
    }

    /// The header of the batch that holds this offset, if the cache has it.
    fn header_in_memory(&self, offset: Offset) -> Option<Header> {
        let (_, chunk) = self.0.chunks.nth_from(offset, 0)?;
        let mut rest = &chunk.bytes[self.place_in_chunk(&chunk, offset)..];
        loop {
            let header = Header::parse(rest).ok()?;
            if header.last_offset() >= offset {
                return Some(header);
            }
            rest = rest.get(header.total_len()..)?;
        }
    }

    /// The header of the first batch that ends at or past this offset.
    async fn header_in_files(&self, offset: Offset) -> Result<Option<Header>, ReadError> {
        let mut next = self.segment_of(offset);
        while let Some(base) = next {
            match self.locate(base, offset).await {
                Ok(Some(located)) => return Ok(Some(located.header)),
                Ok(None) => {}
                Err(_) if self.is_gone(base) => {}
                Err(error) => return Err(error),
            }
            next = self.segment_after(base);
        }
        Ok(None)
    }

    /// The segment that holds the log start.
    fn first_segment(&self) -> Result<Option<Offset>, ReadError> {
        let log_start = self.marks().log_start;
        match self.segment_of(log_start) {
            None => Err(ReadError::Corrupt { file: self.log_path(log_start), pos: 0, offset: log_start }),
            first => Ok(first),
        }
    }

    /// A lookup that passes over a segment relies on it being all there.
    async fn check_end(&self, base: Offset) -> Result<(), ReadError> {
        let next = {
            let state = self.0.state.borrow();
            let known =
                state.segments.get(&base).is_none_or(|segment| !segment.sealed || segment.end_checked);
            if known { None } else { state.segments.range(base + 1..).next().map(|(next, _)| *next) }
        };
        let Some(next) = next else { return Ok(()) };
        self.locate(base, next - 1).await?;
        if let Some(segment) = self.0.state.borrow_mut().segments.get_mut(&base) {
            segment.end_checked = true;
        }
        Ok(())
    }

    /// The largest timestamp in a segment.
    async fn max_timestamp_of(&self, base: Offset) -> Result<Option<(i64, Offset)>, ReadError> {
        self.check_end(base).await?;
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
        self.load_indexes(base).await?;
        if let Some((before, offset)) = self.time_entry_before(base, timestamp)
            && !self.time_entry_holds(base, before, offset).await?
        {
            self.replace_indexes(base).await?;
        }
        let from = self.marks().log_start;
        let start = self.time_entry_before(base, timestamp).map_or(base, |(_, offset)| offset);
        if start >= self.marks().written {
            return Ok(None);
        }
        // All of it is looked through.
        let _ = self.wait_filed(self.marks().written).await;
        let Some(Located { mut scan, size, .. }) = self.locate(base, start).await? else { return Ok(None) };
        let mut expected = None;
        while scan.pos() < size {
            let pos = scan.pos();
            let corrupt = || ReadError::Corrupt { file: place.clone(), pos, offset: start };
            let io_error = |error: io::Error| ReadError::Io { file: place.clone(), error };
            let batch = scan.next().await.map_err(io_error)?.ok_or_else(corrupt)?;
            let header = batch.header;
            if batch::verify(&batch.bytes).is_err() || !self.is_in_place(&header, expected) {
                return Err(corrupt());
            }
            expected = Some(header.next_offset());
            if header.max_timestamp < timestamp || header.last_offset() < from {
                continue;
            }
            if let Some((offset, timestamp)) = first_at_or_after(&batch.bytes, &header, from, timestamp) {
                let leader_epoch = self.0.state.borrow().epochs.at(offset);
                return Ok(Some(TimedOffset { offset, timestamp, leader_epoch }));
            }
        }
        Ok(None)
    }

    /// The newest entry of a segment's time index before this time.
    fn time_entry_before(&self, base: Offset, timestamp: i64) -> Option<(i64, Offset)> {
        let state = self.0.state.borrow();
        let indexes = state.segments.get(&base).and_then(|segment| segment.indexes.as_ref());
        indexes.and_then(|indexes| indexes.times.entry_before(timestamp))
    }
}

/// The offset and time of the first record of a batch, from an offset on, that is of this time or later. Where the records
/// cannot be read, the first one stands for all: no record of that time is passed over.
fn first_at_or_after(batch: &Bytes, header: &Header, from: Offset, timestamp: i64) -> Option<(Offset, i64)> {
    let first = (header.base_offset.max(from), header.max_timestamp);
    if header.is_emptied() {
        return None;
    }
    let has_all = header.last_offset_delta.checked_add(1) == Some(header.record_count);
    if header.is_log_append_time() && has_all {
        return Some(first);
    }
    let Ok(records) = records::decode(batch, DECOMPRESSED_BYTES_MAX) else { return Some(first) };
    let found = records.iter().find(|record| record.timestamp >= timestamp && record.offset >= from);
    found.map(|record| (record.offset, record.timestamp))
}

//! Which part of a log a round would clean, and whether that is worth it (Kafka's `LogCleanerManager` and `LogToClean`).

use super::CLEANED_FILE;
use crate::log::error::ReadError;
use crate::log::files::{read_file, write_file};
use crate::log::{Log, Offset};
use bytes::Bytes;

/// How much a log would gain by being cleaned.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dirtiness {
    /// Bytes that can be cleaned and have not been.
    pub dirty_bytes: u64,
    /// Their share of all that a round would look at.
    pub ratio: f64,
    /// Whether `min.cleanable.dirty.ratio` is passed, or `max.compaction.lag.ms`.
    pub is_due: bool,
}

/// Where a round begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) first_dirty: Offset,
    /// Where a segment begins.
    pub(super) first_uncleanable: Offset,
}

impl Log {
    /// How much there is to clean of what consumers can see (below `visible`); `None` where nothing may be cleaned: the log is not
    /// compacted, has failed, or was found damaged.
    pub async fn dirtiness(&self, visible: Offset) -> Result<Option<Dirtiness>, ReadError> {
        {
            let state = self.0.state.borrow();
            if !state.config.compact || state.failed.is_some() || state.cleaning.uncleanable {
                return Ok(None);
            }
        }
        let range = self.cleanable(visible).await?;
        let (clean_bytes, dirty_bytes, ratio_min) = {
            let state = self.0.state.borrow();
            // The segment in which the dirty part begins counts as dirty.
            let first = state.segments.range(..=range.first_dirty).next_back().map_or(0, |(base, _)| *base);
            let size = |from: Offset, to: Offset| -> u64 {
                if from >= to { 0 } else { state.segments.range(from..to).map(|(_, one)| one.size).sum() }
            };
            (size(0, first), size(first, range.first_uncleanable), state.config.min_cleanable_dirty_ratio)
        };
        let all = clean_bytes + dirty_bytes;
        let ratio = if all == 0 { 0.0 } else { dirty_bytes as f64 / all as f64 };
        let is_due = dirty_bytes > 0 && (ratio > ratio_min || self.is_overdue(range).await?);
        Ok(Some(Dirtiness { dirty_bytes, ratio, is_due }))
    }

    /// What a round may clean: sealed segments that recovery trusts, and that are old enough.
    pub(super) async fn cleanable(&self, visible: Offset) -> Result<Range, ReadError> {
        let cleaned_to = self.cleaned_to().await?;
        let (log_start, log_end, bound, lag) = {
            let state = self.0.state.borrow();
            let bound = state.active().base.min(visible).min(state.recovers_from);
            (state.marks.log_start, state.marks.log_end, bound, state.config.min_compaction_lag_ms)
        };
        let first_dirty = if (log_start..=log_end).contains(&cleaned_to) { cleaned_to } else { log_start };
        let now = self.0.shard.wall_time().0;
        let mut range = Range { first_dirty, first_uncleanable: first_dirty };
        let mut next = self.segment_of(first_dirty);
        while let Some(base) = next {
            let Some(end) = self.segment_after(base).filter(|end| *end <= bound) else { break };
            let sealed = self.0.state.borrow().segments.get(&base).is_some_and(|segment| segment.sealed);
            if !sealed {
                break;
            }
            if lag > 0 {
                let newest = self.newest_time_of(base).await?;
                let age = newest.map_or(0, |newest| now.saturating_sub(newest));
                if u64::try_from(age).is_ok_and(|age| age < lag) || age < 0 {
                    break;
                }
            }
            range.first_uncleanable = end;
            next = Some(end);
        }
        Ok(range)
    }

    /// Whether a record has waited for longer than `max.compaction.lag.ms`.
    async fn is_overdue(&self, range: Range) -> Result<bool, ReadError> {
        let lag = self.0.state.borrow().config.max_compaction_lag_ms;
        // Kafka's default says never.
        if lag >= i64::MAX.unsigned_abs() {
            return Ok(false);
        }
        let now = self.0.shard.wall_time().0;
        let mut next = self.segment_of(range.first_dirty);
        while let Some(base) = next.filter(|base| *base < range.first_uncleanable) {
            let first = self.first_time_of(base).await?.filter(|first| *first > 0);
            let waited = first.map(|first| now.saturating_sub(first));
            if waited.is_some_and(|waited| u64::try_from(waited).is_ok_and(|waited| waited > lag)) {
                return Ok(true);
            }
            next = self.segment_after(base);
        }
        Ok(false)
    }

    /// Up to where the log has been cleaned, as far as is known: 0 if nothing is.
    async fn cleaned_to(&self) -> Result<Offset, ReadError> {
        if let Some(known) = self.0.state.borrow().cleaning.cleaned_to {
            return Ok(known);
        }
        let path = self.0.place.file(CLEANED_FILE);
        let text = read_file(self.0.shard.io(), &self.0.place, &path).await;
        let text = text.map_err(|error| ReadError::Io { file: path, error })?;
        let told = text.as_deref().and_then(|bytes| std::str::from_utf8(bytes).ok()?.trim().parse().ok());
        let cleaned_to: Offset = told.unwrap_or(0);
        self.0.state.borrow_mut().cleaning.cleaned_to = Some(cleaned_to);
        Ok(cleaned_to)
    }

    /// Everything below has been cleaned. What cannot be written down, or is lost, is cleaned again after the next start.
    pub(super) async fn has_cleaned_to(&self, offset: Offset) {
        self.0.state.borrow_mut().cleaning.cleaned_to = Some(offset);
        let path = self.0.place.file(CLEANED_FILE);
        let text = Bytes::from(format!("{offset}\n"));
        let _ = write_file(self.0.shard.io(), &self.0.place, &path, text).await;
    }
}

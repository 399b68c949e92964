//! One partition as a share group reads it: which records are with whom, and what has become of them. Pure: no I/O, no clock.
//!
//! ```text
//!              acquire                      accept
//!   Available ─────────▶ Acquired ─────────────────────▶ Acknowledged
//!       ▲                   │  │    reject, gap, or delivered too often
//!       └───────────────────┘  └───────────────────────▶ Archived
//!        release, lock ended
//!
//!   offsets   … done │ start … in flight … │ next … not looked at yet
//! ```
//!
//! Records in flight are kept as ranges that are split where members treat parts of them differently. What an acknowledgement says is first
//! written to `__share_group_state`: until then its ranges are *pending*, nobody acquires them, and [`SharePartition::written`] ends it.
//! Rules and codes are those of Apache Kafka's `SharePartition` (KIP-932).

use super::state::{Delivery, StateBatch};
use ringlog_engine::io::Instant;
use ringlog_wire::ErrorCode;
use std::collections::BTreeMap;
use std::time::Duration;

/// What bounds a share partition: configs of its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How long a member may keep a record (`share.record.lock.duration.ms`).
    pub lock: Duration,
    /// How often a record is delivered (`share.delivery.count.limit`).
    pub deliveries_max: i16,
    /// Records in flight (`share.partition.max.record.locks`).
    pub locks_max: i64,
}

/// What a member says of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// There is no record at this offset.
    Gap,
    /// It is done.
    Accept,
    /// Somebody else may try.
    Release,
    /// Nobody can do it.
    Reject,
    /// The member is still at it.
    Renew,
}

impl Outcome {
    /// Kafka's number for it.
    pub fn from_code(code: i8) -> Option<Self> {
        Some(match code {
            0 => Self::Gap,
            1 => Self::Accept,
            2 => Self::Release,
            3 => Self::Reject,
            4 => Self::Renew,
            _ => return None,
        })
    }
}

/// What a member says of a range of records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledgement {
    /// The first offset.
    pub first: i64,
    /// The last.
    pub last: i64,
    /// One for all, or one for each.
    pub outcomes: Vec<Outcome>,
}

impl Acknowledgement {
    /// Runs of offsets of which the same is said.
    fn runs(&self) -> Vec<(i64, i64, Outcome)> {
        if let [outcome] = self.outcomes[..] {
            return vec![(self.first, self.last, outcome)];
        }
        let mut runs: Vec<(i64, i64, Outcome)> = Vec::new();
        for (offset, &outcome) in (self.first..=self.last).zip(&self.outcomes) {
            match runs.last_mut() {
                Some(run) if run.2 == outcome => run.1 = offset,
                _ => runs.push((offset, offset, outcome)),
            }
        }
        runs
    }
}

/// What a member wants.
#[derive(Debug, Clone, Copy)]
pub struct Acquire<'a> {
    /// Who.
    pub member: &'a str,
    /// From where the log was read.
    pub fetched_from: i64,
    /// Records at most, but for the rest of a batch.
    pub records_max: i64,
    /// Whether the rest of a batch stays.
    pub is_exact: bool,
    /// How many records an acquired range best has.
    pub batch_size: i64,
}

/// A range of records that a member has acquired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acquired {
    /// The first offset.
    pub first: i64,
    /// The last.
    pub last: i64,
    /// How often they were delivered, this time included.
    pub deliveries: i16,
}

/// What is to be written before it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its number, for [`SharePartition::written`].
    pub number: u64,
    /// The first offset that is not done with, as it is now.
    pub start: i64,
    /// What changes.
    pub batches: Vec<StateBatch>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Available,
    Acquired,
    Acknowledged,
    Archived,
}

impl State {
    fn is_terminal(self) -> bool {
        matches!(self, Self::Acknowledged | Self::Archived)
    }

    fn delivery(self) -> Delivery {
        match self {
            Self::Available | Self::Acquired => Delivery::Available,
            Self::Acknowledged => Delivery::Acknowledged,
            Self::Archived => Delivery::Archived,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Range {
    last: i64,
    state: State,
    deliveries: i16,
    /// Who has acquired it; empty for nobody.
    member: String,
    /// Until when.
    until: Instant,
    pending: Option<Pending>,
}

/// What a range becomes when a change is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pending {
    change: u64,
    to: State,
    deliveries: i16,
}

impl Range {
    fn available(last: i64, deliveries: i16) -> Self {
        let until = Instant::default();
        Self { last, state: State::Available, deliveries, member: String::new(), until, pending: None }
    }

    fn is_free(&self) -> bool {
        self.state == State::Available && self.pending.is_none()
    }
}

/// A share partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharePartition {
    start: i64,
    next: i64,
    /// By their first offsets, from `start` to below `next`; they do not overlap.
    ranges: BTreeMap<i64, Range>,
    changes: u64,
}

impl SharePartition {
    /// Nothing is in flight: reading begins here.
    pub fn new(start: i64) -> Self {
        Self { start, next: start, ranges: BTreeMap::new(), changes: 0 }
    }

    /// As it was kept. What lies at or past the log's end was lost with the power and is none of the records that will lie there.
    pub fn restore(start: i64, batches: &[StateBatch], log_end: i64) -> Self {
        let mut this = Self::new(start.min(log_end));
        for batch in batches {
            let (first, last) = (batch.first.max(this.next), batch.last.min(log_end - 1));
            if first > last {
                continue;
            }
            if first > this.next {
                // Never delivered, or not to its end.
                this.ranges.insert(this.next, Range::available(first - 1, 0));
            }
            let state = match batch.delivery {
                Delivery::Available => State::Available,
                Delivery::Acknowledged => State::Acknowledged,
                Delivery::Archived => State::Archived,
            };
            this.ranges.insert(first, Range { state, ..Range::available(last, batch.deliveries) });
            this.next = last + 1;
        }
        this.advance();
        this
    }

    /// The first offset that is not done with.
    pub fn start(&self) -> i64 {
        self.start
    }

    /// From where to read for the next member.
    pub fn next_fetch_offset(&self) -> i64 {
        self.ranges.iter().find(|(_, range)| range.is_free()).map_or(self.next, |(first, _)| *first)
    }

    /// Whether a member that comes now can get anything.
    pub fn has_room(&self, limits: &Limits) -> bool {
        self.next_fetch_offset() < self.next || self.in_flight() < limits.locks_max
    }

    fn in_flight(&self) -> i64 {
        if self.ranges.is_empty() { 0 } else { self.next - self.start }
    }

    /// Gives a member records of these batches (first and last offsets, in order), as many as it may have.
    pub fn acquire(
        &mut self,
        now: Instant,
        limits: &Limits,
        wanted: &Acquire<'_>,
        batches: &[(i64, i64)],
    ) -> Vec<Acquired> {
        let (Some(&(base, _)), Some(&(_, last))) = (batches.first(), batches.last()) else {
            return Vec::new();
        };
        self.archive_compacted(wanted.fetched_from, base);
        let mut acquired = Vec::new();
        let until = now + limits.lock;
        let mut left = wanted.records_max;
        self.split(base);
        self.split(last + 1);
        for first in self.free_between(base, last) {
            if left <= 0 {
                break;
            }
            if wanted.is_exact {
                self.split(first + left);
            }
            let range = self.ranges.get_mut(&first).expect("listed just now");
            range.state = State::Acquired;
            range.deliveries = range.deliveries.saturating_add(1);
            wanted.member.clone_into(&mut range.member);
            range.until = until;
            left -= range.last - first + 1;
            acquired.push(Acquired { first, last: range.last, deliveries: range.deliveries });
        }
        let room = left.min(limits.locks_max - self.in_flight());
        self.acquire_new(until, wanted, batches, room, &mut acquired);
        acquired
    }

    /// Offsets that were read over are gone from a compacted log.
    fn archive_compacted(&mut self, from: i64, base: i64) {
        if from >= base {
            return;
        }
        self.split(from);
        self.split(base);
        for first in self.free_between(from, base - 1) {
            self.ranges.get_mut(&first).expect("listed just now").state = State::Archived;
        }
        self.advance();
    }

    fn free_between(&self, first: i64, last: i64) -> Vec<i64> {
        if first > last {
            return Vec::new();
        }
        let ranges = self.ranges.range(first..=last);
        ranges.filter(|(_, range)| range.is_free()).map(|(first, _)| *first).collect()
    }

    fn acquire_new(
        &mut self,
        until: Instant,
        wanted: &Acquire<'_>,
        batches: &[(i64, i64)],
        room: i64,
        acquired: &mut Vec<Acquired>,
    ) {
        if room <= 0 {
            return;
        }
        let mut from = None;
        let mut ranges: Vec<(i64, i64)> = Vec::new();
        for &(base, last) in batches {
            if last < self.next {
                continue;
            }
            let base = base.max(self.next);
            let from = *from.get_or_insert(base);
            let end = from.saturating_add(room);
            if base >= end {
                break;
            }
            let last = if wanted.is_exact { last.min(end - 1) } else { last };
            match ranges.last_mut() {
                // Batches that follow each other are one range until it has records enough.
                Some(range) if range.1 + 1 == base && range.1 - range.0 + 1 < wanted.batch_size => {
                    range.1 = last;
                }
                _ => ranges.push((base, last)),
            }
        }
        if self.ranges.is_empty() {
            self.start = from.unwrap_or(self.start);
        }
        for (first, last) in ranges {
            let member = wanted.member.to_owned();
            let range = Range { state: State::Acquired, member, until, ..Range::available(last, 1) };
            self.ranges.insert(first, range);
            self.next = last + 1;
            acquired.push(Acquired { first, last, deliveries: 1 });
        }
    }

    /// Takes records back that were just acquired and are of aborted transactions: nobody gets them. What is left of `acquired`.
    pub fn archive(
        &mut self,
        member: &str,
        aborted: &[(i64, i64)],
        acquired: Vec<Acquired>,
    ) -> Vec<Acquired> {
        for &(first, last) in aborted {
            self.split(first);
            self.split(last + 1);
            for (_, range) in self.ranges.range_mut(first..=last) {
                if range.state == State::Acquired && range.member == member && range.pending.is_none() {
                    range.state = State::Archived;
                    range.member.clear();
                }
            }
        }
        let mut left = Vec::with_capacity(acquired.len());
        for one in acquired {
            let mut from = one.first;
            for &(first, last) in
                aborted.iter().filter(|(first, last)| *last >= one.first && *first <= one.last)
            {
                if from < first {
                    left.push(Acquired { first: from, last: first - 1, ..one });
                }
                from = from.max(last + 1);
            }
            if from <= one.last {
                left.push(Acquired { first: from, ..one });
            }
        }
        self.advance();
        left
    }

    /// Takes in what a member says, all of it or, with an error, nothing. What is to be written comes back; `None` if nothing is.
    pub fn acknowledge(
        &mut self,
        now: Instant,
        limits: &Limits,
        member: &str,
        acknowledgements: &[Acknowledgement],
    ) -> Result<Option<Change>, ErrorCode> {
        for one in acknowledgements {
            self.check(member, one)?;
        }
        let change = self.number();
        for (first, last, outcome) in acknowledgements.iter().flat_map(Acknowledgement::runs) {
            let (first, last) = (first.max(self.start), last.min(self.next - 1));
            if first > last {
                continue;
            }
            self.split(first);
            self.split(last + 1);
            for (_, range) in self.ranges.range_mut(first..=last) {
                let to = match outcome {
                    Outcome::Renew => {
                        range.until = now + limits.lock;
                        continue;
                    }
                    Outcome::Accept => State::Acknowledged,
                    Outcome::Gap | Outcome::Reject => State::Archived,
                    Outcome::Release if range.deliveries >= limits.deliveries_max => State::Archived,
                    Outcome::Release => State::Available,
                };
                range.pending = Some(Pending { change, to, deliveries: range.deliveries });
            }
        }
        Ok(self.change(change))
    }

    fn check(&self, member: &str, one: &Acknowledgement) -> Result<(), ErrorCode> {
        if one.last < self.start {
            // Done with, whatever is said.
            return Ok(());
        }
        if one.last >= self.next {
            return Err(ErrorCode::InvalidRecordState);
        }
        let first = one.first.max(self.start);
        let floor = self.ranges.range(..=first).next_back().map_or(first, |(first, _)| *first);
        let mut found = false;
        for (_, range) in self.ranges.range(floor..=one.last).filter(|(_, range)| range.last >= first) {
            found = true;
            let is_hers = range.state == State::Acquired && range.member == member && range.pending.is_none();
            if !is_hers {
                return Err(ErrorCode::InvalidRecordState);
            }
        }
        if found { Ok(()) } else { Err(ErrorCode::InvalidRecordState) }
    }

    /// A member has gone: what it has was not delivered, as far as anybody knows.
    pub fn release(&mut self, member: &str) -> Option<Change> {
        let change = self.number();
        for range in self.ranges.values_mut() {
            if range.state == State::Acquired && range.member == member && range.pending.is_none() {
                let deliveries = (range.deliveries - 1).max(0);
                range.pending = Some(Pending { change, to: State::Available, deliveries });
            }
        }
        self.change(change)
    }

    /// A change is durable, or was refused: then all is as before.
    pub fn written(&mut self, change: u64, is_kept: bool) {
        for range in self.ranges.values_mut() {
            let Some(pending) = range.pending.filter(|pending| pending.change == change) else { continue };
            range.pending = None;
            if is_kept {
                range.state = pending.to;
                range.deliveries = pending.deliveries;
                range.member.clear();
            }
        }
        self.advance();
    }

    /// When [`SharePartition::tick`] is to be called.
    pub fn next_deadline(&self) -> Option<Instant> {
        let held = |range: &&Range| range.state == State::Acquired && range.pending.is_none();
        self.ranges.values().filter(held).map(|range| range.until).min()
    }

    /// Takes back what members have kept too long. It is so at once; what comes back is to be written, and lost if that fails.
    pub fn tick(&mut self, now: Instant, limits: &Limits) -> Option<Change> {
        let change = self.number();
        let mut batches = Vec::new();
        for (first, range) in &mut self.ranges {
            if range.state != State::Acquired || range.pending.is_some() || range.until > now {
                continue;
            }
            let is_spent = range.deliveries >= limits.deliveries_max;
            range.state = if is_spent { State::Archived } else { State::Available };
            range.member.clear();
            batches.push(range.batch(*first, range.state, range.deliveries));
        }
        let start = self.start;
        self.advance();
        (!batches.is_empty()).then_some(Change { number: change, start, batches })
    }

    /// The log begins here now: what lay before is done with, whoever has it.
    pub fn log_starts_at(&mut self, offset: i64) {
        if offset <= self.start {
            return;
        }
        self.split(offset);
        self.ranges = self.ranges.split_off(&offset);
        self.start = offset;
        self.next = self.next.max(offset);
        self.advance();
    }

    fn number(&mut self) -> u64 {
        self.changes += 1;
        self.changes
    }

    fn change(&self, number: u64) -> Option<Change> {
        let pending = self.ranges.iter().filter_map(|(first, range)| {
            let pending = range.pending.filter(|pending| pending.change == number)?;
            Some(range.batch(*first, pending.to, pending.deliveries))
        });
        let batches: Vec<_> = pending.collect();
        (!batches.is_empty()).then_some(Change { number, start: self.start, batches })
    }

    /// Passes over what is done with.
    fn advance(&mut self) {
        while let Some(first) = self.ranges.first_entry() {
            if !first.get().state.is_terminal() || first.get().pending.is_some() {
                return;
            }
            self.start = first.remove().last + 1;
        }
        self.start = self.next;
    }

    /// Makes a range begin here, if there is one.
    fn split(&mut self, at: i64) {
        let Some((_, range)) = self.ranges.range_mut(..at).next_back() else { return };
        if range.last < at {
            return;
        }
        let rest = range.clone();
        range.last = at - 1;
        self.ranges.insert(at, rest);
    }
}

impl Range {
    fn batch(&self, first: i64, state: State, deliveries: i16) -> StateBatch {
        StateBatch { first, last: self.last, delivery: state.delivery(), deliveries }
    }
}

#[cfg(test)]
mod tests;

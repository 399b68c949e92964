//! A log's side of its shard's journal: what goes there, and how its own file comes to have it.

use super::error::LogFailed;
use super::journal::{ENTRY_BYTES_MAX, ENTRY_LEN, Entered, Journal, JournalLimits, Put, put_entry};
use super::marks::Awaited;
use super::truncate::Step;
use super::{Gaps, Log, Offset, State};
use crate::io::{File, Space};
#[cfg(ringlog_plant)]
use crate::plant::{self, Plant};
use bytes::BytesMut;

impl Log {
    /// Sees that what has been placed is written: a little by the journal, with that of other logs, more by the log's writer.
    pub(super) fn write_soon(&self, state: &mut State) {
        if state.writer_runs {
            return;
        }
        match self.journal().filter(|journal| state.suits_journal(journal.limits()) && journal.is_ready()) {
            Some(journal) if state.enlisted => drop(journal),
            Some(journal) => {
                state.enlisted = true;
                journal.enlist(self.clone());
            }
            None => self.start_writer(state),
        }
    }

    /// The journal it goes to, while that is there.
    pub(super) fn journal(&self) -> Option<Journal> {
        self.0.journal.as_ref().and_then(|(journal, _)| journal.upgrade())
    }

    /// The journal does not take what this log has.
    pub(super) fn write_itself(&self) {
        let mut state = self.0.state.borrow_mut();
        state.enlisted = false;
        if state.failed.is_none() {
            self.start_writer(&mut state);
        }
    }

    /// Adds what is not yet written to a frame of at most `room` bytes, in the journal's half of this generation.
    pub(super) fn put_in_journal(&self, frame: &mut BytesMut, room: usize, generation: u64) -> Put {
        let mut state = self.0.state.borrow_mut();
        let state = &mut *state;
        let left = room - frame.len();
        let Some((_, id)) = &self.0.journal else { return Put::Nothing };
        let Some(tail) = state.tails.back_mut() else {
            state.enlisted = false;
            return Put::Nothing;
        };
        let len = tail.unjournaled().len();
        if state.writer_runs || state.failed.is_some() || len == 0 {
            state.enlisted = false;
            return Put::Nothing;
        }
        if len > ENTRY_BYTES_MAX {
            state.enlisted = false;
            self.start_writer(state);
            return Put::Nothing;
        }
        if ENTRY_LEN + len > left {
            return Put::NoRoom;
        }
        put_entry(frame, *id, tail.unjournaled());
        tail.journaled();
        state.enlisted = false;
        let is_first = state.journaled_in != Some(generation);
        state.journaled_in = Some(generation);
        let entered = Entered {
            log: self.clone(),
            bytes: len as u64,
            next: state.marks.log_end,
            truncations: state.truncations,
        };
        Put::Entered { entered, is_first }
    }

    /// Everything below `next` is written, in the log's file or in the journal's.
    pub(super) fn has_journaled(&self, journal: &File, bytes: u64, next: Offset, truncations: u64) {
        let mut woken = Vec::new();
        {
            let mut state = self.0.state.borrow_mut();
            let state = &mut *state;
            // What the frame has of it has been taken back meanwhile.
            if state.truncations != truncations || state.failed.is_some() {
                return;
            }
            state.bytes_since_sync += bytes;
            state.has_dirtied(journal, Space::Written);
            state.marks.written = state.marks.written.max(next);
            state.marks.check();
            state.waiters.reached(Awaited::Written, next, &mut woken);
            self.follow_with_durable(state);
        }
        self.wake(woken);
    }

    /// Waits until the log's own file has everything below this offset.
    pub(super) async fn wait_filed(&self, offset: Offset) -> Result<(), LogFailed> {
        self.wait_for_file(offset, |state| state.filed >= offset).await
    }

    /// The same, until it is on stable storage there.
    pub(super) async fn wait_filed_durably(&self, offset: Offset) -> Result<(), LogFailed> {
        {
            let mut state = self.0.state.borrow_mut();
            state.filed_wanted = state.filed_wanted.max(offset);
            self.follow_with_durable(&mut state);
        }
        self.wait_for_file(offset, |state| state.filed_durable >= offset).await
    }

    async fn wait_for_file(&self, offset: Offset, holds: impl Fn(&State) -> bool) -> Result<(), LogFailed> {
        let truncations = self.0.state.borrow().truncations;
        loop {
            let moved = self.0.moved.next();
            {
                let mut state = self.0.state.borrow_mut();
                if state.truncations != truncations && state.cut_from < offset {
                    return Err(LogFailed::Truncated);
                }
                if holds(&state) {
                    return Ok(());
                }
                if let Some(failed) = &state.failed {
                    return Err(LogFailed::clone(failed));
                }
                if state.filed < offset {
                    self.start_writer(&mut state);
                }
            }
            moved.await;
        }
    }

    /// The log's file gets what the journal has of it: durably, as far as that is durable here. False if it cannot.
    pub(super) async fn leave_journal(&self) -> bool {
        let written = self.marks().written;
        let mut left = self.wait_filed(written).await;
        if left.is_ok() {
            // A sync under way may make durable what only the journal had when it began.
            let durable = self.0.state.borrow().durable_soon;
            left = self.wait_filed_durably(written.min(durable)).await;
        }
        !matches!(left, Err(LogFailed::Storage { .. }))
    }

    /// Whether the log's file has all that was promised of it.
    pub(super) fn has_left_journal(&self) -> bool {
        let state = self.0.state.borrow();
        let failed = matches!(state.failed.as_deref(), Some(LogFailed::Storage { .. }));
        !failed || (state.filed >= state.marks.written && state.filed_durable >= state.marks.durable)
    }

    /// Before records are taken back: what the journal has of them must not come back. The log's file has everything.
    pub(super) async fn cut_in_journal(&self) -> Step<()> {
        let Some((journal, id)) = &self.0.journal else { return Ok(()) };
        if self.0.state.borrow_mut().journaled_in.take().is_none() {
            return Ok(());
        }
        #[cfg(ringlog_plant)]
        if plant::is(Plant::ReplayOverATruncation) {
            return Ok(());
        }
        let Some(journal) = journal.upgrade() else { return Ok(()) };
        journal.cut(*id).await.map_err(|error| ("write to the journal of", error))
    }
}

impl State {
    /// Whether what waits to be written is for the journal: little, and its log's file has a prepared place for it. A disk that is full
    /// later must not keep the file from getting it.
    fn suits_journal(&self, limits: JournalLimits) -> bool {
        let ([tail], []) = self.tails.as_slices() else { return false };
        let segment = self.active();
        self.gaps == Gaps::None
            && segment.blocks.is_some()
            && tail.unjournaled().len() <= BATCH_BYTES_MAX
            && tail.may_gather(limits.file_bytes)
            && tail.next_block_end().is_some_and(|end| segment.prepared.holds(end))
    }

    /// A file has been written, and is to be synced.
    pub(super) fn has_dirtied(&mut self, file: &File, space: Space) {
        match self.dirty.iter_mut().find(|(dirty, _)| dirty.id() == file.id()) {
            Some((_, known)) if space == Space::Allocated => *known = Space::Allocated,
            Some(_) => {}
            None => self.dirty.push((file.clone(), space)),
        }
    }
}

/// What is larger is worth blocks of its own file: it would be written twice.
const BATCH_BYTES_MAX: usize = 4 << 10;

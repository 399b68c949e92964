//! Space prepared ahead of a segment's end, in steps that follow the log's rate; or there from the beginning, in a recycled file.

use super::{Durability, State};
use crate::io::{Instant, Space};
use crate::limits::{BLOCK, PREPARE_BYTES_FIRST, PREPARE_BYTES_MAX, PREPARE_BYTES_MIN};
#[cfg(ringlog_plant)]
use crate::plant::{self, Plant};
use std::collections::VecDeque;
use std::time::Duration;

/// How far one segment's file is ready to be written.
#[derive(Default)]
pub(super) struct Prepared {
    /// Writes may go up to here; 0 before the first step.
    to: u64,
    /// Where the first step begins: past the whole blocks of a file that was there before.
    begin: u64,
    /// The steps not yet wholly written over: where each ends and how it was prepared.
    steps: VecDeque<(u64, Space)>,
    step: u64,
    last: Option<Instant>,
    stage: Stage,
}

/// How far the step that is being prepared has come.
#[derive(Default, PartialEq)]
enum Stage {
    /// None is.
    #[default]
    None,
    /// Its space is being allocated. That locks the file: a direct write would have to wait, off the core.
    Growing,
    /// Zeroes are being written into it.
    Zeroing,
}

impl Prepared {
    /// Nothing is prepared yet past the `size` bytes of a file.
    pub(super) fn after(size: u64) -> Self {
        Self { begin: size.next_multiple_of(BLOCK), ..Self::default() }
    }

    /// Space past the `size` bytes of a file is there up to `to`, only allocated.
    pub(super) fn kept(size: u64, to: u64) -> Self {
        let space = Space::Allocated;
        #[cfg(ringlog_plant)]
        let space = if plant::is(Plant::TakeZeroedSpaceForWritten) { Space::Written } else { space };
        Self { to, steps: VecDeque::from([(to, space)]), ..Self::after(size) }
    }

    /// The file has been written before, up to `to`.
    pub(super) fn recycled(&mut self, to: u64) {
        self.to = to;
        self.steps.push_back((to, Space::Written));
    }

    /// Where prepared space ends.
    pub(super) fn to(&self) -> u64 {
        self.to
    }

    /// Whether a write that ends at `end` fits.
    pub(super) fn holds(&self, end: u64) -> bool {
        end <= self.to
    }

    /// Whether the next step should be started now so that a write up to `end` and its followers need not wait.
    pub(super) fn is_low(&self, end: u64, file_bytes_max: u64) -> bool {
        !self.is_pending() && self.to < file_bytes_max && end + self.step / 2 >= self.to
    }

    /// Decides the next step: from where to where. After a small first one steps double while they are used up within a second, and halve
    /// when they last longer than ten.
    pub(super) fn next_step(&mut self, needed: u64, file_bytes_max: u64, now: Instant) -> (u64, u64) {
        self.step = match self.last.map(|last| now.since(last)) {
            None => PREPARE_BYTES_FIRST,
            Some(lasted) if lasted < Duration::from_secs(1) => {
                (self.step * 2).clamp(PREPARE_BYTES_MIN, PREPARE_BYTES_MAX)
            }
            Some(lasted) if lasted > Duration::from_secs(10) => (self.step / 2).max(PREPARE_BYTES_MIN),
            Some(_) => self.step.max(PREPARE_BYTES_MIN),
        };
        self.last = Some(now);
        self.begin_step();
        let from = self.to.max(self.begin);
        let to = (from + self.step).min(file_bytes_max.next_multiple_of(BLOCK)).max(needed);
        // Never nothing: the last block of a file that was cut to its batches lies past its end, though `begin` is past the block.
        (from, to.max(from + BLOCK))
    }

    /// A step begins, or is as good as begun.
    pub(super) fn begin_step(&mut self) {
        self.stage = Stage::Growing;
    }

    /// The step's space is allocated, and is to be written.
    pub(super) fn grown(&mut self) {
        self.stage = Stage::Zeroing;
    }

    /// Whether a step is being prepared.
    pub(super) fn is_pending(&self) -> bool {
        self.stage != Stage::None
    }

    /// Whether the file is being given space, and must not be written.
    pub(super) fn is_growing(&self) -> bool {
        self.stage == Stage::Growing
    }

    /// A step has been prepared.
    pub(super) fn done(&mut self, to: u64, space: Space) {
        self.stage = Stage::None;
        self.to = to;
        self.steps.push_back((to, space));
    }

    /// A step could not be prepared.
    pub(super) fn failed(&mut self) {
        self.stage = Stage::None;
    }

    /// Gives up memory for more steps.
    pub(super) fn shrink(&mut self) {
        self.steps.shrink_to_fit();
    }

    /// A segment that begins with its log's usual step, at a roll.
    pub(super) fn go_on_from(&mut self, before: &Self) {
        self.step = before.step;
        self.last = before.last;
    }

    /// How a write from `pos` to `end` must be synced: alone, if any of it lies in space that is only allocated.
    pub(super) fn written(&mut self, pos: u64, end: u64) -> Space {
        while self.steps.front().is_some_and(|(to, _)| *to <= pos) {
            self.steps.pop_front();
        }
        let mut from = pos;
        for (to, space) in &self.steps {
            if *space == Space::Allocated && from < end {
                return Space::Allocated;
            }
            from = *to;
        }
        Space::Written
    }

    /// Where a write from `pos` to `end` must be cut: a file system gives each step an extent of its own, and a direct write across
    /// two of them would leave the core.
    pub(super) fn edges(&self, pos: u64, end: u64) -> impl Iterator<Item = u64> {
        let edges = std::iter::once(self.begin).chain(self.steps.iter().map(|(to, _)| *to));
        edges.filter(move |edge| (pos + 1..end).contains(edge))
    }
}

impl State {
    /// How the next step is prepared. Writing zeroes ahead doubles what the device writes, and lets small syncs share one flush
    /// without a journal commit: it is for logs whose syncs are small.
    pub(super) fn space_to_prepare(&self) -> Space {
        let small = self.bytes_per_sync < SMALL_SYNC_BYTES;
        match self.config.durability {
            Durability::Fsync if small => Space::Written,
            _ => Space::Allocated,
        }
    }

    /// A sync is being submitted: notes how much it covers.
    pub(super) fn note_sync(&mut self) {
        let bytes = std::mem::take(&mut self.bytes_since_sync);
        self.bytes_per_sync = (7 * self.bytes_per_sync + bytes) / 8;
    }
}

/// Below this many bytes a sync, space is written ahead.
const SMALL_SYNC_BYTES: u64 = 128 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_never_empty() {
        let now = Instant::from_nanos(0);
        let mut prepared = Prepared::after(BLOCK * 256 - 500);
        // The batch fits into what the last block has left, and the segment ends with that block.
        assert_eq!(prepared.next_step(BLOCK * 256, BLOCK * 256, now), (BLOCK * 256, BLOCK * 257));
    }

    #[test]
    fn writes_are_cut_where_steps_meet() {
        let mut prepared = Prepared::after(5000);
        for (to, space) in [(10, Space::Written), (20, Space::Allocated), (40, Space::Allocated)] {
            prepared.done(to * BLOCK, space);
        }
        let cuts = |prepared: &Prepared, pos: u64, end: u64| -> Vec<u64> {
            prepared.edges(pos * BLOCK, end * BLOCK).map(|edge| edge / BLOCK).collect()
        };
        assert_eq!(cuts(&prepared, 1, 40), [2, 10, 20]);
        assert_eq!(cuts(&prepared, 2, 10), [0; 0]);
        assert_eq!(prepared.written(9 * BLOCK, 21 * BLOCK), Space::Allocated);
        assert_eq!(cuts(&prepared, 9, 21), [10, 20]);
        assert_eq!(prepared.written(20 * BLOCK, 22 * BLOCK), Space::Allocated);
        assert_eq!(cuts(&prepared, 20, 22), [0; 0]);
    }
}

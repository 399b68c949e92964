//! How far a log has come: its four marks, and the tasks that wait for one of them to pass an offset.

use super::Offset;
use std::collections::VecDeque;
use std::task::Waker;

/// How far a log has come. `log_start <= durable <= written <= log_end` always; the high watermark, which is
/// the partition's, lies below `durable` or `written`, as its durability asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marks {
    /// The first offset that may be read.
    pub log_start: Offset,
    /// Everything below is on stable storage.
    pub durable: Offset,
    /// Everything below has been written: it survives the death of this process.
    pub written: Offset,
    /// The offset the next record gets.
    pub log_end: Offset,
}

impl Marks {
    /// All marks at one offset: a log without records.
    pub(super) fn at(offset: Offset) -> Self {
        Self { log_start: offset, durable: offset, written: offset, log_end: offset }
    }

    /// Stops the process where a mark has overtaken another: what has been promised no longer holds.
    pub(super) fn check(self) {
        assert!(self.log_start <= self.durable, "log start is not past the durable mark: {self:?}");
        assert!(self.durable <= self.written, "the durable mark is not past the written mark: {self:?}");
        assert!(self.written <= self.log_end, "the written mark is not past the log end: {self:?}");
    }
}

/// A mark that tasks wait for.
#[derive(Clone, Copy)]
pub(super) enum Awaited {
    Written,
    Durable,
}

/// Tasks that wait for a log's marks. Takes memory while there are any, and until the log rests.
#[derive(Default)]
pub(super) struct Waiters {
    lines: Option<Box<Lines>>,
    next_id: u64,
}

/// Those who wait for each mark, in the order of the offsets they wait for.
#[derive(Default)]
struct Lines {
    written: VecDeque<Waiter>,
    durable: VecDeque<Waiter>,
}

struct Waiter {
    offset: Offset,
    id: u64,
    waker: Waker,
}

impl Lines {
    fn of(&mut self, mark: Awaited) -> &mut VecDeque<Waiter> {
        match mark {
            Awaited::Written => &mut self.written,
            Awaited::Durable => &mut self.durable,
        }
    }
}

impl Waiters {
    /// Remembers a task. Offsets mostly come in order, so its place is at or near the end.
    pub(super) fn add(&mut self, mark: Awaited, offset: Offset, waker: &Waker) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        let line = self.lines.get_or_insert_default().of(mark);
        let after = line.iter().rev().take_while(|waiter| waiter.offset > offset).count();
        let at = line.len() - after;
        line.insert(at, Waiter { offset, id, waker: waker.clone() });
        id
    }

    /// A task that is in its line was polled again, perhaps as another task.
    pub(super) fn renew(&mut self, mark: Awaited, id: u64, waker: &Waker) {
        let Some(lines) = &mut self.lines else { return };
        if let Some(waiter) = lines.of(mark).iter_mut().find(|waiter| waiter.id == id) {
            waiter.waker.clone_from(waker);
        }
    }

    /// Forgets a task that no longer waits.
    pub(super) fn remove(&mut self, mark: Awaited, id: u64) {
        if let Some(lines) = &mut self.lines {
            lines.of(mark).retain(|waiter| waiter.id != id);
        }
    }

    /// Takes out those whose offset a mark has reached.
    pub(super) fn reached(&mut self, mark: Awaited, offset: Offset, woken: &mut Vec<Waker>) {
        let Some(lines) = &mut self.lines else { return };
        let line = lines.of(mark);
        while line.front().is_some_and(|first| first.offset <= offset) {
            woken.extend(line.pop_front().map(|first| first.waker));
        }
    }

    /// Gives up the memory of those who waited once.
    pub(super) fn shrink(&mut self) {
        self.lines.take_if(|lines| lines.written.is_empty() && lines.durable.is_empty());
    }

    /// Takes out all: the log has failed or was cut.
    pub(super) fn all(&mut self, woken: &mut Vec<Waker>) {
        let lines = self.lines.take().into_iter().flat_map(|lines| [lines.written, lines.durable]);
        woken.extend(lines.flatten().map(|waiter| waiter.waker));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_woken_takes_nobody_with_him_when_he_goes() {
        let (mut waiters, mut woken) = (Waiters::default(), Vec::new());
        let first = waiters.add(Awaited::Durable, 1, Waker::noop());
        waiters.reached(Awaited::Durable, 1, &mut woken);
        waiters.shrink();
        assert!(waiters.lines.is_none(), "nobody waits");
        waiters.add(Awaited::Durable, 2, Waker::noop());
        waiters.remove(Awaited::Durable, first);
        waiters.reached(Awaited::Written, 2, &mut woken);
        assert_eq!(woken.len(), 1);
        waiters.reached(Awaited::Durable, 2, &mut woken);
        assert_eq!(woken.len(), 2);
    }
}

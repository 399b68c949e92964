//! Acknowledgements: who waits for the log's marks, and what an ack means.

use crate::config::Durability;
use ringlog_engine::io::Instant;
use ringlog_engine::shard::sync::{Receiver, Sender, oneshot};
use std::collections::VecDeque;

/// What a producer wants to know before it goes on (Kafka's `acks`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acks {
    /// Nothing.
    None,
    /// That the leader's write has completed.
    Leader,
    /// That it is on stable storage (or, with `durability=replicated`, written) on every in-sync replica.
    All,
}

/// What came of waiting for an acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Acked {
    /// The mark has passed the batch.
    Reached,
    /// It did not in the time the producer gave.
    TimedOut,
    /// The log failed, or was closed, before it did.
    Failed,
}

/// A mark that an acknowledgement waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    Written,
    Durable,
}

impl Acks {
    /// The mark these acks wait for.
    pub(super) fn mark(self, durability: Durability) -> Option<Mark> {
        match (self, durability) {
            (Self::None, _) => None,
            (Self::Leader, _) | (Self::All, Durability::Replicated) => Some(Mark::Written),
            (Self::All, Durability::Fsync) => Some(Mark::Durable),
        }
    }
}

/// Who waits for the marks of one log.
#[derive(Default)]
pub(super) struct Waiting {
    written: VecDeque<Ack>,
    durable: VecDeque<Ack>,
}

struct Ack {
    /// The mark must be here: the offset after the batch.
    offset: i64,
    deadline: Instant,
    done: Sender<Acked>,
}

impl Waiting {
    /// Waits in line until `mark` has reached `offset`.
    pub(super) fn add(&mut self, mark: Mark, offset: i64, deadline: Instant) -> Receiver<Acked> {
        let (done, receiver) = oneshot();
        let line = match mark {
            Mark::Written => &mut self.written,
            Mark::Durable => &mut self.durable,
        };
        line.push_back(Ack { offset, deadline, done });
        receiver
    }

    /// Answers all whom the marks have passed. A duplicate waits behind newer batches though its offset is lower:
    /// it is answered with them.
    pub(super) fn reached(&mut self, written: i64, durable: i64) {
        for (line, mark) in [(&mut self.written, written), (&mut self.durable, durable)] {
            while line.front().is_some_and(|ack| ack.offset <= mark) {
                line.pop_front().expect("just seen").done.send(Acked::Reached);
            }
        }
    }

    /// Answers all whose time is up.
    pub(super) fn expire(&mut self, now: Instant) {
        for line in [&mut self.written, &mut self.durable] {
            for _ in 0..line.len() {
                let ack = line.pop_front().expect("as many as there were");
                if ack.deadline <= now {
                    ack.done.send(Acked::TimedOut);
                } else {
                    line.push_back(ack);
                }
            }
        }
    }

    /// Tells all that it will not come.
    pub(super) fn fail(&mut self) {
        for line in [&mut self.written, &mut self.durable] {
            for ack in line.drain(..) {
                ack.done.send(Acked::Failed);
            }
        }
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.written.len() + self.durable.len()
    }
}

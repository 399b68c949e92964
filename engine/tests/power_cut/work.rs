//! What a process does with a log while it lives: producers, readers, and one who truncates and deletes.

use crate::batches::Made;
use crate::book::Book;
use ringlog_engine::io::WallTime;
use ringlog_engine::io::sim::Random;
use ringlog_engine::log::{
    AppendError, LeaderAppend, Log, LogFailed, Origin, ReadLimit, ReadPart, ReadParts, TruncateError,
};
use ringlog_engine::shard::Shard;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

/// One task at work on a log. It ends when the log fails, or when told to.
pub(crate) struct Work {
    pub(crate) shard: Shard,
    pub(crate) log: Log,
    /// Which log it is.
    pub(crate) index: usize,
    pub(crate) book: Rc<RefCell<Book>>,
    pub(crate) epoch: i32,
    pub(crate) random: Random,
    pub(crate) stopping: Rc<Cell<bool>>,
    /// The segments hold such.
    pub(crate) large_batches: bool,
    /// All batches are this long.
    pub(crate) even: Option<u64>,
}

impl Work {
    /// Appends batch after batch and notes what is acknowledged.
    pub(crate) async fn produce(mut self, idempotent: bool) {
        let mut producer = None;
        while !self.stopping.get() {
            let truncations = self.book.borrow().truncations;
            producer = match producer {
                Some((id, sequence, then)) if then == truncations => Some((id, sequence, then)),
                // A new producer, or what its last batches were may have been truncated away.
                _ if idempotent => Some((self.random.below(1 << 40) as i64, 0, truncations)),
                _ => None,
            };
            let number = self.book.borrow_mut().next_number();
            let made = Made {
                log: self.index,
                number,
                producer: producer.map(|(id, sequence, _)| (id, sequence)),
                timestamp: self.shard.wall_time().0,
                len: self.even,
            };
            let large = self.large_batches && self.random.one_in(30);
            let sent = made.encode(&mut self.random, large, |len| self.log.request_memory(len, 0));
            let appended = match self.log.append(&sent, leader(self.epoch, self.shard.wall_time())) {
                Ok(appended) => appended,
                Err(AppendError::Busy) => {
                    self.log.room().await;
                    continue;
                }
                Err(AppendError::NoSpace) => {
                    self.shard.sleep(Duration::from_millis(100)).await;
                    continue;
                }
                Err(AppendError::Failed(_)) => return,
                Err(error) => panic!("append: {error}"),
            };
            assert!(!appended.duplicate);
            self.book.borrow_mut().appended(&sent, appended.base_offset, self.epoch);
            let end = appended.last_offset + 1;
            if let Some((_, sequence, _)) = &mut producer {
                *sequence += i32::try_from(end - appended.base_offset).unwrap();
            }
            if !self.wait(end, truncations).await {
                return;
            }
        }
    }

    /// Waits as a client with some kind of acks would. False when the log has failed.
    async fn wait(&mut self, end: i64, truncations: u64) -> bool {
        let waited = match self.random.below(6) {
            0 | 1 => self.log.wait_durable(end).await.map(|()| Some(Book::durable_to as fn(&mut Book, i64))),
            2 => self.log.wait_written(end).await.map(|()| Some(Book::written_to as fn(&mut Book, i64))),
            3 => {
                self.shard.sleep(Duration::from_micros(self.random.below(30_000))).await;
                Ok(None)
            }
            4 => {
                self.shard.yield_now().await;
                Ok(None)
            }
            // The next one at once.
            _ => Ok(None),
        };
        let mut book = self.book.borrow_mut();
        match waited {
            // What was acknowledged may be truncated before the one who waited has its turn.
            Ok(note) if book.truncations == truncations => {
                if let Some(note) = note {
                    note(&mut book, end);
                }
            }
            Ok(_) | Err(LogFailed::Truncated) => {}
            Err(LogFailed::Storage { .. } | LogFailed::Closed) => return false,
        }
        book.saw(self.log.marks());
        true
    }

    /// Reads here and there what has been written, and compares.
    pub(crate) async fn read(mut self) {
        while !self.stopping.get() {
            self.shard.sleep(Duration::from_micros(self.random.below(20_000))).await;
            let marks = self.log.marks();
            let before = self.book.borrow().stable();
            if marks.written == marks.log_start || before.is_none() {
                continue;
            }
            let from = marks.log_start + self.random.below((marks.written - marks.log_start) as u64) as i64;
            let bytes_max = [1, 5000, 100_000][self.random.index(3)];
            let limit = ReadLimit { up_to: marks.written, bytes_max, at_least_one: true };
            let result = self.log.read(from, limit).await;
            // Taken back under its hands: it may get anything but other batches, which nobody can tell then.
            let gone = self.book.borrow().stable() != before || self.log.marks().log_start > from;
            match result {
                Ok(parts) if !gone => {
                    let bytes = joined(&parts);
                    assert!(!bytes.is_empty(), "there is a batch at {from} of {marks:?}");
                    self.book.borrow_mut().check_bytes(from, &bytes);
                }
                Ok(_) => {}
                Err(error) => assert!(gone || self.log.failed().is_some(), "read {from}: {error:?}"),
            }
        }
    }

    /// Now and then takes records back from the end or the start.
    pub(crate) async fn change(mut self) {
        while !self.stopping.get() {
            // After a cut nothing is recycled for a while.
            let most = if self.even.is_some() { 6_000 } else { 60_000 };
            self.shard.sleep(Duration::from_micros(self.random.below(most))).await;
            if self.even.is_some() && !self.random.one_in(100) {
                match self.retain().await {
                    Ok(()) | Err(TruncateError::NoSpace) => continue,
                    Err(_) => return,
                }
            }
            let which = self.random.bits();
            let Some((base, next)) = self.book.borrow().some_batch(which) else { continue };
            let offset = base + self.random.below((next - base) as u64) as i64;
            let done = match self.random.below(7) {
                0..3 => self.truncate(base, offset).await,
                3..5 => self.delete(offset).await,
                5 => self.retain().await,
                _ => self.begin_anew(offset).await,
            };
            match done {
                Ok(()) | Err(TruncateError::NoSpace | TruncateError::Failed(LogFailed::Truncated)) => {}
                Err(TruncateError::Failed(_)) => return,
                Err(error) => panic!("{error}"),
            }
        }
    }

    async fn truncate(&self, base: i64, offset: i64) -> Result<(), TruncateError> {
        self.book.borrow_mut().truncation_begins(base);
        let end = self.log.truncate_to(offset).await?;
        assert_eq!(end, base, "truncated to {offset}");
        self.book.borrow_mut().truncation_ended(end);
        Ok(())
    }

    async fn delete(&self, offset: i64) -> Result<(), TruncateError> {
        self.book.borrow_mut().deletion_begins(offset);
        let log_start = self.log.delete_before(offset).await?;
        self.book.borrow_mut().deletion_ended(log_start);
        Ok(())
    }

    /// As a follower does whose leader has no more of what it has: lower, or higher.
    async fn begin_anew(&mut self, offset: i64) -> Result<(), TruncateError> {
        let log_end = self.log.marks().log_end;
        let offset = if self.random.one_in(2) { offset } else { log_end + self.random.below(50) as i64 };
        self.book.borrow_mut().clearing_begins(offset);
        self.log.truncate_fully_and_start_at(offset).await?;
        self.book.borrow_mut().clearing_ended(offset);
        Ok(())
    }

    /// What is past `retention.bytes` goes, the active segment too where that is nothing.
    async fn retain(&self) -> Result<(), TruncateError> {
        let visible = self.log.marks().durable;
        self.book.borrow_mut().deletion_begins(visible);
        let log_start = self.log.retain(visible).await?;
        self.book.borrow_mut().retention_ended(log_start);
        Ok(())
    }
}

pub(crate) fn leader(epoch: i32, now: WallTime) -> LeaderAppend {
    LeaderAppend { epoch, origin: Origin::Client, now, alone: true }
}

pub(crate) fn joined(parts: &ReadParts) -> Vec<u8> {
    let bytes = parts.parts.iter().map(|part| match part {
        ReadPart::Bytes(bytes) => bytes.clone(),
        ReadPart::File { .. } => panic!("a read brings bytes into memory"),
    });
    bytes.collect::<Vec<_>>().concat()
}

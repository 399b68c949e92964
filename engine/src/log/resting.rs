//! Logs at rest: what a log lets go of when nobody has written to it for a while, and how it takes that up again.
//!
//! ```text
//!   opened ──▶ at rest ── append ──▶ awake: a tail buffer ──▶ the writer reads the last block back, before its first write
//!                 ▲                          │
//!                 └── nothing came for a while, all is in the log's file
//! ```
//!
//! A log at rest has no tail buffer: where the next batch goes its active segment tells, and the last, partly filled block is in the file alone.
//! Of ten thousand logs most rest most of the time. The bytes of that block are read again when it is to be written again, never on the way of an
//! append, and compared by their CRC with what was there.

use super::scan::last_block;
use super::tail::Tail;
use super::{Inner, Log, Offset, State};
use crate::io::File;
use crate::limits::{BLOCK, REST_AFTER};
#[cfg(ringlog_plant)]
use crate::plant::{self, Plant};
use crate::shard::Shard;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::rc::{Rc, Weak};
use std::time::Duration;

/// The logs of a shard that are awake. While there is any, a task looks at them now and then.
#[derive(Clone)]
pub(super) struct Awake(Rc<AwakeLogs>);

struct AwakeLogs {
    after: Duration,
    logs: RefCell<Vec<AwakeLog>>,
    looked_after: Cell<bool>,
}

struct AwakeLog {
    log: Weak<Inner>,
    /// Where the log ended when it was last looked at.
    end: Offset,
}

impl Default for Awake {
    fn default() -> Self {
        Self::resting_after(REST_AFTER)
    }
}

impl Awake {
    /// Looks at its logs so often: one that nothing has come to in between goes to rest.
    pub(super) fn resting_after(after: Duration) -> Self {
        Self(Rc::new(AwakeLogs { after, logs: RefCell::default(), looked_after: Cell::new(false) }))
    }

    fn enter(&self, log: &Log, end: Offset) {
        self.0.logs.borrow_mut().push(AwakeLog { log: Rc::downgrade(&log.0), end });
        if !self.0.looked_after.replace(true) {
            let (this, shard) = (self.clone(), log.0.shard.clone());
            log.0.shard.spawn(async move { this.look_after(&shard).await });
        }
    }

    async fn look_after(&self, shard: &Shard) {
        while !self.0.logs.borrow().is_empty() {
            shard.sleep(self.0.after).await;
            for (n, mut awake) in self.0.logs.take().into_iter().enumerate() {
                if n % AT_ONCE == AT_ONCE - 1 {
                    shard.yield_now().await;
                }
                if awake.log.upgrade().is_some_and(|log| !Log(log).rests(&mut awake.end)) {
                    self.0.logs.borrow_mut().push(awake);
                }
            }
        }
        self.0.looked_after.set(false);
    }
}

impl Log {
    /// Makes the tail buffer of a log that was at rest.
    #[cold]
    pub(super) fn wake_up(&self, state: &mut State) {
        let (active, end) = (state.active(), state.marks.log_end);
        let tail = Tail::new(active.base, active.size, end);
        state.tails.push_back(tail);
        if !std::mem::replace(&mut state.is_awake, true) {
            self.0.cache.awake().enter(self, end);
        }
    }

    /// Whether the log rests, now that it has been looked at, or will never write again. `seen` is where it ended when it was last looked at.
    fn rests(&self, seen: &mut Offset) -> bool {
        let mut state = self.0.state.borrow_mut();
        let state = &mut *state;
        let end = state.marks.log_end;
        if !state.tails.is_empty() && state.failed.is_none() {
            if std::mem::replace(seen, end) != end || state.is_busy() {
                return false;
            }
            if state.filed < end {
                // It lies in the journal, and holds a room of the tail buffers: at the next look it rests.
                self.start_writer(state);
                return false;
            }
            if state.tails.len() > 1 || !state.tails[0].is_idle() {
                return false;
            }
            state.tails[0].rest(&self.0.cache);
            let partial = state.tails[0].partial();
            state.rest_at(checksum(partial));
            self.0.chunks.shrink();
        }
        state.is_awake = false;
        true
    }

    /// Reads what the tail buffer lacks of its first block. False if that is not what was written: the log goes offline.
    pub(super) async fn read_back(&self, base: Offset, file: &File, end: u64) -> bool {
        let in_block = (end % BLOCK) as usize;
        let path = || self.log_path(base);
        let block = match last_block(self.0.shard.io(), file, end).await {
            Ok(block) => block,
            Err(error) => {
                self.fail("read", &path(), error);
                return false;
            }
        };
        #[cfg(ringlog_plant)]
        if plant::is(Plant::WakeWithoutReadingBack) {
            let zeroes = [0; BLOCK as usize];
            self.fill_tail(&zeroes[..in_block]);
            return true;
        }
        let partial = block.get(..in_block).unwrap_or_default();
        if partial.len() < in_block || checksum(partial) != self.0.state.borrow().partial_crc {
            // Written again, it would be taken for good.
            self.damaged(&path(), end - in_block as u64, WHAT_IS_WRONG);
            self.fail("read", &path(), io::Error::new(io::ErrorKind::InvalidData, WHAT_IS_WRONG));
            return false;
        }
        self.fill_tail(partial);
        true
    }

    fn fill_tail(&self, partial: &[u8]) {
        let mut state = self.0.state.borrow_mut();
        let tail = state.tails.front_mut().expect("the writer has something to write");
        tail.fill(partial, &self.0.cache);
    }
}

impl State {
    /// Whether one of the log's tasks runs, or is about to.
    fn is_busy(&self) -> bool {
        let tasks = self.writer_runs || self.syncer_runs || self.sealer_runs || self.checkpoint_runs;
        let has_file = || self.segments.last_key_value().is_some_and(|(_, active)| active.blocks.is_some());
        tasks || self.enlisted || self.changing || self.in_flight > 0 || !has_file()
    }

    /// Nothing is left to write: lets go of what only writing needs.
    pub(super) fn rest_at(&mut self, partial_crc: u32) {
        self.tails = VecDeque::new();
        self.partial_crc = partial_crc;
        self.dirty.shrink_to_fit();
        self.waiters.shrink();
        self.active_mut().shrink();
    }
}

/// The checksum by which the last block of a log at rest is known again.
pub(super) fn checksum(partial: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(partial)
}

const WHAT_IS_WRONG: &str = "the last block is not what was written; nothing is written behind it";

/// Logs looked at in a row.
const AT_ONCE: usize = 64;

#[cfg(test)]
mod tests {
    use super::super::error::LogFailed;
    use super::super::segment::Segment;
    use super::super::{
        Cache, Journal, JournalLimits, Journaled, LeaderAppend, LeftOf, LogConfig, LogDir, LogId, Notice,
        Origin,
    };
    use super::*;
    use crate::batch::{self, Codec};
    use crate::io::sim::{MachineId, Sim};
    use crate::io::{DirId, FileMode};
    use crate::records::Builder;
    use crate::shard::ShardId;
    use bytes::Bytes;
    use std::path::Path;

    const AFTER: Duration = Duration::from_secs(1);
    const DIR: DirId = DirId(0);
    const FILE: &str = "/data/t-0/00000000000000000000.log";

    fn place() -> LogDir {
        LogDir { dir: DIR, path: "/data/t-0".into() }
    }

    /// A machine, and what a process has done on it.
    fn run<T: 'static>(test: impl AsyncFnOnce(Shard, Cache) -> T + 'static) -> (Sim, MachineId, T) {
        let mut sim = Sim::new(1);
        let machine = sim.add_machine();
        sim.add_disk(machine, DIR, "/data");
        let actor = sim.start(machine, ShardId(0));
        let shard = sim.shard(actor);
        let cache = Cache::new(1 << 20).with_rest_after(AFTER);
        let told = sim.run(actor, async move { test(shard, cache).await });
        sim.kill(machine);
        (sim, machine, told)
    }

    /// The same, with a log.
    fn done<T: 'static>(test: impl AsyncFnOnce(Shard, Log) -> T + 'static) -> (Sim, MachineId, T) {
        run(async move |shard, cache| {
            let (log, _) = Log::open(&shard, place(), LogConfig::default(), &cache).await.unwrap();
            test(shard, log).await
        })
    }

    /// A batch of one record with a value of so many bytes, in memory of its own.
    fn batch_of(log: &Log, value: usize) -> Bytes {
        let mut builder = Builder::new(Codec::None);
        builder.push(5, None, Some(&vec![value as u8; value]), &[]);
        let made = builder.build();
        let mut memory = log.request_memory(made.len(), 0);
        memory.extend_from_slice(&made);
        memory.freeze()
    }

    /// Appends, and returns the bytes that the file gets.
    fn append(shard: &Shard, log: &Log, value: usize) -> Vec<u8> {
        let made = batch_of(log, value);
        let leader = LeaderAppend { epoch: 3, origin: Origin::Client, now: shard.wall_time(), alone: true };
        let mut stamped = made.to_vec();
        batch::stamp(&mut stamped, log.marks().log_end, 3);
        log.append(&made, leader).unwrap();
        stamped
    }

    fn is_at_rest(log: &Log) -> bool {
        let state = log.0.state.borrow();
        state.tails.is_empty() && !state.is_awake
    }

    /// Values of these sizes, each list after a rest and all of it before the first write: the file has them as if the log had not rested.
    #[track_caller]
    fn check(lists: &[&[usize]]) {
        let values: Vec<Vec<usize>> = lists.iter().map(|list| list.to_vec()).collect();
        let (sim, machine, expected) = done(async move |shard, log| {
            let mut expected = Vec::new();
            assert!(is_at_rest(&log), "as it was opened");
            for list in values {
                for value in list {
                    expected.extend(append(&shard, &log, value));
                    assert!(!is_at_rest(&log));
                }
                log.wait_durable(log.marks().log_end).await.unwrap();
                shard.sleep(3 * AFTER).await;
                assert!(is_at_rest(&log));
            }
            expected
        });
        let file = sim.read_file(machine, DIR, Path::new(FILE)).unwrap();
        let (batches, behind) = file.split_at(expected.len());
        assert!(batches == expected && behind.iter().all(|byte| *byte == 0), "{lists:?}");
    }

    /// Of ten thousand logs each takes this, whatever it is used for: what few need is kept elsewhere.
    #[test]
    fn a_log_and_its_segment_are_small() {
        let (log, segment) = (size_of::<Inner>(), size_of::<Segment>());
        assert!(log <= 688 && segment <= 272, "{log} and {segment} bytes");
    }

    #[test]
    fn what_comes_after_a_rest_lies_behind_what_was_there() {
        check(&[&[100], &[100], &[100]]);
        check(&[&[100, 5000], &[3000, 3000], &[1]]);
        // In several tail buffers, of which the first two end in the block that is read back.
        check(&[&[100], &[200, 300, 400, 5000, 50_000, 300], &[10]]);
        // Written from the memory it came in.
        check(&[&[100], &[100_000, 200], &[300_000]]);
        check(&[&[100], &[50, 100_000, 70, 100_000], &[1]]);
        // A block that is just full, and one that lacks a byte; a batch of one record has 68 bytes and the value, or two more.
        check(&[&[4026], &[1], &[3960], &[1]]);
        for value in 4010..4040 {
            check(&[&[value], &[77]]);
        }
    }

    #[test]
    fn a_log_that_is_written_now_and_then_does_not_rest() {
        done(async |shard, log| {
            for _ in 0..10 {
                append(&shard, &log, 100);
                shard.sleep(AFTER * 9 / 10).await;
                assert!(!is_at_rest(&log));
            }
        });
    }

    #[test]
    fn a_segment_begins_behind_one_that_rests() {
        let (sim, machine, expected) = done(async |shard, log| {
            let first = append(&shard, &log, 100);
            shard.sleep(3 * AFTER).await;
            assert!(is_at_rest(&log));
            log.leave_active_segment().await.unwrap();
            let second = append(&shard, &log, 200);
            log.wait_durable(2).await.unwrap();
            (first, second)
        });
        let file = |name: &str| sim.read_file(machine, DIR, place().path.join(name)).unwrap();
        assert_eq!(file("00000000000000000000.log"), expected.0, "sealed");
        assert!(file("00000000000000000001.log").starts_with(&expected.1));
    }

    #[test]
    fn nothing_is_written_behind_a_block_that_has_changed() {
        let (sim, machine, before) = done(async |shard, log| {
            let told = Rc::new(RefCell::new(Vec::new()));
            let heard = told.clone();
            log.on_notice(move |notice| {
                heard.borrow_mut().push(match notice {
                    Notice::Damaged(damage) => ("damage", damage.pos),
                    Notice::Failed(_) => ("failed", 0),
                    Notice::NoSpace => ("no space", 0),
                });
            });
            let mut bytes = append(&shard, &log, 5000);
            log.wait_durable(1).await.unwrap();
            shard.sleep(3 * AFTER).await;
            bytes[5000] ^= 4;
            let io = shard.io();
            let (file, _) = io.open(DIR, FILE.into(), FileMode::CachedWrite).await.unwrap();
            io.write(file.clone(), 5000, Bytes::copy_from_slice(&bytes[5000..5001])).await.unwrap();
            io.sync_file(file).await.unwrap();
            append(&shard, &log, 300);
            assert!(matches!(log.wait_durable(2).await, Err(LogFailed::Storage { .. })));
            assert_eq!(*told.borrow(), [("damage", BLOCK), ("failed", 0)]);
            bytes
        });
        let file = sim.read_file(machine, DIR, Path::new(FILE)).unwrap();
        assert!(file[..before.len()] == before && file[before.len()..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn what_lies_in_the_journal_is_in_the_file_of_a_log_at_rest() {
        let (sim, machine, expected) = run(async move |shard, cache| {
            let journal = Journal::new(&shard, DIR, Path::new("/data"), JournalLimits::default());
            let id = LogId { topic: [1; 16], index: 0 };
            let left = LeftOf::default();
            let journaled = Journaled { journal: Some(&journal), id, left, was_open: false };
            let config = LogConfig::default();
            let (log, _) = Log::open_journaled(&shard, place(), config, &cache, journaled).await.unwrap();
            journal.begin();
            let mut expected = Vec::new();
            let mut waited = 0;
            // The first go to the log's own file: its space, and then the journal, are still being made.
            for n in 1..=5 {
                expected.extend(append(&shard, &log, 100));
                log.wait_durable(n).await.unwrap();
                waited += i32::from(log.0.state.borrow().filed < n);
                shard.sleep(AFTER / 10).await;
            }
            assert!(waited > 0, "the journal had some of it first");
            shard.sleep(4 * AFTER).await;
            assert!(is_at_rest(&log) && log.0.state.borrow().filed == 5);
            std::mem::forget(journal);
            expected
        });
        assert!(sim.read_file(machine, DIR, Path::new(FILE)).unwrap().starts_with(&expected));
    }
}

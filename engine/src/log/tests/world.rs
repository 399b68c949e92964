//! What the log's tests share: a directory, a Driver, a log opened over them, and the batches it should hold.

use super::super::*;
use super::driver::{Control, FileDriver, Handle};
use crate::batch::HEADER_LEN;
use crate::batch::Header;
use crate::io::{DirId, WallTime};
use crate::shard::{Executor, ShardId};
use bytes::Bytes;
use std::cell::Cell;
use std::os::unix::fs::FileExt;
use std::path::Path;

pub(super) struct World {
    pub(super) control: Handle,
    directory: Rc<tempfile::TempDir>,
    /// The batches the log should hold, as appended, with their base offsets.
    model: Rc<RefCell<Vec<(Offset, Bytes)>>>,
    pub(super) recovered: Recovered,
    shard: Option<Shard>,
    pub(super) cache_bytes: usize,
}

impl World {
    pub(super) fn new() -> Self {
        Self {
            control: Rc::new(RefCell::new(Control { wall: 1_000, ..Control::default() })),
            directory: Rc::new(tempfile::tempdir().unwrap()),
            model: Rc::default(),
            recovered: Recovered::default(),
            shard: None,
            cache_bytes: 1 << 20,
        }
    }

    fn share(&self, shard: Shard) -> Self {
        Self {
            control: self.control.clone(),
            directory: self.directory.clone(),
            model: self.model.clone(),
            recovered: Recovered::default(),
            shard: Some(shard),
            cache_bytes: self.cache_bytes,
        }
    }

    pub(super) fn path(&self) -> PathBuf {
        self.directory.path().join("topic-0")
    }

    pub(super) fn shard(&self) -> &Shard {
        self.shard.as_ref().unwrap()
    }

    /// Another world like this one, over a copy of its files.
    pub(super) fn copy(&self) -> Self {
        let copy = Self { model: Rc::new(RefCell::new(self.model.borrow().clone())), ..Self::new() };
        std::fs::create_dir(copy.path()).unwrap();
        for file in std::fs::read_dir(self.path()).unwrap().map(|entry| entry.unwrap().path()) {
            std::fs::copy(&file, copy.path().join(file.file_name().unwrap())).unwrap();
        }
        copy
    }

    /// Runs something beside the log, in a process of its own.
    pub(super) fn without_log(&mut self, test: impl AsyncFnOnce(Shard) + 'static) {
        let mut executor = Executor::new(ShardId(0), Box::new(FileDriver::new(self.control.clone())));
        let shard = executor.shard().clone();
        executor.block_on(async move { test(shard).await });
    }

    /// Opens the log in a process of its own, runs the test on it, and stops without any leave-taking.
    pub(super) fn run(&mut self, config: LogConfig, test: impl AsyncFnOnce(Log, World) + 'static) {
        assert!(self.run_until_death(config, test), "the test ran to its end");
    }

    /// The same, but the process may die first; says whether the test ended. Whoever comes next may live.
    pub(super) fn run_until_death(
        &mut self,
        config: LogConfig,
        test: impl AsyncFnOnce(Log, World) + 'static,
    ) -> bool {
        let mut executor = Executor::new(ShardId(0), Box::new(FileDriver::new(self.control.clone())));
        let shard = executor.shard().clone();
        let world = self.share(shard.clone());
        let recovered = Rc::new(Cell::new(Recovered::default()));
        let ended = Rc::new(Cell::new(false));
        let (has_ended, has_recovered) = (ended.clone(), recovered.clone());
        let place = LogDir { dir: DirId(0), path: self.path() };
        let cache = Cache::new(self.cache_bytes);
        let task_shard = shard.clone();
        shard.spawn(async move {
            let (log, recovered) = Log::open(&task_shard, place, config, &cache).await.expect("open");
            has_recovered.set(recovered);
            test(log, world).await;
            has_ended.set(true);
        });
        let mut idle = 0;
        while !ended.get() && idle < 3 {
            idle = if executor.turn(true) { 0 } else { idle + 1 };
        }
        self.recovered = recovered.get();
        self.control.borrow_mut().operations_left = None;
        ended.get()
    }

    pub(super) fn leader(&self) -> LeaderAppend {
        LeaderAppend {
            epoch: 0,
            origin: Origin::Client,
            now: WallTime(self.control.borrow().wall),
            alone: true,
        }
    }

    /// Appends, and remembers what the log should hold.
    pub(super) fn append(&self, log: &Log, batch: &Bytes) -> Result<Appended, AppendError> {
        let appended = log.append(batch, self.leader())?;
        assert_eq!(appended.base_offset, self.end());
        self.note(batch);
        Ok(appended)
    }

    /// Remembers a batch that the log has taken.
    pub(super) fn note(&self, batch: &Bytes) {
        let end = self.end();
        let mut stamped = batch.to_vec();
        crate::batch::stamp(&mut stamped, end, 0);
        self.model.borrow_mut().push((end, Bytes::from(stamped)));
    }

    /// The offset after the last record the log should hold.
    pub(super) fn end(&self) -> Offset {
        self.model.borrow().last().map_or(0, |(_, batch)| Header::parse(batch).unwrap().next_offset())
    }

    pub(super) fn forget_from(&self, offset: Offset) {
        self.model.borrow_mut().retain(|(base, _)| *base < offset);
        assert_eq!(self.end(), offset, "the log ends where a batch ends");
    }

    /// Reads the whole log from every offset, in large and in small bites, and compares.
    pub(super) async fn check_all(&self, log: &Log) {
        let marks = log.marks();
        let model = self.model.borrow().clone();
        for bytes_max in [1, 3000, 1 << 20] {
            let mut from = marks.log_start;
            let start = from;
            let mut expected =
                model.iter().filter(|(_, batch)| Header::parse(batch).unwrap().last_offset() >= start);
            while from < marks.written {
                let limit = ReadLimit { up_to: marks.written, bytes_max, at_least_one: true };
                let parts = log.read(from, limit).await.expect("read");
                let bytes = joined(&parts);
                assert!(!bytes.is_empty(), "there is something at {from} of {marks:?}");
                let mut rest = &bytes[..];
                while !rest.is_empty() {
                    let (base, batch) = expected.next().expect("no more than was appended");
                    assert_eq!(&rest[..batch.len()], &batch[..], "the batch at {base}");
                    rest = &rest[batch.len()..];
                    from = Header::parse(batch).unwrap().next_offset();
                }
            }
            assert_eq!(from, marks.written);
        }
        for offset in marks.log_start..marks.written {
            let limit = ReadLimit { up_to: marks.written, bytes_max: 1, at_least_one: true };
            let bytes = joined(&log.read(offset, limit).await.expect("read"));
            let header = Header::parse(&bytes).expect("a batch");
            assert!(
                header.base_offset <= offset && header.last_offset() >= offset,
                "offset {offset}: {header:?}"
            );
            assert_eq!(bytes.len(), header.total_len(), "one batch");
        }
    }

    pub(super) fn segments(&self) -> usize {
        self.segment_files().len()
    }

    pub(super) fn segment_files(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.path()).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = entries.filter(|path| path.extension().is_some_and(|e| e == "log")).collect();
        files.sort();
        files
    }

    pub(super) fn bytes_of_segments(&self) -> usize {
        let len = |path: &PathBuf| std::fs::metadata(path).unwrap().len() as usize;
        self.segment_files().iter().map(len).sum()
    }

    pub(super) fn bytes_appended(&self) -> usize {
        self.model.borrow().iter().map(|(_, batch)| batch.len()).sum()
    }

    /// Changes one byte of the last batch in the last segment; returns that batch's base offset.
    pub(super) fn damage_last_batch(&self, byte: usize) -> Offset {
        let files = self.segment_files();
        let path: &Path = files.last().unwrap();
        let (base, batch) = self.model.borrow().last().cloned().unwrap();
        let content = std::fs::read(path).unwrap();
        let at = content.windows(batch.len()).position(|window| window == batch).unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        let at = at + byte;
        file.write_all_at(&[content[at] ^ 0x55], at as u64).unwrap();
        base
    }
}

/// Runs the case with a new world for every `step`th operation that its process may die at, until the process lives through
/// all of them, as the case says; returns how often it died.
pub(super) fn die_at_each(step: usize, mut case: impl FnMut(World, usize) -> bool) -> usize {
    (0..).step_by(step).take_while(|operations| !case(World::new(), *operations)).count()
}

pub(super) fn joined(parts: &ReadParts) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in &parts.parts {
        match part {
            ReadPart::Bytes(part) => bytes.extend_from_slice(part),
            ReadPart::File { file, pos, len } => {
                let mut part = vec![0; *len];
                let file = std::fs::File::open(file.path()).unwrap();
                file.read_exact_at(&mut part, *pos).unwrap();
                bytes.extend_from_slice(&part);
            }
        }
    }
    assert_eq!(bytes.len(), parts.bytes);
    bytes
}

/// A batch without a producer: so many records, so many bytes in all of them.
pub(super) fn batch(records: i32, bytes: i32) -> Bytes {
    batch_of(-1, -1, -1, records, bytes as usize)
}

/// A batch of a producer.
pub(super) fn batch_of(producer: i64, epoch: i16, sequence: i32, records: i32, bytes: usize) -> Bytes {
    batch_at(producer, epoch, sequence, records, bytes, 1_000)
}

/// A batch of a producer, all its records at one time. What its records hold is noise; only their count is looked at.
pub(super) fn batch_at(
    producer: i64,
    epoch: i16,
    sequence: i32,
    records: i32,
    bytes: usize,
    timestamp: i64,
) -> Bytes {
    let mut batch = vec![0; HEADER_LEN + bytes];
    let length = (batch.len() - 12) as i32;
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    batch[12..16].copy_from_slice(&(-1i32).to_be_bytes());
    batch[16] = 2;
    batch[23..27].copy_from_slice(&(records - 1).to_be_bytes());
    batch[27..35].copy_from_slice(&timestamp.to_be_bytes());
    batch[35..43].copy_from_slice(&timestamp.to_be_bytes());
    batch[43..51].copy_from_slice(&producer.to_be_bytes());
    batch[51..53].copy_from_slice(&epoch.to_be_bytes());
    batch[53..57].copy_from_slice(&sequence.to_be_bytes());
    batch[57..61].copy_from_slice(&records.to_be_bytes());
    for (n, byte) in batch[HEADER_LEN..].iter_mut().enumerate() {
        *byte = (n * 31 + bytes * 7 + records as usize) as u8;
    }
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    Bytes::from(batch)
}

//! Stored bytes that change by themselves: whichever bit of whichever file flips while a log is closed, whatever is missing, cut short or
//! put beside it, nothing else than what was written is ever read, and the log says where it is damaged.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use bytes::Bytes;
use ringlog_engine::batch::{Codec, Header};
use ringlog_engine::io::DirId;
use ringlog_engine::io::sim::Sim;
use ringlog_engine::log::{
    Cache, Damage, Journaled, LeaderAppend, LeftOf, Log, LogConfig, LogDir, LogId, Notice, OpenError, Origin,
    ReadError, ReadLimit, ReadPart,
};
use ringlog_engine::records::Builder;
use ringlog_engine::shard::{Shard, ShardId};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

const BATCHES: i64 = 30;
/// Of each large file one byte in so many is changed, of the others every one.
const STRIDE: usize = 11;
const LARGE: usize = 300;

fn config() -> LogConfig {
    LogConfig { segment_bytes: 1100, index_interval_bytes: 300, ..LogConfig::default() }
}

fn place() -> LogDir {
    LogDir { dir: DirId(0), path: "/data/t-0".into() }
}

/// Two records, so that each batch spans two offsets; times a second apart, but some twice.
fn batch(number: i64) -> Bytes {
    let mut builder = Builder::new(Codec::None).producer(7, 0, i32::try_from(2 * number).unwrap());
    for record in 0..2 {
        builder.push(
            1_000 * (number / 3),
            None,
            Some(format!("{number}.{record} {:040}", number * number).as_bytes()),
            &[],
        );
    }
    builder.build()
}

/// The files of a log, and what was written to it.
struct Written {
    files: BTreeMap<PathBuf, Vec<u8>>,
    /// By their base offsets, as the log has them.
    batches: BTreeMap<i64, Bytes>,
    /// The first offset of each time.
    times: BTreeMap<i64, i64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Closed,
    Killed,
}

fn written(end: End) -> Written {
    let mut sim = Sim::new(1);
    let machine = sim.add_machine();
    sim.add_disk(machine, DirId(0), "/data");
    let actor = sim.start(machine, ShardId(0));
    let shard = sim.shard(actor);
    let batches = sim.run(actor, async move {
        let cache = Cache::new(1 << 20);
        let (log, _) = Log::open(&shard, place(), config(), &cache).await.unwrap();
        for number in 0..BATCHES {
            let leader = LeaderAppend {
                epoch: i32::try_from(number / 15).unwrap(),
                origin: Origin::Client,
                now: shard.wall_time(),
                alone: true,
            };
            log.append(&batch(number), leader).unwrap();
            // Segment after segment is sealed.
            log.wait_durable(log.marks().log_end).await.unwrap();
            shard.sleep(std::time::Duration::from_secs(1)).await;
        }
        let batches = match read_all(&log).await {
            (batches, errors) if errors.is_empty() => batches,
            (_, errors) => panic!("{errors:?}"),
        };
        if end == End::Closed {
            log.close().await.unwrap();
        }
        batches
    });
    sim.kill(machine);
    let files = sim.files(machine, DirId(0));
    let files = files.into_iter().map(|path| {
        let content = sim.read_file(machine, DirId(0), &path).unwrap();
        (path, content)
    });
    let times = (0..BATCHES).rev().map(|number| (1_000 * (number / 3), 2 * number)).collect();
    Written { files: files.collect(), batches, times }
}

/// Everything that can be read, batch by batch, and what was met where nothing could.
async fn read_all(log: &Log) -> (BTreeMap<i64, Bytes>, Vec<ReadError>) {
    let (mut batches, mut errors) = (BTreeMap::new(), Vec::new());
    let marks = log.marks();
    let mut next = marks.log_start;
    while next < marks.written {
        let limit = ReadLimit { up_to: marks.written, bytes_max: 1, at_least_one: true };
        match log.read(next, limit).await {
            Ok(read) => {
                let [ReadPart::Bytes(bytes)] = &read.parts[..] else { panic!("nothing at {next}: {read:?}") };
                let header = Header::parse(bytes).unwrap();
                assert!((header.base_offset..header.next_offset()).contains(&next), "{header:?} for {next}");
                next = header.next_offset();
                batches.insert(header.base_offset, bytes.clone());
            }
            Err(error) => {
                next += 1;
                errors.push(error);
            }
        }
    }
    (batches, errors)
}

/// Where a batch has its leader epoch, which is outside its CRC.
const EPOCH: std::ops::Range<usize> = 12..16;

/// What came of a damaged log.
struct Outcome {
    opened: Result<(), OpenError>,
    errors: Vec<ReadError>,
    damage: Vec<Damage>,
    log_end: i64,
}

/// Opens a log of these files, and looks at all it says of itself: nothing of it may be other than what was written.
fn check(end: End, written: &Written, files: &BTreeMap<PathBuf, Vec<u8>>, what: &str) -> Outcome {
    let mut sim = Sim::new(2);
    let machine = sim.add_machine();
    sim.add_disk(machine, DirId(0), "/data");
    for (path, content) in files {
        sim.put_file(machine, DirId(0), path, content).unwrap();
    }
    let actor = sim.start(machine, ShardId(0));
    let shard = sim.shard(actor);
    let (batches, times, what) = (written.batches.clone(), written.times.clone(), what.to_owned());
    sim.run(actor, async move {
        let cache = Cache::new(1 << 20);
        let damage: Rc<RefCell<Vec<Damage>>> = Rc::default();
        let log = match Log::open(&shard, place(), config(), &cache).await {
            Ok((log, _)) => log,
            Err(error) => {
                return Outcome { opened: Err(error), errors: Vec::new(), damage: Vec::new(), log_end: 0 };
            }
        };
        let heard = damage.clone();
        log.on_notice(move |notice| match notice {
            Notice::Damaged(damage) => heard.borrow_mut().push(damage),
            Notice::Failed(failed) => panic!("{failed}"),
            Notice::NoSpace => panic!("the disk has room"),
        });
        let log_end = log.marks().log_end;
        // Twice: the second time much is known to be right.
        let mut errors = Vec::new();
        for _ in 0..2 {
            let (found, met) = read_all(&log).await;
            for (offset, bytes) in found {
                let (mut bytes, mut expected) = (bytes.to_vec(), batches[&offset].to_vec());
                if end == End::Killed {
                    // Recovery has no way to know which leader a batch is of.
                    bytes[EPOCH].fill(0);
                    expected[EPOCH].fill(0);
                }
                assert_eq!(bytes, expected, "{what}: offset {offset}");
            }
            errors = met;
            if end == End::Closed {
                read_in_large_pieces(&shard, &log, &batches, &what).await;
            }
        }
        for (time, offset) in times {
            if let Ok(found) = log.offset_for_time(time).await {
                let found = found.map(|found| (found.timestamp, found.offset));
                let expected = (offset < log_end).then_some((time, offset));
                assert_eq!(found, expected, "{what}: time {time}, log end {log_end}");
            }
        }
        go_on(&shard, &log, &what).await;
        log.close().await.unwrap_or_else(|error| panic!("{what}: {error}"));
        let damage = damage.borrow().clone();
        Outcome { opened: Ok(()), errors, damage, log_end }
    })
}

/// As a consumer fetches it, and perhaps from the files themselves.
async fn read_in_large_pieces(shard: &Shard, log: &Log, batches: &BTreeMap<i64, Bytes>, what: &str) {
    let up_to = log.marks().written;
    for from in (log.marks().log_start..up_to).step_by(5) {
        let limit = ReadLimit { up_to, bytes_max: 900, at_least_one: true };
        let Ok(read) = log.read_with_files(from, limit).await else { continue };
        let mut bytes = Vec::new();
        for part in read.parts {
            match part {
                ReadPart::Bytes(part) => bytes.extend_from_slice(&part),
                ReadPart::File { file, pos, len } => {
                    bytes.extend_from_slice(&shard.io().read(file, pos, len).await.unwrap());
                }
            }
        }
        let first = batches.range(..=from).next_back().unwrap().0;
        let expected: Vec<u8> = batches.range(first..).flat_map(|(_, bytes)| bytes.to_vec()).collect();
        assert!(!bytes.is_empty() && expected.starts_with(&bytes), "{what}: a large piece from {from}");
    }
}

/// The log takes more, and gives it back; what the producer sent last is known to have been sent.
async fn go_on(shard: &Shard, log: &Log, what: &str) {
    let end = log.marks().log_end;
    let epoch = log.latest_epoch().unwrap_or(0) + 1;
    let leader = LeaderAppend { epoch, origin: Origin::Client, now: shard.wall_time(), alone: true };
    if end == 2 * BATCHES {
        let again = log.append(&batch(BATCHES - 1), leader).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(
            again.duplicate && again.base_offset == end - 2,
            "{what}: the producer is not known: {again:?}"
        );
    }
    let mut more = Builder::new(Codec::None);
    more.push(5, None, Some(b"more"), &[]);
    let more = more.build();
    let appended = log.append(&more, leader).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(appended.base_offset, end, "{what}");
    log.wait_durable(end + 1).await.unwrap();
    let limit = ReadLimit { up_to: end + 1, bytes_max: 1 << 20, at_least_one: true };
    assert!(log.read(end, limit).await.unwrap().bytes > 0, "{what}");
}

fn name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

fn kind(path: &Path) -> &str {
    path.extension().map_or(name(path), |extension| extension.to_str().unwrap())
}

#[test]
fn a_flipped_bit_is_never_served_and_is_told() {
    let mut cases: BTreeMap<String, usize> = BTreeMap::new();
    let mut told_of: BTreeMap<String, usize> = BTreeMap::new();
    for end in [End::Closed, End::Killed] {
        let written = written(end);
        assert!(written.files.keys().filter(|path| kind(path) == "log").count() > 3, "several segments");
        for (path, content) in &written.files {
            let stride = if content.len() > LARGE { STRIDE } else { 1 };
            for at in (0..content.len()).step_by(stride) {
                let mut files = written.files.clone();
                files.get_mut(path).unwrap()[at] ^= 1 << (at % 8);
                let what = format!("{} byte {at}", name(path));
                let outcome = check(end, &written, &files, &what);
                outcome.opened.unwrap_or_else(|error| panic!("{what}: {error}"));
                *cases.entry(kind(path).into()).or_default() += 1;
                let told = outcome.damage.iter().any(|damage| damage.file == *path);
                if kind(path) == "log" && end == End::Closed {
                    assert_eq!(outcome.log_end, 2 * BATCHES, "{what}: nothing is cut off");
                    let near = |damage: &Damage| damage.file == *path && damage.pos <= at as u64;
                    assert!(outcome.damage.iter().any(near), "{what}: {:?}", outcome.damage);
                    assert!((1..=8).contains(&outcome.errors.len()), "{what}: {:?}", outcome.errors);
                } else if kind(path) != "log" {
                    assert!(outcome.errors.is_empty(), "{what}: all batches are whole: {:?}", outcome.errors);
                    assert_eq!(outcome.log_end, 2 * BATCHES, "{what}");
                    if kind(path) == "checkpoint" {
                        assert!(told, "{what}");
                    }
                }
                *told_of.entry(kind(path).into()).or_default() += usize::from(told);
            }
        }
    }
    println!("cases: {cases:?}, told of: {told_of:?}");
    assert!(
        ["log", "index", "timeindex", "checkpoint"].iter().all(|kind| told_of[*kind] > 50),
        "{told_of:?}"
    );
    assert!(cases.values().sum::<usize>() > 1500, "{cases:?}");
    assert_eq!(cases.len(), 6, "{cases:?}");
}

#[test]
fn what_is_missing_cut_short_or_too_long_is_noticed() {
    for end in [End::Closed, End::Killed] {
        let written = written(end);
        let mut refused = 0;
        for (path, content) in &written.files {
            let half = content.len() / 2;
            let changes: [(&str, Option<Vec<u8>>); 5] = [
                ("missing", None),
                ("empty", Some(Vec::new())),
                ("cut", Some(content[..half].to_vec())),
                ("zeroes behind", Some([content.as_slice(), &[0; 100]].concat())),
                ("noise behind", Some([content.as_slice(), &[0xa5; 100]].concat())),
            ];
            for (how, changed) in changes {
                let mut files = written.files.clone();
                match changed {
                    Some(changed) => files.insert(path.clone(), changed),
                    None => files.remove(path),
                };
                let what = format!("{} {how}", name(path));
                let outcome = check(end, &written, &files, &what);
                let lost = kind(path) == "log" && matches!(how, "missing" | "empty" | "cut");
                match outcome.opened {
                    Err(OpenError::Lost { file, .. }) => {
                        assert!(lost && file == *path, "{what}: {}", file.display());
                        refused += 1;
                    }
                    Err(error) => panic!("{what}: {error}"),
                    Ok(()) if lost && end == End::Closed && !content.is_empty() => {
                        assert!(!outcome.errors.is_empty() && !outcome.damage.is_empty(), "{what}");
                        assert_eq!(outcome.log_end, 2 * BATCHES, "{what}");
                    }
                    Ok(()) if kind(path) != "log" => {
                        assert!(outcome.errors.is_empty(), "{what}: {:?}", outcome.errors)
                    }
                    Ok(()) => {}
                }
            }
        }
        let least = if end == End::Closed { 3 } else { 0 };
        assert!(refused >= least, "the end of the log was taken away, {refused} times noticed");
    }
}

#[test]
fn a_truncation_that_meets_a_damaged_snapshot_forgets_no_producer() {
    let written = written(End::Closed);
    let bases: Vec<i64> =
        written.files.keys().filter(|path| kind(path) == "log").map(|path| base(path)).collect();
    let newest = bases[bases.len() - 1];
    let mut files = written.files.clone();
    let snapshot = place().path.join(format!("{newest:020}.snapshot"));
    files.get_mut(&snapshot).unwrap()[9] ^= 4;
    let mut sim = Sim::new(3);
    let machine = sim.add_machine();
    sim.add_disk(machine, DirId(0), "/data");
    for (path, content) in &files {
        sim.put_file(machine, DirId(0), path, content).unwrap();
    }
    let actor = sim.start(machine, ShardId(0));
    let shard = sim.shard(actor);
    sim.run(actor, async move {
        let (log, _) = Log::open(&shard, place(), config(), &Cache::new(1 << 20)).await.unwrap();
        let end = log.marks().log_end;
        let damage: Rc<RefCell<Vec<Damage>>> = Rc::default();
        let heard = damage.clone();
        log.on_notice(move |notice| match notice {
            Notice::Damaged(damage) => heard.borrow_mut().push(damage),
            Notice::Failed(failed) => panic!("{failed}"),
            Notice::NoSpace => panic!("the disk has room"),
        });
        assert_eq!(log.truncate_to(end - 2).await.unwrap(), end - 2);
        assert!(damage.borrow().iter().any(|damage| damage.file == snapshot));
        let leader = LeaderAppend { epoch: 9, origin: Origin::Client, now: shard.wall_time(), alone: true };
        let last = log.marks().log_end / 2 - 1;
        assert!(log.append(&batch(last), leader).unwrap().duplicate);
    });
}

fn base(path: &Path) -> i64 {
    path.file_stem().unwrap().to_str().unwrap().parse().unwrap()
}

#[test]
fn foreign_files_are_left_alone() {
    let written = written(End::Killed);
    let mut files = written.files.clone();
    let names = [
        "notes.txt",
        "lost+found/file",
        "00000000000000000500.log.bak",
        "500.log",
        "-0000000000000000001.log",
        "99999999999999999999.log",
        "00000000000000000003.index",
        "00000000000000000003.snapshot~",
        "deep/00000000000000000500.log",
    ];
    for name in names {
        files.insert(place().path.join(name), b"foreign".to_vec());
    }
    let outcome = check(End::Killed, &written, &files, "foreign files");
    outcome.opened.unwrap();
    assert!(outcome.errors.is_empty() && outcome.damage.is_empty() && outcome.log_end == 2 * BATCHES);
}

#[test]
fn a_log_that_was_open_and_has_no_segment_is_not_opened_empty() {
    let opened = |files: &[(&str, &[u8])], was_open: bool| {
        let mut sim = Sim::new(3);
        let machine = sim.add_machine();
        sim.add_disk(machine, DirId(0), "/data");
        for (name, content) in files {
            sim.put_file(machine, DirId(0), Path::new("/data/t-0").join(name), content).unwrap();
        }
        let actor = sim.start(machine, ShardId(0));
        let shard = sim.shard(actor);
        sim.run(actor, async move {
            let cache = Cache::new(1 << 20);
            let id = LogId { topic: [1; 16], index: 0 };
            let journaled = Journaled { journal: None, id, left: LeftOf::default(), was_open };
            let opening = Log::open_journaled(&shard, place(), config(), &cache, journaled);
            opening.await.map(|(log, _)| log.marks().log_end)
        })
    };
    // A log's first checkpoint, from before anything was in it, says of no byte that it was durable.
    let first = {
        let mut sim = Sim::new(4);
        let machine = sim.add_machine();
        sim.add_disk(machine, DirId(0), "/data");
        let actor = sim.start(machine, ShardId(0));
        let shard = sim.shard(actor);
        sim.run(actor, async move {
            Log::open(&shard, place(), config(), &Cache::new(1 << 20)).await.unwrap();
        });
        sim.read_file(machine, DirId(0), Path::new("/data/t-0/ringlog.checkpoint")).unwrap()
    };
    let cases: [&[(&str, &[u8])]; 2] =
        [&[("partition.metadata", b"x")], &[("partition.metadata", b"x"), ("ringlog.checkpoint", &first)]];
    for files in cases {
        let error = opened(files, true).unwrap_err();
        assert!(matches!(&error, OpenError::Emptied { dir } if dir == Path::new("/data/t-0")), "{error}");
        assert_eq!(opened(files, false).unwrap(), 0, "nobody knows of a former run");
    }
}

//! Journals that change by themselves: whichever bit of one flips, no log is opened as if it were whole that lacks what was durable, and
//! the others are.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use bytes::Bytes;
use ringlog_engine::batch::Codec;
use ringlog_engine::io::DirId;
use ringlog_engine::io::sim::{MachineId, Sim};
use ringlog_engine::log::{
    Cache, Damage, Journal, JournalLimits, Journaled, LeaderAppend, Left, LeftOf, Log, LogConfig, LogDir,
    LogId, OpenError, Origin,
};
use ringlog_engine::records::Builder;
use ringlog_engine::shard::{Shard, ShardId};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

const DIR: DirId = DirId(0);
const JOURNAL: &str = "/data/ringlog-journal-0";
const BLOCK: usize = 4096;

/// Which logs each frame has something of. All but the last are known to have been durable.
const FRAMES: &[&[usize]] = &[&[0], &[1, 2], &[0, 1], &[2], &[1], &[0, 1, 2], &[0]];
const LOGS: usize = 3;

fn place(log: usize) -> LogDir {
    LogDir { dir: DIR, path: format!("/data/t-{log}").into() }
}

fn id(log: usize) -> LogId {
    LogId { topic: [1 + log as u8; 16], index: log as i32 }
}

fn batch(value: u8) -> Bytes {
    let mut builder = Builder::new(Codec::None);
    builder.push(5, None, Some(&[value; 300]), &[]);
    builder.build()
}

fn simulated() -> (Sim, MachineId) {
    let mut sim = Sim::new(1);
    let machine = sim.add_machine();
    sim.add_disk(machine, DIR, "/data");
    (sim, machine)
}

fn files_of(sim: &Sim, machine: MachineId) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = sim.files(machine, DIR).into_iter();
    files.map(|path| (path.clone(), sim.read_file(machine, DIR, &path).unwrap())).collect()
}

/// What a killed process leaves: the logs' files, and a journal with these frames of which each is synced before the next. Also where
/// each log ends.
fn written() -> (BTreeMap<PathBuf, Vec<u8>>, Vec<i64>) {
    let (mut sim, machine) = simulated();
    let actor = sim.start(machine, ShardId(0));
    let shard = sim.shard(actor);
    let ends = sim.run(actor, async move {
        let cache = Cache::new(1 << 20);
        let journal = Journal::new(&shard, DIR, Path::new("/data"), JournalLimits::default());
        let mut logs = Vec::new();
        for log in 0..LOGS {
            let left = LeftOf::default();
            let journaled = Journaled { journal: Some(&journal), id: id(log), left, was_open: false };
            let config = LogConfig::default();
            logs.push(Log::open_journaled(&shard, place(log), config, &cache, journaled).await.unwrap().0);
        }
        journal.begin();
        let leader = LeaderAppend { epoch: 1, origin: Origin::Client, now: shard.wall_time(), alone: true };
        // These go to the logs' own files: their space, and then the journal, are still being made.
        for _ in 0..2 {
            for log in &logs {
                log.append(&batch(1), leader).unwrap();
                log.wait_durable(log.marks().log_end).await.unwrap();
            }
            shard.sleep(Duration::from_secs(1)).await;
        }
        for (value, frame) in (2..).zip(FRAMES) {
            for &log in *frame {
                logs[log].append(&batch(value), leader).unwrap();
            }
            for &log in *frame {
                logs[log].wait_durable(logs[log].marks().log_end).await.unwrap();
            }
        }
        let ends = logs.iter().map(|log| log.marks().log_end).collect();
        // They die with the process.
        std::mem::forget((logs, journal));
        ends
    });
    sim.kill(machine);
    (files_of(&sim, machine), ends)
}

/// Opens the logs over these files: how each is opened, to which end, and what is told of the journal.
fn open(files: &BTreeMap<PathBuf, Vec<u8>>) -> (Vec<Result<i64, OpenError>>, Vec<Damage>) {
    let (mut sim, machine) = simulated();
    for (path, content) in files {
        sim.put_file(machine, DIR, path, content).unwrap();
    }
    let actor = sim.start(machine, ShardId(0));
    let shard = sim.shard(actor);
    sim.run(actor, async move { open_all(&shard).await })
}

async fn open_all(shard: &Shard) -> (Vec<Result<i64, OpenError>>, Vec<Damage>) {
    let cache = Cache::new(1 << 20);
    let mut left = Left::default();
    left.read(shard.io(), DIR, Path::new("/data")).await.unwrap();
    let mut opened = Vec::new();
    for log in 0..LOGS {
        let journaled = Journaled { journal: None, id: id(log), left: left.of(id(log)), was_open: true };
        let opening = Log::open_journaled(shard, place(log), LogConfig::default(), &cache, journaled);
        opened.push(match opening.await {
            Ok((log, _)) => {
                let end = log.marks().log_end;
                log.close().await.unwrap();
                Ok(end)
            }
            Err(error) => Err(error),
        });
    }
    (opened, left.damage().to_vec())
}

#[test]
fn a_flipped_bit_hides_nothing_that_was_known_to_be_durable() {
    let (files, ends) = written();
    let journal = &files[Path::new(JOURNAL)];
    let frames: Vec<usize> =
        (0..journal.len()).step_by(BLOCK).filter(|at| journal[*at..].starts_with(b"RJL1")).collect();
    assert_eq!(frames.len(), FRAMES.len(), "a frame for each");
    let (opened, damage) = open(&files);
    let whole: Vec<i64> = opened.into_iter().map(Result::unwrap).collect();
    assert_eq!((&whole, &damage[..]), (&ends, &[][..]), "without damage");

    let (mut named, mut unread, mut cases) = (0, 0, 0);
    for (number, &frame) in frames.iter().enumerate() {
        let len = u32::from_be_bytes(*journal[frame + 28..].first_chunk().unwrap()) as usize;
        for at in (frame..frame + len).step_by(7) {
            let mut files = files.clone();
            files.get_mut(Path::new(JOURNAL)).unwrap()[at] ^= 1 << (at % 8);
            let (opened, damage) = open(&files);
            cases += 1;
            // The last frame may be where the process died, and without the run that its first frame tells nothing in the journal is known for its own.
            let of_run = number == 0 && (at < frame + 4 || (frame + 8..frame + 16).contains(&at));
            let is_known = number + 1 < frames.len() && !of_run;
            let told: Vec<_> = damage.iter().map(|one| (&*one.file, one.pos)).collect();
            let expected = is_known.then_some((Path::new(JOURNAL), frame as u64));
            assert_eq!(told, Vec::from_iter(expected), "byte {at}");
            let mut lost = 0;
            for (log, opened) in opened.iter().enumerate() {
                match opened {
                    Ok(end) => assert!(*end == ends[log] || !is_known, "byte {at}: log {log} ends at {end}"),
                    Err(OpenError::LostInJournal { pos, from, .. }) => {
                        assert!(*pos == frame as u64 && *from < ends[log], "byte {at}: {from}");
                        lost += 1;
                    }
                    Err(error) => panic!("byte {at}: {error}"),
                }
            }
            if is_known && lost == 1 {
                named += 1;
            } else if is_known {
                unread += 1;
            }
        }
    }
    assert!(named > 100 && unread > 10, "{named} and {unread} of {cases}");
}

#[test]
fn who_agrees_goes_on_without_what_was_in_the_damaged_frame() {
    let (mut files, ends) = written();
    let journal = files.get_mut(Path::new(JOURNAL)).unwrap();
    // In the batch of the second frame's last entry.
    let len = u32::from_be_bytes(*journal[BLOCK + 28..].first_chunk().unwrap()) as usize;
    journal[BLOCK + len - 10] ^= 1;
    let (mut sim, machine) = simulated();
    for (path, content) in &files {
        sim.put_file(machine, DIR, path, content).unwrap();
    }
    let start = |sim: &mut Sim| {
        let actor = sim.start(machine, ShardId(0));
        let shard = sim.shard(actor);
        let opened = sim.run(actor, async move { open_all(&shard).await });
        sim.kill(machine);
        opened
    };
    for _ in 0..2 {
        let (opened, damage) = start(&mut sim);
        assert_eq!(damage.len(), 1);
        let [Ok(first), Ok(second), Err(OpenError::LostInJournal { journal, pos, from })] = &opened[..]
        else {
            panic!("{opened:?}")
        };
        assert_eq!((*first, *second), (ends[0], ends[1]), "what has lost nothing is served");
        assert_eq!((&**journal, *pos, *from), (Path::new(JOURNAL), BLOCK as u64, 2));
    }
    let mut left = files_of(&sim, machine);
    left.remove(Path::new(JOURNAL));
    let (opened, damage) = open(&left);
    assert_eq!(opened.into_iter().map(Result::unwrap).collect::<Vec<_>>(), [ends[0], ends[1], 2]);
    assert_eq!(damage, []);
}

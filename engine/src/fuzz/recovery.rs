//! Recovery of any files: the broker opens the log or says why not; what is appended then is there after it was stopped, and after its
//! power was cut. A checkpoint that says what is not so under a checksum that holds is no damage that a disk does: of such a log is
//! only demanded that it serves whole batches in order, or says where it is damaged.

use crate::batch::{self, Codec};
use crate::io::DirId;
use crate::io::sim::{MachineId, Sim};
use crate::log::{AppendError, Cache, LeaderAppend, Log, LogConfig, LogDir, Origin, ReadLimit, ReadPart};
use crate::records::Builder;
use crate::shard::{Shard, ShardId};
use bytes::Bytes;
use std::collections::BTreeMap;

const DIR: DirId = DirId(0);
const FOLDER: &str = "/data/t-0";

/// Bytes that say which files there are.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn number(&mut self) -> Option<u64> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from(u16::from_be_bytes(*first)))
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.number()?).ok()?.min(self.0.len());
        let (head, rest) = self.0.split_at(len);
        self.0 = rest;
        Some(head)
    }
}

/// The files of a partition.
#[derive(Default)]
struct Files {
    bytes: BTreeMap<String, Vec<u8>>,
    /// There is a checkpoint that may be a lie.
    forged: bool,
}

/// The files that the input describes: whole batches and any bytes, segments, indexes, checkpoints.
fn files(input: &mut Input<'_>) -> Files {
    let mut all = Files::default();
    let Files { bytes: files, forged } = &mut all;
    let (mut base, mut end, mut epoch) = (0_i64, 0_i64, 0_i32);
    while let Some(what) = input.byte() {
        let file = |suffix: &str| format!("{base:020}.{suffix}");
        let log: &mut Vec<u8> = files.entry(file("log")).or_default();
        let Some(()) = (match what % 12 {
            0..=2 => input.byte().map(|shape| {
                let batch = whole(shape, end, epoch);
                end = batch::Header::parse(&batch).expect("it was built").next_offset();
                log.extend(batch);
            }),
            3 => input.bytes().map(|bytes| log.extend(bytes)),
            4 => input.byte().map(|zeros| log.resize(log.len() + 64 * usize::from(zeros), 0)),
            5 => input.number().map(|at| {
                let at = usize::try_from(at).expect("small");
                if let Some(byte) = log.get_mut(at) {
                    *byte ^= 0x11;
                }
            }),
            6 => input.number().map(|more| {
                // Most begin where the last ended; some leave a gap, few one that no segment can reach over.
                end += [0, more.cast_signed(), i64::from(u32::MAX)]
                    [usize::from(more % 16 == 1) + usize::from(more % 256 == 17)];
                base = end;
                epoch += 1;
            }),
            7 => input.bytes().map(|bytes| drop(files.insert(file("index"), bytes.to_vec()))),
            8 => input.bytes().map(|bytes| drop(files.insert(file("timeindex"), bytes.to_vec()))),
            9 => input.bytes().map(|bytes| {
                let crc = crc_fast::crc32_iscsi(bytes).to_be_bytes();
                files.insert(file("snapshot"), [&[0, 1], &crc[..], bytes].concat());
            }),
            10 => input.bytes().map(|bytes| {
                let len = (bytes.len() as u32).to_be_bytes();
                let crc = crc_fast::crc32_iscsi(bytes).to_be_bytes();
                let file = [b"ringlogC\0\0\0\x01", &len[..], &crc, bytes].concat();
                files.insert("ringlog.checkpoint".into(), file);
                *forged = true;
            }),
            _ => input.bytes().map(|bytes| {
                let names = ["leader-epoch-checkpoint", "ringlog.offsets-have-gaps", "ringlog.checkpoint"];
                let name = names
                    .get(usize::from(what / 12) % 4)
                    .map_or_else(|| file("txnindex"), |name| (*name).into());
                files.insert(name, bytes.to_vec());
            }),
        }) else {
            break;
        };
    }
    all
}

/// A batch that may come at this offset; its shape says of whom.
fn whole(shape: u8, offset: i64, epoch: i32) -> Vec<u8> {
    let codecs = [Codec::None, Codec::Lz4];
    let mut builder = Builder::new(codecs[usize::from(shape & 1)]);
    if shape & 2 != 0 {
        builder =
            builder.producer(i64::from(shape >> 6), 0, i32::try_from(offset & 0x7fff_ffff).expect("masked"));
    }
    if shape & 4 != 0 {
        builder = builder.transactional();
    }
    for n in 0..=i64::from(shape >> 4 & 3) {
        builder.push(1_000 + offset + n, None, Some(&[shape; 20]), &[]);
    }
    let mut batch = builder.build().to_vec();
    batch::stamp(&mut batch, offset, epoch - i32::from(shape & 8 != 0));
    batch
}

/// Opens the log of these files, appends, stops, opens; appends, cuts the power, opens.
pub fn recovery(data: &[u8]) {
    let mut input = Input(data);
    let files = files(&mut input);
    let mut sim = Sim::new(7);
    let machine = sim.add_machine();
    sim.add_disk(machine, DIR, "/data");
    for (name, bytes) in &files.bytes {
        sim.put_file(machine, DIR, format!("{FOLDER}/{name}"), bytes).expect("a file is put there");
    }
    let Some(first) = live(&mut sim, machine, files.forged, Vec::new(), End::Stop) else { return };
    let second = live(&mut sim, machine, files.forged, first, End::PowerCut);
    let second = second.expect("what was stopped in order opens");
    let third = live(&mut sim, machine, files.forged, second, End::Stop);
    third.expect("what was durable opens after a power cut");
}

/// How a life ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Stop,
    PowerCut,
}

/// Batches that must be there, by their offset, as they were appended.
type Kept = Vec<(i64, Bytes)>;

/// One life of the log: what was kept is there, more is appended. `None` where the log cannot be opened, or takes nothing.
fn live(sim: &mut Sim, machine: MachineId, forged: bool, mut kept: Kept, end: End) -> Option<Kept> {
    let actor = sim.start(machine, ShardId(0));
    let shard = sim.shard(actor);
    let kept = sim.run(actor, async move {
        let place = LogDir { dir: DIR, path: FOLDER.into() };
        let config = LogConfig { segment_bytes: 4_000, index_interval_bytes: 100, ..LogConfig::default() };
        let (log, _) = Log::open(&shard, place, config, &Cache::new(1 << 20)).await.ok()?;
        let marks = log.marks();
        assert!(marks.log_start <= marks.durable && marks.durable == marks.log_end);
        read_all(&log).await;
        for (offset, batch) in kept.iter().filter(|_| !forged) {
            assert_eq!(&stored(&log, *offset).await, batch, "what was kept at {offset}");
        }
        for _ in 0..3 {
            match append(&shard, &log).await {
                Some(one) => kept.push(one),
                None => return None,
            }
        }
        if end == End::Stop {
            log.close().await.expect("a log that is well stops");
        }
        Some(kept)
    });
    if end == End::PowerCut {
        sim.power_cut(machine);
    } else {
        sim.stop(actor);
    }
    kept
}

/// Appends a batch and waits until it is durable. `None` where the log says that it cannot take it.
async fn append(shard: &Shard, log: &Log) -> Option<(i64, Bytes)> {
    let mut builder = Builder::new(Codec::None);
    builder.push(shard.wall_time().0, Some(b"key"), Some(&[9; 700]), &[]);
    let epoch = log.latest_epoch().unwrap_or(0);
    let leader = LeaderAppend { epoch, origin: Origin::Client, now: shard.wall_time(), alone: true };
    let sent = builder.build();
    let appended = match log.append(&sent, leader) {
        Ok(appended) => appended,
        Err(AppendError::Invalid { .. } | AppendError::Failed(_)) => return None,
        Err(error) => panic!("a batch that is well was refused: {error}"),
    };
    log.wait_durable(appended.last_offset + 1).await.expect("a disk that is well");
    let mut sent = sent.to_vec();
    batch::stamp(&mut sent, appended.base_offset, epoch);
    Some((appended.base_offset, sent.into()))
}

/// The batch at an offset.
async fn stored(log: &Log, offset: i64) -> Bytes {
    let limit = ReadLimit { up_to: i64::MAX, bytes_max: 1, at_least_one: true };
    let found = log.read(offset, limit).await.expect("what was appended can be read");
    let [ReadPart::Bytes(bytes)] = &found.parts[..] else { panic!("one batch at {offset}") };
    bytes.clone()
}

/// Reads to the end: what is served is whole batches, in order; damage is told.
async fn read_all(log: &Log) {
    let marks = log.marks();
    let mut at = marks.log_start;
    while at < marks.log_end {
        let limit = ReadLimit { up_to: marks.log_end, bytes_max: 1 << 20, at_least_one: true };
        let Ok(found) = log.read(at, limit).await else { return };
        let before = at;
        for part in found.parts {
            let ReadPart::Bytes(bytes) = part else { panic!("nothing is sent from here") };
            let mut rest = &bytes[..];
            while let Some(len) = batch::whole_len(rest) {
                let header = batch::Header::parse(rest).expect("what is served has a header");
                assert!(header.next_offset() > at, "{} after {at}", header.base_offset);
                at = header.next_offset();
                rest = &rest[len..];
            }
            assert!(rest.is_empty(), "{} bytes of no whole batch", rest.len());
        }
        if at == before {
            return;
        }
    }
}

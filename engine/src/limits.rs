//! Every bound of the engine, with the sum that gives it.

use std::time::Duration;

/// The unit of writes in [`crate::io::FileMode::Blocks`]: a page, and no smaller than any device's sector.
pub const BLOCK: u64 = 4096;

/// A tail buffer that must grow grows to this at once: four 16 KiB batches (the Java producer's default).
pub const ARENA_BYTES_MIN: usize = 64 << 10;

/// The most one tail buffer grows to, and with it the usual size of one write: at 1 MiB a direct write costs
/// within 5 % of what it costs at any larger size, and one log pins at most this much beyond what it caches.
pub const ARENA_BYTES_MAX: usize = 1 << 20;

/// A write of this many bytes and more is large: it waits for others of its kind, for at most the time that [`LARGE_WRITES_BYTES`] take.
/// The largest that is not takes a drive of 2 GB/s 60 us, the time of a small one.
pub const LARGE_WRITE_BYTES_MIN: usize = 128 << 10;

/// Bytes of a shard's large writes that may be under way in one directory: one of the largest. A drive of 3 GB/s has it in a third of a
/// millisecond, about as much as one shard's core takes in, and what is small waits behind it for no longer.
pub const LARGE_WRITES_BYTES: usize = 1 << 20;

/// Bytes of one log that may be placed and not yet written; more are refused until the disk has caught up.
/// 64 MiB is about half a second of one NVMe drive.
pub const UNWRITTEN_BYTES_MAX: usize = 64 << 20;

/// The very first step of space of a log that has been opened: a small batch or two. Nobody knows yet whether more will come, and ten thousand
/// logs get it at once after a start: 160 MiB of zeroes.
pub const PREPARE_BYTES_FIRST: u64 = 16 << 10;

/// The smallest step of space prepared for a segment after it: one batch of most producers, so that ten thousand
/// partitions with a batch each prepare 640 MiB and not terabytes.
pub const PREPARE_BYTES_MIN: u64 = 64 << 10;

/// The largest step of space prepared for a segment: at 1 GB/s into one log, 30 jobs a second.
pub const PREPARE_BYTES_MAX: u64 = 32 << 20;

/// Bytes of a file system of this size that segments leave free: room for the small files of ten thousand partitions (a
/// checkpoint, its successor and the indexes of a segment, some KiB each), but never more than a twentieth of a small disk.
pub const fn reserve(disk_bytes: u64) -> u64 {
    let share = disk_bytes / 20;
    if share < RESERVE_BYTES_MAX { share } else { RESERVE_BYTES_MAX }
}

const RESERVE_BYTES_MAX: u64 = 256 << 20;

/// Bytes read at once while scanning a segment.
pub const SCAN_BYTES: usize = 1 << 20;

/// Largest batch taken for possible while scanning: 2 GiB is what the length field holds, and Kafka's
/// `max.message.bytes` may be raised to; a batch never spans segments, so the file bounds it too.
pub const BATCH_BYTES_MAX: usize = i32::MAX as usize;

/// Bytes written between two checkpoints of a log: recovery scans at most this and what was in flight,
/// at about 2 GB/s, so 8 ms per log.
pub const CHECKPOINT_BYTES: u64 = 16 << 20;

/// What all logs of a shard together may have written since their checkpoints, about: a machine with two shards and a disk of
/// 1 GB/s scans it in a quarter of a second, whatever the number of logs and their size. So after the death of the process; after a loss of power
/// there may be as much more as was written before the kernel wrote their checkpoints back (30 s by default).
pub const SCAN_DEBT_MAX: u64 = 128 << 20;

/// Below this much written since the last one, a checkpoint ahead of time is not worth its three calls: ten thousand logs that have
/// written a little less are 160 MiB.
pub const SCAN_DEBT_WORTH_PAYING: u64 = 16 << 10;

/// How often the logs that are awake are looked at: one that nothing has come to in between goes to rest. What lies in the journal alone is then
/// written to the log's own file: of ten thousand logs that get a batch now and then, 170 writes a second.
pub const REST_AFTER: Duration = Duration::from_secs(60);

/// The most a batch may hold decompressed for a lookup by time to look into it: 1 MiB (`max.message.bytes`) at 64 to 1.
pub const DECOMPRESSED_BYTES_MAX: usize = 64 << 20;

/// Sealed segments of one log whose indexes stay in memory: readers at eight places of a log, 8 × 2.6 MiB where segments
/// of 1 GiB are full of small batches.
pub const SEALED_INDEXES_MAX: usize = 8;

const _: () =
    assert!(ARENA_BYTES_MAX.is_multiple_of(BLOCK as usize) && ARENA_BYTES_MIN.is_multiple_of(BLOCK as usize));
const _: () = assert!(PREPARE_BYTES_MIN.is_multiple_of(BLOCK) && PREPARE_BYTES_MAX.is_multiple_of(BLOCK));
const _: () = assert!(SCAN_BYTES.is_multiple_of(BLOCK as usize) && ARENA_BYTES_MAX < UNWRITTEN_BYTES_MAX);

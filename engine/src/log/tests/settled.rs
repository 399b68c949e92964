//! Reads of the segment that is being written: what is settled of it goes by the page cache.

use super::super::*;
use super::world::{World, batch, joined};
use crate::batch::Header;

/// Bytes of a batch.
const LEN: usize = 20_000;

/// One that keeps little in memory.
fn world() -> World {
    let mut world = World::new();
    world.cache_bytes = 256 << 10;
    world
}

/// Appends so many batches of three records.
async fn fill(log: &Log, world: &World, batches: usize) {
    for _ in 0..batches {
        world.append(log, &batch(3, (LEN - crate::batch::HEADER_LEN) as i32)).unwrap();
    }
    log.wait_filed_durably(log.marks().log_end).await.unwrap();
}

/// Reads the log from its start to `up_to`, so many bytes at a time; returns how many could be sent from a file.
async fn read_all(log: &Log, up_to: Offset, bytes_max: usize) -> usize {
    let settled = log.0.state.borrow().active().settled();
    let (mut from, mut sent) = (log.marks().log_start, 0);
    while from < up_to {
        let limit = ReadLimit { up_to, bytes_max, at_least_one: true };
        let parts = log.read_with_files(from, limit).await.unwrap();
        let bytes = joined(&parts);
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let header = Header::parse(rest).unwrap();
            assert_eq!(header.base_offset, from);
            let one = ReadLimit { bytes_max: 1, ..limit };
            let (batch, others) = rest.split_at(header.total_len());
            assert_eq!(batch, joined(&log.read(from, one).await.unwrap()));
            (from, rest) = (header.next_offset(), others);
        }
        assert!(!bytes.is_empty() && from <= up_to && parts.end >= from && parts.end <= up_to);
        if let [ReadPart::File { pos, len, .. }] = parts.parts[..] {
            assert!(pos + len as u64 <= settled);
            sent += len;
        }
    }
    sent
}

#[test]
fn what_is_settled_and_was_checked_is_sent_from_the_file() {
    let mut world = world();
    world.run(LogConfig::default(), async |log, world| {
        fill(&log, &world, 80).await;
        assert_eq!(world.segments(), 1);
        let end = log.marks().written;
        assert_eq!(read_all(&log, end, 150_000).await, 0, "nothing has been checked");
        let sent = read_all(&log, end, 150_000).await;
        assert!(sent >= 40 * LEN, "{sent} bytes");
        for up_to in [3, 30, 33, 99, 120] {
            read_all(&log, up_to.min(end), 150_000).await;
            read_all(&log, up_to.min(end), 70_000).await;
        }
        world.check_all(&log).await;
    });
}

#[test]
fn what_was_sent_from_the_file_and_is_cut_off_is_not_sent_again() {
    let mut world = world();
    world.run(LogConfig::default(), async |log, world| {
        fill(&log, &world, 80).await;
        for _ in 0..2 {
            read_all(&log, log.marks().written, 150_000).await;
        }
        assert_eq!(log.truncate_to(61).await.unwrap(), 60);
        world.forget_from(60);
        world.append(&log, &batch(1, 500)).unwrap();
        fill(&log, &world, 80).await;
        assert_eq!(read_all(&log, log.marks().written, 150_000).await, 0, "nothing has been checked since");
        assert!(read_all(&log, log.marks().written, 150_000).await > 0);
        world.check_all(&log).await;
    });
}

#[test]
fn what_is_settled_is_sent_on_when_the_segment_is_sealed() {
    let mut world = world();
    let config = LogConfig { segment_bytes: 60 * LEN as u32, ..LogConfig::default() };
    world.run(config, async |log, world| {
        fill(&log, &world, 50).await;
        for _ in 0..2 {
            read_all(&log, log.marks().written, 150_000).await;
        }
        fill(&log, &world, 50).await;
        log.settle().await.unwrap();
        assert_eq!(world.segments(), 2);
        let limit = ReadLimit { up_to: log.marks().written, bytes_max: 30 * LEN, at_least_one: true };
        let parts = log.read_with_files(0, limit).await.unwrap();
        assert!(matches!(parts.parts[..], [ReadPart::File { .. }]), "{parts:?}");
        world.check_all(&log).await;
    });
}

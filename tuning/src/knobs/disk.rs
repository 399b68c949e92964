//! The disks under the data directories, their queues, and how they are mounted.

use super::{file, wanted};
use crate::machine::{Machine, Profile};
use crate::mounts::MountOption;
use crate::place::Place;
use crate::want::Want;
use crate::{Evidence, Knob, Seen, Topic};

const SYSFS: Evidence = Evidence::Source("https://www.kernel.org/doc/Documentation/ABI/stable/sysfs-block");

/// Requests a queue should hold: what some shards have in flight, and readers beside them.
const REQUESTS: u64 = 128;

/// What is read ahead, KiB: four of the pieces in which the broker's helper fills the page cache.
const READ_AHEAD_KB: u64 = 1024;

const NO_DISK: Seen = Seen::Absent("no disk is known under the data directories");

/// One finding for each disk; a hint where there is none.
fn each_disk(machine: &Machine, seen: impl Fn(&str) -> Vec<Seen>) -> Vec<Seen> {
    let disks = machine.disks();
    let found: Vec<Seen> = disks.iter().flat_map(|disk| seen(&format!("/sys/block/{disk}/queue"))).collect();
    if found.is_empty() { vec![NO_DISK] } else { found }
}

/// Whether it turns: only believed of real machines, since virtual disks say so without a reason.
fn turns(machine: &Machine, queue: &str) -> bool {
    machine.profile() != Profile::CloudVm && machine.number(&format!("{queue}/rotational")) == Some(1)
}

pub(super) const SCHEDULER: Knob = Knob {
    name: "io-scheduler",
    topic: Topic::Disk,
    why: "The broker's writes are large, few and in order already, and a flush must not wait while a scheduler thinks. Drives and hypervisors with deep queues do better without one. A disk \
          that turns needs one: without, readers behind make producers' flushes wait for the arm.",
    checked: "`/sys/block/*/queue/scheduler`, `rotational`.",
    recommended: ["none; mq-deadline for disks that turn", "none", "left as it is"],
    applied: "The word is written. The kernel sets `nr_requests` anew with it, so that is kept and put back too.",
    evidence: &[SYSFS],
    seen: |machine| {
        let server = machine.profile() != Profile::Laptop;
        each_disk(machine, |queue| {
            let words: &[&str] = if turns(machine, queue) { &["mq-deadline", "bfq"] } else { &["none"] };
            let along = vec![Place::File(format!("{queue}/nr_requests"))];
            let place = Place::File(format!("{queue}/scheduler"));
            vec![Seen::Setting { place, want: wanted(server, Want::OneOf(words)), along }]
        })
    },
};

pub(super) const NR_REQUESTS: Knob = Knob {
    name: "nr_requests",
    topic: Topic::Disk,
    why: "Writes of all shards, a flush, and helpers that read for consumers behind are in the queue together. When it is full, who submits sleeps, and here that is a shard.",
    checked: "`/sys/block/*/queue/nr_requests`; what the device can hold: `mq/0/nr_tags`.",
    recommended: ["128 and more, or what the device holds", "likewise", "left as it is"],
    applied: "The number is written.",
    evidence: &[SYSFS],
    seen: |machine| {
        let server = machine.profile() != Profile::Laptop;
        each_disk(machine, |queue| {
            // Without a scheduler the device's own number is the most there can be.
            let holds = machine.number(&queue.replace("/queue", "/mq/0/nr_tags")).unwrap_or(REQUESTS);
            vec![file(format!("{queue}/nr_requests"), wanted(server, Want::AtLeast(REQUESTS.min(holds))))]
        })
    },
};

pub(super) const READ_AHEAD: Knob = Knob {
    name: "read-ahead",
    topic: Topic::Disk,
    why: "A consumer behind reads segments from end to end, in pieces of 256 KiB, the next one on its way while one is read. The broker asks for these itself, and for no more however large \
          this number is, since writes wait behind them. Where this number and the device's largest request are both below 512 KiB, less is on its way. Writes and the newest records do not pass here.",
    checked: "`/sys/block/*/queue/read_ahead_kb`.",
    recommended: ["1,024 KiB and more", "1,024 KiB and more", "left as it is"],
    applied: "The number is written.",
    evidence: &[
        Evidence::Measured(
            "1 MiB that is not in memory, by `sendfile`: 1.2 to 1.6 ms with 128 KiB, 0.78 with 512, 0.72 with 1,024, 0.62 with 4,096",
        ),
        SYSFS,
    ],
    seen: |machine| {
        let server = machine.profile() != Profile::Laptop;
        each_disk(machine, |queue| {
            vec![file(format!("{queue}/read_ahead_kb"), wanted(server, Want::AtLeast(READ_AHEAD_KB)))]
        })
    },
};

pub(super) const WRITE_CACHE: Knob = Knob {
    name: "write-cache",
    topic: Topic::Disk,
    why: "A drive with a volatile cache has to be flushed before a batch is acknowledged; that flush is most of what a durable batch waits for. A drive with power-loss protection says `write through`: its \
          flushes cost nothing. FUA lets a single write go past the cache.",
    checked: "`/sys/block/*/queue/write_cache`, `fua`.",
    recommended: ["drives with power-loss protection", "left as it is", "left as it is"],
    applied: "Never: writing `write through` to this file does not change the drive, it makes the kernel leave out flushes, and acknowledged batches would be lost with the power. Buy the right drive instead.",
    evidence: &[Evidence::Source("https://docs.kernel.org/block/writeback_cache_control.html")],
    seen: |machine| {
        each_disk(machine, |queue| {
            let (cache, fua) =
                (machine.word(&format!("{queue}/write_cache")), machine.word(&format!("{queue}/fua")));
            let hint = match (cache.as_str(), fua.as_str()) {
                ("", _) => return Vec::new(),
                ("write through", _) => "no volatile cache, or power-loss protection: flushes cost nothing",
                (_, "1") => "data is durable after a flush; single writes can go past the cache",
                _ => "data is durable after a flush",
            };
            let what = queue.replace("/queue", " write cache").replace("/sys/block/", "");
            vec![Seen::Fact { what, now: cache.clone(), well: true, hint: hint.into() }]
        })
    },
};

pub(super) const MOUNT_OPTIONS: Knob = Knob {
    name: "mount-options",
    topic: Topic::Disk,
    why: "With `discard` the file system tells the disk of freed space as part of each commit, so what is freed stands in the way of producers' flushes, however little at a time ringlog frees it; a weekly fstrim does the same \
          at a quiet time. With `relatime` the first read of a segment each day writes to it, and the next flush carries that. `lazytime` keeps the modification time of each direct \
          write in memory, where without it the file system has metadata to write now and then.",
    checked: "`/proc/self/mountinfo`, for the mount of each data directory.",
    recommended: [
        "noatime, lazytime, no discard (fstrim.timer instead), on ext4 or XFS",
        "likewise",
        "discard and lazytime left as they are",
    ],
    applied: "The mount is remounted with this one option changed. To keep it across starts, use `--persist`, or put it into /etc/fstab.",
    evidence: &[
        Evidence::Measured(
            "durable requests of 16 KiB, `noatime,lazytime` beside `relatime`: the same writes, bytes and flushes; 250 to 321 us of the machine's CPU a request beside 343 to 421, an indication at best. With `discard` a segment of 64 MB freed at once keeps the disk from writes for 15 ms; \
             ringlog frees large files 1 MiB at a time, 0.14 ms each, where the file system has no journal (with one, discards come with its commits: not measured)",
        ),
        Evidence::Source("https://man7.org/linux/man-pages/man8/mount.8.html"),
    ],
    seen: mounted,
};

fn mounted(machine: &Machine) -> Vec<Seen> {
    let server = machine.profile() != Profile::Laptop;
    let mut seen = Vec::new();
    for mount in machine.mounts() {
        let setting = |option, want| Seen::Setting {
            place: Place::Mount { point: mount.point.clone(), option },
            want,
            along: Vec::new(),
        };
        if !matches!(mount.kind.as_str(), "ext4" | "xfs") {
            seen.push(Seen::Fact {
                what: format!("{} file system", mount.point),
                now: mount.kind.clone(),
                well: false,
                hint: "only on ext4 and XFS is one flush known to serve all files: put the data there".into(),
            });
        }
        seen.push(setting(MountOption::Atime, Want::OneOf(&["noatime"])));
        seen.push(setting(MountOption::Lazytime, wanted(server, Want::OneOf(&["lazytime"]))));
        seen.push(setting(MountOption::Discard, wanted(server, Want::OneOf(&["nodiscard"]))));
    }
    if seen.is_empty() {
        vec![Seen::Absent("how the data directories are mounted is not told")]
    } else {
        seen
    }
}

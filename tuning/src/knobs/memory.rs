//! Memory: swapping, write-back, mappings, huge pages.

use super::{file, wanted};
use crate::machine::{Machine, Profile};
use crate::place::Place;
use crate::want::Want;
use crate::{Evidence, Knob, Seen, Topic};

/// Dirty bytes at which the kernel begins to write them back: a quarter of a second of one NVMe drive.
const BACKGROUND_BYTES: u64 = 256 << 20;

/// Dirty bytes at which who writes is made to wait.
const DIRTY_BYTES: u64 = 1 << 30;

/// What every kernel starts with.
const MAPS: u64 = 65_530;

pub(super) const SWAPPINESS: Knob = Knob {
    name: "swappiness",
    topic: Topic::Memory,
    why: "A shard is one thread: while it waits for a page to come back from swap, every partition and connection of that core waits. The broker's buffers \
          are in use all the time and bounded, the page cache beside them is what can be given up. Not 0: then the kernel rather kills a process.",
    checked: "`vm.swappiness`.",
    recommended: ["1", "1", "left as it is"],
    applied: "The sysctl is written.",
    evidence: &[Evidence::Source("https://docs.kernel.org/admin-guide/sysctl/vm.html#swappiness")],
    seen: |machine| {
        let server = machine.profile() != Profile::Laptop;
        vec![file("/proc/sys/vm/swappiness", wanted(server, Want::AtMost(1)))]
    },
};

pub(super) const DIRTY: Knob = Knob {
    name: "dirty",
    topic: Topic::Memory,
    why: "Segments are written past the page cache, so the broker makes little dirty memory; others on the machine do, and its small files. A share of memory (10 % \
          and 20 % unless set) is gigabytes on a server: when they are written back in one go, every flush that producers wait for stands behind them in the \
          disk's queue. In bytes, write-back begins early and stays a trickle.",
    checked: "`vm.dirty_background_bytes`, `vm.dirty_bytes`, or what their ratios come to of this machine's memory.",
    recommended: [
        "256 MiB in the background, 1 GiB at most",
        "256 MiB in the background, 1 GiB at most",
        "left as it is: fewer, larger writes save battery",
    ],
    applied: "The sysctls in bytes are written; the kernel then sets the ratios to 0, and a revert writes what there was, ratio or bytes.",
    evidence: &[Evidence::Source(
        "https://docs.kernel.org/admin-guide/sysctl/vm.html#dirty-background-bytes",
    )],
    seen: |machine| {
        let memory = machine.memory_bytes();
        let server = machine.profile() != Profile::Laptop;
        let threshold = |stem: &str, bytes| Seen::Setting {
            place: Place::Dirty(stem.into()),
            want: wanted(server, Want::DirtyAtMost { bytes, memory }),
            along: Vec::new(),
        };
        vec![
            threshold("/proc/sys/vm/dirty_background", BACKGROUND_BYTES),
            threshold("/proc/sys/vm/dirty", DIRTY_BYTES),
        ]
    },
};

pub(super) const MAX_MAP_COUNT: Knob = Knob {
    name: "max_map_count",
    topic: Topic::Memory,
    why: "Apache Kafka maps two index files for each segment and needs this raised. ringlog maps no files: its indexes are in memory, so the kernel's own value is enough \
          whatever the number of partitions.",
    checked: "`vm.max_map_count`.",
    recommended: ["65,530, what every kernel starts with", "65,530", "65,530"],
    applied: "The sysctl is raised where somebody has made it lower.",
    evidence: &[
        Evidence::Measured("244 mappings with no partition, and 244 with 6,000"),
        Evidence::Source("https://docs.kernel.org/admin-guide/sysctl/vm.html#max-map-count"),
    ],
    seen: |_| vec![file("/proc/sys/vm/max_map_count", Want::AtLeast(MAPS))],
};

pub(super) const THP: Knob = Knob {
    name: "thp",
    topic: Topic::Memory,
    why: "Buffers of 2 MiB and more ask for huge pages (madvise): a direct write takes such memory in one step instead of 4 KiB by 4 KiB. `never` takes that away; \
          `always` gives huge pages to small, short-lived memory too, and the broker grows by what of them is not used. With `defrag` at `always`, any \
          touch of fresh memory may stop a shard while the kernel moves pages together.",
    checked: "`/sys/kernel/mm/transparent_hugepage/enabled` and `defrag`.",
    recommended: [
        "madvise; defrag: defer+madvise or madvise",
        "madvise; defrag: defer+madvise or madvise",
        "madvise",
    ],
    applied: "The words are written. What the kernel changes along with it (`vm.min_free_kbytes`) is put back too.",
    evidence: &[
        Evidence::Measured(
            "requests of 1 MB over blocks written before: 1,056 to 1,676 MB/s with `madvise`, 730 to 775 with `never` (as `PR_SET_THP_DISABLE` has it), five rounds by turns, seen once; no difference where the disk is the limit. `always` was not tried",
        ),
        Evidence::Source("https://docs.kernel.org/admin-guide/mm/transhuge.html"),
    ],
    seen: huge_pages,
};

fn huge_pages(machine: &Machine) -> Vec<Seen> {
    const HUGE: &str = "/sys/kernel/mm/transparent_hugepage";
    if !machine.at(HUGE).is_dir() {
        return vec![Seen::Absent("this kernel has no transparent huge pages")];
    }
    let server = machine.profile() != Profile::Laptop;
    let enabled = Seen::Setting {
        place: Place::File(format!("{HUGE}/enabled")),
        want: Want::OneOf(&["madvise"]),
        along: vec![Place::File("/proc/sys/vm/min_free_kbytes".into())],
    };
    let calm = Want::OneOf(&["defer+madvise", "madvise", "defer", "never"]);
    vec![enabled, file(format!("{HUGE}/defrag"), wanted(server, calm))]
}

pub(super) const FREE_PAGE_REPORTING: Knob = Knob {
    name: "free-page-reporting",
    topic: Topic::Memory,
    why: "A virtual machine may tell its host of memory that is free, and the host takes it away (virtio-balloon). Whoever uses it next waits for the host to give and clear it again: a shard that sends to somebody who does \
          not read, or reads a segment for the first time. A broker's memory is in use all the time, or the page cache's: what the host gets it soon has to give back.",
    checked: "`/sys/module/page_reporting/parameters/page_reporting_order`: blocks of so many doublings of a page and more are reported.",
    recommended: [
        "left as it is",
        "one more than the largest block has (11, mostly), so that none is",
        "left as it is",
    ],
    applied: "The parameter is written. What the host has taken before comes back as it is used: the first minutes are as slow as they were. The host no longer gets memory back: not for one that relies on it.",
    evidence: &[
        Evidence::Measured(
            "`scripts/hurt readers`, 1,000 consumers that do not read what they fetched: the p99 of others' produces was 2,957 to 3,284 ms in six rounds with order 5, and 2.2 to 2.6 ms in five with 11 (3,070 in the first after the change)",
        ),
        Evidence::Source("https://docs.kernel.org/admin-guide/kernel-parameters.html"),
    ],
    seen: free_page_reporting,
};

fn free_page_reporting(machine: &Machine) -> Vec<Seen> {
    const ORDER: &str = "/sys/module/page_reporting/parameters/page_reporting_order";
    // Negative until there is somebody to report to.
    if machine.number(ORDER).is_none() {
        return vec![Seen::Absent("nobody is told of free memory here")];
    }
    let hosted = machine.profile() == Profile::CloudVm;
    vec![file(ORDER, wanted(hosted, Want::AtLeast(block_orders(machine))))]
}

/// How many sizes of blocks the kernel has: a column each, after `Node 0, zone DMA`.
fn block_orders(machine: &Machine) -> u64 {
    let zones = machine.read("/proc/buddyinfo").unwrap_or_default();
    let columns = zones.lines().next().map_or(0, |zone| zone.split_whitespace().skip(4).count());
    if columns == 0 { BLOCK_ORDERS } else { columns as u64 }
}

/// What nearly every kernel has.
const BLOCK_ORDERS: u64 = 11;

const _: () = assert!(BACKGROUND_BYTES < DIRTY_BYTES);

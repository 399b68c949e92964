//! Cores: their clock rate, how deep they sleep, what time they tell, whose memory they use, and who else runs on them.

use super::{file, of_each_cpu, wanted};
use crate::cpus;
use crate::machine::{Machine, Profile};
use crate::want::Want;
use crate::{Evidence, Knob, Seen, Topic};

/// A core that takes longer than this to wake is felt beside a flush of a good drive, which takes 20 µs and more.
const WAKE_MICROS_MAX: u64 = 20;

/// With fewer cores there is none to spare.
const CORES_TO_ISOLATE: usize = 8;

pub(super) const GOVERNOR: Knob = Knob {
    name: "governor",
    topic: Topic::Processor,
    why: "A shard sleeps whenever it has nothing to do, so a governor that goes by load lowers the clock of its core between requests; the next batch is then checked \
          and written at half the speed until the governor notices.",
    checked: "`/sys/devices/system/cpu/cpu*/cpufreq/scaling_governor` and `energy_performance_preference`.",
    recommended: ["performance", "performance, where the hypervisor shows it at all", "left as it is"],
    applied: "The words are written, for each core that runs.",
    evidence: &[Evidence::Source("https://docs.kernel.org/admin-guide/pm/cpufreq.html")],
    seen: |machine| {
        let server = machine.profile() != Profile::Laptop;
        let governors = of_each_cpu(machine, "cpufreq/scaling_governor");
        if governors.is_empty() {
            return vec![Seen::Absent("the clock rate is not the kernel's to choose here")];
        }
        let preferences = of_each_cpu(machine, "cpufreq/energy_performance_preference");
        let governors =
            governors.into_iter().map(|path| file(path, wanted(server, Want::OneOf(&["performance"]))));
        let preferences = preferences
            .into_iter()
            .map(|path| file(path, wanted(server, Want::OneOf(&["performance", "0"]))));
        governors.chain(preferences).collect()
    },
};

pub(super) const C_STATES: Knob = Knob {
    name: "c-states",
    topic: Topic::Processor,
    why: "With little load each request finds its core asleep. A deep state takes 100 µs and more to leave, twice on the way of a durable batch (when it comes, and when \
          its flush has ended): as much as the flush itself.",
    checked: "`/sys/devices/system/cpu/cpu*/cpuidle/state*/latency` and `disable`.",
    recommended: [
        "states that take more than 20 µs to leave are off",
        "likewise, where the hypervisor shows any",
        "left as it is",
    ],
    applied: "`disable` of each such state is set to 1. It costs power: an idle core stays warm.",
    evidence: &[Evidence::Source("https://docs.kernel.org/admin-guide/pm/cpuidle.html")],
    seen: |machine| {
        let server = machine.profile() != Profile::Laptop;
        let mut seen = Vec::new();
        for folder in of_each_cpu(machine, "cpuidle") {
            let Some(cpu_folder) = folder.strip_prefix('/') else { continue };
            for state in machine.names(cpu_folder) {
                let slow = machine
                    .number(&format!("{folder}/{state}/latency"))
                    .is_some_and(|us| us > WAKE_MICROS_MAX);
                if slow {
                    seen.push(file(
                        format!("{folder}/{state}/disable"),
                        wanted(server, Want::Is("1".into())),
                    ));
                }
            }
        }
        if seen.is_empty() { vec![Seen::Absent("no core sleeps deeper than 20 µs")] } else { seen }
    },
};

pub(super) const CLOCK_SOURCE: Knob = Knob {
    name: "clock-source",
    topic: Topic::Processor,
    why: "Every turn of a shard's loop reads the clock. From tsc, kvm-clock or Arm's counter that is 20 to 50 ns without leaving the process; from hpet, acpi_pm or xen \
          it is a system call, or worse, a visit to the hypervisor.",
    checked: "`/sys/devices/system/clocksource/clocksource0/current_clocksource` and `available_clocksource`.",
    recommended: ["tsc, or what the architecture has", "tsc or kvm-clock", "tsc"],
    applied: "tsc is chosen where the kernel offers it and another is in use. Where the kernel has found tsc wanting it does not offer it: then leave it so.",
    evidence: &[Evidence::Source("https://docs.kernel.org/virt/kvm/x86/timekeeping.html")],
    seen: |machine| {
        const CLOCK: &str = "/sys/devices/system/clocksource/clocksource0";
        let now = machine.word(&format!("{CLOCK}/current_clocksource"));
        if now.is_empty() {
            return vec![Seen::Absent("the kernel does not tell its clock sources")];
        }
        let offered = machine.word(&format!("{CLOCK}/available_clocksource"));
        if FAST_CLOCKS.contains(&now.as_str()) || offered.split_whitespace().any(|clock| clock == "tsc") {
            return vec![file(format!("{CLOCK}/current_clocksource"), Want::OneOf(FAST_CLOCKS))];
        }
        let hint = "the kernel offers no faster one; `dmesg | grep -i tsc` tells why".into();
        vec![Seen::Fact { what: "clock source".into(), now, well: false, hint }]
    },
};

const FAST_CLOCKS: &[&str] =
    &["tsc", "kvm-clock", "arch_sys_counter", "hyperv_clocksource_tsc_page", "riscv_clocksource"];

pub(super) const NUMA: Knob = Knob {
    name: "numa",
    topic: Topic::Processor,
    why: "A shard's memory is touched first by its own pinned thread, so the kernel places it on the right node by itself. Automatic balancing unmaps pages to find out who uses \
          them, which a shard feels as faults, and has nothing to gain here. Reclaiming within a node throws away page cache that consumers would have read. A \
          card or drive on the other node costs each byte a trip between sockets.",
    checked: "`/sys/devices/system/node/online`; with several nodes `kernel.numa_balancing`, `vm.zone_reclaim_mode`, and the node of each card and drive.",
    recommended: [
        "balancing and zone reclaim off; shards (`--cores`) on the node of card and drives",
        "likewise",
        "left as it is",
    ],
    applied: "The sysctls are written. Which cores get a shard is the broker's config `cores`.",
    evidence: &[Evidence::Source("https://docs.kernel.org/admin-guide/sysctl/kernel.html#numa-balancing")],
    seen: nodes,
};

fn nodes(machine: &Machine) -> Vec<Seen> {
    let nodes = cpus::from_list(&machine.word("/sys/devices/system/node/online"));
    if nodes.len() < 2 {
        return vec![Seen::Absent("one node: all memory is equally near")];
    }
    let server = machine.profile() != Profile::Laptop;
    let mut seen = vec![
        file("/proc/sys/kernel/numa_balancing", wanted(server, Want::AtMost(0))),
        file("/proc/sys/vm/zone_reclaim_mode", wanted(server, Want::AtMost(0))),
    ];
    let cards =
        machine.cards().into_iter().map(|card| (format!("/sys/class/net/{card}/device/numa_node"), card));
    let disks = machine.disks().into_iter().map(|disk| (format!("/sys/block/{disk}/device/numa_node"), disk));
    for (path, name) in cards.chain(disks) {
        if let Some(node) = machine.number(&path) {
            let cpus = machine.word(&format!("/sys/devices/system/node/node{node}/cpulist"));
            let hint = format!("its cores are {cpus}: `ringlog serve --cores {cpus}` keeps shards beside it");
            seen.push(Seen::Fact {
                what: format!("{name} is on"),
                now: format!("node {node}"),
                well: true,
                hint,
            });
        }
    }
    seen
}

pub(super) const ISOLATED_CORES: Knob = Knob {
    name: "isolated-cores",
    topic: Topic::Processor,
    why: "Shards are pinned to their cores; others are not, and take turns with them. On cores that the scheduler gives to nobody else, a shard's p99.9 is its own. Worth it where \
          the machine is the broker's and has cores to spare for the rest (interrupts, helper threads, ssh).",
    checked: "`/sys/devices/system/cpu/isolated`, `nohz_full`.",
    recommended: [
        "with 8 cores and more: all but one in eight isolated, and given to the broker by `--cores`",
        "left as it is: the hypervisor shares the cores anyway",
        "left as it is",
    ],
    applied: "Not by ringlog: it takes `isolcpus=` and `nohz_full=` on the kernel's command line and a start of the machine, and nothing else would ever run there.",
    evidence: &[Evidence::Source("https://docs.kernel.org/admin-guide/kernel-parameters.html")],
    seen: |machine| {
        let isolated = machine.word("/sys/devices/system/cpu/isolated");
        let what = "isolated cores".to_owned();
        if !isolated.is_empty() {
            let hint = format!("`ringlog serve --cores {isolated}` puts the shards there");
            return vec![Seen::Fact { what, now: isolated, well: true, hint }];
        }
        let cpus = machine.cpus();
        if machine.profile() != Profile::BareMetal || cpus.len() < CORES_TO_ISOLATE {
            return vec![Seen::Fact { what, now: "none".into(), well: true, hint: String::new() }];
        }
        let (first, last) = (cpus[cpus.len() / 8], cpus[cpus.len() - 1]);
        let hint = format!(
            "if the machine is the broker's: boot with isolcpus={first}-{last} nohz_full={first}-{last}, then --cores {first}-{last}"
        );
        vec![Seen::Fact { what, now: "none".into(), well: false, hint }]
    },
};

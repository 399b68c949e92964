//! Which core takes which queue of a network card: interrupts, and the kernel's own steering of packets.

use super::{file, wanted};
use crate::machine::{Machine, Profile, trailing_number};
use crate::want::Want;
use crate::{Evidence, Knob, Seen, Topic};

/// Flows that are told apart: a power of two well above the connections that are active at one time.
const FLOWS: u64 = 32_768;

pub(super) const IRQ_AFFINITY: Knob = Knob {
    name: "irq-affinity",
    topic: Topic::Processor,
    why: "What a queue of the card delivers is worked off on the core that its interrupt goes to. All queues on one core make that core the broker's limit, and its shard the slow \
          one; one queue for each core spreads them as connections are spread over shards. Drives with a queue for each core are placed by the kernel.",
    checked: "`/sys/class/net/*/device/msi_irqs`, `/proc/interrupts`, `/proc/irq/*/smp_affinity_list`; whether irqbalance runs.",
    recommended: ["queue n on core n, round and round", "likewise", "left to irqbalance"],
    applied: "`smp_affinity_list` of each queue's interrupt. Interrupts that the kernel manages refuse, and are told. irqbalance would undo it: stop it first.",
    evidence: &[Evidence::Source("https://docs.kernel.org/core-api/irq/irq-affinity.html")],
    seen: interrupts,
};

fn interrupts(machine: &Machine) -> Vec<Seen> {
    let cpus = machine.cpus();
    let server = machine.profile() != Profile::Laptop;
    let names = machine.read("/proc/interrupts").unwrap_or_default();
    let mut seen = Vec::new();
    for card in machine.cards() {
        let device = format!("/sys/class/net/{card}/device");
        // A virtual card's interrupts are those of the device it lies on.
        let folders = [format!("{device}/msi_irqs"), format!("{device}/../msi_irqs")];
        let irqs = folders.iter().map(|folder| machine.names(folder)).find(|irqs| !irqs.is_empty());
        let queues: Vec<(String, u64)> = irqs
            .unwrap_or_default()
            .into_iter()
            .filter_map(|irq| {
                let queue = queue_of(&names, &irq)?;
                Some((irq, queue))
            })
            .collect();
        // With one queue there is nothing to spread.
        if queues.iter().all(|(_, queue)| *queue == queues[0].1) {
            continue;
        }
        for (irq, queue) in queues {
            let core = cpus[queue as usize % cpus.len()];
            seen.push(file(
                format!("/proc/irq/{irq}/smp_affinity_list"),
                wanted(server, Want::Cpus(vec![core])),
            ));
        }
    }
    if seen.is_empty() {
        return vec![Seen::Absent("no card with several queues")];
    }
    if server && is_running(machine, "irqbalance") {
        seen.push(Seen::Fact {
            what: "irqbalance".into(),
            now: "running".into(),
            well: false,
            hint: "it moves interrupts again: `systemctl disable --now irqbalance`".into(),
        });
    }
    seen
}

/// The queue an interrupt belongs to: the number its name ends with. Those for anything but packets have no such number.
fn queue_of(interrupts: &str, irq: &str) -> Option<u64> {
    let line = interrupts.lines().find(|line| line.trim_start().starts_with(&format!("{irq}:")))?;
    let name = line.split_whitespace().last()?;
    let other = ["config", "async", "mgmnt", "mgmt", "event", "ctrl", "pages", "cmd"];
    if other.iter().any(|word| name.contains(word)) { None } else { trailing_number(name) }
}

fn is_running(machine: &Machine, program: &str) -> bool {
    let mut processes = machine.names("/proc");
    processes.retain(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
    processes.iter().any(|process| machine.word(&format!("/proc/{process}/comm")) == program)
}

pub(super) const PACKET_STEERING: Knob = Knob {
    name: "packet-steering",
    topic: Topic::Network,
    why: "RPS hands packets of a card with few queues to more cores; RFS chooses the core on which the reader runs, which here is a pinned shard, so a flow's packets, its socket and its \
          partition's thread share one cache. XPS sends from the queue of the same core. A card with a queue for each core does this by itself, and RPS would only add \
          an interrupt between cores.",
    checked: "`/sys/class/net/*/queues/rx-*/rps_cpus`, `rps_flow_cnt`, `tx-*/xps_cpus`, `net.core.rps_sock_flow_entries`.",
    recommended: [
        "fewer receive queues than cores: RPS over all cores, RFS with 32,768 flows; else RPS off. Several send queues: XPS, queue n for core n",
        "likewise",
        "left as it is",
    ],
    applied: "The masks and counts are written.",
    evidence: &[Evidence::Source("https://docs.kernel.org/networking/scaling.html")],
    seen: steering,
};

fn steering(machine: &Machine) -> Vec<Seen> {
    let cpus = machine.cpus();
    let server = machine.profile() != Profile::Laptop;
    let mut seen = Vec::new();
    let mut steered = false;
    for card in machine.cards() {
        let folder = format!("/sys/class/net/{card}/queues");
        let (receive, send): (Vec<_>, Vec<_>) =
            machine.names(&folder).into_iter().partition(|queue| queue.starts_with("rx-"));
        let steer = receive.len() < cpus.len();
        steered |= steer && !receive.is_empty();
        let mask = if steer { cpus.clone() } else { Vec::new() };
        let flows = if steer { FLOWS / receive.len().max(1) as u64 } else { 0 };
        for queue in &receive {
            seen.push(file(format!("{folder}/{queue}/rps_cpus"), wanted(server, Want::Mask(mask.clone()))));
            seen.push(file(
                format!("{folder}/{queue}/rps_flow_cnt"),
                wanted(server && steer, Want::AtLeast(flows)),
            ));
        }
        for (number, queue) in send.iter().enumerate().filter(|_| send.len() > 1) {
            // Queue n sends for core n and, where there are fewer queues than cores, for each core so many further on.
            let mine = cpus.iter().copied().skip(number).step_by(send.len()).collect();
            seen.push(file(
                format!("{folder}/{queue}/xps_cpus"),
                wanted(server && number < cpus.len(), Want::Mask(mine)),
            ));
        }
    }
    if seen.is_empty() {
        return vec![Seen::Absent("no network card")];
    }
    if steered {
        seen.insert(
            0,
            file("/proc/sys/net/core/rps_sock_flow_entries", wanted(server, Want::AtLeast(FLOWS))),
        );
    }
    seen
}

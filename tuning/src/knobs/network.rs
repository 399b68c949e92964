//! Cards and sockets: how much may wait, how much may be on the way, and how many may wait to be accepted.

use super::{file, wanted};
use crate::ethtool::{self, CardSetting};
use crate::machine::{Machine, Profile};
use crate::place::Place;
use crate::want::Want;
use crate::{Evidence, Knob, Seen, Topic};

/// Bytes on the way between two machines 13 ms apart at 10 Gbit/s, or 1.3 ms apart at 100.
const WINDOW: u64 = 16 << 20;

/// What the broker asks listen(2) for (`engine/src/io/net.rs`).
const BACKLOG: u64 = 4096;

pub(super) const TCP_BUFFERS: Knob = Knob {
    name: "tcp-buffers",
    topic: Topic::Network,
    why: "The broker sets no buffer sizes: the kernel grows each connection's between these bounds, which it does better. The last number bounds what one connection can carry: 4 MiB over a \
          round trip of 10 ms are 400 MB/s, whatever the network. Consumers and producers that pause fall back to a small window unless tcp_slow_start_after_idle is 0. \
          (`net.core.rmem_max` and `wmem_max` bound who sets sizes himself: clients may, the broker does not.)",
    checked: "`net.ipv4.tcp_rmem`, `tcp_wmem`, `tcp_moderate_rcvbuf`, `tcp_slow_start_after_idle`.",
    recommended: [
        "16 MiB as the last of each; growing on; slow start after idle off",
        "likewise",
        "left as it is",
    ],
    applied: "The sysctls are written; numbers that are higher already stay.",
    evidence: &[Evidence::Source("https://docs.kernel.org/networking/ip-sysctl.html#tcp-variables")],
    seen: |machine| {
        let server = machine.profile() != Profile::Laptop;
        let ipv4 = |name: &str, want| file(format!("/proc/sys/net/ipv4/{name}"), wanted(server, want));
        vec![
            ipv4("tcp_rmem", Want::EachAtLeast(vec![4096, 131_072, WINDOW])),
            ipv4("tcp_wmem", Want::EachAtLeast(vec![4096, 16_384, WINDOW])),
            ipv4("tcp_moderate_rcvbuf", Want::Is("1".into())),
            ipv4("tcp_slow_start_after_idle", Want::AtMost(0)),
        ]
    },
};

pub(super) const CONGESTION_CONTROL: Knob = Knob {
    name: "congestion-control",
    topic: Topic::Network,
    why: "BBR paces what a connection sends. Without the queueing discipline fq the kernel does that by a timer for each 64 KiB, on the shard's core, and the consumer sleeps in between. In the network of one site, where \
          losses mean a full queue, cubic sends as fast as it is acknowledged. (Clients on the broker's own host are not paced, whatever is set.) Across lossy, long ways BBR is the better one: then with fq \
          as the card's queueing discipline, which has one timer for all connections.",
    checked: "`net.ipv4.tcp_congestion_control`.",
    recommended: ["cubic", "cubic", "left as it is"],
    applied: "The sysctl is written. It is for connections that come from then on.",
    evidence: &[
        Evidence::Measured(
            "a consumer that is sent 1 MiB at a time from the page cache, over loopback: with BBR 1.1 to 1.2 GB/s and 730 to 790 us of CPU each, with cubic 2.8 to 3.0 GB/s and 220 to 235 us",
        ),
        Evidence::Source("https://docs.kernel.org/networking/ip-sysctl.html#tcp-variables"),
    ],
    seen: |machine| {
        let server = machine.profile() != Profile::Laptop;
        vec![file(
            "/proc/sys/net/ipv4/tcp_congestion_control",
            wanted(server, Want::OneOf(&["cubic", "reno", "dctcp"])),
        )]
    },
};

pub(super) const SOMAXCONN: Knob = Knob {
    name: "somaxconn",
    topic: Topic::Network,
    why: "After a restart all clients come back at once. The broker lets 4,096 wait to be accepted; somaxconn cuts that, silently, and who finds the queue full tries again after a second, then \
          two, then four. tcp_max_syn_backlog does the same one step earlier.",
    checked: "`net.core.somaxconn`, `net.ipv4.tcp_max_syn_backlog`.",
    recommended: ["4,096 and more", "4,096 and more", "4,096 and more"],
    applied: "The sysctls are written. A listener keeps what it began with: start the broker anew.",
    evidence: &[
        Evidence::Measured(
            "4,000 clients at once: with 128 the last is answered after 1.2 to 3.4 s, with 4,096 after 0.24 to 0.44 s",
        ),
        Evidence::Source("https://man7.org/linux/man-pages/man2/listen.2.html"),
    ],
    seen: |_| {
        vec![
            file("/proc/sys/net/core/somaxconn", Want::AtLeast(BACKLOG)),
            file("/proc/sys/net/ipv4/tcp_max_syn_backlog", Want::AtLeast(BACKLOG)),
        ]
    },
};

/// Packets of 1,500 bytes: 1 ms at 25 Gbit/s.
const RING: u32 = 2048;

pub(super) const NIC_RINGS: Knob = Knob {
    name: "nic-rings",
    topic: Topic::Network,
    why: "A shard's core also takes the packets of its queue. While it checks and copies a batch of 1 MiB nobody takes them, and what does not fit into the card's ring is dropped and sent again \
          by the client, milliseconds later: seen as a p99.9 that has no other reason. 2,048 packets are 1 ms at 25 Gbit/s.",
    checked: "Asked of the card (ethtool's netlink interface); `ethtool -g` shows the same.",
    recommended: [
        "2,048 to receive, or the most the card has",
        "left as it is: the host's queue is behind it",
        "left as it is",
    ],
    applied: "The card is told. Most take their link down for a moment to change it: better before the broker runs.",
    evidence: &[Evidence::Source("https://docs.kernel.org/networking/ethtool-netlink.html#rings-get")],
    seen: |machine| {
        each_card(machine, CardSetting::ReceiveRing, |card| {
            let most = ethtool::ring_max(card, CardSetting::ReceiveRing).ok().flatten().unwrap_or(RING);
            Want::AtLeast(u64::from(RING.min(most)))
        })
    },
};

pub(super) const NIC_COALESCING: Knob = Knob {
    name: "nic-coalescing",
    topic: Topic::Network,
    why: "An interrupt for each packet costs the shard's core a visit for every 1,500 bytes of a batch; one that waits for long adds that wait to every small request. Adaptive cards gather when much \
          comes, and interrupt at once when little does, which is what a broker sees by turns.",
    checked: "Asked of the card (ethtool's netlink interface); `ethtool -c` shows the same.",
    recommended: ["adaptive-rx on, where the card can", "left as it is", "left as it is"],
    applied: "The card is told.",
    evidence: &[Evidence::Source("https://docs.kernel.org/networking/ethtool-netlink.html#coalesce-get")],
    seen: |machine| each_card(machine, CardSetting::AdaptiveReceive, |_| Want::AtLeast(1)),
};

/// The setting of each card that has it.
fn each_card(machine: &Machine, setting: CardSetting, want: impl Fn(&str) -> Want) -> Vec<Seen> {
    let bare_metal = machine.profile() == Profile::BareMetal;
    let mut seen = Vec::new();
    for card in machine.cards() {
        let place = Place::Card { card: card.clone(), setting };
        if place.read(machine).is_ok_and(|now| now.is_some()) {
            seen.push(Seen::Setting { place, want: wanted(bare_metal, want(&card)), along: Vec::new() });
        }
    }
    if seen.is_empty() { vec![Seen::Absent("no card tells of any")] } else { seen }
}

//! Sockets: how much may be on the way, and how many may wait to be accepted.

use super::{file, wanted};
use crate::machine::Profile;
use crate::want::Want;
use crate::{Evidence, Knob, Topic};

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

pub(super) const SOMAXCONN: Knob = Knob {
    name: "somaxconn",
    topic: Topic::Network,
    why: "After a restart all clients come back at once. The broker lets 4,096 wait to be accepted; somaxconn cuts that, silently, and who finds the queue full tries again after a second, then \
          two, then four. tcp_max_syn_backlog does the same one step earlier.",
    checked: "`net.core.somaxconn`, `net.ipv4.tcp_max_syn_backlog`.",
    recommended: ["4,096 and more", "4,096 and more", "4,096 and more"],
    applied: "The sysctls are written. A listener keeps what it began with: start the broker anew.",
    evidence: &[Evidence::Source("https://man7.org/linux/man-pages/man2/listen.2.html")],
    seen: |_| {
        vec![
            file("/proc/sys/net/core/somaxconn", Want::AtLeast(BACKLOG)),
            file("/proc/sys/net/ipv4/tcp_max_syn_backlog", Want::AtLeast(BACKLOG)),
        ]
    },
};

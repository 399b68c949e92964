//! What the kernel lets one process have: descriptors, and memory that is locked.

use super::file;
use crate::machine::Machine;
use crate::place::Place;
use crate::want::Want;
use crate::{Evidence, Knob, Seen, Topic};

/// Descriptors a broker with some thousand partitions and connections wants.
const FILES_WANTED: u64 = 65_536;

/// What a service is given: room for a hundred thousand partitions and as many connections.
const FILES_OF_A_SERVICE: u64 = 1_048_576;

/// Locked bytes that rings of some dozens of shards take.
const LOCKED_WANTED: u64 = 64 << 20;

const LIMITS: &str = "/etc/security/limits.d";

pub(super) const NOFILE: Knob = Knob {
    name: "nofile",
    topic: Topic::Limits,
    why: "Each connection is a descriptor, and each open segment: 10,000 partitions held 10,015 of them (bench/results, scale.md). io_uring's table of \
          files is made as large as this limit allows. At the limit the broker refuses connections and cannot open segments.",
    checked: "`/proc/self/limits` (of the process that asks, so run it as the broker is run), `fs.nr_open`.",
    recommended: [
        "65,536 and more; the service has 1,048,576",
        "65,536 and more; the service has 1,048,576",
        "65,536 and more",
    ],
    applied: "`fs.nr_open` is raised where a service could not have its limit; who logs in gets his from `/etc/security/limits.d/ringlog-nofile.conf`, \
              from his next login on. The systemd unit of the package has `LimitNOFILE=1048576` by itself.",
    evidence: &[
        Evidence::Measured("a broker with no partition holds 16 descriptors, with 6,000 partitions 6,016"),
        Evidence::Source("https://man7.org/linux/man-pages/man2/getrlimit.2.html"),
        Evidence::Source("https://docs.kernel.org/admin-guide/sysctl/fs.html#nr-open"),
    ],
    seen: |machine| {
        let mut seen = limit(machine, "Max open files", FILES_WANTED, "ringlog-nofile", "nofile", "-n 65536");
        seen.push(file("/proc/sys/fs/nr_open", Want::AtLeast(FILES_OF_A_SERVICE)));
        seen
    },
};

pub(super) const MEMLOCK: Knob = Knob {
    name: "memlock",
    topic: Topic::Limits,
    why: "Before Linux 5.12 a ring's memory counts as locked memory of its user; at the limit io_uring is refused, and the broker runs on epoll. Newer \
          kernels count it with the memory of the control group.",
    checked: "`/proc/self/limits`, the kernel's version.",
    recommended: [
        "64 MiB and more, or Linux 5.12",
        "64 MiB and more, or Linux 5.12",
        "64 MiB and more, or Linux 5.12",
    ],
    applied: "`/etc/security/limits.d/ringlog-memlock.conf`, from the next login on. The systemd unit of the package has `LimitMEMLOCK=infinity` by itself.",
    evidence: &[Evidence::Source("https://man7.org/linux/man-pages/man2/io_uring_setup.2.html")],
    seen: |machine| {
        if machine.kernel() >= (5, 12) {
            let (now, _) = machine.limit("Max locked memory").unwrap_or_default();
            let hint = "this kernel does not count rings as locked memory".into();
            return vec![Seen::Fact { what: "locked memory".into(), now, well: true, hint }];
        }
        limit(machine, "Max locked memory", LOCKED_WANTED, "ringlog-memlock", "memlock", "-l 65536")
    },
};

/// This process' limit, and where it is too low the file that raises it for who logs in.
fn limit(machine: &Machine, name: &str, least: u64, file: &str, item: &str, option: &str) -> Vec<Seen> {
    let Some((soft, _)) = machine.limit(name) else {
        return vec![Seen::Absent("there is no /proc/self/limits")];
    };
    let well = soft == "unlimited" || soft.parse::<u64>().is_ok_and(|soft| soft >= least);
    let what = format!("{} of this process", name.trim_start_matches("Max "));
    let hint = if well { String::new() } else { format!("`ulimit {option}`, or run it as the service") };
    let mut seen = vec![Seen::Fact { what, now: soft, well, hint }];
    if !well && machine.at(LIMITS).is_dir() {
        // Of memory pam_limits(8) counts KiB.
        let value = if item == "memlock" { least >> 10 } else { least };
        let text = format!(
            "# Written by `ringlog tune`; `ringlog tune --revert` removes it.\n* - {item} {value}\nroot - {item} {value}\n"
        );
        let place = Place::Own(format!("{LIMITS}/{file}.conf"));
        seen.push(Seen::Setting { place, want: Want::Is(text), along: Vec::new() });
    }
    seen
}

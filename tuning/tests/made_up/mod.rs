//! A folder made to look like a machine: two sockets, four cores, a card with two queues, a drive and a disk that turns.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// The folder, and what lay in it before anything was changed.
pub(crate) struct MadeUp {
    root: TempDir,
}

impl MadeUp {
    /// The machine as its distribution left it.
    pub(crate) fn new() -> Self {
        let machine = Self { root: tempfile::tempdir().unwrap() };
        for (path, text) in FILES {
            machine.write(path, text);
        }
        for cpu in 0..4 {
            let folder = format!("/sys/devices/system/cpu/cpu{cpu}");
            machine.write(&format!("{folder}/cpufreq/scaling_governor"), "powersave\n");
            for (state, latency) in [(0, 0), (1, 2), (2, 10), (3, 133)] {
                machine.write(&format!("{folder}/cpuidle/state{state}/latency"), &format!("{latency}\n"));
                machine.write(&format!("{folder}/cpuidle/state{state}/disable"), "0\n");
            }
        }
        for (disk, number) in [("nvme0n1", "259:0"), ("sda", "8:0")] {
            fs::create_dir_all(machine.path("/sys/dev/block")).unwrap();
            symlink(format!("../../block/{disk}"), machine.path(&format!("/sys/dev/block/{number}")))
                .unwrap();
        }
        symlink("../../block/sda/sda1", machine.path("/sys/dev/block/8:1")).unwrap();
        fs::create_dir_all(machine.path("/etc/security/limits.d")).unwrap();
        machine
    }

    /// Its root.
    pub(crate) fn root(&self) -> &Path {
        self.root.path()
    }

    /// Where a path of it lies.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path.trim_start_matches('/'))
    }

    /// Writes a file of it.
    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// What a file of it says.
    pub(crate) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }

    /// Every file and link below /proc, /sys and /etc with what it holds. Of a choice, which only a kernel shows as one, what is chosen.
    pub(crate) fn files(&self) -> BTreeMap<PathBuf, String> {
        let mut files = BTreeMap::new();
        for top in ["proc", "sys", "etc"] {
            gather(&self.root.path().join(top), &mut files);
        }
        files
    }
}

fn gather(folder: &Path, files: &mut BTreeMap<PathBuf, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_symlink() {
            let to = fs::read_link(&path).unwrap();
            files.insert(path, format!("link to {}", to.display()));
        } else if path.is_dir() {
            gather(&path, files);
        } else {
            let text = fs::read_to_string(&path).unwrap();
            let chosen = ringlog_tuning::selected(&text);
            let text = if chosen == text { text } else { format!("{chosen}\n") };
            files.insert(path, text);
        }
    }
}

const FILES: &[(&str, &str)] = &[
    (
        "/proc/self/limits",
        "Limit                     Soft Limit           Hard Limit           Units\nMax open files            1024                 524288               files\nMax locked memory         8388608              8388608              bytes\n",
    ),
    (
        "/proc/self/mountinfo",
        "21 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n30 21 259:0 / /data rw,noatime - xfs /dev/nvme0n1 rw,lazytime\n31 21 8:1 / /old rw,noatime - ext4 /dev/sda1 rw,lazytime\n",
    ),
    ("/proc/cpuinfo", "processor\t: 0\nflags\t\t: fpu sse avx512f\n"),
    ("/proc/meminfo", "MemTotal:       131072000 kB\n"),
    ("/proc/1/comm", "systemd\n"),
    ("/proc/77/comm", "irqbalance\n"),
    (
        "/proc/interrupts",
        "      CPU0 CPU1\n 40: 0 0 PCI-MSIX-0000:00:01.0 0-edge ena-mgmnt@pci\n 41: 9 9 PCI-MSIX-0000:00:01.0 1-edge eth0-Tx-Rx-0\n 42: 9 9 PCI-MSIX-0000:00:01.0 2-edge eth0-Tx-Rx-1\n",
    ),
    ("/proc/irq/40/smp_affinity_list", "0-3\n"),
    ("/proc/irq/41/smp_affinity_list", "0-3\n"),
    ("/proc/irq/42/smp_affinity_list", "1\n"),
    ("/proc/sys/kernel/osrelease", "6.18.1-amd64\n"),
    ("/proc/sys/kernel/random/boot_id", "0a0a0a0a-0000-4000-8000-000000000001\n"),
    ("/proc/sys/kernel/numa_balancing", "1\n"),
    ("/proc/sys/fs/nr_open", "1048576\n"),
    ("/proc/sys/vm/swappiness", "60\n"),
    ("/proc/sys/vm/dirty_bytes", "0\n"),
    ("/proc/sys/vm/dirty_ratio", "20\n"),
    ("/proc/sys/vm/dirty_background_bytes", "0\n"),
    ("/proc/sys/vm/dirty_background_ratio", "10\n"),
    ("/proc/sys/vm/max_map_count", "1048576\n"),
    ("/proc/sys/vm/min_free_kbytes", "67584\n"),
    ("/proc/sys/vm/zone_reclaim_mode", "0\n"),
    ("/proc/sys/net/core/somaxconn", "128\n"),
    ("/proc/sys/net/core/rps_sock_flow_entries", "0\n"),
    ("/proc/sys/net/ipv4/tcp_rmem", "4096\t131072\t6291456\n"),
    ("/proc/sys/net/ipv4/tcp_wmem", "4096\t16384\t67108864\n"),
    ("/proc/sys/net/ipv4/tcp_moderate_rcvbuf", "1\n"),
    ("/proc/sys/net/ipv4/tcp_slow_start_after_idle", "1\n"),
    ("/proc/sys/net/ipv4/tcp_congestion_control", "bbr\n"),
    ("/proc/sys/net/ipv4/tcp_max_syn_backlog", "4096\n"),
    ("/sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never\n"),
    ("/sys/kernel/mm/transparent_hugepage/defrag", "always defer defer+madvise [madvise] never\n"),
    ("/sys/module/page_reporting/parameters/page_reporting_order", "9\n"),
    (
        "/proc/buddyinfo",
        "Node 0, zone   Normal    112    1 1      1    1      2      0      0 0      1      3 1      0 1\n",
    ),
    ("/sys/devices/system/cpu/online", "0-3\n"),
    ("/sys/devices/system/cpu/isolated", "\n"),
    ("/sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet\n"),
    ("/sys/devices/system/clocksource/clocksource0/available_clocksource", "tsc hpet acpi_pm \n"),
    ("/sys/devices/system/node/online", "0-1\n"),
    ("/sys/devices/system/node/node1/cpulist", "2-3\n"),
    ("/sys/class/net/lo/address", "00:00:00:00:00:00\n"),
    ("/sys/class/net/eth0/device/numa_node", "1\n"),
    ("/sys/class/net/eth0/device/msi_irqs/40", "msix\n"),
    ("/sys/class/net/eth0/device/msi_irqs/41", "msix\n"),
    ("/sys/class/net/eth0/device/msi_irqs/42", "msix\n"),
    ("/sys/class/net/eth0/queues/rx-0/rps_cpus", "0\n"),
    ("/sys/class/net/eth0/queues/rx-0/rps_flow_cnt", "0\n"),
    ("/sys/class/net/eth0/queues/rx-1/rps_cpus", "0\n"),
    ("/sys/class/net/eth0/queues/rx-1/rps_flow_cnt", "0\n"),
    ("/sys/class/net/eth0/queues/tx-0/xps_cpus", "0\n"),
    ("/sys/class/net/eth0/queues/tx-1/xps_cpus", "0\n"),
    ("/sys/block/nvme0n1/queue/scheduler", "none [mq-deadline] kyber\n"),
    ("/sys/block/nvme0n1/queue/nr_requests", "512\n"),
    ("/sys/block/nvme0n1/queue/rotational", "0\n"),
    ("/sys/block/nvme0n1/queue/read_ahead_kb", "128\n"),
    ("/sys/block/nvme0n1/queue/write_cache", "write through\n"),
    ("/sys/block/nvme0n1/queue/fua", "1\n"),
    ("/sys/block/nvme0n1/mq/0/nr_tags", "1023\n"),
    ("/sys/block/sda/queue/scheduler", "[none] mq-deadline kyber\n"),
    ("/sys/block/sda/queue/nr_requests", "32\n"),
    ("/sys/block/sda/queue/rotational", "1\n"),
    ("/sys/block/sda/queue/read_ahead_kb", "4096\n"),
    ("/sys/block/sda/queue/write_cache", "write back\n"),
    ("/sys/block/sda/queue/fua", "0\n"),
    ("/sys/block/sda/mq/0/nr_tags", "32\n"),
    ("/sys/block/sda/sda1/partition", "1\n"),
];

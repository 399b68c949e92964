//! Made-up machines: what is found on them, changed, looked at again, and put back to the last byte.

#![expect(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

mod made_up;

use made_up::MadeUp;
use ringlog_tuning::{Boot, Choice, Ended, Machine, Profile, State, Verdict, apply, look, revert};
use std::path::Path;

fn machine(made_up: &MadeUp, profile: Profile) -> Machine {
    Machine::new(made_up.root(), &["/data".into(), "/old/log".into()], Some(profile))
}

fn state(made_up: &MadeUp, machine: &Machine) -> State {
    State::open(machine, &made_up.path("/var/lib/ringlog-tune/originals.json")).unwrap()
}

/// What would be changed, as `place=value`.
fn changes(machine: &Machine) -> Vec<String> {
    let found = look(machine, &Choice::default());
    let change = |finding: &ringlog_tuning::Finding| {
        matches!(finding.verdict, Verdict::Change(_))
            .then(|| format!("{}={}", finding.what, finding.target()))
    };
    found.iter().filter_map(change).collect()
}

#[test]
fn a_server_gets_everything_and_a_laptop_what_hinders() {
    let made_up = MadeUp::new();
    let cpu = "/sys/devices/system/cpu/cpu";
    let mut server = vec!["/etc/security/limits.d/ringlog-nofile.conf=a file".to_owned()];
    server.extend(
        [
            "vm.swappiness=1",
            "vm.dirty_background=268435456 bytes",
            "vm.dirty=1073741824 bytes",
            "/sys/kernel/mm/transparent_hugepage/enabled=madvise",
        ]
        .map(str::to_owned),
    );
    server.extend((0..4).map(|core| format!("{cpu}{core}/cpufreq/scaling_governor=performance")));
    server.extend((0..4).map(|core| format!("{cpu}{core}/cpuidle/state3/disable=1")));
    server.extend(
        [
            "/sys/devices/system/clocksource/clocksource0/current_clocksource=tsc",
            "kernel.numa_balancing=0",
            "/proc/irq/41/smp_affinity_list=0",
            "net.core.rps_sock_flow_entries=32768",
            "/sys/class/net/eth0/queues/rx-0/rps_cpus=0000000f",
            "/sys/class/net/eth0/queues/rx-0/rps_flow_cnt=16384",
            "/sys/class/net/eth0/queues/tx-0/xps_cpus=00000005",
            "/sys/class/net/eth0/queues/rx-1/rps_cpus=0000000f",
            "/sys/class/net/eth0/queues/rx-1/rps_flow_cnt=16384",
            "/sys/class/net/eth0/queues/tx-1/xps_cpus=0000000a",
            "net.ipv4.tcp_rmem=4096 131072 16777216",
            "net.ipv4.tcp_slow_start_after_idle=0",
            "net.ipv4.tcp_congestion_control=cubic",
            "net.core.somaxconn=4096",
            "/sys/block/nvme0n1/queue/scheduler=none",
            "/sys/block/sda/queue/scheduler=mq-deadline",
            "/sys/block/nvme0n1/queue/read_ahead_kb=1024",
        ]
        .map(str::to_owned),
    );
    let mut found = changes(&machine(&made_up, Profile::BareMetal));
    found.sort();
    server.sort();
    assert_eq!(found, server);

    let laptop = [
        "/etc/security/limits.d/ringlog-nofile.conf=a file",
        "/sys/kernel/mm/transparent_hugepage/enabled=madvise",
        "/sys/devices/system/clocksource/clocksource0/current_clocksource=tsc",
        "net.core.somaxconn=4096",
    ];
    assert_eq!(changes(&machine(&made_up, Profile::Laptop)), laptop);
}

#[test]
fn a_virtual_machine_keeps_its_free_memory() {
    let made_up = MadeUp::new();
    let change = "/sys/module/page_reporting/parameters/page_reporting_order=14".to_owned();
    assert!(changes(&machine(&made_up, Profile::CloudVm)).contains(&change));
    made_up.write("/sys/module/page_reporting/parameters/page_reporting_order", "-1\n");
    assert!(!changes(&machine(&made_up, Profile::CloudVm)).contains(&change), "there is nobody to tell");
}

#[test]
fn what_is_changed_holds_and_goes_back_to_the_last_byte() {
    for profile in Profile::ALL {
        let made_up = MadeUp::new();
        let before = made_up.files();
        let machine = machine(&made_up, profile);
        let mut state = state(&made_up, &machine);
        let boot = Boot::new(&machine, &Choice::default(), Path::new("/usr/bin/ringlog"), None);
        let steps = apply(&machine, &look(&machine, &Choice::default()), Some(&boot), &mut state).unwrap();
        assert!(steps.len() > 4, "{steps:?}");
        assert!(steps.iter().all(|step| step.ended == Ended::Done), "{steps:?}");
        assert_eq!(changes(&machine), [] as [&str; 0], "a second look finds nothing to change");
        assert_ne!(made_up.files(), before);

        let back = revert(&machine, &Choice::default(), &mut state).unwrap();
        assert_eq!(back.len(), steps.len());
        assert!(back.iter().all(|step| step.ended == Ended::Done), "{back:?}");
        assert_eq!(made_up.files(), before);
        assert!(state.is_empty());
        assert!(!made_up.path("/var/lib/ringlog-tune/originals.json").exists());
    }
}

#[test]
fn the_first_originals_are_kept_when_more_is_changed_and_others_change_too() {
    let made_up = MadeUp::new();
    let before = made_up.files();
    let machine = machine(&made_up, Profile::BareMetal);
    let all = Choice::default();
    for swappiness in ["60\n", "30\n", "10\n"] {
        // Somebody else has his own idea in between.
        made_up.write("/proc/sys/vm/swappiness", swappiness);
        apply(&machine, &look(&machine, &all), None, &mut state(&made_up, &machine)).unwrap();
        assert_eq!(made_up.read("/proc/sys/vm/swappiness"), "1\n");
    }
    made_up.write("/proc/sys/vm/swappiness", "5\n");
    let back = revert(&machine, &all, &mut state(&made_up, &machine)).unwrap();
    let swappiness = back.iter().find(|step| step.knob == "swappiness").unwrap();
    assert_eq!(swappiness.ended, Ended::DoneOver("5".into()), "it is told that somebody had changed it");
    assert_eq!(made_up.files(), before);
}

#[test]
fn one_knob_is_put_back_by_itself_and_the_unit_with_the_last() {
    let made_up = MadeUp::new();
    let machine = machine(&made_up, Profile::BareMetal);
    let choose = |only: &[&str], skip: &[&str]| {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        Choice::new(&owned(only), &owned(skip)).unwrap()
    };
    let mut state = state(&made_up, &machine);
    let choice = choose(&[], &["swappiness", "thp"]);
    let boot = Boot::new(&machine, &choice, Path::new("/opt/my tools/ringlog"), None);
    apply(&machine, &look(&machine, &choice), Some(&boot), &mut state).unwrap();
    assert_eq!(made_up.read("/proc/sys/vm/swappiness"), "60\n", "it was skipped");
    let unit = made_up.read("/etc/systemd/system/ringlog-tune.service");
    let command = "ExecStart=\"/opt/my tools/ringlog\" tune --apply --profile bare-metal --data /data --data /old/log --skip swappiness --skip thp\n";
    assert!(unit.contains(command), "{unit}");
    let link = made_up.path("/etc/systemd/system/multi-user.target.wants/ringlog-tune.service");
    assert_eq!(std::fs::read_link(&link).unwrap(), Path::new("/etc/systemd/system/ringlog-tune.service"));

    revert(&machine, &choose(&["somaxconn"], &[]), &mut state).unwrap();
    assert_eq!(made_up.read("/proc/sys/net/core/somaxconn"), "128\n");
    assert_eq!(made_up.read("/proc/sys/net/ipv4/tcp_rmem"), "4096\t131072\t16777216\n");
    assert!(link.is_symlink());
    revert(&machine, &Choice::default(), &mut state).unwrap();
    assert!(!link.is_symlink());
    assert!(!made_up.path("/etc/systemd/system/ringlog-tune.service").exists());
}

#[test]
fn what_was_in_a_file_of_ours_before_comes_back() {
    let made_up = MadeUp::new();
    made_up.write("/etc/security/limits.d/ringlog-nofile.conf", "# the administrator's own\n* - nofile 9\n");
    let before = made_up.files();
    let machine = machine(&made_up, Profile::CloudVm);
    let mut state = state(&made_up, &machine);
    apply(&machine, &look(&machine, &Choice::default()), None, &mut state).unwrap();
    assert!(made_up.read("/etc/security/limits.d/ringlog-nofile.conf").contains("nofile 65536"));
    revert(&machine, &Choice::default(), &mut state).unwrap();
    assert_eq!(made_up.files(), before);
}

#[test]
fn a_refusal_is_told_and_keeps_nothing_else_from_being_changed() {
    let made_up = MadeUp::new();
    // A folder has no mounts to change: what the kernel would refuse.
    made_up.write("/proc/self/mountinfo", "30 21 259:0 / /data rw,relatime - ext4 /dev/nvme0n1 rw,discard\n");
    let machine = machine(&made_up, Profile::BareMetal);
    let mut state = state(&made_up, &machine);
    let steps = apply(&machine, &look(&machine, &Choice::default()), None, &mut state).unwrap();
    let failed: Vec<&str> = steps
        .iter()
        .filter(|step| matches!(step.ended, Ended::Failed(_)))
        .map(|step| step.what.as_str())
        .collect();
    assert_eq!(failed, ["/data atime", "/data lazytime", "/data discard"]);
    assert_eq!(made_up.read("/proc/sys/vm/swappiness"), "1\n");
    let back = revert(&machine, &Choice::default(), &mut state).unwrap();
    assert!(back.iter().all(|step| step.ended == Ended::Done), "{back:?}");
    assert_eq!(made_up.read("/proc/sys/vm/swappiness"), "60\n");
}

#[test]
fn a_disk_that_was_taken_out_is_told_and_forgotten() {
    let made_up = MadeUp::new();
    let machine = machine(&made_up, Profile::BareMetal);
    let mut state = state(&made_up, &machine);
    apply(&machine, &look(&machine, &Choice::default()), None, &mut state).unwrap();
    std::fs::remove_dir_all(made_up.path("/sys/block/nvme0n1")).unwrap();
    let back = revert(&machine, &Choice::default(), &mut state).unwrap();
    let gone: Vec<&str> =
        back.iter().filter(|step| step.ended == Ended::Gone).map(|step| step.what.as_str()).collect();
    assert!(gone.contains(&"/sys/block/nvme0n1/queue/scheduler"), "{back:?}");
    assert!(state.is_empty());
}

#[test]
fn an_empty_machine_has_nothing_to_change() {
    let root = tempfile::tempdir().unwrap();
    for profile in Profile::ALL {
        assert_eq!(changes(&Machine::new(root.path(), &["/data".into()], Some(profile))), [] as [&str; 0]);
    }
}

#[test]
fn the_profile_is_guessed() {
    let made_up = MadeUp::new();
    let guess = || Machine::new(made_up.root(), &[], None).profile();
    assert_eq!(guess(), Profile::BareMetal);
    made_up.write("/sys/class/power_supply/BAT0/type", "Battery\n");
    assert_eq!(guess(), Profile::Laptop);
    made_up.write("/proc/cpuinfo", "flags\t\t: fpu hypervisor\n");
    assert_eq!(guess(), Profile::CloudVm);
}

#[test]
fn a_slip_of_the_pen_gets_the_nearest_name() {
    let refused = Choice::new(&["swap".to_owned()], &[]).unwrap_err().to_string();
    assert_eq!(refused, "there is no knob `swap`; did you mean `swappiness`?");
}

//! `ringlog check`: is this machine fit?

use super::Failure;
use clap::Args;
use ringlog_engine::io::DirFacts;
use ringlog_engine::io::host::{cores, uring_refusal};
use std::fs;
use std::path::{Path, PathBuf};

#[derive(Args)]
pub(super) struct Arguments {
    /// The data directory to look at; may be given several times
    #[arg(long, value_name = "DIR", default_value = "./data")]
    data: Vec<PathBuf>,
}

/// One thing looked at.
struct Finding {
    well: bool,
    text: String,
}

/// Descriptors a broker with some thousand partitions and connections wants.
const FILES_WANTED: u64 = 65_536;

pub(super) fn run(arguments: Arguments) -> Result<(), Failure> {
    let mut findings = vec![kernel(), uring(), files(), clock()];
    match cores() {
        Ok(cores) => {
            findings.push(Finding { well: true, text: format!("cores: {} may be used", cores.len()) })
        }
        Err(error) => findings.push(Finding { well: false, text: format!("cores: {error}") }),
    }
    for dir in &arguments.data {
        findings.extend(directory(dir));
    }
    let mut unfit = 0;
    for Finding { well, text } in &findings {
        println!("{} {text}", if *well { "ok  " } else { "mend" });
        unfit += usize::from(!well);
    }
    match unfit {
        0 => Ok(()),
        _ => Err(Failure(format!(
            "{unfit} of {} things are not at their best; each line says what mends it",
            findings.len()
        ))),
    }
}

fn kernel() -> Finding {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let well = version >= (6, 1);
    let hint = if well { "" } else { ": Linux 6.1 or newer is needed for io_uring as ringlog uses it" };
    Finding { well, text: format!("kernel: Linux {release}{hint}") }
}

fn uring() -> Finding {
    match uring_refusal() {
        None => Finding { well: true, text: "io_uring: offered".into() },
        Some(why) => {
            Finding { well: false, text: format!("io_uring: {why}; without it the broker runs on poll") }
        }
    }
}

fn files() -> Finding {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap_or_default();
    let soft = line.split_whitespace().nth(3).unwrap_or_default();
    let well = soft == "unlimited" || soft.parse::<u64>().is_ok_and(|files| files >= FILES_WANTED);
    let hint = if well {
        String::new()
    } else {
        format!(": `ulimit -n {FILES_WANTED}` (LimitNOFILE in a systemd unit)")
    };
    Finding { well, text: format!("open files: {soft}{hint}") }
}

fn clock() -> Finding {
    let source = fs::read_to_string("/sys/devices/system/clocksource/clocksource0/current_clocksource");
    let source = source.unwrap_or_default();
    let source = source.trim();
    let well = matches!(source, "tsc" | "kvm-clock" | "arch_sys_counter");
    let hint = if well {
        ""
    } else {
        ": reading it may be a system call; boot with clocksource=tsc if the processor allows"
    };
    Finding { well, text: format!("clock: {source}{hint}") }
}

fn directory(path: &Path) -> Vec<Finding> {
    // What would be made is looked for where it would be made.
    let existing = path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."));
    let existing = if existing.as_os_str().is_empty() { Path::new(".") } else { existing };
    let facts = match DirFacts::probe(existing) {
        Ok(facts) => facts,
        Err(error) => {
            return vec![Finding { well: false, text: format!("data {}: {error}", path.display()) }];
        }
    };
    let mut findings =
        vec![Finding { well: facts.direct && facts.shared_flush, text: format!("data {facts}") }];
    findings.extend(disk_cache(facts.device));
    findings
}

/// Whether the disk says it has a volatile cache, and whether single writes can go past it.
fn disk_cache(device: u64) -> Option<Finding> {
    let (major, minor) = (device >> 8 & 0xfff, device & 0xff | device >> 12 & 0xfff00);
    let block = PathBuf::from(format!("/sys/dev/block/{major}:{minor}"));
    // A partition's queue is that of its disk.
    let queue = [block.join("queue"), block.join("../queue")].into_iter().find(|queue| queue.exists())?;
    let read = |name: &str| fs::read_to_string(queue.join(name)).unwrap_or_default().trim().to_owned();
    let (cache, fua) = (read("write_cache"), read("fua"));
    let text = match (cache.as_str(), fua.as_str()) {
        ("write through", _) => {
            "disk: no volatile cache, or one with power-loss protection: flushes cost nothing".into()
        }
        (_, "1") => format!("disk: {cache} cache, forced unit access offered: data is durable after a flush"),
        _ => format!("disk: {cache} cache: data is durable after a flush"),
    };
    Some(Finding { well: true, text })
}

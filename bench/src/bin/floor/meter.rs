//! Measuring: time, the whole machine's CPU, the disk's writes and flushes, round after round.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// Rounds of each table.
const ROUNDS: usize = 5;

/// A variant runs in a round again and again for this long: the kernel counts a core's idle time in hundredths of a second.
const ROUND: Duration = Duration::from_secs(1);

/// What one run of a variant cost.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cost {
    /// Wall time in microseconds, for each operation.
    pub(crate) wall: f64,
    /// CPU of the whole machine in microseconds, for each operation.
    pub(crate) cpu: f64,
    /// Context switches of this process, for each operation.
    pub(crate) switches: f64,
    /// Flushes of the disk, for each operation.
    pub(crate) flushes: f64,
    /// Bytes written to the disk over bytes asked for.
    pub(crate) amplification: f64,
}

/// What a variant does, by name.
pub(crate) type Way<'a> = (&'a str, Box<dyn Fn() + 'a>);

/// A way of doing the same work.
pub(crate) struct Variant<'a> {
    /// Its name in the table.
    pub(crate) name: String,
    /// Operations of one run.
    pub(crate) operations: usize,
    /// Bytes one run writes or reads.
    pub(crate) bytes: u64,
    /// What is done before the clock starts.
    pub(crate) prepare: Box<dyn FnMut() + 'a>,
    /// The work.
    pub(crate) work: Box<dyn FnMut() + 'a>,
}

/// Runs all variants in every round and prints their table.
pub(crate) fn table(dir: &Path, title: &str, variants: &mut [Variant<'_>]) {
    let disk = disk_of(dir);
    let mut costs = vec![Vec::new(); variants.len()];
    for _ in 0..ROUNDS {
        for (variant, costs) in variants.iter_mut().zip(&mut costs) {
            costs.push(measure(&disk, variant));
        }
    }
    println!("\n{title}\n");
    println!("| way | µs | CPU µs, whole machine | CPU s/GB | switches | flushes | written/asked |");
    println!("|---|---|---|---|---|---|---|");
    for (variant, costs) in variants.iter().zip(&costs) {
        let column = |of: fn(&Cost) -> f64| spread(costs.iter().map(of).collect());
        let (cpu, low, high) = column(|cost| cost.cpu);
        let (wall, wall_low, wall_high) = column(|cost| cost.wall);
        let gigabytes = variant.bytes as f64 / variant.operations as f64 / 1e9;
        println!(
            "| {} | {wall:.0} ({wall_low:.0}-{wall_high:.0}) | {cpu:.1} ({low:.1}-{high:.1}) | {:.2} | {:.2} | {:.2} | {:.2} |",
            variant.name,
            cpu / 1e6 / gigabytes,
            column(|cost| cost.switches).0,
            column(|cost| cost.flushes).0,
            column(|cost| cost.amplification).0,
        );
    }
}

#[expect(clippy::disallowed_methods, reason = "an instrument reads the clock")]
fn measure(disk: &str, variant: &mut Variant<'_>) -> Cost {
    let (mut wall, mut idle, mut switches, mut runs) = (Duration::ZERO, Duration::ZERO, 0, 0);
    let (mut writes, mut flushes) = (0, 0);
    while wall < ROUND {
        (variant.prepare)();
        let before = (disk_counts(disk), machine_idle(), own_switches());
        let began = Instant::now();
        (variant.work)();
        wall += began.elapsed();
        let after = (disk_counts(disk), machine_idle(), own_switches());
        idle += after.1 - before.1;
        switches += after.2 - before.2;
        writes += after.0.0 - before.0.0;
        flushes += after.0.1 - before.0.1;
        runs += 1;
    }
    let busy = (wall * cores()).saturating_sub(idle);
    let operations = (variant.operations * runs) as f64;
    Cost {
        wall: micros(wall) / operations,
        cpu: micros(busy) / operations,
        switches: switches as f64 / operations,
        flushes: flushes as f64 / operations,
        amplification: (writes * 512) as f64 / (variant.bytes * runs as u64) as f64,
    }
}

/// Median, least, most.
fn spread(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    (values[values.len() / 2], values[0], values[values.len() - 1])
}

fn micros(span: Duration) -> f64 {
    span.as_secs_f64() * 1e6
}

/// How long the machine's cores idled so far, waited for disks or were taken away (proc_stat(5), in hundredths). What is left
/// of the time is work, wherever it was done: the kernel measures idle spells, but only samples who worked.
fn machine_idle() -> Duration {
    let stat = fs::read_to_string("/proc/stat").expect("read /proc/stat");
    let line = stat.lines().next().expect("the first line is the machine's");
    let ticks: Vec<u64> = line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    Duration::from_millis((ticks[3] + ticks[4] + ticks[7]) * 10)
}

/// The cores of the machine, those of other processes too.
fn cores() -> u32 {
    let stat = fs::read_to_string("/proc/stat").expect("read /proc/stat");
    let of_a_core = |line: &&str| line.starts_with("cpu") && !line.starts_with("cpu ");
    u32::try_from(stat.lines().filter(of_a_core).count()).expect("a machine's cores")
}

/// Context switches of all threads of this process so far, the kernel's workers for its ring among them.
fn own_switches() -> u64 {
    let threads = fs::read_dir("/proc/self/task").expect("read own threads");
    let statuses =
        threads.flatten().filter_map(|thread| fs::read_to_string(thread.path().join("status")).ok());
    let count = |line: &str| line.split_whitespace().last().and_then(|count| count.parse::<u64>().ok());
    statuses
        .map(|status| {
            status.lines().filter(|line| line.contains("ctxt_switches")).filter_map(count).sum::<u64>()
        })
        .sum()
}

/// The disk a directory lies on, as /proc/diskstats numbers it.
fn disk_of(dir: &Path) -> String {
    let device = rustix::fs::stat(dir).expect("look at the directory").st_dev;
    format!("{} {}", rustix::fs::major(device), rustix::fs::minor(device))
}

/// Sectors written and flushes done so far.
fn disk_counts(disk: &str) -> (u64, u64) {
    let stats = fs::read_to_string("/proc/diskstats").expect("read /proc/diskstats");
    let fields = stats.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let line = fields.into_iter().find(|fields| format!("{} {}", fields[0], fields[1]) == disk);
    line.map_or((0, 0), |fields| {
        let field = |at: usize| fields.get(at).and_then(|field| field.parse().ok()).unwrap_or(0);
        (field(9), field(18))
    })
}

/// Pins this process to the first core it may use.
pub(crate) fn pin() {
    let cores = ringlog_engine::io::host::cores().expect("ask for the cores");
    ringlog_engine::io::host::pin(cores[0]).expect("pin to a core");
}

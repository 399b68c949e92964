//! Measuring: time, the whole machine's CPU, the disk's writes and flushes, round after round.

use ringlog_engine::io::host;
use rustix::time::{ClockId, clock_gettime};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// Rounds of each table that count; one more comes before them, so that none is the first to touch anything.
const ROUNDS: usize = 5;

/// A way runs in a round again and again for this long: the kernel counts a core's idle time in hundredths of a second.
const ROUND: Duration = Duration::from_millis(400);

/// What is measured while other processes take more than this of a core is measured again, but not for ever.
const OTHERS_MAX: f64 = 0.03;
const TRIES: usize = 5;

/// What one way cost in one round.
#[derive(Debug, Clone, Copy, Default)]
struct Cost {
    /// Wall time in microseconds, for each operation.
    wall: f64,
    /// CPU of the whole machine in microseconds, for each operation.
    cpu: f64,
    /// CPU of the measuring thread in microseconds, for each operation.
    own: f64,
    /// Context switches of this process, for each operation.
    switches: f64,
    /// Flushes of the disk, for each operation.
    flushes: f64,
    /// Bytes written to the disk over bytes asked for.
    amplification: f64,
    /// What other processes took of a core meanwhile.
    others: f64,
}

/// How much one run of every way of a table does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Amount {
    /// Operations: what the table's figures are for one of.
    pub(crate) operations: usize,
    /// Bytes written or read.
    pub(crate) bytes: u64,
}

/// A way of doing the same work as the others of its table.
pub(crate) struct Way<'a> {
    name: String,
    prepare: Option<Box<dyn Fn() + 'a>>,
    work: Box<dyn Fn() + 'a>,
}

impl<'a> Way<'a> {
    /// A way by its name, and its work.
    pub(crate) fn new(name: impl Into<String>, work: impl Fn() + 'a) -> Self {
        Self { name: name.into(), prepare: None, work: Box::new(work) }
    }

    /// What is done before each run, while the clock stands still.
    pub(crate) fn after(mut self, prepare: impl Fn() + 'a) -> Self {
        self.prepare = Some(Box::new(prepare));
        self
    }
}

/// Runs all ways in every round and prints their table.
pub(crate) fn table(dir: &Path, title: &str, amount: Amount, ways: &[Way<'_>]) {
    let disk = disk_of(dir);
    let mut costs = vec![Vec::new(); ways.len()];
    for round in 0..=ROUNDS {
        // Whoever comes after a way finds what it left behind: each round begins with another.
        for at in (0..ways.len()).map(|at| (at + round) % ways.len()) {
            let cost = measure_undisturbed(&disk, amount, &ways[at]);
            if round > 0 {
                costs[at].push(cost);
            }
        }
    }
    print(title, amount, ways, &costs);
    let others: Vec<f64> = costs.iter().flatten().map(|cost| cost.others * 100.0).collect();
    let disturbed = others.iter().filter(|share| **share > OTHERS_MAX * 100.0).count();
    let measured = others.len();
    let (median, ..) = spread(others);
    println!(
        "\nOther processes took {median:.1} % of a core; {disturbed} of {measured} measurements were disturbed."
    );
}

fn measure_undisturbed(disk: &str, amount: Amount, way: &Way<'_>) -> Cost {
    let costs = (0..TRIES).map(|_| measure(disk, amount, way));
    let mut least = Cost { others: f64::MAX, ..Cost::default() };
    for cost in costs {
        if cost.others < least.others {
            least = cost;
        }
        if least.others <= OTHERS_MAX {
            break;
        }
    }
    least
}

fn print(title: &str, amount: Amount, ways: &[Way<'_>], costs: &[Vec<Cost>]) {
    println!("\n### {title}\n");
    println!(
        "| way | µs | CPU µs, whole machine | against the first | CPU s/GB | own µs | switches | flushes | written/asked |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for (way, of_way) in ways.iter().zip(costs) {
        let column = |of: fn(&Cost) -> f64| spread(of_way.iter().map(of).collect());
        let (cpu, cpu_low, cpu_high) = column(|cost| cost.cpu);
        let (wall, wall_low, wall_high) = column(|cost| cost.wall);
        // Of the same round, so that a slow second of the machine weighs on both.
        let ratios = of_way.iter().zip(&costs[0]).map(|(cost, first)| cost.cpu / first.cpu);
        let (ratio, ratio_low, ratio_high) = spread(ratios.collect());
        let gigabytes = amount.bytes as f64 / amount.operations as f64 / 1e9;
        println!(
            "| {} | {wall:.0} ({wall_low:.0}-{wall_high:.0}) | {cpu:.1} ({cpu_low:.1}-{cpu_high:.1}) | \
             {ratio:.2} ({ratio_low:.2}-{ratio_high:.2}) | {:.2} | {:.1} | {:.2} | {:.2} | {:.2} |",
            way.name,
            cpu / 1e6 / gigabytes,
            column(|cost| cost.own).0,
            column(|cost| cost.switches).0,
            column(|cost| cost.flushes).0,
            column(|cost| cost.amplification).0,
        );
    }
}

fn measure(disk: &str, amount: Amount, way: &Way<'_>) -> Cost {
    let mut sum = Reading::default();
    let mut runs = 0;
    while sum.wall < ROUND {
        if let Some(prepare) = &way.prepare {
            prepare();
        }
        let before = Reading::now(disk);
        // Runs that need no preparing are measured together: a reading is only as fine as the kernel counts.
        loop {
            (way.work)();
            runs += 1;
            if way.prepare.is_some() || monotonic() - before.wall >= ROUND {
                break;
            }
        }
        sum.add(&before, &Reading::now(disk));
    }
    let operations = (amount.operations * runs) as f64;
    Cost {
        wall: micros(sum.wall) / operations,
        cpu: micros((sum.wall * cores()).saturating_sub(sum.idle)) / operations,
        own: micros(sum.own) / operations,
        switches: sum.switches as f64 / operations,
        flushes: sum.flushes as f64 / operations,
        // Taken from sums: both count in hundredths, and one may be a count ahead of the other.
        others: sum.user.saturating_sub(sum.own_user).as_secs_f64() / sum.wall.as_secs_f64(),
        amplification: (sum.sectors * 512) as f64 / (amount.bytes * runs as u64) as f64,
    }
}

/// All counters at one instant, or how far they moved.
#[derive(Default)]
struct Reading {
    wall: Duration,
    idle: Duration,
    user: Duration,
    own_user: Duration,
    own: Duration,
    switches: u64,
    sectors: u64,
    flushes: u64,
}

impl Reading {
    fn now(disk: &str) -> Self {
        let (sectors, flushes) = disk_counts(disk);
        let ((idle, user), switches) = (machine_idle_and_user(), own_switches());
        let own = Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).expect("time is positive");
        Self { wall: monotonic(), idle, user, own_user: own_user(), own, switches, sectors, flushes }
    }

    fn add(&mut self, before: &Self, after: &Self) {
        self.wall += after.wall - before.wall;
        self.idle += after.idle - before.idle;
        self.user += after.user - before.user;
        self.own_user += after.own_user - before.own_user;
        self.own += after.own - before.own;
        self.switches += after.switches - before.switches;
        self.sectors += after.sectors - before.sectors;
        self.flushes += after.flushes - before.flushes;
    }
}

/// Median and quartiles: a disk that stalls for one round is seen in neither.
fn spread(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    let quarter = values.len() / 4;
    (values[values.len() / 2], values[quarter], values[values.len() - 1 - quarter])
}

fn micros(span: Duration) -> f64 {
    span.as_secs_f64() * 1e6
}

#[expect(clippy::disallowed_methods, reason = "an instrument reads the clock")]
fn monotonic() -> Duration {
    static BEGAN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    BEGAN.get_or_init(Instant::now).elapsed()
}

/// How long the machine's cores idled so far, waited for disks or were taken away (proc_stat(5), in hundredths). What is left
/// of the time is work, wherever it was done: the kernel measures idle spells, but only samples who worked. And how long they ran
/// programs: what is not ours of that is other processes', since kernel threads run none.
fn machine_idle_and_user() -> (Duration, Duration) {
    let stat = fs::read_to_string("/proc/stat").expect("read /proc/stat");
    let line = stat.lines().next().expect("the first line is the machine's");
    let ticks: Vec<u64> = line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    let hundredths = |count: u64| Duration::from_millis(count * 10);
    (hundredths(ticks[3] + ticks[4] + ticks[7]), hundredths(ticks[0] + ticks[1]))
}

/// How long this process ran, outside the kernel (proc_pid_stat(5)).
fn own_user() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").expect("read /proc/self/stat");
    let (_, fields) = stat.rsplit_once(')').expect("a name in brackets");
    let ticks = fields.split_whitespace().nth(11).and_then(|field| field.parse::<u64>().ok());
    Duration::from_millis(ticks.expect("a count of ticks") * 10)
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
    let mut lines = stats.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let line = lines.find(|fields| format!("{} {}", fields[0], fields[1]) == disk);
    line.map_or((0, 0), |fields| {
        let field = |at: usize| fields.get(at).and_then(|field| field.parse().ok()).unwrap_or(0);
        (field(9), field(18))
    })
}

/// Pins this thread to one of the cores the process was started with, or to the last there is.
pub(crate) fn pin(number: usize) {
    static CORES: std::sync::OnceLock<Vec<usize>> = std::sync::OnceLock::new();
    let cores = CORES.get_or_init(|| host::cores().expect("ask for the cores"));
    host::pin(cores[number.min(cores.len() - 1)]).expect("pin to a core");
}

//! The load: a thread for each connection, all on one core, and what it cost the server meanwhile.

use crate::work::{ANSWER, CONNECTIONS, IN_FLIGHT, REQUEST};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What one round has shown.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) per_second: f64,
    pub(crate) server_us: f64,
    pub(crate) machine_us: f64,
}

/// Microseconds of one tick of the kernel's accounts.
const TICK_US: u64 = 10_000;

pub(crate) fn run(address: &str, server: u32, seconds: u64) -> Seen {
    let (ends, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..CONNECTIONS {
            scope.spawn(|| ask(address, &ends, &answered));
        }
        // The first second is not counted.
        std::thread::sleep(Duration::from_secs(1));
        let count = || {
            (
                answered.load(Ordering::Relaxed),
                process_us(server),
                machine_us(),
                process_us(std::process::id()),
            )
        };
        let (begin, before) = (Instant::now(), count());
        std::thread::sleep(Duration::from_secs(seconds));
        let (took, after) = (begin.elapsed(), count());
        ends.store(true, Ordering::Relaxed);
        let requests = (after.0 - before.0) as f64;
        Seen {
            per_second: requests / took.as_secs_f64(),
            server_us: (after.1 - before.1) as f64 / requests,
            machine_us: (after.2 - before.2).saturating_sub(after.3 - before.3) as f64 / requests,
        }
    })
}

fn ask(address: &str, ends: &AtomicBool, answered: &AtomicU64) {
    let mut stream = TcpStream::connect(address).expect("the server listens");
    stream.set_nodelay(true).expect("a TCP socket");
    let mut request = vec![7; 4 + REQUEST];
    request[..4].copy_from_slice(&(REQUEST as u32).to_be_bytes());
    for _ in 0..IN_FLIGHT {
        stream.write_all(&request).expect("the server reads");
    }
    let mut answers = [0; ANSWER.len() * IN_FLIGHT];
    let mut half = 0;
    while !ends.load(Ordering::Relaxed) {
        let came = stream.read(&mut answers).expect("the server answers");
        assert!(came > 0, "the server ended");
        let whole = (half + came) / ANSWER.len();
        half = (half + came) % ANSWER.len();
        answered.fetch_add(whole as u64, Ordering::Relaxed);
        for _ in 0..whole {
            stream.write_all(&request).expect("the server reads");
        }
    }
}

/// CPU of a process, all its threads.
fn process_us(id: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).expect("it runs");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("its name ends").split_whitespace().collect();
    fields[11..13].iter().map(|ticks| ticks.parse::<u64>().expect("ticks") * TICK_US).sum()
}

/// CPU of the machine that was not idle, the kernel's threads too.
fn machine_us() -> u64 {
    let stat = fs::read_to_string("/proc/stat").expect("Linux");
    let fields: Vec<u64> =
        stat.lines().next().expect("a line").split_whitespace().skip(1).flat_map(str::parse).collect();
    // user nice system idle iowait irq softirq
    [0, 1, 2, 5, 6].iter().map(|&at| fields[at] * TICK_US).sum()
}

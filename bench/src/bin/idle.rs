//! What an idle broker costs: CPU with silent connections, as a share of one core, and memory.
//!
//! `idle BINARY [CONNECTIONS] [SECONDS]` starts `BINARY serve` with its defaults on each way of doing I/O, connects, has every
//! connection ask for the API versions once, and then says nothing more. Costs are the process' own, as the kernel counts them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// ApiVersions 0 with correlation id 7 and no client id.
const API_VERSIONS: [u8; 14] = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 0xff, 0xff];

fn main() {
    let mut arguments = std::env::args().skip(1);
    let Some(binary) = arguments.next() else {
        eprintln!("usage: idle BINARY [CONNECTIONS] [SECONDS]");
        std::process::exit(2);
    };
    let mut number = |default: u64| arguments.next().map_or(default, |text| text.parse().expect("a number"));
    let (connections, seconds) = (number(1000), number(30));
    println!("| I/O | silent connections | seconds | CPU ms | of a core | resident MiB |");
    println!("|---|---|---|---|---|---|");
    for io in ["uring", "poll"] {
        let broker = Broker::start(Path::new(&binary), io);
        let silent: Vec<TcpStream> = (0..connections).map(|_| broker.connect()).collect();
        // What the connecting left to do ends before the count begins.
        pause(Duration::from_secs(2));
        let before = broker.cpu();
        pause(Duration::from_secs(seconds));
        let spent = broker.cpu() - before;
        let share = spent.as_secs_f64() / seconds as f64 * 100.0;
        println!(
            "| {io} | {} | {seconds} | {} | {share:.3} % | {:.1} |",
            silent.len(),
            spent.as_millis(),
            broker.resident() as f64 / 1024.0
        );
    }
}

#[expect(clippy::disallowed_methods, reason = "an instrument lets time pass")]
fn pause(span: Duration) {
    std::thread::sleep(span);
}

/// A broker on a directory of its own; ended and removed when dropped.
struct Broker {
    process: Child,
    address: String,
    dir: tempfile::TempDir,
}

impl Broker {
    fn start(binary: &Path, io: &str) -> Self {
        let dir = tempfile::tempdir().expect("make a directory");
        let mut process = Command::new(binary)
            .args(["serve", "--listen", "127.0.0.1:0", "--io", io, "--data"])
            .arg(dir.path().join("data"))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("start the broker");
        let mut ready = String::new();
        let output = process.stdout.take().expect("its output is piped");
        BufReader::new(output).read_line(&mut ready).expect("its line");
        let address = ready.split_whitespace().find_map(|word| word.strip_prefix("kafka="));
        let address = address.unwrap_or_else(|| panic!("not ready: {ready}")).to_owned();
        Self { process, address, dir }
    }

    /// A connection that has asked one thing and been answered.
    fn connect(&self) -> TcpStream {
        let mut socket = TcpStream::connect(&self.address).expect("connect");
        socket.write_all(&API_VERSIONS).expect("ask");
        let mut len = [0; 4];
        socket.read_exact(&mut len).expect("the answer's length");
        let mut answer = vec![0; usize::try_from(u32::from_be_bytes(len)).expect("a length")];
        socket.read_exact(&mut answer).expect("the answer");
        socket
    }

    /// CPU time of the process so far (proc_pid_stat(5), in hundredths).
    fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id())).expect("its times");
        let (_, behind_name) = stat.rsplit_once(')').expect("its name");
        let fields: Vec<&str> = behind_name.split_whitespace().collect();
        let ticks = |at: usize| fields[at].parse::<u64>().expect("a time");
        Duration::from_millis((ticks(11) + ticks(12)) * 10)
    }

    /// Resident memory in KiB.
    fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).expect("status");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).unwrap_or(0)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.process.kill().expect("end the broker");
        self.process.wait().expect("its end");
        assert!(self.dir.path().exists(), "the directory outlives its broker");
    }
}

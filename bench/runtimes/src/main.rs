//! The same work on ringlog's Driver, on glommio, on tokio-uring, and on plain epoll with pwrite: sixteen connections send requests of
//! 16 KiB, five in flight on each; the server appends each to its connection's file past the page cache, syncs it where asked, and
//! answers with four bytes.
//!
//! ```text
//!   runtimes DIR [ROUNDS [SECONDS]]     each runtime in turn, server on core 0, load on core 1; prints a table
//!   runtimes serve NAME DIR SYNC        one server; prints its address
//! ```

mod epoll;
mod load;
mod on_glommio;
mod on_ringlog;
mod on_tokio_uring;
mod work;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use work::Work;

const RUNTIMES: [(&str, fn(Work)); 4] = [
    ("ringlog", on_ringlog::serve),
    ("glommio", on_glommio::serve),
    ("tokio-uring", on_tokio_uring::serve),
    ("epoll", epoll::serve),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["serve", name, dir, sync] => {
            let (_, serve) =
                RUNTIMES.iter().find(|(known, _)| *known == name).expect("a runtime that is known");
            serve(Work { dir: PathBuf::from(dir), sync: sync == "sync" });
        }
        [dir, ref rest @ ..] => {
            let number = |at: usize, default: u64| {
                rest.get(at).map_or(default, |text| text.parse().expect("a number"))
            };
            compare(Path::new(dir), number(0, 3), number(1, 3));
        }
        [] => {
            eprintln!("usage: runtimes DIR [ROUNDS [SECONDS]]");
            std::process::exit(2);
        }
    }
}

fn compare(dir: &Path, rounds: u64, seconds: u64) {
    work::pin(1);
    work::make_files(dir);
    println!(
        "| runtime | sync | requests/s | CPU us/request, server | whole machine less the load |\n|---|---|---|---|---|"
    );
    for sync in ["written", "sync"] {
        let mut seen = vec![Vec::new(); RUNTIMES.len()];
        for _ in 0..rounds {
            for ((name, _), seen) in RUNTIMES.iter().zip(&mut seen) {
                let server = Server::start(name, dir, sync);
                seen.push(load::run(&server.address, server.process.id(), seconds));
            }
        }
        for ((name, _), mut seen) in RUNTIMES.iter().zip(seen) {
            let mut middle = |value: fn(&load::Seen) -> f64| {
                seen.sort_by(|one, other| value(one).total_cmp(&value(other)));
                let [first, last] = [&seen[0], &seen[seen.len() - 1]].map(value);
                format!("{:.1} ({first:.1}-{last:.1})", value(&seen[seen.len() / 2]))
            };
            let (rate, server, machine) = (
                middle(|seen| seen.per_second),
                middle(|seen| seen.server_us),
                middle(|seen| seen.machine_us),
            );
            println!("| {name} | {sync} | {rate} | {server} | {machine} |");
        }
    }
    work::remove_files(dir);
}

/// A server in a process of its own, on core 0; killed when dropped.
struct Server {
    process: Child,
    address: String,
}

impl Server {
    fn start(name: &str, dir: &Path, sync: &str) -> Self {
        let own = std::env::current_exe().expect("this program's file");
        let mut process = Command::new("taskset")
            .args(["-c", "0"])
            .arg(own)
            .args(["serve", name])
            .arg(dir)
            .arg(sync)
            .stdout(Stdio::piped())
            .spawn()
            .expect("taskset");
        let mut address = String::new();
        let said = process.stdout.take().expect("it is piped");
        BufReader::new(said).read_line(&mut address).expect("the server's address");
        assert!(!address.is_empty(), "{name} did not start");
        Self { process, address: address.trim().into() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().expect("it is ours");
        self.process.wait().expect("it was killed");
    }
}

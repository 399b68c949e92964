//! The machine as one process uses it: its data directories, helper threads, flushers, and the kind of Driver it runs.

use super::Driver;
use super::clock::Clock;
use super::flusher::Disks;
use super::jobs::Jobs;
use super::poll::PollDriver;
use super::probe::DirFacts;
use super::uring::{UringDriver, refusal};
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How shards are to reach the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IoChoice {
    /// io_uring, or epoll where it is refused.
    Auto,
    /// io_uring, or an error.
    Uring,
    /// epoll and helper threads.
    Poll,
}

/// What the shards of one process share. Held by each Driver; helper threads end with the last one.
pub struct Host {
    facts: Vec<DirFacts>,
    uring: bool,
    reason: String,
    pub(super) jobs: Jobs,
    pub(super) disks: Arc<Disks>,
    pub(super) clock: Clock,
    locks: Vec<OwnedFd>,
}

impl Host {
    /// Takes charge of the data directories, making those that are missing, and finds out what the machine can do. One that cannot be used
    /// is none of the others' business, and met again by who opens files in it; but there is no use in a broker without the first.
    pub fn open(dirs: &[PathBuf], choice: IoChoice) -> Result<Arc<Self>, HostError> {
        let mut locks = Vec::new();
        let mut facts = Vec::new();
        for dir in dirs {
            let failed = |error| HostError::Directory { path: dir.clone(), error };
            let probed = std::fs::create_dir_all(dir).and_then(|()| DirFacts::probe(dir)).map_err(failed);
            match probed.and_then(|probed| Ok((probed, lock(dir)?))) {
                Ok((probed, lock)) => {
                    locks.push(lock);
                    facts.push(probed);
                }
                Err(HostError::Directory { error, .. }) if !facts.is_empty() => {
                    facts.push(DirFacts::unusable(dir, facts.len(), &error));
                }
                Err(error) => return Err(error),
            }
        }
        let (uring, reason) = choose(choice)?;
        let disks = Disks::start(&facts, uring).map_err(HostError::Threads)?;
        let jobs = Jobs::start(disks.clone()).map_err(HostError::Threads)?;
        Ok(Arc::new(Self { facts, uring, reason, jobs, disks, clock: Clock::new(), locks }))
    }

    /// A Driver for the calling thread, which must be the one that uses it.
    pub fn driver(self: &Arc<Self>) -> io::Result<Box<dyn Driver>> {
        Ok(if self.uring {
            Box::new(UringDriver::new(self.clone())?)
        } else {
            Box::new(PollDriver::new(self.clone())?)
        })
    }

    /// `uring` or `poll`.
    pub fn driver_name(&self) -> &'static str {
        if self.uring { "uring" } else { "poll" }
    }

    /// Why this kind of Driver was chosen, and how to get the better one.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// The locks on the data directories.
    pub(super) fn locks(&self) -> &[OwnedFd] {
        &self.locks
    }

    /// What was found out about the data directories.
    pub fn facts(&self) -> &[DirFacts] {
        &self.facts
    }
}

/// An address that is ours: proved free of other listeners, and not given out by the kernel as a free port until the
/// shards listen on it. `SO_REUSEPORT`, with which shards share an address, would by itself let another broker in.
#[derive(Debug)]
pub struct Reservation {
    address: SocketAddr,
    _held: OwnedFd,
}

impl Reservation {
    /// Takes an address; port 0 takes a free one.
    pub fn take(address: SocketAddr) -> io::Result<Self> {
        // The standard library sets SO_REUSEADDR, which passes over closed connections but not over a listener.
        let proof = retried(|| TcpListener::bind(address), io::ErrorKind::AddrInUse)?;
        let address = proof.local_addr()?;
        drop(proof);
        let held = super::net::bind(address)?;
        Ok(Self { address, _held: held })
    }

    /// The address, with its port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Lets this process open as many files and sockets as it is allowed to ask for, and tells how many these are.
pub fn raise_file_limit() -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        // Where that is refused, fewer have to do.
        if setrlimit(Resource::Nofile, raised).is_ok() {
            limit = raised;
        }
    }
    limit.current.map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX))
}

/// Pins the calling thread to one core.
pub fn pin(core: usize) -> io::Result<()> {
    if core >= rustix::thread::CpuSet::MAX_CPU {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "no such processor"));
    }
    let mut set = rustix::thread::CpuSet::new();
    set.set(core);
    Ok(rustix::thread::sched_setaffinity(None, &set)?)
}

/// The cores this process may run on.
pub fn cores() -> io::Result<Vec<usize>> {
    let set = rustix::thread::sched_getaffinity(None)?;
    Ok((0..rustix::thread::CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect())
}

/// Reads a list of cores: `0,2-5`.
pub fn parse_cores(text: &str) -> Result<Vec<usize>, String> {
    let mut cores = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| {
            text.trim().parse::<usize>().ok().filter(|core| *core < rustix::thread::CpuSet::MAX_CPU)
        };
        match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => cores.extend(first..=last),
            _ => {
                return Err(format!("`{part}` is no core and no range of cores: expected a list like 0,2-5"));
            }
        }
    }
    cores.sort_unstable();
    cores.dedup();
    Ok(cores)
}

/// Why this process gets no io_uring, and what would give it one; `None` when it does.
pub fn uring_refusal() -> Option<String> {
    UringDriver::try_ring().err().map(|error| refusal(&error))
}

fn choose(choice: IoChoice) -> Result<(bool, String), HostError> {
    if choice == IoChoice::Poll {
        return Ok((false, "as configured".into()));
    }
    match UringDriver::try_ring() {
        Ok(()) if choice == IoChoice::Uring => Ok((true, "as configured".into())),
        Ok(()) => Ok((true, "the kernel offers io_uring".into())),
        Err(error) if choice == IoChoice::Uring => Err(HostError::Uring(refusal(&error))),
        Err(error) => Ok((false, refusal(&error))),
    }
}

/// Keeps other processes off a data directory for as long as the descriptor is open, here or in a ring.
fn lock(dir: &Path) -> Result<OwnedFd, HostError> {
    let path = dir.join(".lock");
    let failed = |error: rustix::io::Errno| HostError::Directory { path: path.clone(), error: error.into() };
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
    let file = rustix::fs::open(&path, flags, Mode::from_raw_mode(0o644)).map_err(failed)?;
    // The second is the one that Apache Kafka takes on this file: neither broker starts where the other runs.
    let lock = || {
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive)?)
    };
    match retried(lock, io::ErrorKind::WouldBlock) {
        Ok(()) => Ok(file),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(HostError::Locked(dir.to_owned())),
        Err(error) => Err(HostError::Directory { path: path.clone(), error }),
    }
}

/// Tries for a while. The kernel lets go of a killed process' rings, and with them of its sockets and of the lock they
/// hold, only after the process is gone: when the last operation in them has ended.
#[expect(
    clippy::disallowed_methods,
    reason = "before there is a Driver, and nobody else to give the time to"
)]
fn retried<T>(attempt: impl Fn() -> io::Result<T>, passing: io::ErrorKind) -> io::Result<T> {
    for _ in 0..RETRIES {
        match attempt() {
            Err(error) if error.kind() == passing => std::thread::sleep(RETRY_AFTER),
            result => return result,
        }
    }
    attempt()
}

const RETRIES: u32 = 100;
const RETRY_AFTER: std::time::Duration = std::time::Duration::from_millis(20);

/// Why this process cannot take charge.
#[derive(Debug)]
pub enum HostError {
    /// A data directory cannot be used.
    Directory {
        /// What was touched.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// Another process has it.
    Locked(PathBuf),
    /// io_uring was asked for and is refused.
    Uring(String),
    /// Helper threads could not be started.
    Threads(io::Error),
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory { path, error } => write!(f, "data directory {}: {error}", path.display()),
            Self::Locked(path) => write!(
                f,
                "data directory {} is in use by another broker: stop it, or give this one another directory",
                path.display()
            ),
            Self::Uring(why) => write!(f, "io=uring was asked for, but {why}"),
            Self::Threads(error) => write!(f, "start helper threads: {error}"),
        }
    }
}

impl std::error::Error for HostError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn core_lists_are_read_and_slips_refused() {
        assert_eq!(parse_cores("0,2-5, 3"), Ok(vec![0, 2, 3, 4, 5]));
        assert_eq!(parse_cores(""), Ok(vec![]));
        for text in ["a", "1-", "5-2", "-1", "99999"] {
            assert!(parse_cores(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_directory_has_one_owner() {
        let dir = tempfile::tempdir().unwrap();
        let dirs = [dir.path().join("data")];
        let first = Host::open(&dirs, IoChoice::Poll).unwrap();
        assert!(matches!(Host::open(&dirs, IoChoice::Poll), Err(HostError::Locked(_))));
        drop(first);
        assert!(Host::open(&dirs, IoChoice::Poll).is_ok());
    }

    #[test]
    fn an_address_has_one_owner() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(Reservation::take(listener.local_addr().unwrap()).is_err());
        let free = Reservation::take("127.0.0.1:0".parse().unwrap()).unwrap();
        assert_ne!(free.address().port(), 0);
    }
}

//! What a data directory's file system can do, found out at start: which writes stay on the core, which syncs may be shared.

use super::buf::{BLOCK, aligned};
use rustix::fs::{FallocateFlags, Mode, OFlags};
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// What was found out about one data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirFacts {
    /// The directory.
    pub path: PathBuf,
    /// Its device's number.
    pub device: u64,
    /// The file system's name: `ext4`.
    pub file_system: String,
    /// Whether files of blocks may be written past the page cache.
    pub direct: bool,
    /// Whether one flush of the device makes the writes of every file durable whose blocks were written before.
    pub shared_flush: bool,
    /// Whether files are opened in it: it could be looked at, and locked.
    pub usable: bool,
    /// Why, one reason each for what is not the best.
    pub reasons: Vec<String>,
}

impl DirFacts {
    /// Looks at a directory, which must exist and be writable.
    pub fn probe(path: &Path) -> io::Result<Self> {
        let device = rustix::fs::stat(path)?.st_dev;
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let mount = Mount::among(&mounts, &path.canonicalize()?);
        let mut reasons = Vec::new();
        let direct = match try_direct(path) {
            Ok(()) => true,
            Err(error) => {
                reasons.push(format!(
                    "{} takes no direct writes ({error}): writing through the page cache",
                    mount.kind
                ));
                false
            }
        };
        let shared_flush = match mount.shares_flush() {
            Ok(()) => direct,
            Err(why) => {
                reasons.push(format!("{why}: each file is synced by itself"));
                false
            }
        };
        Ok(Self {
            path: path.to_owned(),
            device,
            file_system: mount.kind,
            direct,
            shared_flush,
            usable: true,
            reasons,
        })
    }

    /// A directory that cannot be looked at: on a device of its own, so that what fails there fails there alone.
    pub(super) fn unusable(path: &Path, number: usize, error: &io::Error) -> Self {
        Self {
            path: path.to_owned(),
            device: u64::MAX - number as u64,
            file_system: "unknown".into(),
            direct: false,
            shared_flush: false,
            usable: false,
            reasons: vec![error.to_string()],
        }
    }
}

impl fmt::Display for DirFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.usable {
            return write!(f, "{}: not usable: {}", self.path.display(), self.reasons.join("; "));
        }
        let writes = if self.direct { "direct writes" } else { "writes through the page cache" };
        let syncs = if self.shared_flush { "shared flush" } else { "a sync for each file" };
        write!(f, "{} ({}): {writes}, {syncs}", self.path.display(), self.file_system)?;
        self.reasons.iter().try_for_each(|reason| write!(f, "; {reason}"))
    }
}

/// Writes one block past the page cache to a file that is gone afterwards.
fn try_direct(path: &Path) -> io::Result<()> {
    let file = unnamed_file(path)?;
    rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, BLOCK as u64)?;
    let mut block = aligned(BLOCK);
    block.resize(BLOCK, 0);
    let count = rustix::io::pwrite(&file, &block, 0)?;
    if count == BLOCK { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// A file without a name, or one whose name is taken away at once where the file system has no such files.
fn unnamed_file(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::DIRECT | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o600);
    if let Ok(file) = rustix::fs::open(path, flags | OFlags::TMPFILE, mode) {
        return Ok(file);
    }
    let name = path.join(format!(".probe-{}", std::process::id()));
    let file = rustix::fs::open(&name, flags | OFlags::CREATE | OFlags::TRUNC, mode);
    match std::fs::remove_file(&name) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(file?),
    }
}

/// How a path is mounted.
struct Mount {
    kind: String,
    options: String,
}

impl Mount {
    /// The mount that the path lies on: the longest mount point that leads to it (proc_pid_mountinfo(5)). In a chroot none may be told,
    /// nor without a /proc; then nothing is known of the file system, and nothing relied on.
    fn among(mounts: &str, path: &Path) -> Self {
        let mounts = mounts.lines().filter_map(|line| {
            let (head, tail) = line.split_once(" - ")?;
            let mut head = head.split(' ').skip(4);
            let (point, per_mount) = (head.next()?, head.next()?);
            let mut tail = tail.split(' ');
            let (kind, _source, per_system) = (tail.next()?, tail.next()?, tail.next()?);
            let mount = Self { kind: kind.into(), options: format!("{per_mount},{per_system}") };
            path.starts_with(point.replace("\\040", " ")).then_some((point.len(), mount))
        });
        // Of two mounts on one point the later hides the earlier.
        let found = mounts.enumerate().max_by_key(|(number, (len, _))| (*len, *number));
        match found {
            Some((_, (_, mount))) => mount,
            None => Self { kind: "a file system without a name".into(), options: String::new() },
        }
    }

    /// Whether a flush that one file asks for covers the data of the others, and if not why.
    fn shares_flush(&self) -> Result<(), String> {
        let has = |option: &str| self.options.split(',').any(|set| set == option);
        let kind = &self.kind;
        if !matches!(kind.as_str(), "ext4" | "xfs") {
            return Err(format!("{kind} is not known to share flushes"));
        }
        for option in ["nobarrier", "barrier=0", "data=journal", "ro"] {
            if has(option) {
                return Err(format!("{kind} is mounted with {option}"));
            }
        }
        let outside = ["journal_dev=", "journal_path=", "logdev=", "rtdev="];
        match self.options.split(',').find(|set| outside.iter().any(|option| set.starts_with(option))) {
            Some(option) => Err(format!("{kind} is mounted with {option}, a second device")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flushes_are_shared_only_where_that_is_known_to_hold() {
        let check = |kind: &str, options: &str, shares: bool| {
            let mount = Mount { kind: kind.into(), options: options.into() };
            assert_eq!(mount.shares_flush().is_ok(), shares, "{kind} {options}");
        };
        check("ext4", "rw,relatime,discard", true);
        check("xfs", "rw,noquota", true);
        check("ext4", "rw,nobarrier", false);
        check("ext4", "rw,data=journal", false);
        check("ext4", "rw,barrier=0", false);
        check("xfs", "rw,logdev=/dev/sdb", false);
        check("tmpfs", "rw", false);
        check("overlay", "rw", false);
    }

    #[test]
    fn the_nearest_mount_counts_and_none_is_no_reason_not_to_start() {
        let mounts = "\
            21 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
            30 21 254:16 / /my\\040data rw,noatime - xfs /dev/vdb rw,noquota\n\
            31 21 0:30 / /my\\040data/deep rw - tmpfs none rw\n\
            32 31 254:16 / /my\\040data/deep rw - xfs /dev/vdb rw,logdev=/dev/vdc\n";
        let check = |mounts: &str, path: &str, kind: &str, options: &str| {
            let mount = Mount::among(mounts, Path::new(path));
            assert_eq!((mount.kind.as_str(), mount.options.as_str()), (kind, options), "{path}");
            mount.shares_flush().is_ok()
        };
        assert!(check(mounts, "/var/data", "ext4", "rw,relatime,rw"));
        assert!(check(mounts, "/my data/events-0", "xfs", "rw,noatime,rw,noquota"));
        assert!(!check(mounts, "/my data/deep", "xfs", "rw,rw,logdev=/dev/vdc"));
        assert!(!check("", "/data", "a file system without a name", ""));
    }

    #[test]
    fn a_directory_is_probed_and_left_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let facts = DirFacts::probe(dir.path()).unwrap();
        assert!(!facts.file_system.is_empty());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(DirFacts::probe(&dir.path().join("missing")).is_err());
    }
}

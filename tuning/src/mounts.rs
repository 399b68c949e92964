//! How the data directories are mounted, and remounting one with a single option changed.

use rustix::mount::{MountFlags, mount_remount};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::Path;

/// An option that a mount has in one of several ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MountOption {
    /// When reading a file writes the time to it: `noatime`, `relatime` or `strictatime`.
    Atime,
    /// Whether times are written to the disk late: `lazytime` or `nolazytime`.
    Lazytime,
    /// Whether the disk is told at once what has become free: `discard` or `nodiscard`.
    Discard,
}

/// One line of mountinfo (proc_pid_mountinfo(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    /// Major and minor number, as `/sys/dev/block` names it.
    pub(crate) device: String,
    pub(crate) point: String,
    pub(crate) kind: String,
    per_mount: Vec<String>,
    per_system: Vec<String>,
}

impl Mount {
    /// The mount a path lies on: the longest mount point that leads to it, of two on one point the later.
    pub(crate) fn of(mountinfo: &str, path: &Path) -> Option<Self> {
        let mounts = mountinfo.lines().filter_map(Self::parse).filter(|mount| path.starts_with(&mount.point));
        mounts.enumerate().max_by_key(|(number, mount)| (mount.point.len(), *number)).map(|(_, mount)| mount)
    }

    /// The mount on this very point.
    pub(crate) fn on(mountinfo: &str, point: &str) -> Option<Self> {
        mountinfo.lines().filter_map(Self::parse).rfind(|mount| mount.point == point)
    }

    fn parse(line: &str) -> Option<Self> {
        let (head, tail) = line.split_once(" - ")?;
        let mut head = head.split(' ').skip(2);
        let (device, _, point, per_mount) = (head.next()?, head.next()?, head.next()?, head.next()?);
        let mut tail = tail.split(' ');
        let (kind, _, per_system) = (tail.next()?, tail.next()?, tail.next()?);
        let split = |options: &str| options.split(',').map(str::to_owned).collect();
        Some(Self {
            device: device.to_owned(),
            point: unescaped(point),
            kind: kind.to_owned(),
            per_mount: split(per_mount),
            per_system: split(per_system),
        })
    }

    /// How it is mounted in this respect.
    pub(crate) fn option(&self, option: MountOption) -> &'static str {
        let has = |name: &str| self.per_mount.iter().chain(&self.per_system).any(|set| set == name);
        match option {
            MountOption::Atime if has("noatime") => "noatime",
            MountOption::Atime if has("relatime") => "relatime",
            MountOption::Atime => "strictatime",
            MountOption::Lazytime if has("lazytime") => "lazytime",
            MountOption::Lazytime => "nolazytime",
            MountOption::Discard if has("discard") => "discard",
            MountOption::Discard => "nodiscard",
        }
    }

    /// Remounts with this option so, and all others as they are: mount(2) takes flags that are not named for wanted off.
    pub(crate) fn remount(&self, option: MountOption, to: &str) -> io::Result<()> {
        let mut flags = MountFlags::empty();
        for set in &self.per_mount {
            flags |= per_mount_flag(set);
        }
        if option == MountOption::Atime {
            flags -= MountFlags::NOATIME | MountFlags::RELATIME;
            flags |= match to {
                "noatime" => MountFlags::NOATIME,
                "relatime" => MountFlags::RELATIME,
                "strictatime" => MountFlags::STRICTATIME,
                _ => return Err(io::ErrorKind::InvalidInput.into()),
            };
            return Ok(mount_remount(self.point.as_str(), flags | MountFlags::BIND, c"")?);
        }
        if self.option(MountOption::Atime) == "strictatime" {
            flags |= MountFlags::STRICTATIME;
        }
        // Of the mount and of the file system alike: what is read-only stays so.
        for set in &self.per_system {
            flags |= per_system_flag(set);
        }
        let data = match (option, to) {
            (MountOption::Lazytime, "lazytime") => {
                flags |= MountFlags::LAZYTIME;
                c""
            }
            (MountOption::Lazytime, "nolazytime") => {
                flags -= MountFlags::LAZYTIME;
                c""
            }
            (MountOption::Discard, "discard") => c"discard",
            (MountOption::Discard, "nodiscard") => c"nodiscard",
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        };
        Ok(mount_remount(self.point.as_str(), flags, data)?)
    }
}

fn per_mount_flag(option: &str) -> MountFlags {
    match option {
        "ro" => MountFlags::RDONLY,
        "nosuid" => MountFlags::NOSUID,
        "nodev" => MountFlags::NODEV,
        "noexec" => MountFlags::NOEXEC,
        "noatime" => MountFlags::NOATIME,
        "nodiratime" => MountFlags::NODIRATIME,
        "relatime" => MountFlags::RELATIME,
        "nosymfollow" => MountFlags::NOSYMFOLLOW,
        _ => MountFlags::empty(),
    }
}

fn per_system_flag(option: &str) -> MountFlags {
    match option {
        "ro" => MountFlags::RDONLY,
        "sync" => MountFlags::SYNCHRONOUS,
        "dirsync" => MountFlags::DIRSYNC,
        "mand" => MountFlags::PERMIT_MANDATORY_FILE_LOCKING,
        "lazytime" => MountFlags::LAZYTIME,
        _ => MountFlags::empty(),
    }
}

/// The kernel writes space, tab, newline and backslash as octal numbers.
fn unescaped(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
        21 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard\n\
        30 21 254:16 / /my\\040data rw,nosuid,noatime - xfs /dev/vdb rw,lazytime,noquota\n\
        31 21 0:30 / /strict rw - tmpfs none rw\n";

    #[test]
    fn options_are_those_of_the_nearest_mount() {
        let check = |path: &str, device: &str, options: [&str; 3]| {
            let mount = Mount::of(MOUNTS, Path::new(path)).unwrap();
            assert_eq!(mount.device, device, "{path}");
            let all = [MountOption::Atime, MountOption::Lazytime, MountOption::Discard];
            assert_eq!(all.map(|option| mount.option(option)), options, "{path}");
        };
        check("/var/lib/ringlog", "254:0", ["relatime", "nolazytime", "discard"]);
        check("/my data/a", "254:16", ["noatime", "lazytime", "nodiscard"]);
        check("/strict", "0:30", ["strictatime", "nolazytime", "nodiscard"]);
        assert_eq!(Mount::on(MOUNTS, "/my data").unwrap().kind, "xfs");
        assert_eq!(Mount::on(MOUNTS, "/my data/a"), None);
    }
}

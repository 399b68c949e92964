//! One place of the machine that holds a setting: how it is read, written, and put back.

use crate::ethtool::{self, CardSetting};
use crate::machine::Machine;
use crate::mounts::{Mount, MountOption};
use crate::want::selected;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::symlink;
use std::path::Path;

/// A place, as it stands in the file of originals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// A file of the kernel's in /proc or /sys.
    File(String),
    /// `vm.dirty` or `vm.dirty_background`: a number of bytes or a share of memory; the kernel sets one to zero when the other is written.
    Dirty(String),
    /// An option of a mount.
    Mount {
        /// Where it is mounted.
        point: String,
        /// Which option.
        option: MountOption,
    },
    /// A number that a network card holds.
    Card {
        /// Its interface.
        card: String,
        /// Which number.
        setting: CardSetting,
    },
    /// A file of ringlog's own in /etc: all of it.
    Own(String),
    /// A symbolic link in /etc: where it leads.
    Link(String),
}

impl Place {
    /// What is there now, as it is; `None` if there is nothing.
    pub(crate) fn read(&self, machine: &Machine) -> io::Result<Option<String>> {
        let text = match self {
            Self::File(path) | Self::Own(path) => fs::read_to_string(machine.at(path)),
            Self::Dirty(stem) => return Ok(read_dirty(machine, stem)),
            Self::Mount { point, option } => {
                let mounts = machine.read("/proc/self/mountinfo").unwrap_or_default();
                return Ok(Mount::on(&mounts, point).map(|mount| mount.option(*option).to_owned()));
            }
            Self::Card { .. } if machine.is_made_up() => return Ok(None),
            Self::Card { card, setting } => {
                return Ok(ethtool::get(card, *setting)?.map(|number| number.to_string()));
            }
            Self::Link(path) => fs::read_link(machine.at(path)).map(|to| to.to_string_lossy().into_owned()),
        };
        match text {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes what a place is to hold, or makes it hold nothing. A text that was read before can be written as it is.
    pub(crate) fn write(&self, machine: &Machine, text: Option<&str>) -> io::Result<()> {
        match (self, text) {
            (Self::File(path), Some(text)) => write_kernel(&machine.at(path), selected(text)),
            (Self::Dirty(stem), Some(text)) => write_dirty(machine, stem, text),
            (Self::Mount { point, option }, Some(text)) => {
                let mounts = machine.read("/proc/self/mountinfo").unwrap_or_default();
                let mount = Mount::on(&mounts, point).ok_or(io::ErrorKind::NotFound)?;
                if machine.is_made_up() {
                    return Err(io::Error::other("a folder has no mounts to change"));
                }
                mount.remount(*option, text)
            }
            (Self::Card { card, setting }, Some(text)) => {
                let number = text.trim().parse().map_err(|_| io::ErrorKind::InvalidInput)?;
                ethtool::set(card, *setting, number)
            }
            (Self::Own(path), Some(text)) => write_own(&machine.at(path), text),
            (Self::Link(path), Some(text)) => {
                let path = machine.at(path);
                fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
                remove(&path)?;
                symlink(text, &path)?;
                sync_directory(&path)
            }
            (Self::Own(path) | Self::Link(path), None) => {
                remove(&machine.at(path))?;
                sync_directory(&machine.at(path))
            }
            (Self::File(_) | Self::Dirty(_) | Self::Mount { .. } | Self::Card { .. }, None) => {
                Err(io::ErrorKind::InvalidInput.into())
            }
        }
    }

    /// Whether it holds what it held when this text was read. What the kernel shows as a choice is compared by what is chosen: the
    /// rest of such a line says what there is to choose from.
    pub(crate) fn holds(&self, machine: &Machine, original: Option<&str>) -> bool {
        let now = self.read(machine).ok().flatten();
        match self {
            Self::File(_) => now.as_deref().map(chosen) == original.map(chosen),
            _ => now.as_deref() == original,
        }
    }

    /// Whether it stays when the machine starts anew.
    pub(crate) fn lasts(&self) -> bool {
        matches!(self, Self::Own(_) | Self::Link(_))
    }

    /// Whether it is a place that a knob might have named: the file of originals is believed no further.
    pub(crate) fn is_known(&self) -> bool {
        let under = |path: &str, roots: &[&str]| {
            roots.iter().any(|root| path.starts_with(root)) && !path.split('/').any(|part| part == "..")
        };
        match self {
            Self::File(path) => under(path, &["/proc/sys/", "/proc/irq/", "/sys/"]),
            Self::Dirty(stem) => under(stem, &["/proc/sys/vm/dirty"]),
            Self::Mount { .. } | Self::Card { .. } => true,
            Self::Own(path) | Self::Link(path) => {
                under(path, &["/etc/security/limits.d/ringlog-", "/etc/systemd/system/"])
                    && path.contains("ringlog-")
            }
        }
    }

    /// How people call it: `vm.swappiness`, `/sys/block/vda/queue/scheduler`.
    pub fn name(&self) -> String {
        match self {
            Self::File(path) => match path.strip_prefix("/proc/sys/") {
                Some(name) => name.replace('/', "."),
                None => path.clone(),
            },
            Self::Dirty(stem) => stem.trim_start_matches("/proc/sys/").replace('/', "."),
            Self::Mount { point, option } => format!(
                "{point} {}",
                match option {
                    MountOption::Atime => "atime",
                    MountOption::Lazytime => "lazytime",
                    MountOption::Discard => "discard",
                }
            ),
            Self::Card { card, setting } => format!("{card} {}", setting.name()),
            Self::Own(path) | Self::Link(path) => path.clone(),
        }
    }
}

/// What is chosen, without the newline that the kernel puts behind it.
fn chosen(text: &str) -> &str {
    selected(text).trim_end()
}

/// A file of the kernel's takes a value with one write, and is never made.
fn write_kernel(path: &Path, text: &str) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).truncate(true).open(path)?;
    let line = if text.ends_with('\n') { text.to_owned() } else { format!("{text}\n") };
    file.write_all(line.as_bytes())
}

/// Written beside it, synced, and put in place whole.
pub(crate) fn write_own(path: &Path, text: &str) -> io::Result<()> {
    fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
    let beside = path.with_extension("new");
    let mut file = fs::File::create(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    sync_directory(path)
}

/// Makes the names in the directory of this path durable.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    match fs::File::open(path.parent().unwrap_or(Path::new("/"))) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        directory => directory?.sync_all(),
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn read_dirty(machine: &Machine, stem: &str) -> Option<String> {
    match machine.number(&format!("{stem}_bytes"))? {
        0 => Some(format!("{} ratio", machine.number(&format!("{stem}_ratio"))?)),
        bytes => Some(format!("{bytes} bytes")),
    }
}

fn write_dirty(machine: &Machine, stem: &str, text: &str) -> io::Result<()> {
    let (number, unit) = text.trim().split_once(' ').ok_or(io::ErrorKind::InvalidInput)?;
    let other = match unit {
        "bytes" => "ratio",
        "ratio" => "bytes",
        _ => return Err(io::ErrorKind::InvalidInput.into()),
    };
    if machine.is_made_up() {
        // What the kernel does by itself.
        write_kernel(&machine.at(&format!("{stem}_{other}")), "0")?;
    }
    write_kernel(&machine.at(&format!("{stem}_{unit}")), number)
}

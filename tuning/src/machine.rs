//! The machine that is looked at: the running one, or a folder made to look like one, with its /proc, /sys and /etc.

use crate::cpus;
use crate::mounts::Mount;
use std::fs;
use std::path::{Path, PathBuf};

/// What kind of machine it is: what is recommended depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// A server that is the broker's: everything for it.
    BareMetal,
    /// A virtual machine: what the hypervisor decides is left to it.
    CloudVm,
    /// A developer's machine: only what would hinder the broker, nothing that costs battery or makes the desktop slower.
    Laptop,
}

impl Profile {
    /// All of them, in the order of [`crate::Knob::recommended`].
    pub const ALL: [Self; 3] = [Self::BareMetal, Self::CloudVm, Self::Laptop];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::BareMetal => "bare-metal",
            Self::CloudVm => "cloud-vm",
            Self::Laptop => "laptop",
        }
    }
}

/// The machine, and what of it the broker uses.
pub struct Machine {
    root: PathBuf,
    profile: Profile,
    data: Vec<PathBuf>,
}

impl Machine {
    /// The machine whose root is this folder: `/` is the running one. Without a profile it is guessed.
    pub fn new(root: &Path, data: &[PathBuf], profile: Option<Profile>) -> Self {
        let mut machine = Self { root: root.to_owned(), profile: Profile::BareMetal, data: Vec::new() };
        machine.data = data.iter().map(|dir| machine.absolute(dir)).collect();
        machine.profile = profile.unwrap_or_else(|| machine.guess());
        machine
    }

    /// Whether it is a folder, and no kernel listens.
    pub fn is_made_up(&self) -> bool {
        self.root != Path::new("/")
    }

    /// What is recommended for.
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// The broker's data directories, absolute.
    pub fn data(&self) -> &[PathBuf] {
        &self.data
    }

    /// Where a path of the machine lies.
    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// A file's text as it is, if it can be read.
    pub(crate) fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.at(path)).ok()
    }

    /// A file's text without what is around it; empty if it cannot be read.
    pub(crate) fn word(&self, path: &str) -> String {
        self.read(path).unwrap_or_default().trim().to_owned()
    }

    /// A file's number.
    pub(crate) fn number(&self, path: &str) -> Option<u64> {
        self.read(path)?.trim().parse().ok()
    }

    /// The names in a directory, 2 before 10; none if there is no such directory.
    pub(crate) fn names(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.at(path)).into_iter().flatten();
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
        names.sort_by(|a, b| (trailing_number(a), a.as_str()).cmp(&(trailing_number(b), b.as_str())));
        names
    }

    /// The cores that run.
    pub(crate) fn cpus(&self) -> Vec<usize> {
        let cpus = cpus::from_list(&self.word("/sys/devices/system/cpu/online"));
        if cpus.is_empty() { vec![0] } else { cpus }
    }

    /// Bytes of memory; zero if the kernel does not say.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let text = self.word("/proc/meminfo");
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap_or_default();
        line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) << 10
    }

    /// The kernel's version: 6.18.44 is (6, 18).
    pub(crate) fn kernel(&self) -> (u32, u32) {
        let release = self.word("/proc/sys/kernel/osrelease");
        let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
    }

    /// This process' limit: soft and hard, as the kernel writes them (`/proc/self/limits`).
    pub(crate) fn limit(&self, name: &str) -> Option<(String, String)> {
        let text = self.read("/proc/self/limits")?;
        let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
        let mut words = rest.split_whitespace();
        Some((words.next()?.to_owned(), words.next()?.to_owned()))
    }

    /// How the data directories are mounted, each mount once.
    pub(crate) fn mounts(&self) -> Vec<Mount> {
        let text = self.read("/proc/self/mountinfo").unwrap_or_default();
        let mut mounts: Vec<Mount> = Vec::new();
        for mount in self.data.iter().filter_map(|dir| Mount::of(&text, dir)) {
            if mounts.iter().all(|other| other.point != mount.point) {
                mounts.push(mount);
            }
        }
        mounts
    }

    /// The disks under the data directories, by their names in /sys/block: what a partition, a volume group or a RAID lies on.
    pub(crate) fn disks(&self) -> Vec<String> {
        let mut disks = Vec::new();
        for mount in self.mounts() {
            let Ok(device) = self.at("/sys/dev/block").join(&mount.device).canonicalize() else { continue };
            let whole = if device.join("partition").exists() { device.parent() } else { Some(&*device) };
            let name = whole.and_then(|path| path.file_name()).and_then(|name| name.to_str());
            if let Some(name) = name {
                self.below(name, &mut disks);
            }
        }
        disks
    }

    /// The disks that a block device is made of; itself if of none.
    fn below(&self, name: &str, disks: &mut Vec<String>) {
        let parts = self.names(&format!("/sys/block/{name}/slaves"));
        for part in &parts {
            // A part may be a partition: its disk is the folder it lies in.
            let path = self.at(&format!("/sys/class/block/{part}"));
            let disk = path.canonicalize().ok().and_then(|path| {
                let whole = if path.join("partition").exists() { path.parent()? } else { &path };
                Some(whole.file_name()?.to_str()?.to_owned())
            });
            self.below(disk.as_deref().unwrap_or(part), disks);
        }
        if parts.is_empty() && !disks.iter().any(|disk| disk == name) {
            disks.push(name.to_owned());
        }
    }

    /// The network cards: interfaces with a device behind them.
    pub(crate) fn cards(&self) -> Vec<String> {
        let mut names = self.names("/sys/class/net");
        names.retain(|name| self.at(&format!("/sys/class/net/{name}/device")).exists());
        names
    }

    /// Laptops have batteries; virtual machines know that they are.
    fn guess(&self) -> Profile {
        let flags = self.read("/proc/cpuinfo").unwrap_or_default();
        let virtual_machine = flags
            .lines()
            .find(|line| line.starts_with("flags"))
            .is_some_and(|line| line.split_whitespace().any(|flag| flag == "hypervisor"));
        let battery = self.names("/sys/class/power_supply").iter().any(|name| name.starts_with("BAT"));
        match (virtual_machine, battery) {
            (true, _) => Profile::CloudVm,
            (false, true) => Profile::Laptop,
            (false, false) => Profile::BareMetal,
        }
    }

    /// Of the running machine what is there of the path is resolved; what is not there yet will be made under it.
    fn absolute(&self, path: &Path) -> PathBuf {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        if self.is_made_up() {
            return path;
        }
        let found = path.ancestors().find_map(|there| Some((there, there.canonicalize().ok()?)));
        match found {
            Some((there, real)) => real.join(path.strip_prefix(there).unwrap_or(Path::new(""))),
            None => path,
        }
    }
}

/// The number a name ends with: `rx-10` has 10.
pub(crate) fn trailing_number(name: &str) -> Option<u64> {
    let digits = name.len() - name.bytes().rev().take_while(u8::is_ascii_digit).count();
    name[digits..].parse().ok()
}

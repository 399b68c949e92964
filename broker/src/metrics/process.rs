//! What the kernel tells of this process, under the names that Prometheus' clients give it.

use super::exposition::Text;

/// The process as `/proc` shows it; what cannot be read is left out.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Process {
    pub(super) resident_bytes: Option<u64>,
    pub(super) open_files: Option<u64>,
    pub(super) open_files_max: Option<u64>,
    pub(super) cpu_seconds: Option<f64>,
    pub(super) started_seconds: Option<f64>,
}

/// `USER_HZ`, in which the kernel tells times to programs: 100 on every machine that Linux runs on.
const TICKS_PER_SECOND: f64 = 100.0;

impl Process {
    /// As it is now.
    pub(super) fn now() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let process = Self::parse(
            &read("/proc/self/status"),
            &read("/proc/self/limits"),
            &read("/proc/self/stat"),
            &read("/proc/stat"),
        );
        Self { open_files: open_files(), ..process }
    }

    fn parse(status: &str, limits: &str, stat: &str, machine: &str) -> Self {
        let number = |text: &str, line: &str, word: usize| {
            text.lines().find_map(|have| have.strip_prefix(line)?.split_whitespace().nth(word)?.parse().ok())
        };
        // The command's name is in parentheses, and may hold anything; the state comes after it and is the third field.
        let field = |field: usize| -> Option<f64> {
            stat.rsplit_once(')')?.1.split_whitespace().nth(field - 3)?.parse().ok()
        };
        let cpu = |user: f64, system: f64| (user + system) / TICKS_PER_SECOND;
        let booted: Option<u64> = number(machine, "btime", 0);
        Self {
            resident_bytes: number(status, "VmRSS:", 0).map(|kilobytes: u64| kilobytes * 1024),
            open_files: None,
            open_files_max: number(limits, "Max open files", 0),
            cpu_seconds: field(14).zip(field(15)).map(|(user, system)| cpu(user, system)),
            started_seconds: booted.zip(field(22)).map(|(at, ticks)| at as f64 + ticks / TICKS_PER_SECOND),
        }
    }

    pub(super) fn write(&self, out: &mut Text<'_>) {
        let mut one = |name: &str, kind: &str, help: &str, value: Option<f64>| {
            if let Some(value) = value {
                out.head(name, kind, help);
                out.line(format_args!("{name} {value}"));
            }
        };
        let whole = |value: Option<u64>| value.map(|value| value as f64);
        let resident = whole(self.resident_bytes);
        one("process_resident_memory_bytes", "gauge", "Memory of the process that is resident.", resident);
        one("process_cpu_seconds_total", "counter", "Time on processors, of all threads.", self.cpu_seconds);
        let files = whole(self.open_files);
        one("process_open_fds", "gauge", "Open files and sockets.", files);
        let max = whole(self.open_files_max);
        one("process_max_fds", "gauge", "Files and sockets that may be open.", max);
        let started = self.started_seconds;
        one("process_start_time_seconds", "gauge", "When the process was started, in Unix time.", started);
    }
}

/// From Linux 6.2 on the kernel tells how many there are as the size of their directory. To read that directory takes it milliseconds where
/// there are ten thousand.
fn open_files() -> Option<u64> {
    const OPEN: &str = "/proc/self/fd";
    match std::fs::metadata(OPEN).ok()?.len() {
        0 => counted(OPEN),
        count => Some(count),
    }
}

fn counted(directory: &str) -> Option<u64> {
    // One of them is the directory's own, while it is read.
    std::fs::read_dir(directory).ok().map(|files| (files.count() as u64).saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_proc_says_is_read() {
        let process = Process::parse(
            "Name:\tx\nVmHWM:\t 9 kB\nVmRSS:\t   2048 kB\n",
            "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024                 4096                 files\n",
            "7 (a) b) S 1 7 7 0 -1 0 1 2 3 4 150 50 0 0 20 0 5 0 1000 99 99\n",
            "cpu 1 2\nbtime 1700000000\n",
        );
        let expected = Process {
            resident_bytes: Some(2 << 20),
            open_files: None,
            open_files_max: Some(1024),
            cpu_seconds: Some(2.0),
            started_seconds: Some(1_700_000_010.0),
        };
        assert_eq!(process, expected);
        assert_eq!(Process::parse("", "", "", ""), Process::default());
    }

    #[test]
    fn this_process_has_all_of_it() {
        let process = Process::now();
        assert!(process.resident_bytes > Some(100_000) && process.open_files > Some(2), "{process:?}");
        assert!(process.open_files_max.is_some() && process.cpu_seconds.is_some(), "{process:?}");
        assert!(process.started_seconds > Some(1.6e9), "{process:?}");
    }

    #[test]
    fn open_files_are_counted_where_the_kernel_does_not_tell() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["0", "1", "2"] {
            std::fs::write(directory.path().join(name), "").unwrap();
        }
        assert_eq!(counted(directory.path().to_str().unwrap()), Some(2));
    }
}

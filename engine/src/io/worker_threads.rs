//! The kernel's io-wq threads of this process: whoever serves a punted operation is one of them.

use std::fs;

/// How often the io-wq threads that are alive have run and gone back to sleep. An idle one ends after seconds, so this
/// is a lower bound of what was punted; that there never was one is exact while it is watched.
pub(super) fn switches() -> u64 {
    let Ok(threads) = fs::read_dir("/proc/self/task") else { return 0 };
    threads
        .flatten()
        .filter(|thread| {
            fs::read_to_string(thread.path().join("comm")).is_ok_and(|name| name.starts_with("iou-wrk"))
        })
        .filter_map(|thread| fs::read_to_string(thread.path().join("status")).ok())
        .map(|status| {
            let count =
                |line: &str| line.split_whitespace().last().and_then(|count| count.parse::<u64>().ok());
            status.lines().filter(|line| line.contains("ctxt_switches")).filter_map(count).sum::<u64>()
        })
        .sum()
}

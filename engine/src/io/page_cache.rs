//! Whether a range of a file is in memory: cachestat(2), Linux 6.5.
#![expect(unsafe_code, reason = "a system call without a safe wrapper")]

use std::os::fd::{AsRawFd, OwnedFd};

#[repr(C)]
struct Range {
    off: u64,
    len: u64,
}

#[repr(C)]
#[derive(Default)]
struct Stat {
    cache: u64,
    dirty: u64,
    writeback: u64,
    evicted: u64,
    recently_evicted: u64,
}

const SYS_CACHESTAT: libc::c_long = 451;
const PAGE: u64 = 4096;

/// Whether every page of the range is in memory. `false` also where the kernel cannot tell.
pub(super) fn is_resident(file: &OwnedFd, pos: u64, len: u64) -> bool {
    let range = Range { off: pos, len };
    let mut stat = Stat::default();
    // SAFETY: both structures have the layout of the system call, live across it, and it writes only to the second.
    let result =
        unsafe { libc::syscall(SYS_CACHESTAT, file.as_raw_fd(), &raw const range, &raw mut stat, 0_u32) };
    let pages = (pos + len).div_ceil(PAGE) - pos / PAGE;
    result == 0 && stat.cache >= pages
}

//! The ring itself: made with the flags this kernel takes, entered, or refused with a reason.
#![expect(unsafe_code, reason = "the wait's argument is an address")]

use io_uring::{EnterFlags, IoUring, types};
use std::io;
use std::time::Duration;

/// Makes a ring with the best flags this kernel takes.
pub(super) fn make(entries: u32, completions: u32) -> io::Result<IoUring> {
    let build = |no_sqarray: bool| {
        let mut builder = IoUring::builder();
        builder
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_submit_all()
            .setup_cqsize(completions)
            .dontfork();
        if no_sqarray {
            builder.setup_no_sqarray();
        }
        builder.build(entries)
    };
    let ring = match build(true) {
        // NO_SQARRAY came with Linux 6.6, the other flags with 6.1.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => build(false)?,
        ring => ring?,
    };
    if ring.params().is_feature_ext_arg() && ring.params().is_feature_nodrop() {
        Ok(ring)
    } else {
        Err(io::Error::from_raw_os_error(libc::EINVAL))
    }
}

/// Hands over what is queued and waits for `want` completions, at most for the span.
pub(super) fn enter(ring: &mut IoUring, want: u32, span: Option<Duration>) {
    let mut flags = EnterFlags::GETEVENTS | EnterFlags::EXT_ARG;
    if ring.params().is_feature_no_iowait() {
        flags |= EnterFlags::NO_IOWAIT;
    }
    let timeout = span.map(|span| types::Timespec::new().sec(span.as_secs()).nsec(span.subsec_nanos()));
    let argument = EventsArgument {
        sigmask: 0,
        sigmask_size: 0,
        min_wait_usec: 0,
        timeout: timeout.as_ref().map_or(0, |timeout| std::ptr::from_ref(timeout).addr() as u64),
    };
    let queued = u32::try_from(ring.submission().len()).expect("the queue is short");
    // SAFETY: the argument has the layout of io_uring_getevents_arg, which EXT_ARG announces; it and the timeout it
    // points to live across the call.
    let result = unsafe { ring.submitter().enter(queued, want, flags.bits(), Some(&argument)) };
    match result {
        Ok(_) => {}
        Err(error) => match error.raw_os_error() {
            // The time is up, a signal came, or completions must be taken first.
            Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => {}
            _ => panic!("enter the ring: {error}"),
        },
    }
}

/// `io_uring_getevents_arg`.
#[repr(C)]
struct EventsArgument {
    sigmask: u64,
    sigmask_size: u32,
    min_wait_usec: u32,
    timeout: u64,
}

/// Why there is no ring, and what would give one.
pub(in crate::io) fn refusal(error: &io::Error) -> String {
    let disabled = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    match error.raw_os_error() {
        Some(libc::ENOSYS) => "this kernel has no io_uring: Linux 6.1 or newer is needed".into(),
        Some(libc::EINVAL) => "this kernel's io_uring lacks what is needed: Linux 6.1 or newer has it".into(),
        Some(libc::EPERM | libc::EACCES) if matches!(disabled.trim(), "1" | "2") => format!(
            "io_uring is switched off on this machine: `sysctl kernel.io_uring_disabled=0` allows it (it is {})",
            disabled.trim()
        ),
        Some(libc::EPERM | libc::EACCES) => {
            "io_uring is refused by a seccomp filter: with Docker or Podman run with `--security-opt seccomp=unconfined` \
             or a profile that allows io_uring_setup, io_uring_enter and io_uring_register"
                .into()
        }
        Some(libc::ENOMEM) => {
            "io_uring is refused for want of lockable memory: raise `ulimit -l` (LimitMEMLOCK=infinity in a systemd unit)".into()
        }
        _ => format!("io_uring is refused: {error}"),
    }
}

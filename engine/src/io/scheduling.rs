//! What the kernel's scheduler is told of a thread.
#![expect(unsafe_code, reason = "system calls that no crate offers")]

/// The shortest there is, in nanoseconds.
const SLICE: u64 = 100_000;

/// Asks for a short time slice for the calling thread: it then runs as soon as it is woken. Otherwise whoever has the core keeps it for the rest
/// of a slice of some milliseconds, and a shard that is busy always has it. A thread that runs for long each time would have nothing of it.
///
/// Linux takes this since 6.12; where it does not, all is as it was.
pub(super) fn run_when_woken() {
    let size = u32::try_from(size_of::<libc::sched_attr>()).expect("a small structure");
    // SAFETY: numbers, all of which may be zero.
    let mut attributes: libc::sched_attr = unsafe { std::mem::zeroed() };
    let at = &raw mut attributes;
    // SAFETY: the kernel fills at most `size` bytes, which are ours.
    let known = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, at, size, 0) } == 0;
    if known && attributes.sched_policy == libc::SCHED_OTHER.cast_unsigned() {
        attributes.sched_runtime = SLICE;
        // SAFETY: the kernel reads what it has filled before.
        unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_thread_that_asks_for_it_keeps_its_policy_and_priority() {
        let before = rustix::process::getpriority_process(None).unwrap();
        super::run_when_woken();
        assert_eq!(rustix::process::getpriority_process(None).unwrap(), before);
        // SAFETY: asks about the calling thread.
        assert_eq!(unsafe { libc::sched_getscheduler(0) }, libc::SCHED_OTHER);
    }
}

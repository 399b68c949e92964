//! One operation at a time through a ring.
#![expect(unsafe_code, reason = "entries of the ring carry addresses")]

use io_uring::{IoUring, opcode, types};
use std::fs::File;
use std::os::fd::AsRawFd;

/// A ring with a depth of one.
pub(crate) struct Ring(IoUring);

impl Ring {
    /// A ring set up as a shard's.
    pub(crate) fn new() -> Self {
        let mut builder = IoUring::builder();
        builder.setup_single_issuer().setup_defer_taskrun();
        Self(builder.build(8).expect("this machine offers io_uring"))
    }

    /// Writes and waits.
    pub(crate) fn write(&mut self, file: &File, bytes: &[u8], pos: u64) {
        let len = u32::try_from(bytes.len()).expect("a small write");
        let entry = opcode::Write::new(types::Fd(file.as_raw_fd()), bytes.as_ptr(), len).offset(pos).build();
        self.run(entry, bytes.len());
    }

    /// Reads and waits.
    pub(crate) fn read(&mut self, file: &File, bytes: &mut [u8], pos: u64) {
        let len = u32::try_from(bytes.len()).expect("a small read");
        let entry =
            opcode::Read::new(types::Fd(file.as_raw_fd()), bytes.as_mut_ptr(), len).offset(pos).build();
        self.run(entry, bytes.len());
    }

    fn run(&mut self, entry: io_uring::squeue::Entry, expected: usize) {
        // SAFETY: the entry's memory is borrowed by the caller of this call, which returns only after its completion.
        unsafe { self.0.submission().push(&entry) }.expect("the queue is empty");
        self.0.submit_and_wait(1).expect("enter the ring");
        let result = self.0.completion().next().expect("waited for").result();
        assert_eq!(usize::try_from(result).ok(), Some(expected), "the whole operation is done");
    }
}

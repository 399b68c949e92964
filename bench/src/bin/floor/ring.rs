//! Operations through a ring, one at a time or a turn's worth together.
#![expect(unsafe_code, reason = "entries of the ring carry addresses")]

use io_uring::{IoUring, opcode, squeue, types};
use rustix::io::ReadWriteFlags;
use std::fs::File;
use std::os::fd::AsRawFd;

/// A ring set up as a shard's.
pub(crate) struct Ring(IoUring);

/// The most operations of a turn.
const TURN_MAX: u32 = 1024;

impl Ring {
    pub(crate) fn new() -> Self {
        let mut builder = IoUring::builder();
        builder.setup_single_issuer().setup_defer_taskrun();
        Self(builder.build(TURN_MAX).expect("this machine offers io_uring"))
    }

    /// Writes the same bytes to all these places at once, and waits.
    pub(crate) fn write<'a>(
        &mut self,
        places: impl IntoIterator<Item = (&'a File, u64)>,
        bytes: &[u8],
        flags: ReadWriteFlags,
    ) {
        let len = u32::try_from(bytes.len()).expect("a small write");
        let flags = flags.bits().cast_signed();
        let entries = places.into_iter().map(|(file, pos)| {
            let file = types::Fd(file.as_raw_fd());
            opcode::Write::new(file, bytes.as_ptr(), len).offset(pos).rw_flags(flags).build()
        });
        self.run(entries, bytes.len());
    }

    /// Reads and waits.
    pub(crate) fn read(&mut self, file: &File, bytes: &mut [u8], pos: u64) {
        let len = u32::try_from(bytes.len()).expect("a small read");
        let entry =
            opcode::Read::new(types::Fd(file.as_raw_fd()), bytes.as_mut_ptr(), len).offset(pos).build();
        self.run([entry], bytes.len());
    }

    fn run(&mut self, entries: impl IntoIterator<Item = squeue::Entry>, expected: usize) {
        let mut count = 0;
        for entry in entries {
            // SAFETY: the entry's memory is borrowed by the caller of this call, which returns only after its completion.
            unsafe { self.0.submission().push(&entry) }.expect("a turn fits the queue");
            count += 1;
        }
        self.0.submit_and_wait(count).expect("enter the ring");
        for _ in 0..count {
            let result = self.0.completion().next().expect("waited for").result();
            assert_eq!(usize::try_from(result).ok(), Some(expected), "the whole operation is done");
        }
    }
}

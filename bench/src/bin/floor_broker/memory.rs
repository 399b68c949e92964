//! Memory that begins at a page, in huge pages where the kernel has them: a direct write then takes few of them.
#![expect(unsafe_code, reason = "memory is mapped")]

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};
use std::ops::{Deref, DerefMut};
use std::ptr;

pub(crate) struct Memory {
    at: *mut u8,
    len: usize,
}

impl Memory {
    pub(crate) fn new(len: usize) -> Self {
        // SAFETY: the kernel chooses the place.
        let mapped = unsafe {
            mmap_anonymous(ptr::null_mut(), len, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)
        };
        let at = mapped.expect("map memory");
        // SAFETY: it was mapped above.
        let _ = unsafe { madvise(at, len, Advice::LinuxHugepage) };
        Self { at: at.cast(), len }
    }
}

impl Deref for Memory {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `len` bytes are mapped there until this goes, and are zeroes at first.
        unsafe { std::slice::from_raw_parts(self.at, self.len) }
    }
}

impl DerefMut for Memory {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and borrowed by one only.
        unsafe { std::slice::from_raw_parts_mut(self.at, self.len) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: it was mapped in `new`, and nobody borrows it any more.
        let _ = unsafe { munmap(self.at.cast(), self.len) };
    }
}

//! Where the blocks of a file lie on its device (`FIEMAP`).
//!
//! A flush makes durable what lies in the device's cache, and no more: a block that was written lies where the file system's durable metadata has it
//! only if it lay there before. One that is shared with a copy of the file (`cp` on XFS makes such copies) is written elsewhere, and so is one that
//! was moved to put a file together; then a sync of the file itself is needed once.

#![expect(unsafe_code, reason = "a request to the kernel for which there is no safe wrapper")]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

/// Where the written blocks of a file lay when it was last synced by itself.
#[derive(Default)]
pub(super) struct Synced {
    /// Up to here. The two may be of two syncs for a moment: then they fit no file.
    end: AtomicU64,
    hash: AtomicU64,
}

/// Where the written blocks of a file lie, from its beginning up to the first one that is not written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Layout {
    end: u64,
    hash: u64,
}

impl Layout {
    /// Looks no further than to `most`.
    #[expect(clippy::cast_possible_truncation, reason = "a hash of what is multiplied")]
    pub(super) fn of(fd: &OwnedFd, most: u64) -> io::Result<Self> {
        let (mut end, mut hash) = (0, 0);
        // What lies behind the other is one piece, in however many extents.
        let mut shift = None;
        each(fd, most, |extent| {
            let is_next = extent.flags & NOT_WRITTEN == 0 && extent.logical <= end;
            if is_next {
                let lies = extent.physical.wrapping_sub(extent.logical);
                if shift.replace(lies) != Some(lies) {
                    let product = u128::from(hash ^ end ^ lies.rotate_left(32)) * MULTIPLIER;
                    hash = (product >> 64) as u64 ^ product as u64;
                }
                end = (extent.logical + extent.length).min(most);
            }
            is_next
        })?;
        Ok(Self { end, hash })
    }
}

impl Synced {
    /// The file has been synced by itself, and lay so before.
    pub(super) fn set(&self, layout: Layout) {
        self.end.store(layout.end, Ordering::Relaxed);
        self.hash.store(layout.hash, Ordering::Relaxed);
    }

    /// Whether all that was written then lies where it did. False where that cannot be told.
    pub(super) fn is_still(&self, fd: &OwnedFd) -> bool {
        let layout =
            Layout { end: self.end.load(Ordering::Relaxed), hash: self.hash.load(Ordering::Relaxed) };
        layout.end > 0 && Layout::of(fd, layout.end).is_ok_and(|now| now == layout)
    }
}

/// Whether all blocks up to `len` have been written and are this file's alone.
pub(super) fn are_written_and_own(fd: &OwnedFd, len: u64) -> io::Result<bool> {
    let mut end = 0;
    each(fd, len, |extent| {
        let is_next = extent.flags & !HARMLESS == 0 && extent.logical <= end;
        if is_next {
            end = extent.logical + extent.length;
        }
        is_next
    })?;
    Ok(end >= len)
}

/// Has `look` see the extents of a file up to `len`, in order, until it has seen enough.
fn each(fd: &OwnedFd, len: u64, mut look: impl FnMut(&Extent) -> bool) -> io::Result<()> {
    let mut pos = 0;
    while pos < len {
        let mut map = ExtentMap {
            start: pos,
            length: len - pos,
            flags: 0,
            mapped: 0,
            count: EXTENTS as u32,
            reserved: 0,
            extents: [Extent::default(); EXTENTS],
        };
        // SAFETY: the kernel fills in as many extents as `count` says there is room for.
        if unsafe { libc::ioctl(fd.as_raw_fd(), FS_IOC_FIEMAP, &raw mut map) } != 0 {
            return Err(io::Error::last_os_error());
        }
        let extents = map.extents.get(..map.mapped as usize).unwrap_or_default();
        let Some(last) = extents.last() else { break };
        if !extents.iter().all(&mut look) {
            break;
        }
        pos = last.logical + last.length;
    }
    Ok(())
}

/// A question for the extents of a file, and a part of the answer (`linux/fiemap.h`).
#[repr(C)]
struct ExtentMap {
    start: u64,
    length: u64,
    flags: u32,
    mapped: u32,
    count: u32,
    reserved: u32,
    extents: [Extent; EXTENTS],
}

#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Extent {
    logical: u64,
    physical: u64,
    length: u64,
    reserved: [u64; 2],
    flags: u32,
    more_reserved: [u32; 3],
}

/// Extents asked for at a time.
const EXTENTS: usize = 32;
/// `_IOWR('f', 11, struct fiemap)`
const FS_IOC_FIEMAP: libc::Ioctl = 0xC020_660B_u32 as libc::Ioctl;
/// What an extent may say of itself: that it is the file's last, and that it is several. Anything else (not written yet, shared with another
/// file, packed, encrypted) means that to write over it is more than that.
const HARMLESS: u32 = LAST | MERGED;
const LAST: u32 = 0x0001;
const MERGED: u32 = 0x1000;
const SHARED: u32 = 0x2000;
/// That it has no place, or that what it holds is not what was written there.
const NOT_WRITTEN: u32 = !(LAST | MERGED | SHARED);
/// An odd number without a pattern (2^64 over the golden ratio).
const MULTIPLIER: u128 = 0x9E37_79B9_7F4A_7C15;

#[cfg(test)]
mod tests {
    use super::super::buf::BLOCK;
    use super::*;
    use rustix::fs::FallocateFlags;
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    #[test]
    fn a_block_that_lies_elsewhere_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let file = File::create(dir.path().join("file")).unwrap();
        let write = |block: u64, blocks: usize| {
            file.write_all_at(&vec![7; blocks * BLOCK], block * BLOCK as u64).unwrap();
            file.sync_all().unwrap();
        };
        write(0, 64);
        let fd = OwnedFd::from(file.try_clone().unwrap());
        let Ok(layout) = Layout::of(&fd, u64::MAX) else {
            eprintln!("not tested: the file system of temporary files tells no extents");
            return;
        };
        let synced = Synced::default();
        assert!(!synced.is_still(&fd), "nothing is known of it");
        synced.set(layout);
        assert!(synced.is_still(&fd));
        write(3, 10);
        assert!(synced.is_still(&fd), "it was written over");
        write(64, 64);
        assert!(synced.is_still(&fd), "it has grown");
        rustix::fs::fallocate(&fd, FallocateFlags::empty(), 128 * BLOCK as u64, 64 * BLOCK as u64).unwrap();
        assert_eq!(Layout::of(&fd, u64::MAX).unwrap().end, 128 * BLOCK as u64, "as far as it is written");
        assert!(!are_written_and_own(&fd, 129 * BLOCK as u64).unwrap());
        assert!(are_written_and_own(&fd, 128 * BLOCK as u64).unwrap());
        // The blocks behind those that go take their places in the file.
        rustix::fs::fallocate(&fd, FallocateFlags::COLLAPSE_RANGE, 8 * BLOCK as u64, 4 * BLOCK as u64)
            .unwrap();
        assert!(!synced.is_still(&fd), "blocks lie elsewhere");
        synced.set(Layout::of(&fd, u64::MAX).unwrap());
        assert!(synced.is_still(&fd));
    }
}

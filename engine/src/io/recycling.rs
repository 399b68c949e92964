//! Files whose content nobody needs any more are written over, under another name: their blocks have been written before, so that a
//! write has nothing to allocate and nothing to convert, and no one has to free them first.
#![expect(unsafe_code, reason = "a lease and a map of extents, for which there are no safe wrappers")]

use super::buf::BLOCK;
use rustix::fs::{Advice, Mode, OFlags};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Gives a file another name and opens it to be written over, past the page cache, up to its last whole block; the blocks at `zeroed` are zeroes
/// by then. Refuses where that could be seen by others, or where a flush of the device would not make durable what is written.
pub(super) fn recycle(from: &Path, to: &Path, zeroed: &[u64], direct: bool) -> io::Result<OwnedFd> {
    if !direct {
        // Pages of it may be on their way to a consumer, and would be overwritten there.
        return Err(io::ErrorKind::Unsupported.into());
    }
    let flags = OFlags::RDWR | OFlags::DIRECT | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::open(from, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&fd)?;
    if stat.st_nlink != 1 || lease(&fd, libc::F_WRLCK).is_err() {
        return Err(io::ErrorKind::ResourceBusy.into());
    }
    lease(&fd, libc::F_UNLCK)?;
    let len = u64::try_from(stat.st_size).expect("a file's size is not negative");
    let len = len - len % BLOCK as u64;
    if !is_written(&fd, len)? {
        return Err(io::ErrorKind::Unsupported.into());
    }
    rustix::fs::ftruncate(&fd, len)?;
    let zeroed = zeroed.iter().filter(|pos| **pos < len);
    // Through the page cache, from where the device gets them all at once.
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let cached = File::from(rustix::fs::open(from, flags, Mode::empty())?);
    for pos in zeroed {
        cached.write_all_at(&[0; BLOCK], *pos)?;
    }
    cached.sync_data()?;
    // Where that does not work pages go one by one, as they are written past.
    let _ = rustix::fs::fadvise(&fd, 0, None, Advice::DontNeed);
    rustix::fs::rename(from, to)?;
    Ok(fd)
}

/// Takes or gives back a lease on a file, which the kernel grants to the only one who has it open, in this process or another. Who opens it
/// meanwhile waits.
pub(super) fn lease(fd: &OwnedFd, kind: libc::c_int) -> io::Result<()> {
    // The holder of a lease is sent a signal when somebody waits for it, by which a process ends that does nothing about it.
    // SAFETY: to ignore a signal runs no code of ours.
    unsafe { libc::signal(libc::SIGIO, libc::SIG_IGN) };
    // SAFETY: the call takes numbers only, and the descriptor is ours.
    match unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETLEASE, kind) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
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
const EXTENTS: usize = 64;
/// `_IOWR('f', 11, struct fiemap)`
const FS_IOC_FIEMAP: libc::Ioctl = 0xC020_660B_u32 as libc::Ioctl;
/// What an extent may say of itself: that it is the file's last, and that it is several. Anything else (not written yet, shared with another
/// file, packed, encrypted) means that to write over it is more than that.
const HARMLESS: u32 = 0x0001 | 0x1000;

/// Whether all blocks up to `len` have been written and are this file's alone.
fn is_written(fd: &OwnedFd, len: u64) -> io::Result<bool> {
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
        let before = pos;
        for extent in map.extents.iter().take(map.mapped as usize) {
            if extent.flags & !HARMLESS != 0 || extent.logical > pos {
                return Ok(false);
            }
            pos = pos.max(extent.logical + extent.length);
        }
        if pos == before {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::FallocateFlags;
    use std::fs;

    const LEN: usize = 100 * BLOCK + 7;

    /// A file of blocks that have been written, if the file system of temporary files can do all that is needed.
    fn written(dir: &Path, name: &str) -> Option<std::path::PathBuf> {
        let path = dir.join(name);
        fs::write(&path, vec![7; LEN]).unwrap();
        File::open(&path).unwrap().sync_all().unwrap();
        let fd = rustix::fs::open(&path, OFlags::RDWR | OFlags::DIRECT, Mode::empty()).ok()?;
        is_written(&fd, 100 * BLOCK as u64).ok()?.then_some(path)
    }

    #[test]
    fn a_file_that_nobody_else_has_is_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let Some(old) = written(dir.path(), "old") else { return };
        let new = dir.path().join("new");
        let busy = |error: io::Error| assert_eq!(error.kind(), io::ErrorKind::ResourceBusy);
        let reader = File::open(&old).unwrap();
        busy(recycle(&old, &new, &[], true).unwrap_err());
        drop(reader);
        fs::hard_link(&old, dir.path().join("backup")).unwrap();
        busy(recycle(&old, &new, &[], true).unwrap_err());
        fs::remove_file(dir.path().join("backup")).unwrap();
        assert_eq!(recycle(&old, &new, &[], false).unwrap_err().kind(), io::ErrorKind::Unsupported);
        assert_eq!(fs::metadata(&old).unwrap().len(), LEN as u64, "who is refused leaves it as it was");

        let fd = recycle(&old, &new, &[0, 7 * BLOCK as u64, 100 * BLOCK as u64], true).unwrap();
        assert!(!old.exists());
        let mut held = vec![7; 100 * BLOCK];
        held[..BLOCK].fill(0);
        held[7 * BLOCK..8 * BLOCK].fill(0);
        assert!(fs::read(&new).unwrap() == held, "the last one lies past the last whole block");
        // The lease has been given back.
        drop((File::open(&new).unwrap(), fd));
    }

    #[test]
    fn what_was_not_written_is_not_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let new = dir.path().join("new");
        let refused = |change: &dyn Fn(&File)| {
            let Some(old) = written(dir.path(), "old") else { return };
            change(&File::options().write(true).open(&old).unwrap());
            assert_eq!(recycle(&old, &new, &[], true).unwrap_err().kind(), io::ErrorKind::Unsupported);
            assert!(old.exists() && !new.exists());
        };
        refused(&|file| file.set_len(102 * BLOCK as u64).unwrap());
        refused(&|file| {
            file.write_all_at(&[1; BLOCK], 200 * BLOCK as u64).unwrap();
            file.sync_all().unwrap();
        });
        refused(&|file| {
            let (begin, len) = (100 * BLOCK as u64, 50 * BLOCK as u64);
            rustix::fs::fallocate(file, FallocateFlags::empty(), begin, len).unwrap();
        });
    }
}

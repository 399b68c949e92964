//! Files whose content nobody needs any more are written over, under another name: their blocks have been written before, so that a
//! write has nothing to allocate and nothing to convert, and no one has to free them first.
#![expect(unsafe_code, reason = "a lease, for which there is no safe wrapper")]

use super::buf::{BLOCK, aligned};
use super::extents::are_written_and_own;
use bytes::BytesMut;
use rustix::fs::{Advice, Mode, OFlags};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

/// Zeroes blocks of a file, past the page cache, and opens it. None of that is durable yet.
pub(super) fn blank(path: &Path, zeroed: &[u64], direct: bool) -> io::Result<OwnedFd> {
    let (fd, len) = open_recyclable(path, direct)?;
    // What was sent from the page cache may still wait in a socket, and is what lies there. A cut would zero the rest of a page; to grow changes
    // nothing before the old end, and to write past the cache takes pages out of it as they are.
    rustix::fs::ftruncate(&fd, len)?;
    let mut zeroes: BytesMut = aligned(BLOCK);
    zeroes.resize(BLOCK, 0);
    for pos in zeroed.iter().filter(|pos| **pos < len) {
        if rustix::io::pwrite(&fd, &zeroes, *pos)? < BLOCK {
            return Err(io::ErrorKind::WriteZero.into());
        }
    }
    // Where that does not work pages go one by one, as they are written past.
    let _ = rustix::fs::fadvise(&fd, 0, None, Advice::DontNeed);
    Ok(fd)
}

/// Gives a file another name and opens it to be written over, past the page cache.
pub(super) fn recycle(from: &Path, to: &Path, direct: bool) -> io::Result<OwnedFd> {
    let (fd, _) = open_recyclable(from, direct)?;
    rustix::fs::rename(from, to)?;
    Ok(fd)
}

/// Opens a file that may be written over, and tells up to where, in whole blocks. Refuses where that could be seen by others, or where a flush
/// of the device would not make durable what is written.
fn open_recyclable(path: &Path, direct: bool) -> io::Result<(OwnedFd, u64)> {
    if !direct {
        // Pages of it may be on their way to a consumer, and would be overwritten there.
        return Err(io::ErrorKind::Unsupported.into());
    }
    let flags = OFlags::RDWR | OFlags::DIRECT | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::open(path, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&fd)?;
    if stat.st_nlink != 1 || lease(&fd, libc::F_WRLCK).is_err() {
        return Err(io::ErrorKind::ResourceBusy.into());
    }
    lease(&fd, libc::F_UNLCK)?;
    let len = u64::try_from(stat.st_size).expect("a file's size is not negative");
    let len = len.next_multiple_of(BLOCK as u64);
    if !are_written_and_own(&fd, len)? {
        return Err(io::ErrorKind::Unsupported.into());
    }
    Ok((fd, len))
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

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::FallocateFlags;
    use std::fs::{self, File};
    use std::io::Read;
    use std::os::unix::fs::FileExt;
    use std::os::unix::net::UnixStream;
    use std::path::PathBuf;
    use tempfile::TempDir;

    const LEN: usize = 100 * BLOCK + 7;

    /// A folder on a file system that can do all that is needed: that of temporary files, or of the build.
    fn folder() -> Option<TempDir> {
        let exe = std::env::current_exe().unwrap();
        for above in [std::env::temp_dir().as_path(), exe.parent().unwrap()] {
            let dir = tempfile::tempdir_in(above).unwrap();
            if open_recyclable(&written(&dir, "probe"), true).is_ok() {
                return Some(dir);
            }
        }
        eprintln!("not tested: direct writes and maps of extents are needed");
        None
    }

    /// A file of blocks that have been written.
    fn written(dir: &TempDir, name: &str) -> PathBuf {
        let path = dir.path().join(name);
        fs::write(&path, vec![7; LEN]).unwrap();
        File::open(&path).unwrap().sync_all().unwrap();
        path
    }

    #[test]
    fn a_file_that_nobody_else_has_is_written_over() {
        let Some(dir) = folder() else { return };
        let old = written(&dir, "old");
        let new = dir.path().join("new");
        let refused = |direct, kind| {
            assert_eq!(blank(&old, &[0], direct).unwrap_err().kind(), kind);
            assert_eq!(recycle(&old, &new, direct).unwrap_err().kind(), kind);
            assert!(fs::read(&old).unwrap() == vec![7; LEN], "who is refused leaves it as it was");
        };
        let reader = File::open(&old).unwrap();
        refused(true, io::ErrorKind::ResourceBusy);
        drop(reader);
        fs::hard_link(&old, dir.path().join("backup")).unwrap();
        refused(true, io::ErrorKind::ResourceBusy);
        fs::remove_file(dir.path().join("backup")).unwrap();
        refused(false, io::ErrorKind::Unsupported);

        drop(blank(&old, &[0, 7 * BLOCK as u64, 101 * BLOCK as u64], true).unwrap());
        let fd = recycle(&old, &new, true).unwrap();
        assert!(!old.exists());
        let mut held = vec![7; LEN];
        held[..BLOCK].fill(0);
        held[7 * BLOCK..8 * BLOCK].fill(0);
        held.resize(101 * BLOCK, 0);
        assert!(fs::read(&new).unwrap() == held, "up to its last block");
        // The lease has been given back.
        drop((File::open(&new).unwrap(), fd));
    }

    #[test]
    fn what_waits_in_a_socket_stays_as_it_was() {
        let Some(dir) = folder() else { return };
        let old = written(&dir, "old");
        let (mut reader, sender) = UnixStream::pair().unwrap();
        let file = File::open(&old).unwrap();
        let last = 99 * BLOCK as u64;
        for (mut pos, len) in [(0, BLOCK), (last, BLOCK + 7)] {
            assert_eq!(rustix::fs::sendfile(&sender, &file, Some(&mut pos), len).unwrap(), len);
        }
        drop((file, sender));
        drop(blank(&old, &[0, last, last + BLOCK as u64], true).unwrap());
        let fd = recycle(&old, &dir.path().join("new"), true).unwrap();
        let mut other = aligned(BLOCK);
        other.resize(BLOCK, 8);
        for pos in [0, last, last + BLOCK as u64] {
            rustix::io::pwrite(&fd, &other, pos).unwrap();
        }
        let mut read = Vec::new();
        reader.read_to_end(&mut read).unwrap();
        assert!(read == vec![7; 2 * BLOCK + 7]);
    }

    #[test]
    fn what_was_not_written_is_not_written_over() {
        let Some(dir) = folder() else { return };
        let new = dir.path().join("new");
        let refused = |change: &dyn Fn(&File)| {
            let old = written(&dir, "old");
            change(&File::options().write(true).open(&old).unwrap());
            assert_eq!(blank(&old, &[], true).unwrap_err().kind(), io::ErrorKind::Unsupported);
            assert_eq!(recycle(&old, &new, true).unwrap_err().kind(), io::ErrorKind::Unsupported);
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

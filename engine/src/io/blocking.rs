//! File operations as blocking calls, for the helper threads.

use super::buf::{aligned, fill};
use super::flusher::Disks;
use super::recycling::{blank, recycle};
use super::{Capacity, DirEntry, File, FileMode, Op, Outcome, Space};
use crate::limits::reserve;
use bytes::{Bytes, BytesMut};
use rustix::fs::{FallocateFlags, Mode, OFlags};
use rustix::io::ReadWriteFlags;
use std::io::{self, IoSliceMut};
use std::num::NonZeroU64;
use std::path::Path;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Runs one operation to its end.
pub(super) fn run(op: Op, disks: &Disks) -> Outcome {
    let none = |result: io::Result<()>| Outcome::Count(result.map(|()| 0));
    match op {
        Op::Open { dir, path, mode } => Outcome::Opened(
            disks
                .check_usable(dir)
                .and_then(|()| open(&path, flags(mode), mode, disks.is_direct(dir)))
                .and_then(|fd| opened(fd, dir, mode)),
        ),
        Op::Create { dir, path, mode } => {
            let flags = flags(mode) | OFlags::CREATE | OFlags::EXCL;
            Outcome::Opened(
                disks
                    .check_usable(dir)
                    .and_then(|()| open(&path, flags, mode, disks.is_direct(dir)))
                    .and_then(|fd| opened(fd, dir, mode)),
            )
        }
        Op::Blank { dir, path, zeroed } => Outcome::Opened(
            blank(&path, &zeroed, disks.is_direct(dir)).and_then(|fd| opened(fd, dir, FileMode::Blocks)),
        ),
        Op::Recycle { dir, from, to } => Outcome::Opened(
            recycle(&from, &to, disks.is_direct(dir)).and_then(|fd| opened(fd, dir, FileMode::Blocks)),
        ),
        Op::Write { file, pos, bytes, more } => Outcome::Count(write_parts(&file, pos, &bytes, &more)),
        Op::Prepare { file, from, to, space } => none(prepare(&file, from, to, space, disks)),
        Op::Zero { file, from, to } => none(zero(&file, from, to)),
        Op::Truncate { file, len } => none(rustix::fs::ftruncate(fd(&file), len).map_err(Into::into)),
        Op::SyncFile { file } => none(disks.sync_file(&file)),
        Op::Rename { from, to, .. } => none(disks.freeing.unname(&to, || std::fs::rename(from, &to))),
        Op::Unlink { path, .. } => none(disks.freeing.unname(&path, || std::fs::remove_file(&path))),
        Op::MakeDir { dir, path } => {
            none(disks.check_usable(dir).and_then(|()| std::fs::create_dir_all(path)))
        }
        Op::RemoveDir { path, .. } => none(std::fs::remove_dir(path)),
        Op::SyncDir { dir, path } => none(disks.sync_dir(dir, &path)),
        Op::SyncFileSystem { dir, file } => none(disks.sync_file_system(dir, &file)),
        Op::List { dir, path } => Outcome::Listing(disks.check_usable(dir).and_then(|()| list(&path))),
        Op::Capacity { dir, path } => {
            Outcome::Capacity(disks.check_usable(dir).and_then(|()| capacity(&path)))
        }
        Op::Compute { work } => {
            work.run();
            Outcome::Count(Ok(0))
        }
        Op::Close { file } => {
            drop(file);
            Outcome::Count(Ok(0))
        }
        Op::Read { .. }
        | Op::Sync { .. }
        | Op::Accept { .. }
        | Op::Recv { .. }
        | Op::RecvExact { .. }
        | Op::HangUp { .. }
        | Op::Send { .. }
        | Op::SendFile { .. }
        | Op::CloseSocket { .. } => unreachable!("a helper thread does not get these so"),
    }
}

/// Reads what lies in the page cache, without waiting; `None` where some of it does not, and where the file system cannot
/// tell or the read fails: a helper thread finds out.
pub(super) fn read_resident(file: &File, pos: u64, len: usize) -> Option<Bytes> {
    let mut buffer = BytesMut::zeroed(len);
    let mut filled = 0;
    while filled < len {
        let room = &mut [IoSliceMut::new(&mut buffer[filled..])];
        match rustix::io::preadv2(fd(file), room, pos + filled as u64, ReadWriteFlags::NOWAIT) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(_) => return None,
        }
    }
    buffer.truncate(filled);
    Some(buffer.freeze())
}

/// What is read through the page cache in a row comes in pieces of this size, the next one on its way while one is read. A device answers one request
/// after the other: what a producer writes waits behind what was asked for.
const PIECE: usize = 256 * 1024;

/// Has the kernel begin to bring a piece and the next one into the page cache; of a file of which nothing may be brought that was not asked for
/// no further than to `end`.
fn begin_to_fetch(file: &File, pos: u64, end: u64) {
    let pieces = 2 * PIECE as u64;
    let len = if file.mode() == FileMode::CachedOnce { pieces.min(end - pos) } else { pieces };
    // Where that is not understood who reads waits for each piece.
    let _ = rustix::fs::fadvise(fd(file), pos, NonZeroU64::new(len), rustix::fs::Advice::WillNeed);
}

/// Brings a range of a file into the page cache.
pub(super) fn prefetch(file: &File, mut pos: u64, end: u64) -> io::Result<u64> {
    let mut scratch = vec![0; PIECE];
    while pos < end {
        begin_to_fetch(file, pos, end);
        let want = scratch.len().min(usize::try_from(end - pos).unwrap_or(usize::MAX));
        let count = rustix::io::pread(fd(file), &mut scratch[..want], pos)?;
        if count == 0 {
            break;
        }
        pos += count as u64;
    }
    Ok(0)
}

/// A number for a new file or socket, unique within the process.
pub(super) fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// The descriptor of a file of a real Driver.
pub(super) fn fd(file: &File) -> &std::os::fd::OwnedFd {
    file.fd().expect("a file of a real Driver has a descriptor")
}

fn flags(mode: FileMode) -> OFlags {
    match mode {
        FileMode::Cached | FileMode::CachedOnce => OFlags::RDONLY | OFlags::CLOEXEC,
        FileMode::Blocks | FileMode::CachedWrite => OFlags::RDWR | OFlags::CLOEXEC,
    }
}

fn open(path: &Path, flags: OFlags, mode: FileMode, direct: bool) -> io::Result<std::os::fd::OwnedFd> {
    let direct = if direct && mode == FileMode::Blocks { OFlags::DIRECT } else { OFlags::empty() };
    let fd = rustix::fs::open(path, flags | direct, Mode::from_raw_mode(0o644))?;
    if matches!(mode, FileMode::Cached | FileMode::CachedOnce) {
        // It says of what lies behind a read that it is not read next: how far ahead the kernel reads by itself (`read_ahead_kb`) may be many MiB,
        // and what a producer writes waits behind them. Where that is not understood more is read.
        let _ = rustix::fs::fadvise(&fd, 0, None, rustix::fs::Advice::Random);
    }
    Ok(fd)
}

fn opened(fd: std::os::fd::OwnedFd, dir: super::DirId, mode: FileMode) -> io::Result<(File, u64)> {
    let len = u64::try_from(rustix::fs::fstat(&fd)?.st_size).expect("a file's size is not negative");
    Ok((File::new(next_id(), dir, mode, fd), len))
}

fn write_parts(file: &File, pos: u64, bytes: &[u8], more: &[Bytes]) -> io::Result<u64> {
    let mut end = pos + write_all(file, pos, bytes)?;
    for part in more {
        end += write_all(file, end, part)?;
    }
    Ok(end - pos)
}

fn write_all(file: &File, mut pos: u64, mut bytes: &[u8]) -> io::Result<u64> {
    let len = bytes.len() as u64;
    while !bytes.is_empty() {
        match rustix::io::pwrite(fd(file), bytes, pos) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                bytes = &bytes[count..];
                pos += count as u64;
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(len)
}

/// Reads so many bytes, or up to the end of the file, into an empty buffer with room for them.
pub(super) fn read(file: &File, pos: u64, mut buffer: BytesMut, len: usize) -> io::Result<Bytes> {
    let in_pieces = file.mode() != FileMode::Blocks && len > PIECE;
    let last = pos + len as u64;
    while buffer.len() < len {
        let filled = buffer.len();
        let pos = pos + filled as u64;
        let mut wanted = len - filled;
        if in_pieces {
            begin_to_fetch(file, pos, last);
            wanted = wanted.min(PIECE);
        }
        let count =
            fill(&mut buffer, wanted, |free| rustix::io::pread(fd(file), free, pos).map(|(read, _)| read))?;
        // A direct read that is not a whole number of blocks has met the end of the file.
        if count == 0 || !count.is_multiple_of(super::buf::BLOCK) {
            break;
        }
    }
    Ok(buffer.freeze())
}

fn prepare(file: &File, from: u64, to: u64, space: Space, disks: &Disks) -> io::Result<()> {
    match space {
        Space::Allocated => {
            keeps_reserve(file, to - from)?;
            allocate(file, from, to)
        }
        Space::Written => {
            let mut pos = from;
            while pos < to {
                let len = ZEROES.len().min(usize::try_from(to - pos).unwrap_or(usize::MAX));
                pos += write_all(file, pos, &ZEROES[..len])?;
            }
            disks.sync_file(file)
        }
    }
}

fn allocate(file: &File, from: u64, to: u64) -> io::Result<()> {
    match rustix::fs::fallocate(fd(file), FallocateFlags::empty(), from, to - from) {
        Err(rustix::io::Errno::OPNOTSUPP) => Ok(rustix::fs::ftruncate(fd(file), to)?),
        result => Ok(result?),
    }
}

fn zero(file: &File, from: u64, to: u64) -> io::Result<()> {
    match rustix::fs::fallocate(fd(file), FallocateFlags::ZERO_RANGE, from, to - from) {
        Err(rustix::io::Errno::OPNOTSUPP) => Err(io::ErrorKind::Unsupported.into()),
        result => Ok(result?),
    }
}

/// Refuses space that would use up the reserve: what is left of it is for indexes, checkpoints and metadata, without which nothing could
/// be deleted.
fn keeps_reserve(file: &File, more: u64) -> io::Result<()> {
    let disk = rustix::fs::fstatvfs(fd(file))?;
    let (free, all) = (disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize);
    match more.saturating_add(reserve(all)) <= free {
        true => Ok(()),
        false => Err(rustix::io::Errno::NOSPC.into()),
    }
}

fn capacity(path: &Path) -> io::Result<Capacity> {
    let disk = rustix::fs::statvfs(path)?;
    Ok(Capacity { total_bytes: disk.f_blocks * disk.f_frsize, usable_bytes: disk.f_bavail * disk.f_frsize })
}

/// Zeroes are written this many bytes at a time, from one place: to fill a buffer takes longer than to write a small step.
static ZEROES: LazyLock<Bytes> = LazyLock::new(|| {
    let mut zeroes = aligned(1 << 20);
    zeroes.resize(1 << 20, 0);
    zeroes.freeze()
});

fn list(path: &Path) -> io::Result<Vec<DirEntry>> {
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        // A name that is not text is none of ours; it is shown with its odd characters replaced.
        let name = entry.file_name().to_string_lossy().into_owned();
        entries.push(DirEntry { name, is_dir: meta.is_dir(), len: meta.len() });
    }
    entries.sort();
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::DirId;

    #[test]
    fn a_directory_tells_the_size_of_its_file_system() {
        let dir = tempfile::tempdir().unwrap();
        let found = capacity(dir.path()).unwrap();
        assert!(found.total_bytes > 0 && found.usable_bytes <= found.total_bytes, "{found:?}");
        assert!(capacity(&dir.path().join("missing")).is_err());
    }

    #[test]
    fn what_has_just_been_written_is_read_at_once_and_ends_with_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, (0..=255).collect::<Vec<u8>>()).unwrap();
        let fd = open(&path, flags(FileMode::Cached), FileMode::Cached, false).unwrap();
        let (file, _) = opened(fd, DirId(0), FileMode::Cached).unwrap();
        for (pos, len, expected) in
            [(0, 256, 0..256), (10, 20, 10..30), (250, 100, 250..256), (256, 10, 0..0)]
        {
            let expected: Vec<u8> = expected.map(|byte: u32| byte as u8).collect();
            // A file system that cannot tell leaves it to the helper threads.
            if let Some(bytes) = read_resident(&file, pos, len) {
                assert_eq!(&bytes[..], expected, "{len} bytes at {pos}");
            }
        }
    }
}

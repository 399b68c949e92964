//! The kernel's side of a file system of one file, over /dev/fuse (linux/fuse.h): requests are cut, answers are laid out.

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::collections::VecDeque;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};

/// A mounted file and the requests that came for it.
pub(crate) struct Session {
    device: File,
    mounted_on: PathBuf,
    buffer: Vec<u8>,
    waiting: VecDeque<Request>,
}

/// What the kernel asks for.
pub(crate) struct Request {
    unique: u64,
    pub(crate) ask: Ask,
    /// The position of the record up to which everything had been answered when this was asked for, or a little later one.
    pub(crate) answered: u64,
}

/// The requests that a disk has an answer to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    Init,
    Attributes,
    Open,
    Read {
        at: u64,
        len: usize,
    },
    Write {
        at: u64,
        bytes: Vec<u8>,
    },
    Flush,
    Zero {
        at: u64,
        len: usize,
    },
    Size,
    /// What is done by saying so.
    Nothing,
    /// What gets no answer.
    Forget,
    Unknown,
}

impl Session {
    /// Mounts a file of this size on a file that exists.
    pub(crate) fn mount(on: &Path) -> io::Result<Self> {
        let device = File::options().read(true).write(true).open("/dev/fuse")?;
        let data = format!("fd={},rootmode=100600,user_id=0,group_id=0", device.as_raw_fd());
        let data = CString::new(data).expect("no zero byte in it");
        mount("recorder", on, "fuse", MountFlags::NOSUID | MountFlags::NODEV, data.as_c_str())?;
        fcntl_setfl(&device, fcntl_getfl(&device)? | OFlags::NONBLOCK)?;
        Ok(Self {
            device,
            mounted_on: on.to_owned(),
            buffer: vec![0; MAX_WRITE + 4096],
            waiting: VecDeque::new(),
        })
    }

    /// Takes over all requests that have come; `answered` is the end of what was answered up to now.
    pub(crate) fn take_all(&mut self, answered: u64) -> io::Result<()> {
        loop {
            let size = match self.device.read(&mut self.buffer) {
                Ok(size) => size,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                // A request that was taken back before it was read.
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::Interrupted) =>
                {
                    continue;
                }
                Err(error) => return Err(error),
            };
            let bytes = &self.buffer[..size];
            let (unique, ask) = (u64_at(bytes, 8), ask(u32_at(bytes, 4), &bytes[IN_HEADER..]));
            self.waiting.push_back(Request { unique, ask, answered });
        }
    }

    /// The request that came first.
    pub(crate) fn next(&mut self) -> Option<Request> {
        self.waiting.pop_front()
    }

    /// Answers a request.
    pub(crate) fn answer(&mut self, request: &Request, answer: Answer) -> io::Result<()> {
        let (error, body) = match answer {
            Answer::Is(body) => (0, body),
            Answer::Unknown => (-rustix::io::Errno::NOSYS.raw_os_error(), Vec::new()),
        };
        let len = (OUT_HEADER + body.len()) as u32;
        let mut reply = Vec::with_capacity(len as usize);
        reply.extend(len.to_le_bytes());
        reply.extend(error.to_le_bytes());
        reply.extend(request.unique.to_le_bytes());
        reply.extend(body);
        match self.device.write(&reply) {
            // Who asked is gone.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map(drop),
        }
    }
}

impl AsFd for Session {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Where somebody unmounted it already there is nothing to do.
        _ = unmount(&self.mounted_on, UnmountFlags::DETACH);
    }
}

/// What the kernel is told.
pub(crate) enum Answer {
    Is(Vec<u8>),
    Unknown,
}

impl Answer {
    pub(crate) fn done() -> Self {
        Self::Is(Vec::new())
    }

    /// fuse_init_out: what this file system can do.
    pub(crate) fn init() -> Self {
        let flags: u32 = ASYNC_READ | BIG_WRITES | ASYNC_DIO | MAX_PAGES;
        let (background, pages) = (64u16, (MAX_WRITE / 4096) as u16);
        let mut body = words(&[7, 31, 0, flags]);
        body.extend(background.to_le_bytes());
        body.extend(background.to_le_bytes());
        body.extend((MAX_WRITE as u32).to_le_bytes());
        body.extend(1u32.to_le_bytes());
        body.extend(pages.to_le_bytes());
        body.resize(64, 0);
        Self::Is(body)
    }

    /// fuse_attr_out: a file of this size, for good.
    pub(crate) fn attributes(size: u64) -> Self {
        let mut body = longs(&[u64::from(u32::MAX), 0, 1, size, size / 512, 0, 0, 0]);
        body.extend(words(&[0, 0, 0, 0o100_600, 1, 0, 0, 0, 4096, 0]));
        Self::Is(body)
    }

    /// fuse_open_out: nothing of it is kept in the page cache, and writes need not wait for each other.
    pub(crate) fn open() -> Self {
        Self::Is([longs(&[0]), words(&[DIRECT_IO | PARALLEL_DIRECT_WRITES, 0])].concat())
    }

    /// fuse_write_out.
    pub(crate) fn written(len: usize) -> Self {
        Self::Is(words(&[len as u32, 0]))
    }

    /// fuse_statfs_out; the block size is what the loop device aligns discarded ranges to.
    pub(crate) fn size(size: u64) -> Self {
        let mut body = longs(&[size / 4096, 0, 0, 1, 0]);
        body.extend(words(&[4096, 255, 4096]));
        body.resize(80, 0);
        Self::Is(body)
    }
}

fn ask(opcode: u32, body: &[u8]) -> Ask {
    match opcode {
        2 | 36 | 42 => Ask::Forget,
        3 | 4 => Ask::Attributes,
        14 => Ask::Open,
        15 => Ask::Read { at: u64_at(body, 8), len: u32_at(body, 16) as usize },
        16 => {
            let len = u32_at(body, 16) as usize;
            Ask::Write { at: u64_at(body, 8), bytes: body[40..40 + len].to_vec() }
        }
        17 => Ask::Size,
        18 | 25 | 38 => Ask::Nothing,
        20 => Ask::Flush,
        26 => Ask::Init,
        43 if matches!(u32_at(body, 24), PUNCH_HOLE | ZERO_RANGE) => {
            Ask::Zero { at: u64_at(body, 8), len: u64_at(body, 16) as usize }
        }
        _ => Ask::Unknown,
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn longs(longs: &[u64]) -> Vec<u8> {
    longs.iter().flat_map(|long| long.to_le_bytes()).collect()
}

const IN_HEADER: usize = 40;
const OUT_HEADER: usize = 16;
/// The most that one request writes.
const MAX_WRITE: usize = 1 << 20;
// Flags of FUSE_INIT.
const ASYNC_READ: u32 = 1 << 0;
const BIG_WRITES: u32 = 1 << 5;
const ASYNC_DIO: u32 = 1 << 15;
const MAX_PAGES: u32 = 1 << 22;
// Flags of FUSE_OPEN.
const DIRECT_IO: u32 = 1 << 0;
const PARALLEL_DIRECT_WRITES: u32 = 1 << 6;
// Modes of FUSE_FALLOCATE, both with FALLOC_FL_KEEP_SIZE: what a loop device makes of discards and of zeroes to write.
const PUNCH_HOLE: u32 = 0x02 | 0x01;
const ZERO_RANGE: u32 = 0x10 | 0x01;

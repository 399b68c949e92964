//! Reads to a socket, of pages in memory and of pages that are not: sendfile, direct read and send, pread and send.

use super::meter::{Variant, table};
use super::ring::Ring;
use super::writes::bytes_of::block_bytes;
use super::writes::written;
use rustix::fs::{Advice, Mode, OFlags, fadvise};
use std::cell::RefCell;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;

const LEN: u64 = 128 << 20;
const PIECE: usize = 1 << 20;

pub(crate) fn run(dir: &Path) {
    let path = dir.join("reads");
    drop(written(&path, LEN, OFlags::empty()));
    let cached = File::open(&path).expect("open");
    let direct = rustix::fs::open(&path, OFlags::RDONLY | OFlags::DIRECT, Mode::empty()).expect("open");
    let direct = File::from(direct);
    let socket = RefCell::new(drained_socket());
    let buffer = RefCell::new(block_bytes(PIECE));
    let ring = RefCell::new(Ring::new());
    let each = |piece: &dyn Fn(u64)| (0..LEN).step_by(PIECE).for_each(piece);
    let sendfile = || {
        each(&|start| {
            let (mut pos, end) = (start, start + PIECE as u64);
            while pos < end {
                let want = usize::try_from(end - pos).expect("a piece");
                rustix::fs::sendfile(&*socket.borrow(), &cached, Some(&mut pos), want).expect("sendfile");
            }
        });
    };
    let pread = || {
        each(&|pos| {
            let mut buffer = buffer.borrow_mut();
            rustix::io::pread(&cached, &mut buffer[..], pos).expect("read");
            socket.borrow_mut().write_all(&buffer).expect("send");
        });
    };
    let by_ring = || {
        each(&|pos| {
            let mut buffer = buffer.borrow_mut();
            ring.borrow_mut().read(&direct, &mut buffer, pos);
            socket.borrow_mut().write_all(&buffer).expect("send");
        });
    };
    let ways: [(&str, &dyn Fn()); 3] =
        [("sendfile", &sendfile), ("pread and send", &pread), ("direct read by ring, and send", &by_ring)];
    for (cold, title) in [(false, "in memory"), (true, "not in memory")] {
        let mut variants: Vec<Variant<'_>> = ways
            .iter()
            .map(|(name, work)| Variant {
                name: (*name).into(),
                operations: LEN as usize / PIECE,
                bytes: LEN,
                prepare: Box::new(|| {
                    if cold {
                        fadvise(&cached, 0, None, Advice::DontNeed).expect("forget");
                    } else {
                        let mut pages = &cached;
                        std::io::Seek::seek(&mut pages, std::io::SeekFrom::Start(0)).expect("seek");
                        std::io::copy(&mut pages.take(LEN), &mut std::io::sink()).expect("read");
                    }
                }),
                work: Box::new(work),
            })
            .collect();
        table(
            dir,
            &format!("### Reads of 1 MiB to a socket, {title} (the reader's CPU included)"),
            &mut variants,
        );
    }
}

/// A connection on loopback whose other end reads everything.
fn drained_socket() -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let socket = TcpStream::connect(listener.local_addr().expect("an address")).expect("connect");
    let (mut reader, _) = listener.accept().expect("accept");
    std::thread::spawn(move || {
        let mut scratch = vec![0; PIECE];
        while reader.read(&mut scratch).is_ok_and(|count| count > 0) {}
    });
    socket
}

//! Reads to a socket, of pages in memory and of pages that are not: sendfile, direct read and send, pread and send.

use super::Table;
use super::blocks::{block_bytes, forget, written};
use super::meter::{Amount, Way, pin, table};
use super::ring::Ring;
use rustix::fs::{Mode, OFlags};
use rustix::net::{RecvFlags, recv};
use std::cell::RefCell;
use std::fs::File;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

const LEN: u64 = 128 << 20;

pub(crate) fn tables() -> Vec<Table> {
    let of = |kib: usize, cold: bool| -> Table {
        let name = format!("reads-{}-{kib}k", if cold { "cold" } else { "warm" });
        (name, Box::new(move |dir: &Path| run(dir, kib << 10, cold)))
    };
    vec![of(16, false), of(64, false), of(1024, false), of(64, true), of(1024, true)]
}

fn run(dir: &Path, piece: usize, cold: bool) {
    let path = dir.join("reads");
    let cached = written(&path, LEN, OFlags::empty());
    let direct = rustix::fs::open(&path, OFlags::RDONLY | OFlags::DIRECT, Mode::empty()).expect("open");
    let direct = File::from(direct);
    let socket = drained_socket();
    let buffer = RefCell::new(block_bytes(piece));
    let ring = RefCell::new(Ring::new());
    let helper = Helper::start(&cached);

    let each = |piece_at: &dyn Fn(u64)| (0..LEN).step_by(piece).for_each(piece_at);
    let sendfile = |start: u64| {
        let (mut pos, end) = (start, start + piece as u64);
        while pos < end {
            let want = usize::try_from(end - pos).expect("a piece");
            rustix::fs::sendfile(&socket, &cached, Some(&mut pos), want).expect("sendfile");
        }
    };
    let send = |bytes: &[u8]| (&socket).write_all(bytes).expect("send");
    let pread = |pos: u64| {
        let mut buffer = buffer.borrow_mut();
        let count = rustix::io::pread(&cached, &mut buffer[..], pos).expect("read");
        assert_eq!(count, piece);
        send(&buffer);
    };
    let direct_read = |pos: u64| {
        let mut buffer = buffer.borrow_mut();
        ring.borrow_mut().read(&direct, &mut buffer, pos);
        send(&buffer);
    };
    let prepare = || if cold { forget(&cached) } else { helper.fetch(0, LEN as usize) };
    let mut ways = vec![
        Way::new("sendfile", || each(&sendfile)).after(prepare),
        Way::new("pread, send", || each(&pread)).after(prepare),
        Way::new("direct read by ring, send", || each(&direct_read)).after(prepare),
    ];
    if cold {
        let fetch_and_send = |pos| {
            helper.fetch(pos, piece);
            sendfile(pos);
        };
        ways.push(Way::new("helper reads ahead, sendfile", move || each(&fetch_and_send)).after(prepare));
    }
    let state = if cold { "not in memory" } else { "in memory" };
    table(
        dir,
        &format!("Reads of {} KiB to a socket, {state}", piece >> 10),
        Amount { operations: LEN as usize / piece, bytes: LEN },
        &ways,
    );
}

/// A connection on loopback whose other end takes everything, on another core, and throws it away without copying it, as cheaply
/// for the machine as a network card.
fn drained_socket() -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let socket = TcpStream::connect(listener.local_addr().expect("an address")).expect("connect");
    let (reader, _) = listener.accept().expect("accept");
    std::thread::spawn(move || {
        pin(1);
        let mut scratch = vec![0; 1 << 20];
        while recv(&reader, &mut scratch[..], RecvFlags::TRUNC).is_ok_and(|(_, count)| count > 0) {}
    });
    socket
}

/// A thread that brings a range of a file into memory when asked, on another core, as the engine's helpers do.
struct Helper {
    ask: SyncSender<(u64, usize)>,
    done: Receiver<()>,
}

impl Helper {
    fn start(file: &File) -> Self {
        let file = file.try_clone().expect("clone a descriptor");
        let (ask, asked) = sync_channel::<(u64, usize)>(1);
        let (tell, done) = sync_channel(1);
        std::thread::spawn(move || {
            pin(1);
            let mut scratch = vec![0; 256 << 10];
            for (start, len) in asked {
                for pos in (start..start + len as u64).step_by(scratch.len()) {
                    let want = scratch.len().min(len);
                    rustix::io::pread(&file, &mut scratch[..want], pos).expect("read");
                }
                tell.send(()).expect("somebody waits");
            }
        });
        Self { ask, done }
    }

    fn fetch(&self, pos: u64, len: usize) {
        self.ask.send((pos, len)).expect("the helper lives");
        self.done.recv().expect("the helper lives");
    }
}

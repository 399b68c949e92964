//! A short question and a long answer over loopback, from one core to another: what a fetch costs who answers it, and what of that is waking
//! who asked.

use super::Table;
use super::meter::{Amount, Way, pin, table};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;

const QUESTION: usize = 100;
const EXCHANGES: usize = 1000;

pub(crate) fn tables() -> Vec<Table> {
    let of = |kib: usize| -> Table {
        (format!("exchanges-{kib}k"), Box::new(move |dir: &Path| run(dir, kib << 10)))
    };
    vec![of(16), of(1024)]
}

fn run(dir: &Path, len: usize) {
    let answer = vec![7; len];
    let exchange = |socket: &TcpStream| {
        let (mut socket, mut question) = (socket, [0; QUESTION]);
        for _ in 0..EXCHANGES {
            socket.read_exact(&mut question).expect("a question");
            socket.write_all(&answer).expect("answer");
        }
    };
    let (alone, ahead) = (asking_socket(len, 1), asking_socket(len, 8));
    table(
        dir,
        &format!("An answer of {} KiB to a question of {QUESTION} B, on the core of who answers", len >> 10),
        Amount { operations: EXCHANGES, bytes: (EXCHANGES * len) as u64 },
        &[
            Way::new("one at a time: who asks sleeps", || exchange(&alone)),
            Way::new("eight in flight: who asks is awake", || exchange(&ahead)),
        ],
    );
}

/// A connection on loopback whose other end, on another core, asks and takes the answers, with so many of its questions unanswered.
fn asking_socket(len: usize, in_flight: usize) -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let socket = TcpStream::connect(listener.local_addr().expect("an address")).expect("connect");
    let (mut asking, _) = listener.accept().expect("accept");
    for socket in [&socket, &asking] {
        socket.set_nodelay(true).expect("set an option");
    }
    std::thread::spawn(move || {
        pin(1);
        let mut answer = vec![0; len];
        let mut asked = asking.write_all(&[1; QUESTION].repeat(in_flight));
        while asked.is_ok() && asking.read_exact(&mut answer).is_ok() {
            asked = asking.write_all(&[1; QUESTION]);
        }
    });
    socket
}

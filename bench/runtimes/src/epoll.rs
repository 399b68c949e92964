//! On epoll, with writes and syncs that the thread waits for.

use crate::work::{self, ANSWER, BLOCK, CONNECTIONS, Frames, Places, RECEIVE, REQUEST, Work};
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{FileExt, OpenOptionsExt};

struct Connection {
    stream: TcpStream,
    file: File,
    frames: Frames,
    places: Places,
}

pub(crate) fn serve(work: Work) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    println!("{}", listener.local_addr().expect("it listens"));
    let ready = epoll::create(CreateFlags::CLOEXEC).expect("epoll");
    let mut connections: Vec<Connection> = (0..CONNECTIONS)
        .map(|connection| {
            let (stream, _) = listener.accept().expect("a connection");
            stream.set_nodelay(true).expect("a TCP socket");
            stream.set_nonblocking(true).expect("a socket");
            epoll::add(&ready, &stream, EventData::new_u64(connection as u64), EventFlags::IN)
                .expect("epoll takes it");
            let direct = rustix::fs::OFlags::DIRECT.bits() as i32;
            let file =
                OpenOptions::new().write(true).custom_flags(direct).open(work::file(&work.dir, connection));
            Connection {
                stream,
                file: file.expect("its file"),
                frames: Frames::default(),
                places: Places::new(),
            }
        })
        .collect();
    let mut memory = vec![0; REQUEST + BLOCK];
    let begin = memory.as_ptr().addr().wrapping_neg() % BLOCK;
    let block = &mut memory[begin..begin + REQUEST];
    let mut bytes = vec![0; RECEIVE];
    let mut events: [Event; CONNECTIONS] =
        [Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; CONNECTIONS];
    loop {
        let came = epoll::wait(&ready, &mut events, None).expect("epoll waits");
        for event in &events[..came] {
            let Connection { stream, file, frames, places } = &mut connections[event.data.u64() as usize];
            let Ok(came @ 1..) = stream.read(&mut bytes) else { return };
            frames.came(&bytes[..came], |request| {
                block.copy_from_slice(request);
                file.write_all_at(block, places.next()).expect("a write");
                if work.sync {
                    file.sync_data().expect("a sync");
                }
                let _ = stream.write_all(&ANSWER);
            });
        }
    }
}

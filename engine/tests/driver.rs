//! The contract of the Driver seam, held against every Driver of a real machine.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use bytes::{Bytes, BytesMut};
use ringlog_engine::io::buf::{BLOCK, aligned};
use ringlog_engine::io::host::{Host, IoChoice};
use ringlog_engine::io::sim::Sim;
use ringlog_engine::io::{DirId, FileMode, Io, Listener, Op, Socket, Space, SyncItem, small_file};
use ringlog_engine::shard::{Executor, Shard, ShardId};
use std::future::Future;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};

const DIR: DirId = DirId(0);

/// Runs a test on each Driver, in a directory of its own.
fn check<F: Future<Output = ()> + 'static>(test: impl Fn(Shard, PathBuf) -> F) {
    for choice in [IoChoice::Uring, IoChoice::Poll] {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::open(&[dir.path().to_owned()], choice).unwrap();
        let mut executor = Executor::new(ShardId(0), host.driver().unwrap());
        let shard = executor.shard().clone();
        executor.block_on(test(shard.clone(), dir.path().to_owned()));
        assert_eq!(shard.io().pending(), 0, "{choice:?} leaves nothing behind");
        assert_eq!(shard.io().counters().punts, 0, "{choice:?} punts nothing");
    }
}

/// Runs a test that needs nothing but files on the simulator as well, in worlds of many seeds.
fn check_simulated_too<F: Future<Output = ()> + 'static>(test: impl Fn(Shard, PathBuf) -> F) {
    check(&test);
    for seed in 0..100 {
        let mut sim = Sim::new(seed);
        let machine = sim.add_machine();
        sim.add_disk(machine, DIR, "/data");
        let mut executor = Executor::new(ShardId(0), sim.driver(machine));
        let shard = executor.shard().clone();
        executor.block_on(test(shard.clone(), PathBuf::from("/data")));
        assert_eq!(shard.io().pending(), 0, "seed {seed} leaves nothing behind");
    }
}

fn block(fill: u8, blocks: usize) -> Bytes {
    let mut buffer = aligned(blocks * BLOCK);
    buffer.resize(blocks * BLOCK, fill);
    buffer.freeze()
}

async fn listen(io: &Io) -> (Listener, SocketAddr) {
    io.listen("127.0.0.1:0".parse().unwrap()).unwrap()
}

/// A connected pair: the Driver's end, and a plain blocking one.
async fn connect(io: &Io) -> (Socket, TcpStream) {
    let (listener, address) = listen(io).await;
    let mut accepts = io.accept(listener.clone());
    let client = TcpStream::connect(address).unwrap();
    let (socket, peer) = accepts.next().await.into_accepted().unwrap();
    assert_eq!(peer, client.local_addr().unwrap());
    end(&mut accepts).await;
    io.close_socket(listener.0).await.unwrap();
    (socket, client)
}

/// Cancels an operation and takes what still comes.
async fn end(stream: &mut ringlog_engine::io::Stream) {
    stream.cancel();
    while !stream.ended() {
        stream.next().await;
    }
}

#[test]
fn blocks_are_written_and_read_back_in_both_kinds_of_space() {
    check_simulated_too(|shard, dir| async move {
        let io = shard.io();
        for space in [Space::Allocated, Space::Written] {
            let file = io.create(DIR, dir.join(format!("{space:?}")), FileMode::Blocks).await.unwrap();
            io.prepare(file.clone(), 0, 16 * BLOCK as u64, space).await.unwrap();
            for at in 0..8 {
                let written =
                    io.write(file.clone(), at * BLOCK as u64, block(at as u8 + 1, 1)).await.unwrap();
                assert_eq!(written, BLOCK as u64);
            }
            let (bytes, more) = (block(9, 1), vec![block(10, 2), block(12, 1)]);
            let write = Op::Write { file: file.clone(), pos: 8 * BLOCK as u64, bytes, more };
            assert_eq!(io.start(write).next().await.into_count().unwrap(), 4 * BLOCK as u64);
            io.sync(vec![SyncItem { file: file.clone(), space }]).await.unwrap();
            let bytes = io.read(file.clone(), 0, 16 * BLOCK).await.unwrap();
            for (at, block) in bytes.chunks(BLOCK).enumerate() {
                let fill = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 10, 12, 0, 0, 0, 0][at];
                assert!(block.iter().all(|byte| *byte == fill), "block {at}");
            }
            io.truncate(file.clone(), 3 * BLOCK as u64).await.unwrap();
            let bytes = io.read(file.clone(), 2 * BLOCK as u64, 4 * BLOCK).await.unwrap();
            assert_eq!(bytes.len(), BLOCK, "a read ends with the file");
            io.close(file).await.unwrap();
        }
    });
}

#[test]
fn names_and_directories_do_as_told() {
    check_simulated_too(|shard, dir| async move {
        let io = shard.io();
        let folder = dir.join("a/b");
        io.make_dir(DIR, folder.clone()).await.unwrap();
        io.make_dir(DIR, folder.clone()).await.unwrap();
        let file = io.create(DIR, folder.join("x"), FileMode::CachedWrite).await.unwrap();
        let again = io.create(DIR, folder.join("x"), FileMode::CachedWrite).await;
        assert_eq!(again.unwrap_err().kind(), ErrorKind::AlreadyExists);
        io.write(file.clone(), 0, Bytes::from_static(b"hello")).await.unwrap();
        io.sync_file(file.clone()).await.unwrap();
        io.rename(DIR, folder.join("x"), folder.join("y")).await.unwrap();
        io.sync_dir(DIR, folder.clone()).await.unwrap();
        let names: Vec<_> =
            io.list(DIR, folder.clone()).await.unwrap().into_iter().map(|e| (e.name, e.len)).collect();
        assert_eq!(names, [("y".to_owned(), 5)]);
        let missing = io.open(DIR, folder.join("x"), FileMode::Cached).await;
        assert_eq!(missing.unwrap_err().kind(), ErrorKind::NotFound);
        io.close(file).await.unwrap();
        io.unlink(DIR, folder.join("y")).await.unwrap();
        io.remove_dir(DIR, folder.clone()).await.unwrap();
        assert_eq!(io.list(DIR, folder).await.unwrap_err().kind(), ErrorKind::NotFound);
    });
}

#[test]
fn small_files_are_replaced_whole() {
    check_simulated_too(|shard, dir| async move {
        let io = shard.io();
        let path = dir.join("small");
        assert_eq!(small_file::read(io, DIR, &path, 10).await.unwrap(), None);
        for content in ["one", "twotwo", ""] {
            small_file::replace(io, DIR, &path, Bytes::from(content)).await.unwrap();
            assert_eq!(small_file::read(io, DIR, &path, 10).await.unwrap().unwrap(), content);
        }
        small_file::replace(io, DIR, &path, Bytes::from(vec![0; 11])).await.unwrap();
        assert_eq!(small_file::read(io, DIR, &path, 10).await.unwrap_err().kind(), ErrorKind::FileTooLarge);
    });
}

#[test]
fn bytes_go_both_ways_and_the_end_of_stream_is_told() {
    check(|shard, _| async move {
        let io = shard.io();
        let (socket, mut client) = connect(io).await;
        client.write_all(b"hello").unwrap();
        assert_eq!(io.recv(socket.clone()).await.unwrap(), "hello");
        let parts = vec![Bytes::from_static(b"a"), Bytes::new(), Bytes::from_static(b"bc")];
        assert_eq!(io.send(socket.clone(), parts).await.unwrap(), 3);
        let mut reply = [0; 3];
        client.read_exact(&mut reply).unwrap();
        assert_eq!(&reply, b"abc");
        client.write_all(b"little more").unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let little = io.start(Op::Recv { socket: socket.clone(), bytes_max: 7 }).next().await;
        assert_eq!(little.into_bytes().unwrap(), "little ");
        assert_eq!(io.recv(socket.clone()).await.unwrap(), "more");
        assert_eq!(io.recv(socket.clone()).await.unwrap(), "");
        io.close_socket(socket).await.unwrap();
        assert_eq!(client.read(&mut reply).unwrap(), 0);
    });
}

#[test]
fn a_peer_is_seen_to_go_before_what_it_sent_is_received() {
    check(|shard, _| async move {
        let io = shard.io();
        let (socket, mut client) = connect(io).await;
        let mut unseen = io.start(Op::HangUp { socket: socket.clone() });
        unseen.cancel();
        assert_eq!(unseen.next().await.into_count().unwrap_err().kind(), ErrorKind::Interrupted);
        let mut hang_up = io.start(Op::HangUp { socket: socket.clone() });
        client.write_all(b"the last").unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(hang_up.next().await.into_count().unwrap(), 0);
        assert_eq!(io.unread(&socket), 8);
        assert_eq!(io.recv(socket.clone()).await.unwrap(), "the last");
        // Who asks later is told as well.
        let mut hang_up = io.start(Op::HangUp { socket: socket.clone() });
        assert_eq!(hang_up.next().await.into_count().unwrap(), 0);
        assert_eq!(io.unread(&socket), 0);
        io.close_socket(socket).await.unwrap();
    });
}

#[test]
fn a_large_body_is_received_whole_and_a_cancelled_receive_loses_nothing() {
    check(|shard, _| async move {
        let io = shard.io();
        let (socket, mut client) = connect(io).await;
        let body: Vec<u8> = (0..3_000_000_u32).map(|n| n as u8).collect();
        let sent = body.clone();
        let sender = std::thread::spawn(move || {
            client.write_all(&sent).unwrap();
            client
        });
        let mut head = io.recv(socket.clone()).await.unwrap().to_vec();
        let mut receive = io.start(Op::Recv { socket: socket.clone(), bytes_max: usize::MAX });
        receive.cancel();
        match receive.next().await.into_bytes() {
            Ok(bytes) => head.extend_from_slice(&bytes),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Interrupted),
        }
        assert!(receive.ended());
        let rest = body.len() - head.len();
        let received = io.recv_exact(socket.clone(), BytesMut::from(&head[..]), rest).await.unwrap();
        assert!(received == body);
        let nothing = io.recv_exact(socket.clone(), BytesMut::from("all"), 0).await.unwrap();
        assert_eq!(nothing, "all", "what is there already is not waited for");
        let client = sender.join().unwrap();
        drop(client);
        assert_eq!(io.recv_exact(socket.clone(), BytesMut::new(), 5).await.unwrap(), "");
        io.close_socket(socket).await.unwrap();
    });
}

#[test]
fn a_slow_reader_gets_every_byte_of_a_large_send() {
    check(|shard, _| async move {
        let io = shard.io();
        let (socket, mut client) = connect(io).await;
        let parts: Vec<Bytes> = (0..1000_u32).map(|n| Bytes::from(vec![n as u8; 9_001])).collect();
        let expected: Vec<u8> = parts.concat();
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            client.read_to_end(&mut all).unwrap();
            all
        });
        assert_eq!(io.send(socket.clone(), parts).await.unwrap(), expected.len() as u64);
        io.close_socket(socket).await.unwrap();
        assert!(reader.join().unwrap() == expected);
    });
}

#[test]
fn a_file_is_sent_without_the_shard_waiting_for_disk_or_peer() {
    check(|shard, dir| async move {
        let io = shard.io();
        let content: Vec<u8> = (0..5_000_000_u32).map(|n| (n >> 8) as u8).collect();
        let path = dir.join("file");
        std::fs::write(&path, &content).unwrap();
        let (file, len) = io.open(DIR, path.clone(), FileMode::Cached).await.unwrap();
        assert_eq!(len, content.len() as u64);
        for cold in [false, true] {
            if cold {
                forget(&path);
            }
            let (socket, mut client) = connect(io).await;
            let reader = std::thread::spawn(move || {
                let mut all = Vec::new();
                client.read_to_end(&mut all).unwrap();
                all
            });
            let sent = io.send_file(socket.clone(), file.clone(), 1000, len - 1000).await.unwrap();
            assert_eq!(sent, len - 1000);
            io.close_socket(socket).await.unwrap();
            assert!(reader.join().unwrap() == content[1000..]);
        }
        io.close(file).await.unwrap();
    });
}

/// A megabyte to one client takes as long as many small requests: these have their turns meanwhile.
#[test]
fn a_long_send_leaves_the_shard_its_turns() {
    check(|shard, dir| async move {
        let io = shard.io();
        let content = vec![7; 1 << 20];
        let path = dir.join("file");
        std::fs::write(&path, &content).unwrap();
        let (file, len) = io.open(DIR, path, FileMode::Cached).await.unwrap();
        let (socket, mut client) = connect(io).await;
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            client.read_to_end(&mut all).unwrap();
            all
        });
        let before = io.counters().turns;
        assert_eq!(io.send_file(socket.clone(), file.clone(), 0, len).await.unwrap(), len);
        let turns = io.counters().turns - before;
        // Sixteen times 64 KiB: never more than two of them in a turn.
        assert!(turns >= 7, "{turns} turns");
        io.close_socket(socket).await.unwrap();
        assert!(reader.join().unwrap() == content);
        io.close(file).await.unwrap();
    });
}

/// Takes a file out of the page cache.
fn forget(path: &Path) {
    let file = std::fs::File::open(path).unwrap();
    file.sync_all().unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
}

#[test]
fn held_receive_buffers_starve_nobody_for_good() {
    check(|shard, _| async move {
        let io = shard.io();
        let (socket, mut client) = connect(io).await;
        let total = 64 << 20;
        let sender = std::thread::spawn(move || {
            let chunk: Vec<u8> = (0..=255).cycle().take(1 << 16).collect();
            for _ in 0..total / chunk.len() {
                client.write_all(&chunk).unwrap();
            }
        });
        let (mut held, mut received) = (Vec::new(), 0);
        while received < total {
            let bytes = io.recv(socket.clone()).await.unwrap();
            assert!(!bytes.is_empty());
            for (at, byte) in bytes.iter().enumerate().step_by(997) {
                assert_eq!(*byte, ((received + at) % 256) as u8);
            }
            received += bytes.len();
            held.push(bytes);
            // Most of what a ring of buffers holds, then all at once, from another thread.
            if held.len() == 100 {
                let held = std::mem::take(&mut held);
                std::thread::spawn(move || drop(held));
            }
        }
        sender.join().unwrap();
        io.close_socket(socket).await.unwrap();
    });
}

#[test]
fn a_thousand_connections_are_served() {
    check(|shard, _| async move {
        let io = shard.io().clone();
        let (listener, address) = listen(&io).await;
        let clients = std::thread::spawn(move || {
            let mut clients: Vec<_> = (0..1000).map(|_| TcpStream::connect(address).unwrap()).collect();
            for (number, client) in clients.iter_mut().enumerate() {
                client.write_all(&(number as u32).to_be_bytes()).unwrap();
            }
            for (number, client) in clients.iter_mut().enumerate() {
                let mut echo = [0; 4];
                client.read_exact(&mut echo).unwrap();
                assert_eq!(u32::from_be_bytes(echo), number as u32);
            }
        });
        let mut accepts = io.accept(listener.clone());
        let done = ringlog_engine::shard::sync::Watch::new(0);
        for _ in 0..1000 {
            let (socket, _) = accepts.next().await.into_accepted().unwrap();
            let (io, done) = (io.clone(), done.clone());
            shard.spawn(async move {
                loop {
                    let bytes = io.recv(socket.clone()).await.unwrap();
                    if bytes.is_empty() {
                        break;
                    }
                    io.send(socket.clone(), vec![bytes]).await.unwrap();
                }
                io.close_socket(socket).await.unwrap();
                done.set(done.get() + 1);
            });
        }
        done.until(|done| done == 1000).await;
        clients.join().unwrap();
        end(&mut accepts).await;
        io.close_socket(listener.0).await.unwrap();
    });
}

#[test]
fn connections_that_were_reset_before_they_are_accepted_are_passed_over() {
    check(|shard, _| async move {
        let io = shard.io();
        let (listener, address) = listen(io).await;
        for _ in 0..3 {
            let gone = TcpStream::connect(address).unwrap();
            rustix::net::sockopt::set_socket_linger(&gone, Some(std::time::Duration::ZERO)).unwrap();
        }
        let client = TcpStream::connect(address).unwrap();
        let mut accepts = io.accept(listener.clone());
        let (socket, peer) = accepts.next().await.into_accepted().unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
        end(&mut accepts).await;
        io.close_socket(socket).await.unwrap();
        io.close_socket(listener.0).await.unwrap();
    });
}

#[test]
fn a_reset_connection_ends_its_operations() {
    check(|shard, _| async move {
        let io = shard.io();
        let (socket, client) = connect(io).await;
        let mut receive = io.start(Op::Recv { socket: socket.clone(), bytes_max: usize::MAX });
        let mut hang_up = io.start(Op::HangUp { socket: socket.clone() });
        rustix::net::sockopt::set_socket_linger(&client, Some(std::time::Duration::ZERO)).unwrap();
        drop(client);
        assert!(receive.next().await.into_bytes().is_err());
        assert_eq!(hang_up.next().await.into_count().unwrap(), 0);
        assert!(receive.ended() && hang_up.ended());
        assert!(io.send(socket.clone(), vec![Bytes::from_static(b"x")]).await.is_err());
        io.close_socket(socket).await.unwrap();
    });
}

#[test]
fn a_sleeping_shard_is_woken_by_another_thread() {
    check(|shard, _| async move {
        let (sender, receiver) = std::sync::mpsc::channel();
        let waiting = shard.clone();
        let woken = std::rc::Rc::new(std::cell::Cell::new(false));
        let seen = woken.clone();
        shard.spawn(async move {
            std::future::poll_fn(|cx| {
                if seen.replace(true) {
                    return std::task::Poll::Ready(());
                }
                sender.send(cx.waker().clone()).unwrap();
                std::task::Poll::Pending
            })
            .await;
        });
        let thread = std::thread::spawn(move || receiver.recv().unwrap().wake());
        while waiting.task_count() > 1 {
            waiting.sleep(std::time::Duration::from_micros(50)).await;
        }
        thread.join().unwrap();
    });
}

#[test]
fn blocks_are_zeroed_where_they_lie() {
    check_simulated_too(|shard, dir| async move {
        let io = shard.io();
        for space in [Space::Allocated, Space::Written] {
            let file = io.create(DIR, dir.join(format!("{space:?}")), FileMode::Blocks).await.unwrap();
            io.prepare(file.clone(), 0, 4 * BLOCK as u64, space).await.unwrap();
            io.write(file.clone(), 0, block(7, 4)).await.unwrap();
            io.zero(file.clone(), BLOCK as u64, 3 * BLOCK as u64).await.unwrap();
            let fills = async |at: usize| {
                let bytes = io.read(file.clone(), (at * BLOCK) as u64, BLOCK).await.unwrap();
                assert!(bytes.len() == BLOCK && bytes.iter().all(|byte| *byte == bytes[0]), "block {at}");
                bytes[0]
            };
            assert_eq!([fills(0).await, fills(1).await, fills(2).await, fills(3).await], [7, 0, 0, 7]);
            io.write(file.clone(), BLOCK as u64, block(8, 1)).await.unwrap();
            io.sync(vec![SyncItem { file: file.clone(), space: Space::Allocated }]).await.unwrap();
            assert_eq!([fills(1).await, fills(2).await], [8, 0]);
            io.close(file).await.unwrap();
        }
    });
}

#[test]
fn a_future_that_is_dropped_leaves_its_operation_to_end() {
    check_simulated_too(|shard, dir| async move {
        let io = shard.io();
        let file = io.create(DIR, dir.join("x"), FileMode::Blocks).await.unwrap();
        io.prepare(file.clone(), 0, 64 * BLOCK as u64, Space::Allocated).await.unwrap();
        for at in 0..64 {
            let write = io.write(file.clone(), at * BLOCK as u64, block(7, 1));
            let mut write = Box::pin(write);
            std::future::poll_fn(|cx| {
                let _ = write.as_mut().poll(cx);
                std::task::Poll::Ready(())
            })
            .await;
        }
        while io.pending() > 0 {
            shard.yield_now().await;
        }
        let bytes = io.read(file.clone(), 0, 64 * BLOCK).await.unwrap();
        assert!(bytes.iter().all(|byte| *byte == 7));
        io.close(file).await.unwrap();
    });
}

#[test]
fn one_flush_answers_all_who_waited() {
    check(|shard, dir| async move {
        let io = shard.io();
        let file = io.create(DIR, dir.join("x"), FileMode::Blocks).await.unwrap();
        io.prepare(file.clone(), 0, BLOCK as u64, Space::Written).await.unwrap();
        let before = io.counters();
        let done = ringlog_engine::shard::sync::Watch::new(0);
        for _ in 0..100 {
            let (io, file, done) = (io.clone(), file.clone(), done.clone());
            shard.spawn(async move {
                io.sync(vec![SyncItem { file, space: Space::Written }]).await.unwrap();
                done.set(done.get() + 1);
            });
        }
        done.until(|done| done == 100).await;
        let after = io.counters();
        assert_eq!(after.sync_requests - before.sync_requests, 100);
        assert!(after.syncs - before.syncs < 100, "{} flushes", after.syncs - before.syncs);
        io.close(file).await.unwrap();
    });
}

#[test]
fn a_second_owner_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let dirs = [dir.path().to_owned()];
    let _first = Host::open(&dirs, IoChoice::Auto).unwrap();
    assert!(Host::open(&dirs, IoChoice::Auto).is_err());
}

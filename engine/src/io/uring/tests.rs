//! The ring on a real kernel; without io_uring there is nothing to test.

use super::*;
use crate::io::DirId;
use crate::io::host::IoChoice;

fn driver(dir: &std::path::Path) -> Option<UringDriver> {
    UringDriver::try_ring().ok()?;
    let host = Host::open(&[dir.to_owned()], IoChoice::Uring).unwrap();
    Some(UringDriver::new(host).unwrap())
}

fn end(driver: &mut UringDriver, token: Token, op: Op) -> Outcome {
    let mut done = Vec::new();
    driver.submit(token, op);
    loop {
        driver.turn(Wait::Forever, &mut done);
        if let Some(at) = done.iter().position(|completion| completion.token == token) {
            return done.swap_remove(at).outcome;
        }
    }
}

#[test]
fn a_file_that_is_read_while_it_is_closed_does_not_stay_open() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut driver) = driver(dir.path()) else { return };
    let create = Op::Create { dir: DirId(0), path: dir.path().join("file"), mode: FileMode::Blocks };
    let Outcome::Opened(Ok((file, _))) = end(&mut driver, Token(0), create) else { panic!("created") };
    let slots = driver.slots.free.len();
    let read = || Op::Read { file: file.clone(), pos: 0, len: 4096 };
    assert!(end(&mut driver, Token(1), read()).into_bytes().unwrap().is_empty());
    assert_eq!(driver.slots.free.len(), slots - 1);
    end(&mut driver, Token(2), Op::Close { file: file.clone() }).into_count().unwrap();
    // A reader has been going through the file, and goes on.
    assert!(end(&mut driver, Token(3), read()).into_bytes().unwrap().is_empty());
    assert_eq!(driver.slots.free.len(), slots);
}

#[test]
fn a_read_on_its_way_is_of_its_own_file_though_that_is_closed_and_another_opened() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut driver) = driver(dir.path()) else { return };
    let mut file = |token: u64, content: u8| {
        let path = dir.path().join(format!("{token}"));
        std::fs::write(&path, [content; 4096]).unwrap();
        let open = Op::Open { dir: DirId(0), path, mode: FileMode::Blocks };
        let Outcome::Opened(Ok((file, _))) = end(&mut driver, Token(token), open) else { panic!("opened") };
        file
    };
    let (first, second) = (file(0, 1), file(1, 2));
    let read = |file: &File| Op::Read { file: file.clone(), pos: 0, len: 4096 };
    // It has a slot, named by an entry that the kernel has not taken yet.
    driver.submit(Token(2), read(&first));
    driver.submit(Token(3), Op::Close { file: first.clone() });
    driver.submit(Token(4), read(&second));
    let mut done = Vec::new();
    while done.len() < 3 {
        driver.turn(Wait::Forever, &mut done);
    }
    for completion in done.into_iter().filter(|completion| completion.token != Token(3)) {
        let content = completion.outcome.into_bytes().unwrap();
        let own = completion.token.0 as u8 / 2;
        assert!(content.iter().all(|byte| *byte == own), "{:?} is of the other file", completion.token);
    }
}

#[test]
fn nobody_sleeps_before_all_is_handed_over() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut driver) = driver(dir.path()) else { return };
    let (listener, _) = net::listen("127.0.0.1:0".parse().unwrap(), SocketFlags::empty()).unwrap();
    // Nobody connects: none of these ends.
    for token in 0..u64::from(SUBMISSIONS) + 10 {
        driver.submit(Token(token), Op::Accept { listener: listener.clone() });
    }
    assert!(!driver.overflow.is_empty());
    let at = Instant::from_nanos(driver.now().as_nanos() + 10_000_000_000);
    driver.turn(Wait::Until(at), &mut Vec::new());
    assert!(driver.now() < at, "it slept while operations, and its own wakeup, waited to be handed over");
}

/// The kernel does not find a receive that is about to go on, so that one may be told to end and find no buffer then.
#[test]
fn a_receive_that_was_told_to_end_and_finds_no_buffer_has_not_failed() {
    use std::io::Write;
    let dir = tempfile::tempdir().unwrap();
    let Some(mut driver) = driver(dir.path()) else { return };
    let (listener, address) = driver.listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let mut client = std::net::TcpStream::connect(address).unwrap();
    let Outcome::Accepted(Ok((socket, _))) = end(&mut driver, Token(0), Op::Accept { listener }) else {
        panic!("accepted")
    };
    // Every buffer is lent, and stays so.
    let mut held = Vec::new();
    for token in 0..u64::from(super::super::lent::BUFFERS) {
        client.write_all(&[1; 1024]).unwrap();
        held.push(end(
            &mut driver,
            Token(1 + token),
            Op::Recv { socket: socket.clone(), bytes_max: usize::MAX },
        ));
    }
    let last = Token(u64::MAX >> 1);
    driver.submit(last, Op::Recv { socket, bytes_max: usize::MAX });
    driver.ops.iter_mut().flatten().find(|op| op.token == last).unwrap().cancelled = true;
    client.write_all(&[1; 1024]).unwrap();
    let mut done = Vec::new();
    while done.is_empty() {
        driver.turn(Wait::Forever, &mut done);
    }
    let outcome = done.pop().unwrap().outcome;
    assert_eq!(outcome.into_bytes().unwrap_err().kind(), io::ErrorKind::Interrupted);
}

//! Connections of the simulated network.

use crate::io::sim::{ActorId, MachineId, Sim};
use crate::io::{Io, Op, Socket};
use crate::shard::ShardId;
use bytes::{Bytes, BytesMut};
use std::io::ErrorKind;
use std::net::SocketAddr;

/// A server that accepts one connection, and a client connected to it.
struct Pair {
    sim: Sim,
    server: ActorId,
    client: ActorId,
    server_machine: MachineId,
    near: Socket,
    far: Socket,
}

impl Pair {
    fn new(seed: u64) -> Self {
        let mut sim = Sim::new(seed);
        let (server_machine, client_machine) = (sim.add_machine(), sim.add_machine());
        let server = sim.start(server_machine, ShardId(0));
        let client = sim.start(client_machine, ShardId(0));
        let io = sim.shard(server).io().clone();
        let (listener, address) = io.listen(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let near = sim.connect(client_machine, address).unwrap();
        let far = sim.run(server, async move {
            let mut accepting = io.accept(listener);
            let accepted = accepting.next().await.into_accepted().unwrap();
            accepting.cancel();
            assert_eq!(accepting.next().await.into_accepted().unwrap_err().kind(), ErrorKind::Interrupted);
            accepted.0
        });
        Self { sim, server, client, server_machine, near, far }
    }

    fn io(&self, actor: ActorId) -> Io {
        self.sim.shard(actor).io().clone()
    }
}

async fn receive_all(io: Io, socket: Socket) -> std::io::Result<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        let piece = io.recv(socket.clone()).await?;
        if piece.is_empty() {
            return Ok(all);
        }
        all.extend_from_slice(&piece);
    }
}

fn pattern(len: usize) -> Bytes {
    (0..len).map(|index| (index * 7 % 251) as u8).collect()
}

#[test]
fn bytes_arrive_in_order_however_they_are_cut() {
    for seed in 0..50 {
        let mut pair = Pair::new(seed);
        let bytes = pattern(700_000);
        let (io, near, sent) = (pair.io(pair.client), pair.near.clone(), bytes.clone());
        pair.sim.shard(pair.client).spawn(async move {
            let parts = vec![sent.slice(..10), sent.slice(10..10), sent.slice(10..)];
            assert_eq!(io.send(near.clone(), parts).await.unwrap(), 700_000);
            io.close_socket(near).await.unwrap();
        });
        let receiving = receive_all(pair.io(pair.server), pair.far.clone());
        assert!(pair.sim.run(pair.server, receiving).unwrap() == bytes);
    }
}

#[test]
fn an_exact_receive_begins_with_its_head_and_ends_short_only_at_the_end() {
    for seed in 0..50 {
        let mut pair = Pair::new(seed);
        let bytes = pattern(300_000);
        let (io, near, sent) = (pair.io(pair.client), pair.near.clone(), bytes.clone());
        pair.sim.shard(pair.client).spawn(async move {
            io.send(near.clone(), vec![sent]).await.unwrap();
            io.close_socket(near).await.unwrap();
        });
        let (io, far) = (pair.io(pair.server), pair.far.clone());
        let (whole, rest) = pair.sim.run(pair.server, async move {
            let head = BytesMut::from("head");
            let whole = io.recv_exact(far.clone(), head, 200_000).await.unwrap();
            (whole, io.recv_exact(far, BytesMut::new(), 200_000).await.unwrap())
        });
        assert_eq!(&whole[..4], b"head");
        assert!(whole[4..] == bytes[..200_000]);
        assert!(rest == bytes[200_000..]);
    }
}

#[test]
fn a_peer_that_does_not_read_holds_the_sender_up() {
    let mut pair = Pair::new(1);
    let (io, near) = (pair.io(pair.client), pair.near.clone());
    let sent = std::rc::Rc::new(std::cell::Cell::new(false));
    let seen = sent.clone();
    pair.sim.shard(pair.client).spawn(async move {
        io.send(near.clone(), vec![pattern(1_000_000)]).await.unwrap();
        seen.set(true);
        io.close_socket(near).await.unwrap();
    });
    while pair.sim.step().is_ok() {}
    assert!(!sent.get());
    let receiving = receive_all(pair.io(pair.server), pair.far.clone());
    assert_eq!(pair.sim.run(pair.server, receiving).unwrap().len(), 1_000_000);
    assert!(sent.get());
}

#[test]
fn a_half_closed_connection_still_carries_the_answer() {
    let mut pair = Pair::new(2);
    pair.sim.finish_sending(&pair.near);
    let request = receive_all(pair.io(pair.server), pair.far.clone());
    assert!(pair.sim.run(pair.server, request).unwrap().is_empty());
    let (io, far) = (pair.io(pair.server), pair.far.clone());
    pair.sim.shard(pair.server).spawn(async move {
        io.send(far.clone(), vec![Bytes::from_static(b"answer")]).await.unwrap();
        io.close_socket(far).await.unwrap();
    });
    let answer = receive_all(pair.io(pair.client), pair.near.clone());
    assert_eq!(pair.sim.run(pair.client, answer).unwrap(), b"answer");
}

#[test]
fn a_reset_ends_what_both_ends_wait_for() {
    let mut pair = Pair::new(3);
    pair.sim.reset(&pair.near);
    let receiving = receive_all(pair.io(pair.server), pair.far.clone());
    assert_eq!(pair.sim.run(pair.server, receiving).unwrap_err().kind(), ErrorKind::ConnectionReset);
    let (io, near) = (pair.io(pair.client), pair.near.clone());
    let sent = pair.sim.run(pair.client, async move { io.send(near, vec![pattern(10)]).await });
    assert_eq!(sent.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_cancelled_receive_loses_nothing_that_it_has_not_given_out() {
    for seed in 0..50 {
        let mut pair = Pair::new(seed);
        let bytes = pattern(100_000);
        let (io, near, sent) = (pair.io(pair.client), pair.near.clone(), bytes.clone());
        pair.sim.shard(pair.client).spawn(async move {
            io.send(near.clone(), vec![sent]).await.unwrap();
            io.close_socket(near).await.unwrap();
        });
        let (io, far) = (pair.io(pair.server), pair.far.clone());
        let all = pair.sim.run(pair.server, async move {
            let few = io.start(Op::Recv { socket: far.clone(), bytes_max: 10 }).next().await;
            let mut all = few.into_bytes().unwrap().to_vec();
            assert!((1..=10).contains(&all.len()));
            let mut receive = io.start(Op::Recv { socket: far.clone(), bytes_max: usize::MAX });
            receive.cancel();
            if let Ok(piece) = receive.next().await.into_bytes() {
                all.extend_from_slice(&piece);
            }
            assert!(receive.ended());
            all.extend(receive_all(io, far).await.unwrap());
            all
        });
        assert!(all == bytes);
    }
}

#[test]
fn when_a_machine_loses_power_its_clients_notice_and_nobody_listens() {
    for seed in 0..20 {
        let mut pair = Pair::new(seed);
        pair.sim.power_cut(pair.server_machine);
        let receiving = receive_all(pair.io(pair.client), pair.near.clone());
        if let Ok(bytes) = pair.sim.run(pair.client, receiving) {
            assert!(bytes.is_empty());
        }
        let machine = pair.sim.add_machine();
        let refused = pair.sim.connect(machine, SocketAddr::from(([127, 0, 0, 1], 40_001)));
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    }
}

#[test]
fn two_shards_share_an_address_and_both_get_connections() {
    let mut sim = Sim::new(5);
    let machine = sim.add_machine();
    let shards = [sim.start(machine, ShardId(0)), sim.start(machine, ShardId(1))];
    let address = SocketAddr::from(([127, 0, 0, 1], 9092));
    let accepted = std::rc::Rc::new(std::cell::RefCell::new([0; 2]));
    for (index, shard) in shards.into_iter().enumerate() {
        let io = sim.shard(shard).io().clone();
        let (listener, _) = io.listen(address).unwrap();
        let accepted = accepted.clone();
        sim.shard(shard).spawn(async move {
            let mut stream = io.accept(listener);
            loop {
                stream.next().await.into_accepted().unwrap();
                accepted.borrow_mut()[index] += 1;
            }
        });
    }
    let clients = sim.add_machine();
    for _ in 0..50 {
        sim.connect(clients, address).unwrap();
    }
    sim.run_until(|| accepted.borrow().iter().sum::<i32>() == 50).unwrap();
    assert!(accepted.borrow().iter().all(|count| *count > 5));
}

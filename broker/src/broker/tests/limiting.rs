//! Limits of connections and of their patience, on the simulated clock.

use super::client::fetch;
use super::harness::TestBroker;
use super::simulated::{Client, World};
use bytes::Bytes;
use ringlog_engine::io::Instant;
use ringlog_wire::ApiKey;
use ringlog_wire::api_versions::ApiVersionsRequest;
use ringlog_wire::fetch::FetchRequest;
use std::cell::Cell;
use std::future::Future;
use std::ops::Range;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// When something was seen, if it was.
type Seen = Rc<Cell<Option<Instant>>>;

impl World {
    /// A client that has asked something, and when its connection is closed.
    fn client(&mut self, asks: impl AsyncFnOnce(&mut Client) + 'static) -> Seen {
        let (actor, mut client) = self.connect();
        let closed = Seen::default();
        let seen = closed.clone();
        let shard = self.sim.shard(actor);
        self.sim.shard(actor).spawn(async move {
            asks(&mut client).await;
            client.closed().await;
            seen.set(Some(shard.now()));
            drop(client);
        });
        closed
    }

    fn connections(&self) -> usize {
        self.brokers.iter().map(|broker| broker.connection_count()).sum()
    }

    /// Lets time pass until all of these are closed; how long that took.
    fn time_until_closed(&mut self, all: &[&Seen]) -> Duration {
        let began = self.sim.now();
        self.sim.run_until(|| all.iter().all(|seen| seen.get().is_some())).unwrap();
        let last = all.iter().filter_map(|seen| seen.get()).max().expect("there are some");
        last.since(began)
    }
}

async fn ask(client: &mut Client) {
    client.call(0, &ApiVersionsRequest::default()).await.expect("the broker answers");
}

async fn send(client: &mut Client, bytes: &'static [u8]) {
    client.io.send(client.socket.clone(), vec![Bytes::from_static(bytes)]).await.expect("connected");
}

fn between(what: Duration, least: u64, most: u64) {
    let (least, most) = (Duration::from_secs(least), Duration::from_secs(most));
    assert!((least..=most).contains(&what), "{what:?}");
}

#[test]
fn who_does_not_ask_in_time_is_closed_and_who_has_asked_may_be_silent_longer() {
    let mut world = World::with(1, &["connections.max.handshake.ms=10000", "connections.max.idle.ms=60000"]);
    let asked = world.client(ask);
    let silent = world.client(async |_| {});
    let half = world.client(async |client| send(client, b"\0\0\0\x20\0\x12").await);
    // Half a frame of one who has asked before is given the time that frames have.
    let half_later = world.client(async |client| {
        ask(client).await;
        send(client, b"\0\0").await;
    });
    between(world.time_until_closed(&[&silent, &half]), 10, 13);
    assert_eq!((asked.get(), half_later.get(), world.connections()), (None, None, 2));
    between(world.time_until_closed(&[&half_later]), 17, 25);
    between(world.time_until_closed(&[&asked]), 25, 35);
    assert_eq!(world.connections(), 0);
    world.stop();
}

#[test]
fn one_who_waits_for_an_answer_is_not_idle() {
    let mut world = World::with(2, &["connections.max.idle.ms=10000"]);
    let waiting = world.client(async |client| {
        let request = FetchRequest { max_wait_ms: 45_000, ..fetch("t", &[(0, 0)]) };
        client.call(12, &request).await.expect("the broker answers");
    });
    let asked = world.client(ask);
    between(world.time_until_closed(&[&asked]), 10, 13);
    between(world.time_until_closed(&[&waiting]), 45 + 10 - 13, 45 + 13 - 10);
    world.stop();
}

#[test]
fn without_limits_silence_is_borne() {
    let mut world = World::with(3, &["connections.max.handshake.ms=-1", "connections.max.idle.ms=-1"]);
    let clients = [world.client(ask), world.client(async |_| {})];
    world.sim.run_for(Duration::from_secs(10_000));
    assert!(clients.iter().all(|seen| seen.get().is_none()));
    world.stop();
}

#[test]
fn above_max_connections_one_waits_until_another_has_gone() {
    let mut world = World::with(4, &["max.connections=2", "connections.max.idle.ms=60000"]);
    let first = world.client(ask);
    let second = world.client(ask);
    world.sim.run_for(Duration::from_secs(1));
    let answered = Seen::default();
    let seen = answered.clone();
    let third = world.client(async move |client| {
        ask(client).await;
        seen.set(Some(client.io.now()));
    });
    world.sim.run_for(Duration::from_secs(50));
    assert_eq!((answered.get(), world.connections()), (None, 2));
    between(world.time_until_closed(&[&first, &second]), 5, 25);
    between(world.time_until_closed(&[&answered]), 0, 1);
    between(world.time_until_closed(&[&third]), 55, 80);
    world.stop();
}

#[test]
fn above_max_connections_per_ip_one_is_closed_at_once() {
    let mut world = World::with(5, &["max.connections.per.ip=3"]);
    let first: Vec<Seen> = (0..3).map(|_| world.client(ask)).collect();
    world.sim.run_for(Duration::from_secs(1));
    let fourth = world.client(async |_| {});
    between(world.time_until_closed(&[&fourth]), 0, 1);
    assert!(first.iter().all(|seen| seen.get().is_none()));
    assert_eq!(world.brokers[0].quota_counts().refused, 1);
    world.stop();
}

#[test]
fn above_the_rate_all_are_served_in_time() {
    const COUNT: usize = 25;
    let mut world = World::with(6, &["max.connection.creation.rate=5"]);
    let answered = Rc::new(Cell::new(0));
    for _ in 0..COUNT {
        let answered = answered.clone();
        world.client(async move |client| {
            ask(client).await;
            answered.set(answered.get() + 1);
        });
    }
    world.sim.run_for(Duration::from_millis(900));
    assert!((4..=10).contains(&answered.get()), "{}", answered.get());
    world.sim.run_for(Duration::from_millis(4100));
    assert_eq!(answered.get(), COUNT);
    assert!(world.brokers[0].quota_counts().delayed > 0);
    world.stop();
}

/// Two shards, each with 512 KiB for what has come and nobody can use yet.
const SMALL: &[&str] = &["socket.request.max.bytes=1000000", "queued.max.request.bytes=8388608"];

#[test]
fn frames_that_do_not_end_make_room_for_those_that_do() {
    let mut world = World::with(7, SMALL);
    // A whole one has the length it tells; these have nearly all of it.
    let crowd: Vec<Seen> = (0..20).map(|_| world.client(async |client| send(client, HALF).await)).collect();
    world.sim.run_for(Duration::from_secs(2));
    let closed = crowd.iter().filter(|seen| seen.get().is_some()).count();
    assert!((8..18).contains(&closed), "{closed} closed, long before their time");
    let requests: usize = world.brokers.iter().map(|broker| broker.memory_in_use().0).sum();
    assert!(requests <= 1 << 20, "{requests}");
    let well = Seen::default();
    let seen = well.clone();
    world.client(async move |client| {
        ask(client).await;
        seen.set(Some(client.io.now()));
    });
    between(world.time_until_closed(&[&well]), 0, 1);
    world.stop();
}

/// 60,000 bytes of a frame of 65,000.
static HALF: &[u8] = &{
    let mut bytes = [0; 60_000];
    [bytes[2], bytes[3]] = 65_000_u16.to_be_bytes();
    bytes
};

/// A fetch that waits for so long, and this many small requests behind it, which `together` says come with it.
async fn send_ahead(client: &mut Client, wait_ms: i32, count: i32, together: bool) -> i32 {
    let wait = FetchRequest { max_wait_ms: wait_ms, ..fetch("t", &[(0, 0)]) };
    let ahead = |id: i32| [b"\0\0\0\x0a\0\x12\0\0", &id.to_be_bytes()[..], b"\xff\xff"].concat();
    let ahead: Bytes = (1..=count).flat_map(ahead).collect();
    if together {
        client.send_with(12, &wait, ahead).await.expect("connected")
    } else {
        let first = client.send(12, &wait).await.expect("connected");
        client.io.send(client.socket.clone(), vec![ahead]).await.expect("connected");
        first
    }
}

#[test]
fn who_asks_little_does_not_wait_for_memory_behind_those_who_ask_for_hundreds_of_partitions() {
    let mut world = World::with(11, SMALL);
    let many: Vec<Seen> = (0..30)
        .map(|_| {
            world.client(async |client| {
                let request = FetchRequest { max_wait_ms: 60_000, ..fetch("t", &[(0, 0); 500]) };
                client.call(12, &request).await.expect("the broker answers");
            })
        })
        .collect();
    world.sim.run_for(Duration::from_secs(1));
    let answered = Seen::default();
    let seen = answered.clone();
    let little = world.client(async move |client| {
        ask(client).await;
        let request = FetchRequest { max_wait_ms: 100, ..fetch("t", &[(0, 0)]) };
        client.call(12, &request).await.expect("the broker answers");
        seen.set(Some(client.io.now()));
    });
    between(world.time_until_closed(&[&answered]), 0, 1);
    assert!(little.get().is_none() && many.iter().all(|seen| seen.get().is_none()));
    world.stop();
}

fn requests_bytes(world: &World) -> usize {
    world.brokers.iter().map(|broker| broker.memory_in_use().0).sum()
}

#[test]
fn what_is_sent_ahead_of_answers_is_left_with_the_kernel_and_answered_in_its_turn() {
    const AHEAD: i32 = 2000;
    let mut world = World::with(8, SMALL);
    let answered = Rc::new(Cell::new(0));
    for _ in 0..20 {
        let answered = answered.clone();
        world.client(async move |client| {
            let first = send_ahead(client, 20_000, AHEAD, false).await;
            client.receive::<FetchRequest>(12, first).await.expect("an answer");
            for id in 1..=AHEAD {
                client.receive::<ApiVersionsRequest>(0, id).await.expect("an answer");
            }
            answered.set(answered.get() + 1);
        });
    }
    world.sim.run_for(Duration::from_secs(15));
    let requests = requests_bytes(&world);
    assert!(answered.get() == 0 && requests <= 40 << 10, "{requests} of 560000 bytes sent");
    world.sim.run_until(|| answered.get() == 20).unwrap();
    world.stop();
}

#[test]
fn what_comes_together_with_a_request_that_waits_is_bounded() {
    /// What each has sent before, and had answered.
    #[derive(Clone, Copy, PartialEq)]
    enum Before {
        Nothing,
        Much,
        MuchAhead,
    }
    let bounded = |before: Before, closed: Range<usize>, bytes_max: usize| {
        let mut world = World::with(9, SMALL);
        let crowd: Vec<Seen> = (0..80)
            .map(|_| {
                world.client(async move |client| {
                    if before != Before::Nothing {
                        client.call(12, &fetch("t", &[(0, 0); 500])).await.expect("an answer");
                    }
                    if before == Before::MuchAhead {
                        let first = send_ahead(client, 1, 100, true).await;
                        client.receive::<FetchRequest>(12, first).await.expect("an answer");
                        for id in 1..=100 {
                            client.receive::<ApiVersionsRequest>(0, id).await.expect("an answer");
                        }
                    }
                    send_ahead(client, 60_000, 3500, true).await;
                })
            })
            .collect();
        world.sim.run_for(Duration::from_secs(2));
        let seen = crowd.iter().filter(|seen| seen.get().is_some()).count();
        assert!(closed.contains(&seen), "{seen} closed");
        let requests = requests_bytes(&world);
        assert!(requests <= bytes_max, "{requests} of 3920000 bytes sent");
        world.stop();
    };
    // Little is taken of those of whom nothing is known, or of whom something had to be kept, and none has to be closed.
    bounded(Before::Nothing, 0..1, 80 * 6 * 1024);
    bounded(Before::Much, 20..70, 1280 << 10);
    bounded(Before::MuchAhead, 0..1, 80 * 6 * 1024);
}

#[test]
fn who_sends_far_ahead_of_an_answer_that_takes_long_is_closed() {
    let mut world = World::with(10, SMALL);
    let far = world.client(async |client| {
        send_ahead(client, 60_000, 5000, false).await;
    });
    let gone = world.client(async |client| {
        send_ahead(client, 60_000, 5000, false).await;
        client.io.close_socket(client.socket.clone()).await.expect("connected");
    });
    let near = world.client(async |client| {
        send_ahead(client, 60_000, 500, false).await;
    });
    between(world.time_until_closed(&[&far, &gone]), 5, 10);
    assert_eq!((near.get(), world.connections()), (None, 1));
    world.stop();
}

#[test]
fn large_answers_wait_for_memory_once_it_is_known_that_they_are() {
    let broker = TestBroker::with(1, &["queued.max.reply.bytes=8388608"], &[]);
    let (first, second) = broker.ask(|brokers| {
        let broker = brokers[0].clone();
        let take = || {
            std::pin::pin!(broker.list_memory(ApiKey::Metadata))
                .poll(&mut Context::from_waker(Waker::noop()))
                .map(|held| held.map(|held| held.amount()))
        };
        broker.note_list_bytes(ApiKey::Metadata, 4000);
        let first = take();
        broker.note_list_bytes(ApiKey::Metadata, 2 << 20);
        broker.note_list_bytes(ApiKey::Metadata, 4000);
        let mut held = std::pin::pin!(broker.list_memory(ApiKey::Metadata));
        let held = held.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        let waits = take();
        drop(held);
        (first, (waits, take()))
    });
    assert_eq!(first, Poll::Ready(None), "small ones are not counted");
    assert_eq!(second, (Poll::Pending, Poll::Ready(Some(2 << 20))));
}

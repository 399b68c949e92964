//! The whole broker in the simulator: clocks, disks and sockets of one seed, clients that speak Kafka's bytes.

use super::client::{Batch, batches_of, fetch, produce};
use super::harness::{NOTHING, Topic, left_behind, record, start};
use crate::broker::{Broker, Parts, Stage};
use crate::calls::Mesh;
use crate::config::{BrokerConfig, Settings, Source};
use crate::net::ConnectionQuotas;
use bytes::{Bytes, BytesMut};
use ringlog_engine::io::sim::{ActorId, MachineId, Sim};
use ringlog_engine::io::{DirId, Io, Socket};
use ringlog_engine::log::Cache;
use ringlog_engine::shard::{ShardId, mesh_ends};
use ringlog_wire::create_topics::{CreatableTopic, CreateTopicsRequest};
use ringlog_wire::delete_topics::DeleteTopicsRequest;
use ringlog_wire::fetch::{FetchRequest, FetchResponse};
use ringlog_wire::init_producer_id::InitProducerIdRequest;
use ringlog_wire::produce::ProduceRequest;
use ringlog_wire::{ErrorCode, Message, Part, Reader, Request, ResponseHeader, encode_request};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

const SHARDS: u16 = 2;
const PARTITIONS: i32 = 4;
const TOPIC: Topic = Topic { name: "t", partitions: 4, configs: &[] };

/// One broker and its clients.
pub(super) struct World {
    pub(super) sim: Sim,
    pub(super) machine: MachineId,
    clients: MachineId,
    settings: Settings,
    pub(super) brokers: Vec<Broker>,
    actors: Vec<ActorId>,
}

fn address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 9092))
}

impl World {
    fn new(seed: u64) -> Self {
        Self::with(seed, &[])
    }

    pub(super) fn with(seed: u64, pairs: &[&str]) -> Self {
        let mut settings = Settings::default();
        for pair in ["listeners=PLAINTEXT://127.0.0.1:9092"].iter().chain(pairs) {
            settings.set_pair(pair, Source::CommandLine).unwrap();
        }
        let mut sim = Sim::new(seed);
        let machine = sim.add_machine();
        sim.add_disk(machine, DirId(0), "/data");
        let clients = sim.add_machine();
        let mut world = Self { sim, machine, clients, settings, brokers: Vec::new(), actors: Vec::new() };
        world.boot(&[TOPIC]);
        world
    }

    /// Starts the broker; `topics` are made before it reads its metadata.
    pub(super) fn boot(&mut self, topics: &[Topic]) {
        let mut config = BrokerConfig::new(self.settings.clone()).unwrap();
        config.set_bound(&[9092], "localhost");
        let config = Arc::new(config);
        let quotas = ConnectionQuotas::new(&config, usize::MAX);
        self.brokers.clear();
        self.actors.clear();
        for (id, ends) in mesh_ends(SHARDS).into_iter().enumerate() {
            let actor = self.sim.start(self.machine, ShardId(u16::try_from(id).unwrap()));
            let shard = self.sim.shard(actor);
            let mesh = Mesh::open(&shard, ends);
            let cache = Cache::new(1 << 20);
            let (config, quotas) = (config.clone(), quotas.clone());
            self.brokers.push(Broker::start(Parts { shard, mesh, config, cache, quotas }));
            self.actors.push(actor);
        }
        let topics = topics.iter().map(record).collect();
        self.sim.run(self.actors[0], start(self.brokers.clone(), "/data".into(), topics));
    }

    /// Stops it in order, and looks for what is left behind.
    pub(super) fn stop(&mut self) {
        for broker in &self.brokers {
            let broker = broker.clone();
            broker.shard().clone().spawn(async move { broker.drain().await });
        }
        let brokers = self.brokers.clone();
        self.sim.run_until(|| brokers.iter().all(|broker| broker.stage() >= Stage::Drained)).unwrap();
        let idle = || brokers.iter().all(|broker| left_behind(broker) == NOTHING);
        self.sim.run_until(idle).expect("a drained broker has nothing left");
        for broker in &self.brokers {
            let broker = broker.clone();
            broker.shard().clone().spawn(async move { broker.close().await });
        }
        self.sim.run_until(|| brokers.iter().all(|broker| broker.stage() == Stage::Closed)).unwrap();
    }

    pub(super) fn connect(&mut self) -> (ActorId, Client) {
        let actor = self.sim.start(self.clients, ShardId(0));
        let socket = self.sim.connect(self.clients, address()).unwrap();
        let io = self.sim.shard(actor).io().clone();
        (actor, Client { io, socket, received: BytesMut::new(), next_id: 0 })
    }

    /// All batches of a partition, as a consumer sees them from the first offset on.
    fn read_all(&mut self, partition: i32) -> Vec<Value> {
        let (actor, mut client) = self.connect();
        self.sim.run(actor, async move {
            let mut values = Vec::new();
            loop {
                let from = i64::try_from(values.len()).unwrap();
                let response = client.call(12, &fetch("t", &[(partition, from)])).await.expect("connected");
                let row = &response.responses[0].partitions[0];
                assert_eq!(row.error_code, ErrorCode::None);
                values.extend(values_of(row.records.bytes().map_or(&[][..], |bytes| &bytes[..])));
                if i64::try_from(values.len()).unwrap() >= row.high_watermark {
                    return values;
                }
            }
        })
    }
}

/// A client on its own shard of the clients' machine.
pub(super) struct Client {
    pub(super) io: Io,
    pub(super) socket: Socket,
    received: BytesMut,
    next_id: i32,
}

impl Client {
    pub(super) async fn send<R: Request>(&mut self, version: i16, request: &R) -> Option<i32> {
        self.send_with(version, request, Bytes::new()).await
    }

    /// Sends these bytes together with the request.
    pub(super) async fn send_with<R: Request>(
        &mut self,
        version: i16,
        request: &R,
        behind: Bytes,
    ) -> Option<i32> {
        let id = self.next_id;
        self.next_id += 1;
        let parts = encode_request(version, id, Some("sim"), request).unwrap();
        let parts = parts.into_iter().map(|part| match part {
            Part::Bytes(bytes) => bytes,
            Part::External { .. } => panic!("requests are in memory"),
        });
        let whole = parts.chain([behind]).flatten().collect();
        self.io.send(self.socket.clone(), vec![whole]).await.ok()?;
        Some(id)
    }

    /// The response to this request, which must be the next; `None` once the broker is gone.
    pub(super) async fn receive<R: Request>(&mut self, version: i16, id: i32) -> Option<R::Response> {
        loop {
            let whole = self.received.first_chunk::<4>().map(|len| 4 + u32::from_be_bytes(*len) as usize);
            if let Some(len) = whole.filter(|len| *len <= self.received.len()) {
                let frame = self.received.split_to(len).freeze().slice(4..);
                let mut reader = Reader::new(&frame);
                let header = ResponseHeader::read(&mut reader, R::API, version).unwrap();
                assert_eq!(header.correlation_id, id, "replies come in request order");
                return Some(R::Response::decode(&mut reader, version).unwrap());
            }
            match self.io.recv(self.socket.clone()).await {
                Ok(bytes) if !bytes.is_empty() => self.received.extend_from_slice(&bytes),
                _ => return None,
            }
        }
    }

    /// Waits until the broker has closed the connection.
    pub(super) async fn closed(&mut self) {
        while let Ok(bytes) = self.io.recv(self.socket.clone()).await
            && !bytes.is_empty()
        {
            self.received.extend_from_slice(&bytes);
        }
    }

    pub(super) async fn call<R: Request>(&mut self, version: i16, request: &R) -> Option<R::Response> {
        let id = self.send(version, request).await?;
        self.receive::<R>(version, id).await
    }
}

/// Who wrote a record, and which of its row it is.
type Value = (u8, u16);

/// A batch of one record.
fn value_batch((writer, number): Value, producer: (i64, i16, i32)) -> Bytes {
    let [high, low] = number.to_be_bytes();
    Batch { producer, ..Batch::of(&[&[writer, high, low]]) }.encode()
}

fn values_of(records: &[u8]) -> Vec<Value> {
    let batches = batches_of(records).len();
    let len = records.len().checked_div(batches).unwrap_or(0);
    // A record of three bytes ends with them and a count of headers.
    let value = |batch: &[u8]| {
        let [writer, high, low, _] = *batch.last_chunk::<4>().unwrap();
        (writer, u16::from_be_bytes([high, low]))
    };
    (0..batches).map(|at| value(&records[at * len..(at + 1) * len])).collect()
}

/// What a producer was told, by partition: the offset of each value that was acknowledged.
type Acked = Rc<RefCell<Vec<(i32, i64, Value)>>>;

/// Produces `count` values, number by number over all partitions, up to five requests in flight.
async fn write(mut client: Client, writer: u8, count: u16, acks: i16, acked: Acked) -> Option<()> {
    let init = InitProducerIdRequest { transactional_id: None, ..Default::default() };
    let id = client.call(4, &init).await?.producer_id;
    let mut sequences: BTreeMap<i32, i32> = BTreeMap::new();
    let mut flying = std::collections::VecDeque::new();
    for number in 0..count {
        let partition = i32::from(number) % PARTITIONS;
        let sequence = sequences.entry(partition).or_default();
        let batch = value_batch((writer, number), (id, 0, *sequence));
        *sequence += 1;
        flying.push_back((client.send(9, &produce("t", partition, batch, acks)).await?, partition, number));
        if flying.len() == 5 || number + 1 == count {
            while flying.len() > if number + 1 == count { 0 } else { 4 } {
                let (id, partition, number) = flying.pop_front().unwrap();
                let response = client.receive::<ProduceRequest>(9, id).await?;
                let row = &response.responses[0].partition_responses[0];
                assert_eq!(row.error_code, ErrorCode::None, "writer {writer}, number {number}");
                acked.borrow_mut().push((partition, row.base_offset, (writer, number)));
            }
        }
    }
    Some(())
}

/// Follows all partitions with one session, in long polls, until it has seen `count` values.
async fn follow(mut client: Client, count: usize) -> BTreeMap<i32, Vec<Value>> {
    let mut seen: BTreeMap<i32, Vec<Value>> = BTreeMap::new();
    let mut request = fetch("t", &[(0, 0), (1, 0), (2, 0), (3, 0)]);
    request.session_epoch = 0;
    request.max_wait_ms = 500;
    while seen.values().map(Vec::len).sum::<usize>() < count {
        let response: FetchResponse = client.call(12, &request).await.expect("the broker stays");
        assert_eq!(response.error_code, ErrorCode::None);
        let mut moved = Vec::new();
        for row in response.responses.iter().flat_map(|topic| &topic.partitions) {
            assert_eq!(row.error_code, ErrorCode::None);
            let values = seen.entry(row.partition_index).or_default();
            let records = row.records.bytes().cloned().unwrap_or_default();
            if let Some((base, _)) = batches_of(&records).first() {
                assert_eq!(*base, i64::try_from(values.len()).unwrap(), "nothing twice, nothing left out");
            }
            values.extend(values_of(&records));
            assert!(i64::try_from(values.len()).unwrap() <= row.high_watermark);
            moved.push((row.partition_index, i64::try_from(values.len()).unwrap()));
        }
        let next_epoch = request.session_epoch + 1;
        request = FetchRequest {
            session_id: response.session_id,
            session_epoch: next_epoch,
            max_wait_ms: 500,
            ..fetch("t", &moved)
        };
        if moved.is_empty() {
            request.topics.clear();
        }
    }
    seen
}

#[test]
fn producers_and_a_consumer_agree_in_every_world() {
    const COUNT: u16 = 40;
    let mut checked = 0;
    for seed in 0..seeds(20) {
        let mut world = World::new(seed);
        let acked = Acked::default();
        let finished = Rc::new(Cell::new(0));
        for writer in 0..3 {
            let (actor, client) = world.connect();
            let (acked, finished) = (acked.clone(), finished.clone());
            world.sim.shard(actor).spawn(async move {
                write(client, writer, COUNT, -1, acked).await.expect("the broker stays");
                finished.set(finished.get() + 1);
            });
        }
        let (actor, client) = world.connect();
        let seen = world.sim.run(actor, follow(client, 3 * usize::from(COUNT)));
        world.sim.run_until(|| finished.get() == 3).unwrap();
        for (partition, values) in &seen {
            for writer in 0..3 {
                let numbers: Vec<u16> =
                    values.iter().filter(|value| value.0 == writer).map(|value| value.1).collect();
                assert!(numbers.is_sorted(), "seed {seed}: writer {writer} in partition {partition}");
            }
        }
        for (partition, offset, value) in acked.borrow().iter() {
            let at = usize::try_from(*offset).unwrap();
            assert_eq!(
                seen[partition][at], *value,
                "seed {seed}: what was acknowledged is where it was said"
            );
            checked += 1;
        }
        world.stop();
    }
    assert_eq!(checked, seeds(20) * 3 * u64::from(COUNT));
}

#[test]
fn nothing_acknowledged_is_lost_when_the_broker_dies() {
    let mut checked = 0;
    for seed in 0..seeds(30) {
        // acks=1 survives the death of the process, acks=all a power cut too.
        let power = seed % 2 == 0;
        let mut world = World::new(1000 + seed);
        let acked = Acked::default();
        for writer in 0..2 {
            let (actor, client) = world.connect();
            let acked = acked.clone();
            let acks = if power { -1 } else { 1 };
            world.sim.shard(actor).spawn(async move {
                let _ = write(client, writer, 500, acks, acked).await;
            });
        }
        let enough = usize::try_from(world.sim.random_below(200)).unwrap();
        world.sim.run_until(|| acked.borrow().len() >= enough).unwrap();
        if power {
            world.sim.power_cut(world.machine);
        } else {
            world.sim.kill(world.machine);
        }
        let acked = acked.take();
        world.boot(&[]);
        for partition in 0..PARTITIONS {
            let values = world.read_all(partition);
            let mut distinct = values.clone();
            distinct.sort_unstable();
            distinct.dedup();
            assert_eq!(distinct.len(), values.len(), "seed {seed}: nothing is there twice");
            for (_, offset, value) in acked.iter().filter(|acked| acked.0 == partition) {
                let at = usize::try_from(*offset).unwrap();
                assert_eq!(values.get(at), Some(value), "seed {seed}, power {power}, offset {at}");
                checked += 1;
            }
        }
        world.stop();
    }
    assert!(checked > 1000, "only {checked} acknowledgements were checked");
}

#[test]
fn silent_and_slow_clients_are_let_go() {
    let mut world = World::new(7);
    let (idle_actor, mut idle) = world.connect();
    let (slow_actor, slow) = world.connect();
    let started = world.sim.now();
    let ended = Rc::new(RefCell::new(Vec::new()));
    let told = ended.clone();
    let shard = world.sim.shard(idle_actor);
    world.sim.shard(idle_actor).spawn(async move {
        let init = InitProducerIdRequest { transactional_id: None, ..Default::default() };
        idle.call(4, &init).await.expect("answered");
        assert!(idle.receive::<InitProducerIdRequest>(4, 9).await.is_none());
        told.borrow_mut().push(("idle", shard.now().since(started)));
    });
    let told = ended.clone();
    let shard = world.sim.shard(slow_actor);
    world.sim.shard(slow_actor).spawn(async move {
        let mut slow = slow;
        // A frame of 1,000 bytes of which only two come.
        slow.io.send(slow.socket.clone(), vec![Bytes::from_static(b"\0\0\x03\xe8\0\0")]).await.unwrap();
        assert!(slow.receive::<InitProducerIdRequest>(4, 9).await.is_none());
        told.borrow_mut().push(("slow", shard.now().since(started)));
    });
    world.sim.run_until(|| ended.borrow().len() == 2).unwrap();
    let ended = ended.take();
    let [("slow", slow), ("idle", idle)] = ended[..] else { panic!("{ended:?}") };
    assert!((30..60).contains(&slow.as_secs()), "{slow:?}");
    assert!((600..620).contains(&idle.as_secs()), "{idle:?}");
    world.stop();
    assert!(world.sim.now().since(started) < Duration::from_secs(700));
}

#[test]
fn a_change_whose_client_hangs_up_is_done_whole_or_not_at_all() {
    let mut answered = 0;
    for seed in 0..seeds(20) {
        let mut world = World::new(2000 + seed);
        for number in 0..10 {
            let (actor, mut client) = world.connect();
            let socket = client.socket.clone();
            let init = InitProducerIdRequest { transactional_id: None, ..Default::default() };
            world.sim.shard(actor).spawn(async move {
                if number % 2 == 0 {
                    client.send(5, &create(&format!("left-{number}"))).await;
                } else {
                    client.send(4, &init).await;
                }
                // The socket stays open until it is reset.
                std::future::pending::<()>().await;
            });
            for _ in 0..world.sim.random_below(60) {
                world.sim.step().unwrap();
            }
            world.sim.reset(&socket);
            let (actor, mut other) = world.connect();
            let name = format!("other-{number}");
            let created = world.sim.run(actor, async move { other.call(5, &create(&name)).await });
            let created = created.expect("the broker stays");
            assert_eq!(created.topics[0].error_code, ErrorCode::None, "seed {seed}, after {number}");
            answered += 1;
        }
        world.stop();
    }
    assert_eq!(answered, seeds(20) * 10);
}

#[test]
fn producers_of_a_topic_that_is_deleted_are_sent_elsewhere() {
    let mut sent_away = 0;
    for seed in 0..seeds(20) {
        let mut world = World::new(3000 + seed);
        let codes = Rc::new(RefCell::new(Vec::new()));
        let finished = Rc::new(Cell::new(0));
        for writer in 0..4_u8 {
            let (actor, mut client) = world.connect();
            let (codes, finished) = (codes.clone(), finished.clone());
            world.sim.shard(actor).spawn(async move {
                let mut code = ErrorCode::None;
                while code == ErrorCode::None {
                    let mut ids = Vec::new();
                    for number in 0..10 {
                        let batch = value_batch((writer, number), (-1, -1, -1));
                        let request = produce("t", i32::from(writer), batch, if number < 5 { 1 } else { -1 });
                        ids.push(client.send(9, &request).await.expect("the broker stays"));
                    }
                    for id in ids {
                        let answer = client.receive::<ProduceRequest>(9, id).await.expect("the broker stays");
                        code = answer.responses[0].partition_responses[0].error_code;
                        codes.borrow_mut().push(code);
                    }
                }
                finished.set(finished.get() + 1);
            });
        }
        for _ in 0..world.sim.random_below(3000) {
            world.sim.step().unwrap();
        }
        let (actor, mut client) = world.connect();
        let delete = DeleteTopicsRequest { topic_names: vec!["t".into()], ..Default::default() };
        let deleted = world.sim.run(actor, async move { client.call(5, &delete).await });
        assert_eq!(deleted.expect("the broker stays").responses[0].error_code, ErrorCode::None);
        world.sim.run_until(|| finished.get() == 4).unwrap();
        let codes = codes.take();
        let away = [ErrorCode::NotLeaderOrFollower, ErrorCode::UnknownTopicOrPartition];
        let strange = codes.iter().find(|code| **code != ErrorCode::None && !away.contains(code));
        assert_eq!(strange, None, "seed {seed}");
        sent_away += codes.iter().filter(|code| **code == ErrorCode::NotLeaderOrFollower).count();
        world.stop();
    }
    assert!(sent_away > 0, "no produce was in hand when its topic was deleted");
}

fn create(name: &str) -> CreateTopicsRequest {
    let topic =
        CreatableTopic { name: name.into(), num_partitions: 2, replication_factor: 1, ..Default::default() };
    CreateTopicsRequest { topics: vec![topic], ..Default::default() }
}

/// Worlds tried: `RINGLOG_SEEDS` for many, a few otherwise.
pub(super) fn seeds(few: u64) -> u64 {
    std::env::var("RINGLOG_SEEDS").ok().and_then(|count| count.parse().ok()).unwrap_or(few)
}

//! Fetch: limits, long polls, sessions, epochs; and look-ups.

use super::client::{Batch, Client, batch, batches_of, fetch, produce, records_of};
use super::harness::{TestBroker, Topic, topic_id};
use ringlog_wire::fetch::FetchRequest;
use ringlog_wire::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use ringlog_wire::offset_for_leader_epoch::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use ringlog_wire::{ErrorCode, Uuid};

const TOPIC: Topic = Topic { name: "t", partitions: 4, configs: &[] };

fn error_of(client: &mut Client, version: i16, request: &FetchRequest) -> ErrorCode {
    client.call(version, request).responses[0].partitions[0].error_code
}

#[test]
fn an_offset_inside_a_batch_gives_the_whole_batch() {
    let broker = TestBroker::start(1, &[TOPIC]);
    let mut client = Client::connect(broker.address);
    client.produce("t", 0, Batch::of(&[b"a", b"b", b"c"]).encode());
    client.produce("t", 0, Batch::of(&[b"d"]).encode());
    for (from, expected) in [(0, &[(0, 3), (3, 1)][..]), (2, &[(0, 3), (3, 1)]), (3, &[(3, 1)]), (4, &[])] {
        let response = client.fetch(&fetch("t", &[(0, from)]));
        assert_eq!(batches_of(&records_of(&response, 0)), expected, "from {from}");
    }
}

#[test]
fn only_the_first_partition_with_records_ignores_the_limits() {
    let broker = TestBroker::start(2, &[TOPIC]);
    let mut client = Client::connect(broker.address);
    let value = [0; 1000];
    for partition in 1..4 {
        for _ in 0..3 {
            client.produce("t", partition, batch(&value));
        }
    }
    let one = batch(&value).len();
    let check = |client: &mut Client, max_bytes: i32, partition_max: i32, expected: [usize; 4]| {
        let mut request = fetch("t", &[(0, 0), (1, 0), (2, 0), (3, 0)]);
        request.max_bytes = max_bytes;
        for partition in &mut request.topics[0].partitions {
            partition.partition_max_bytes = partition_max;
        }
        let response = client.fetch(&request);
        let got = [0, 1, 2, 3].map(|partition| records_of(&response, partition).len() / one);
        assert_eq!(got, expected, "max {max_bytes}, {partition_max} of a partition");
    };
    let one_bytes = i32::try_from(one).unwrap();
    check(&mut client, 1 << 20, 1 << 20, [0, 3, 3, 3]);
    check(&mut client, 1, 1 << 20, [0, 1, 0, 0]);
    check(&mut client, 0, 0, [0, 1, 0, 0]);
    check(&mut client, 1 << 20, 1, [0, 1, 0, 0]);
    check(&mut client, 1 << 20, one_bytes * 2, [0, 2, 2, 2]);
    check(&mut client, one_bytes * 3, 1 << 20, [0, 3, 0, 0]);
}

#[test]
fn a_long_poll_over_both_shards_wakes_on_either_and_leaves_no_trace() {
    let broker = TestBroker::start(2, &[TOPIC]);
    let mut consumer = Client::connect(broker.address);
    let mut producer = Client::connect(broker.address);
    for (round, partition) in [0, 1, 2, 3, 3, 0].into_iter().enumerate() {
        let offsets: Vec<(i32, i64)> = (0..4)
            .map(|p| (p, [0, 1, 2, 3, 3, 0][..round].iter().filter(|q| **q == p).count() as i64))
            .collect();
        let mut request = fetch("t", &offsets);
        request.max_wait_ms = 600_000;
        let id = consumer.send(12, &request);
        broker.until(|broker| broker.parked() > 0);
        producer.produce("t", partition, batch(b"news"));
        let response = consumer.receive::<FetchRequest>(12, id);
        assert_eq!(records_of(&response, partition).len(), batch(b"news").len());
        broker.until(|broker| broker.parked() == 0);
    }
}

#[test]
fn a_long_poll_waits_for_min_bytes_and_ends_with_what_there_is() {
    let broker = TestBroker::start(2, &[TOPIC]);
    let mut consumer = Client::connect(broker.address);
    let mut producer = Client::connect(broker.address);
    let len = batch(b"x").len();
    let mut request = fetch("t", &[(0, 0), (1, 0)]);
    request.max_wait_ms = 600_000;
    request.min_bytes = i32::try_from(len * 3).unwrap();
    let id = consumer.send(12, &request);
    broker.until(|broker| broker.parked() > 0);
    for partition in [0, 1, 0] {
        producer.produce("t", partition, batch(b"x"));
    }
    let response = consumer.receive::<FetchRequest>(12, id);
    assert_eq!((records_of(&response, 0).len(), records_of(&response, 1).len()), (2 * len, len));
    request.max_wait_ms = 1;
    request.min_bytes *= 2;
    let response = consumer.fetch(&request);
    assert_eq!(records_of(&response, 0).len(), 2 * len, "the time was up");
}

#[test]
fn a_client_that_goes_away_takes_its_long_poll_with_it() {
    let broker = TestBroker::start(2, &[TOPIC]);
    let mut consumer = Client::connect(broker.address);
    let mut request = fetch("t", &[(0, 0), (1, 0), (2, 0), (3, 0)]);
    request.max_wait_ms = 600_000;
    consumer.send(12, &request);
    broker.until(|broker| broker.parked() > 0);
    drop(consumer);
    broker.until(|broker| broker.parked() == 0);
    // And one that is still there when the broker stops is answered: the harness waits for it.
    let mut consumer = Client::connect(broker.address);
    let id = consumer.send(12, &request);
    broker.until(|broker| broker.parked() > 0);
    drop(broker);
    assert_eq!(records_of(&consumer.receive::<FetchRequest>(12, id), 0).len(), 0);
}

#[test]
fn each_wrong_fetch_gets_its_own_refusal() {
    const ZSTD: Topic = Topic { name: "zstd", partitions: 1, configs: &[("compression.type", "zstd")] };
    let broker = TestBroker::start(2, &[TOPIC, ZSTD]);
    let mut client = Client::connect(broker.address);
    client.produce("t", 0, batch(b"x"));
    let with_epoch = |current: i32, last: i32| {
        let mut request = fetch("t", &[(0, 0)]);
        request.topics[0].partitions[0].current_leader_epoch = current;
        request.topics[0].partitions[0].last_fetched_epoch = last;
        request.max_wait_ms = 600_000;
        request
    };
    let mut waiting = fetch("t", &[(9, 0)]);
    waiting.max_wait_ms = 600_000;
    let follower = FetchRequest { replica_id: 5, ..fetch("t", &[(0, 0)]) };
    let cases: Vec<(&str, i16, FetchRequest, ErrorCode)> = vec![
        ("beyond the end", 12, fetch("t", &[(0, 2)]), ErrorCode::OffsetOutOfRange),
        ("negative", 12, fetch("t", &[(0, -1)]), ErrorCode::OffsetOutOfRange),
        ("at the end", 12, fetch("t", &[(0, 1)]), ErrorCode::None),
        ("unknown topic", 12, fetch("nope", &[(0, 0)]), ErrorCode::UnknownTopicOrPartition),
        ("unknown id", 13, fetch("nope", &[(0, 0)]), ErrorCode::UnknownTopicId),
        ("unknown partition does not wait", 12, waiting, ErrorCode::UnknownTopicOrPartition),
        ("old epoch", 12, with_epoch(3, -1), ErrorCode::FencedLeaderEpoch),
        ("this epoch", 12, with_epoch(4, 4), ErrorCode::None),
        ("next epoch", 12, with_epoch(5, -1), ErrorCode::UnknownLeaderEpoch),
        ("last epoch unknown", 12, with_epoch(4, 5), ErrorCode::OffsetOutOfRange),
        ("zstd topic before 10", 9, fetch("zstd", &[(0, 0)]), ErrorCode::UnsupportedCompressionType),
        ("zstd topic", 10, fetch("zstd", &[(0, 0)]), ErrorCode::None),
        ("a follower nobody knows", 12, follower, ErrorCode::NotLeaderOrFollower),
    ];
    let mut checked = 0;
    for (case, version, request, code) in &cases {
        assert_eq!(error_of(&mut client, *version, request), *code, "{case}");
        checked += 1;
    }
    assert_eq!(checked, cases.len());
}

#[test]
fn a_session_tells_only_news_and_keeps_its_row_of_epochs() {
    let broker = TestBroker::start(2, &[TOPIC]);
    let mut client = Client::connect(broker.address);
    client.produce("t", 0, batch(b"x"));
    let mut full = fetch("t", &[(0, 0), (1, 0)]);
    full.session_epoch = 0;
    let response = client.fetch(&full);
    let session_id = response.session_id;
    assert!(session_id != 0 && response.responses[0].partitions.len() == 2);
    let next = |epoch: i32, offsets: &[(i32, i64)]| {
        let mut request = fetch("t", offsets);
        if offsets.is_empty() {
            request.topics.clear();
        }
        FetchRequest { session_id, session_epoch: epoch, ..request }
    };
    let response = client.fetch(&next(1, &[(0, 1)]));
    assert!(response.responses.is_empty(), "nothing is new");
    client.produce("t", 1, batch(b"y"));
    let response = client.fetch(&next(2, &[]));
    assert_eq!(records_of(&response, 1).len(), batch(b"y").len());
    assert_eq!(response.responses[0].partitions.len(), 1);
    for (request, code) in [
        (next(2, &[]), ErrorCode::InvalidFetchSessionEpoch),
        (FetchRequest { session_id: session_id + 1, ..next(3, &[]) }, ErrorCode::FetchSessionIdNotFound),
        (next(3, &[]), ErrorCode::None),
    ] {
        assert_eq!(client.fetch(&request).error_code, code);
    }
    let id = client.send(13, &next(4, &[]));
    assert_eq!(client.receive::<FetchRequest>(13, id).error_code, ErrorCode::FetchSessionTopicIdError);
    let last = FetchRequest { session_epoch: -1, ..next(0, &[(0, 0)]) };
    let response = client.fetch(&last);
    assert_eq!((response.session_id, records_of(&response, 0).len()), (0, batch(b"x").len()));
    assert_eq!(client.fetch(&next(4, &[])).error_code, ErrorCode::FetchSessionIdNotFound);
}

#[test]
fn offsets_are_found_by_place_and_time() {
    let broker = TestBroker::start(2, &[TOPIC]);
    let mut client = Client::connect(broker.address);
    for (at, timestamp) in [1_000, 5_000, 3_000].into_iter().enumerate() {
        let records = Batch { timestamp, ..Batch::of(&[b"a", b"b"]) }.encode();
        let row = &client.call(9, &produce("t", 0, records, -1)).responses[0].partition_responses[0];
        assert_eq!(row.base_offset, 2 * i64::try_from(at).unwrap());
    }
    let mut look = |version: i16, topic: &str, partition: i32, epoch: i32, timestamp: i64| {
        let partitions =
            vec![ListOffsetsPartition { partition_index: partition, current_leader_epoch: epoch, timestamp }];
        let topics = vec![ListOffsetsTopic { name: topic.into(), partitions }];
        let request = ListOffsetsRequest { replica_id: -1, topics, ..Default::default() };
        let row = client.call(version, &request).topics.remove(0).partitions.remove(0);
        (row.error_code, row.offset, row.timestamp, row.leader_epoch)
    };
    let none = ErrorCode::None;
    for (version, partition, timestamp, expected) in [
        (1, 0, -1, (none, 6, -1, -1)),
        (11, 0, -1, (none, 6, -1, 4)),
        (11, 0, -2, (none, 0, -1, 4)),
        (11, 0, -4, (none, 0, -1, 4)),
        (11, 0, -5, (none, -1, -1, -1)),
        (7, 0, -3, (none, 2, 5_000, 4)),
        (7, 0, 0, (none, 0, 1_000, 4)),
        (7, 0, 1_000, (none, 0, 1_000, 4)),
        (7, 0, 1_001, (none, 2, 5_000, 4)),
        (7, 0, 5_000, (none, 2, 5_000, 4)),
        (7, 0, 5_001, (none, -1, -1, -1)),
        (7, 1, -1, (none, 0, -1, 4)),
        (7, 1, -3, (none, -1, -1, -1)),
        (6, 0, -3, (ErrorCode::UnsupportedVersion, -1, -1, -1)),
    ] {
        assert_eq!(look(version, "t", partition, -1, timestamp), expected, "v{version} {timestamp}");
    }
    assert_eq!(look(7, "nope", 0, -1, -1).0, ErrorCode::UnknownTopicOrPartition);
    assert_eq!(look(7, "t", 4, -1, -1).0, ErrorCode::UnknownTopicOrPartition);
    assert_eq!(look(7, "t", 0, 3, -1).0, ErrorCode::FencedLeaderEpoch);
    assert_eq!(look(7, "t", 0, 5, -1).0, ErrorCode::UnknownLeaderEpoch);
}

#[test]
fn ends_of_epochs_are_told() {
    let broker = TestBroker::start(2, &[TOPIC]);
    let mut client = Client::connect(broker.address);
    client.produce("t", 1, batch(b"x"));
    let mut ask = |partition: i32, current: i32, epoch: i32| {
        let partitions =
            vec![OffsetForLeaderPartition { partition, current_leader_epoch: current, leader_epoch: epoch }];
        let topics = vec![OffsetForLeaderTopic { topic: "t".into(), partitions }];
        let request = OffsetForLeaderEpochRequest { replica_id: -1, topics };
        let row = client.call(3, &request).topics.remove(0).partitions.remove(0);
        (row.error_code, row.leader_epoch, row.end_offset)
    };
    assert_eq!(ask(1, 4, 4), (ErrorCode::None, 4, 1));
    assert_eq!(ask(1, -1, 5), (ErrorCode::None, -1, -1));
    assert_eq!(ask(1, -1, 2), (ErrorCode::None, 2, 0), "it ended before this log began");
    assert_eq!(ask(1, 3, 4).0, ErrorCode::FencedLeaderEpoch);
    assert_eq!(ask(9, 4, 4).0, ErrorCode::UnknownTopicOrPartition);
    assert_ne!(topic_id("t"), Uuid::ZERO);
}

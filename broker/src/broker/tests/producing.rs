//! Produce: round trips, order, acknowledgements.

use super::client::{Batch, Client, batch, batches_of, fetch, produce, records_of};
use super::harness::{TestBroker, Topic};
use bytes::Bytes;
use ringlog_wire::ErrorCode;
use ringlog_wire::Records;
use ringlog_wire::init_producer_id::InitProducerIdRequest;
use ringlog_wire::produce::{PartitionProduceData, ProduceRequest};

const TOPIC: Topic = Topic { name: "t", partitions: 2, configs: &[] };

#[test]
fn what_is_produced_is_fetched_in_every_version() {
    let broker = TestBroker::start(2, &[TOPIC]);
    let mut client = Client::connect(broker.address);
    let mut expected = [0i64; 2];
    for version in 3..=13 {
        for partition in 0..2 {
            let records = Batch::of(&[b"one", b"two"]).encode();
            let response = client.call(version, &produce("t", partition, records, -1));
            let row = &response.responses[0].partition_responses[0];
            let at = &mut expected[usize::try_from(partition).unwrap()];
            assert_eq!((row.error_code, row.base_offset), (ErrorCode::None, *at), "v{version}");
            *at += 2;
        }
    }
    for version in 4..=18 {
        let response = client.call(version, &fetch("t", &[(0, 0), (1, 20)]));
        let rows: Vec<_> = response.responses.iter().flat_map(|topic| &topic.partitions).collect();
        assert_eq!(rows.len(), 2, "v{version}");
        assert!(rows.iter().all(|row| row.error_code == ErrorCode::None && row.high_watermark == 22));
        let all: Vec<(i64, i32)> = (0..11).map(|batch| (batch * 2, 2)).collect();
        assert_eq!(batches_of(&records_of(&response, 0)), all, "v{version}");
        assert_eq!(batches_of(&records_of(&response, 1)), [(20, 2)], "v{version}");
    }
}

#[test]
fn five_pipelined_produces_keep_their_order_over_two_shards() {
    let broker = TestBroker::start(2, &[TOPIC]);
    let mut client = Client::connect(broker.address);
    for round in 0..50u8 {
        let ids: Vec<i32> = (0..5u8)
            .map(|n| client.send(9, &produce("t", i32::from(n % 2), batch(&[round, n]), -1)))
            .collect();
        for id in ids {
            let response = client.receive::<ProduceRequest>(9, id);
            assert_eq!(response.responses[0].partition_responses[0].error_code, ErrorCode::None);
        }
    }
    let response = client.fetch(&fetch("t", &[(0, 0), (1, 0)]));
    let mut seen = 0;
    for partition in 0..2 {
        let records = records_of(&response, partition);
        let markers: Vec<(u8, u8)> = (0..50u8)
            .flat_map(|round| (0..5u8).filter(|n| i32::from(n % 2) == partition).map(move |n| (round, n)))
            .collect();
        let batches = batches_of(&records);
        assert_eq!(batches.len(), markers.len());
        let len = records.len() / batches.len();
        for (at, (round, n)) in markers.into_iter().enumerate() {
            let one = &records[at * len..(at + 1) * len];
            assert_eq!(&one[one.len() - 3..one.len() - 1], [round, n], "batch {at} of partition {partition}");
            seen += 1;
        }
    }
    assert_eq!(seen, 250);
}

#[test]
fn without_acks_there_is_no_reply_and_errors_close_the_connection() {
    let broker = TestBroker::start(2, &[TOPIC]);
    let mut client = Client::connect(broker.address);
    client.send(9, &produce("t", 0, batch(b"silent"), 0));
    client.send(9, &produce("t", 1, batch(b"silent"), 0));
    let response = client.produce("t", 0, batch(b"loud"));
    assert_eq!(response.responses[0].partition_responses[0].base_offset, 1);
    client.send(9, &produce("unknown", 0, batch(b"x"), 0));
    assert_eq!(client.receive_frame(), None);
}

#[test]
fn a_large_batch_comes_through_and_its_memory_goes_back() {
    let settings = ["message.max.bytes=5000000"];
    let broker = TestBroker::with(2, &settings, &[TOPIC]);
    let mut client = Client::connect(broker.address);
    for (n, size) in [65_000, 65_536, 100_000, 4_000_000].into_iter().enumerate() {
        let value = vec![u8::try_from(n).unwrap(); size];
        for partition in 0..2 {
            let row = &client.produce("t", partition, batch(&value)).responses[0].partition_responses[0];
            assert_eq!((row.error_code, row.base_offset), (ErrorCode::None, i64::try_from(n).unwrap()));
        }
    }
    let records = records_of(&client.fetch(&fetch("t", &[(1, 3)])), 1);
    assert_eq!(batches_of(&records), [(3, 1)], "larger than every limit, and alone");
    assert!(records.len() > 4_000_000);
    assert_eq!(broker.ask(|brokers| brokers.iter().map(|b| b.memory_in_use().0).sum::<usize>()), 0);
}

#[test]
fn large_and_small_requests_in_one_stream_are_cut_right() {
    let broker = TestBroker::start(1, &[TOPIC]);
    let mut client = Client::connect(broker.address);
    let sizes = [100_000, 200_000, 10, 300_000, 70_000, 70_000, 10, 10, 65_536, 1, 500_000];
    let mut stream = Vec::new();
    for size in sizes {
        stream.extend_from_slice(&client.encode(9, &produce("t", 0, batch(&vec![7; size]), -1)));
    }
    let mut rest = &stream[..];
    // Cuts of every kind: inside a length, behind it, inside a header, inside a large body.
    for len in [3, 1, 5, 99_000, 2_000, 250_000, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 50_000]
        .into_iter()
        .chain([usize::MAX])
    {
        let (part, after) = rest.split_at(len.min(rest.len()));
        client.send_bytes(part);
        rest = after;
    }
    for (n, _) in sizes.iter().enumerate() {
        let response = client.receive::<ProduceRequest>(9, i32::try_from(n).unwrap());
        let row = &response.responses[0].partition_responses[0];
        assert_eq!((row.error_code, row.base_offset), (ErrorCode::None, i64::try_from(n).unwrap()));
    }
    let mut lens = Vec::new();
    for (n, _) in sizes.iter().enumerate() {
        let mut request = fetch("t", &[(0, i64::try_from(n).unwrap())]);
        request.topics[0].partitions[0].partition_max_bytes = 1;
        lens.push(records_of(&client.fetch(&request), 0).len());
    }
    let expected: Vec<_> = sizes.iter().map(|size| batch(&vec![7; *size]).len()).collect();
    assert_eq!(lens, expected);
    assert_eq!(broker.ask(|brokers| brokers[0].memory_in_use().0), 0);
}

#[test]
fn a_duplicate_of_an_idempotent_batch_gets_the_first_offset() {
    let broker = TestBroker::start(2, &[TOPIC]);
    let mut client = Client::connect(broker.address);
    let mut init = InitProducerIdRequest { transactional_id: None, ..Default::default() };
    let id = client.call(4, &init).producer_id;
    let other = client.call(4, &init).producer_id;
    assert!(id >= 0 && other >= 0 && id != other);
    let half = InitProducerIdRequest { producer_id: id, ..init.clone() };
    assert_eq!(client.call(4, &half).error_code, ErrorCode::InvalidRequest, "an id without its epoch");
    init.transactional_id = Some("tx".into());
    assert_eq!(client.call(4, &init).error_code, ErrorCode::TransactionalIdAuthorizationFailed);

    let send = |client: &mut Client, epoch: i16, sequence: i32| {
        let batch = Batch { producer: (id, epoch, sequence), ..Batch::of(&[b"a", b"b"]) };
        let row = client.produce("t", 0, batch.encode()).responses.remove(0).partition_responses.remove(0);
        (row.error_code, row.base_offset)
    };
    assert_eq!(send(&mut client, 0, 0), (ErrorCode::None, 0));
    assert_eq!(send(&mut client, 0, 2), (ErrorCode::None, 2));
    assert_eq!(send(&mut client, 0, 0), (ErrorCode::None, 0), "sent again");
    assert_eq!(send(&mut client, 0, 6).0, ErrorCode::OutOfOrderSequenceNumber);
    assert_eq!(send(&mut client, 1, 0), (ErrorCode::None, 4));
    assert_eq!(send(&mut client, 0, 4).0, ErrorCode::InvalidProducerEpoch);
}

#[test]
fn each_wrong_batch_gets_its_own_refusal() {
    const COMPACTED: Topic =
        Topic { name: "compacted", partitions: 1, configs: &[("cleanup.policy", "compact")] };
    const SMALL: Topic = Topic { name: "small", partitions: 1, configs: &[("max.message.bytes", "100")] };
    const TWO: Topic = Topic { name: "two", partitions: 1, configs: &[("min.insync.replicas", "2")] };
    let broker = TestBroker::start(2, &[TOPIC, COMPACTED, SMALL, TWO]);
    let mut client = Client::connect(broker.address);
    let good = batch(b"good");
    let changed = |at: usize, to: u8| {
        let mut bytes = good.to_vec();
        bytes[at] = to;
        Bytes::from(bytes)
    };
    let two = [&good[..], &good[..]].concat();
    let zstd = Batch { attributes: 4, ..Batch::of(&[b"x"]) }.encode();
    let transactional = Batch { attributes: 16, ..Batch::of(&[b"x"]) }.encode();
    let control = Batch { attributes: 32, ..Batch::of(&[b"x"]) }.encode();
    let future = Batch { timestamp: 1 << 60, ..Batch::of(&[b"x"]) }.encode();
    let cases: Vec<(&str, i16, &str, i32, i16, Bytes, ErrorCode)> = vec![
        ("good", 9, "t", 0, -1, good.clone(), ErrorCode::None),
        ("unknown topic", 9, "nope", 0, -1, good.clone(), ErrorCode::UnknownTopicOrPartition),
        ("unknown id", 13, "nope", 0, -1, good.clone(), ErrorCode::UnknownTopicId),
        ("unknown partition", 9, "t", 2, -1, good.clone(), ErrorCode::UnknownTopicOrPartition),
        ("negative partition", 9, "t", -1, -1, good.clone(), ErrorCode::UnknownTopicOrPartition),
        ("acks 2", 9, "t", 0, 2, good.clone(), ErrorCode::InvalidRequiredAcks),
        ("crc", 9, "t", 0, -1, changed(17, 0xff), ErrorCode::CorruptMessage),
        ("value", 9, "t", 0, -1, changed(good.len() - 2, 0), ErrorCode::CorruptMessage),
        ("magic 1", 9, "t", 0, -1, changed(16, 1), ErrorCode::InvalidRecord),
        ("nothing", 9, "t", 0, -1, Bytes::new(), ErrorCode::InvalidRecord),
        ("cut", 9, "t", 0, -1, good.slice(..good.len() - 1), ErrorCode::InvalidRecord),
        ("two batches", 9, "t", 0, -1, two.into(), ErrorCode::InvalidRecord),
        ("zstd before 7", 6, "t", 0, -1, zstd.clone(), ErrorCode::UnsupportedCompressionType),
        ("zstd", 7, "t", 0, -1, zstd, ErrorCode::None),
        ("transactional", 9, "t", 0, -1, transactional, ErrorCode::TransactionalIdAuthorizationFailed),
        ("control", 9, "t", 0, -1, control, ErrorCode::InvalidRecord),
        ("far future", 9, "t", 0, -1, future, ErrorCode::InvalidTimestamp),
        ("too large", 9, "small", 0, -1, batch(&[0; 100]), ErrorCode::MessageTooLarge),
        ("more in sync than there are replicas", 9, "two", 0, -1, good.clone(), ErrorCode::None),
        ("no key", 9, "compacted", 0, -1, good.clone(), ErrorCode::InvalidRecord),
        (
            "key",
            9,
            "compacted",
            0,
            -1,
            Batch { has_keys: true, ..Batch::of(&[b"x"]) }.encode(),
            ErrorCode::None,
        ),
    ];
    let count = cases.len();
    let mut checked = 0;
    for (case, version, topic, partition, acks, records, code) in cases {
        let response = client.call(version, &produce(topic, partition, records, acks));
        let row = &response.responses[0].partition_responses[0];
        assert_eq!((row.index, row.error_code), (partition, code), "{case}");
        assert_eq!(row.base_offset < 0, code != ErrorCode::None, "{case}");
        checked += 1;
    }
    assert_eq!(checked, count);
    // The records at fault are named.
    let keyless = Batch::of(&[b"a", b"b"]).encode();
    let row = client.produce("compacted", 0, keyless).responses.remove(0).partition_responses.remove(0);
    let named: Vec<i32> = row.record_errors.iter().map(|error| error.batch_index).collect();
    assert_eq!((row.error_code, named), (ErrorCode::InvalidRecord, vec![0, 1]));
    let mut request = produce("t", 0, good.clone(), -1);
    request.transactional_id = Some("tx".into());
    let row = client.call(9, &request).responses.remove(0).partition_responses.remove(0);
    assert_eq!(row.error_code, ErrorCode::TransactionalIdAuthorizationFailed);
    // One refusal does not touch its neighbours in the request.
    let mut request = produce("t", 0, good.clone(), -1);
    for (index, records) in [(7, good.clone()), (1, good.clone()), (1, changed(17, 0xff))] {
        request.topic_data[0]
            .partition_data
            .push(PartitionProduceData { index, records: Records::Bytes(records) });
    }
    let rows = client.call(9, &request).responses.remove(0).partition_responses;
    let codes: Vec<ErrorCode> = rows.iter().map(|row| row.error_code).collect();
    let unknown = ErrorCode::UnknownTopicOrPartition;
    assert_eq!(codes, [ErrorCode::None, unknown, ErrorCode::None, ErrorCode::CorruptMessage]);
}

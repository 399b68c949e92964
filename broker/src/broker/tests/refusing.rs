//! Damaged, unknown and oversized requests: a clear answer or a closed connection, and nobody else notices.

use super::client::{Client, batch, produce};
use super::harness::{TestBroker, Topic};
use ringlog_wire::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use ringlog_wire::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;
use ringlog_wire::{ApiKey, ErrorCode, Message, Reader, ResponseHeader};

const TOPIC: Topic = Topic { name: "t", partitions: 1, configs: &[] };

fn frame(body: &[u8]) -> Vec<u8> {
    [&u32::try_from(body.len()).unwrap().to_be_bytes(), body].concat()
}

#[test]
fn a_client_newer_than_this_broker_is_told_what_to_speak() {
    let broker = TestBroker::start(1, &[]);
    let mut client = Client::connect(broker.address);
    // Version 99, correlation id 7, no client id, no tags, and fields nobody knows.
    client.send_bytes(&frame(b"\0\x12\0\x63\0\0\0\x07\xff\xff\0something new"));
    let reply = client.receive_frame().unwrap();
    let mut reader = Reader::new(&reply);
    assert_eq!(ResponseHeader::read(&mut reader, ApiKey::ApiVersions, 0).unwrap().correlation_id, 7);
    let response = ApiVersionsResponse::decode(&mut reader, 0).unwrap();
    assert_eq!(response.error_code, ErrorCode::UnsupportedVersion);
    let [own] = &response.api_keys[..] else { panic!("only the range of ApiVersions is told") };
    assert_eq!((own.api_key, own.min_version, own.max_version), (18, 0, 4));

    let mut request =
        ApiVersionsRequest { client_software_name: "test".into(), client_software_version: "1.0".into() };
    for version in 0..=4 {
        let response = client.call(version, &request);
        assert_eq!(response.error_code, ErrorCode::None, "v{version}");
        assert!(response.api_keys.iter().any(|api| api.api_key == 0 && api.min_version == 0));
        assert!(response.api_keys.is_sorted_by(|a, b| a.api_key < b.api_key));
    }
    request.client_software_name = "no spaces allowed".into();
    assert_eq!(client.call(3, &request).error_code, ErrorCode::InvalidRequest);
    assert_eq!(client.call(2, &request).error_code, ErrorCode::None, "not sent before v3");
}

#[test]
fn the_consumer_protocol_is_listed_and_refused_for_good() {
    let broker = TestBroker::start(1, &[TOPIC]);
    let mut client = Client::connect(broker.address);
    let listed = client.call(2, &ApiVersionsRequest::default()).api_keys;
    let listed = listed.iter().find(|api| api.api_key == ApiKey::ConsumerGroupHeartbeat.code());
    assert_eq!(listed.map(|api| (api.min_version, api.max_version)), Some((0, 1)));
    let joining = ConsumerGroupHeartbeatRequest {
        group_id: "g".into(),
        member_id: "m".into(),
        subscribed_topic_names: Some(vec!["t".into()]),
        topic_partitions: Some(Vec::new()),
        ..Default::default()
    };
    for version in 0..=1 {
        assert_eq!(client.call(version, &joining).error_code, ErrorCode::UnsupportedVersion, "v{version}");
    }
}

#[test]
fn damaged_requests_close_their_connection_and_no_other() {
    let broker = TestBroker::start(2, &[TOPIC]);
    let mut neighbour = Client::connect(broker.address);
    let whole = neighbour.encode(9, &produce("t", 0, batch(b"x"), -1));
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("negative length", vec![0xff; 8]),
        ("length beyond the largest", vec![0x7f, 0xff, 0xff, 0xff]),
        ("a browser", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec()),
        ("empty", frame(b"")),
        ("shorter than a header", frame(b"\0\0\0")),
        ("unknown API", frame(b"\x03\xe7\0\0\0\0\0\x01\xff\xff")),
        ("an API that is not served", frame(b"\0\x04\0\x01\0\0\0\x01\xff\xff")),
        ("produce version 2", frame(b"\0\0\0\x02\0\0\0\x01\xff\xff")),
        ("fetch version 99", frame(b"\0\x01\0\x63\0\0\0\x01\xff\xff\0")),
        ("negative version", frame(b"\0\x01\xff\xff\0\0\0\x01\xff\xff\0")),
        (
            "an array of two thousand million",
            frame(b"\0\x02\0\x01\0\0\0\x01\xff\xff\xff\xff\xff\xff\x7f\xff\xff\xff"),
        ),
    ];
    let mut checked = 0;
    for (case, bytes) in &cases {
        let mut client = Client::connect(broker.address);
        client.send_bytes(bytes);
        assert_eq!(client.receive_frame(), None, "{case}");
        checked += 1;
    }
    assert_eq!(checked, cases.len());
    // Every cut of a good request, its length made to fit: answered or closed, never more than that.
    let body = &whole[4..];
    let mut closed = 0;
    for cut in 0..body.len() {
        let mut client = Client::connect(broker.address);
        client.send_bytes(&frame(&body[..cut]));
        closed += usize::from(client.receive_frame().is_none());
    }
    assert!(closed > body.len() / 2, "{closed} of {}", body.len());
    let row = &neighbour.produce("t", 0, batch(b"still here")).responses[0].partition_responses[0];
    assert_eq!(row.error_code, ErrorCode::None);
    broker.until(|broker| {
        broker.ask(|brokers| brokers.iter().map(|b| b.connection_count()).sum::<usize>()) == 1
    });
}

#[test]
fn a_request_may_come_byte_by_byte_and_several_at_once() {
    let broker = TestBroker::start(2, &[TOPIC]);
    let mut client = Client::connect(broker.address);
    let first = client.encode(9, &produce("t", 0, batch(b"slow"), -1));
    for byte in first.iter() {
        client.send_bytes(&[*byte]);
    }
    let response = client.receive::<ringlog_wire::produce::ProduceRequest>(9, 0);
    assert_eq!(response.responses[0].partition_responses[0].base_offset, 0);
    let many: Vec<u8> =
        (0..200).flat_map(|_| client.encode(9, &produce("t", 0, batch(b"quick"), 1)).to_vec()).collect();
    client.send_bytes(&many);
    for id in 1..=200 {
        let response = client.receive::<ringlog_wire::produce::ProduceRequest>(9, id);
        assert_eq!(response.responses[0].partition_responses[0].base_offset, i64::from(id));
    }
}

#[test]
fn connections_are_spread_evenly_over_the_shards() {
    let broker = TestBroker::start(2, &[TOPIC]);
    let mut clients: Vec<Client> = (0..20).map(|_| Client::connect(broker.address)).collect();
    for client in &mut clients {
        let row = &client.produce("t", 0, batch(b"x")).responses[0].partition_responses[0];
        assert_eq!(row.error_code, ErrorCode::None);
    }
    let counts = broker.ask(|brokers| brokers.iter().map(|b| b.connection_count()).collect::<Vec<_>>());
    assert_eq!(counts.iter().sum::<usize>(), 20);
    assert!(counts[0].abs_diff(counts[1]) <= 2, "{counts:?}");
    clients.truncate(1);
    broker.until(|broker| {
        broker.ask(|brokers| brokers.iter().map(|b| b.connection_count()).sum::<usize>()) == 1
    });
}

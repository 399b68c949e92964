//! What administrators ask of partitions: records deleted, directories, producers, leaders; and what one node has none of.

use super::client::{Batch, Client, batch, fetch};
use super::harness::{TestBroker, Topic, topic_id};
use crate::broker::Offline;
use ringlog_wire::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, ReassignablePartition, ReassignableTopic,
};
use ringlog_wire::create_acls::{AclCreation, CreateAclsRequest};
use ringlog_wire::delete_acls::{DeleteAclsFilter, DeleteAclsRequest};
use ringlog_wire::delete_records::{DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic};
use ringlog_wire::describe_acls::DescribeAclsRequest;
use ringlog_wire::describe_log_dirs::{DescribableLogDirTopic, DescribeLogDirsRequest};
use ringlog_wire::describe_producers::{self, DescribeProducersRequest};
use ringlog_wire::describe_topic_partitions::{self, Cursor, DescribeTopicPartitionsRequest};
use ringlog_wire::elect_leaders::{ElectLeadersRequest, TopicPartitions};
use ringlog_wire::list_partition_reassignments::ListPartitionReassignmentsRequest;
use ringlog_wire::{ErrorCode, Uuid};

const TOPIC: Topic = Topic { name: "t", partitions: 3, configs: &[] };
const COMPACT: Topic = Topic { name: "c", partitions: 1, configs: &[("cleanup.policy", "compact")] };

fn delete_records(client: &mut Client, topic: &str, offsets: &[(i32, i64)]) -> Vec<(i64, ErrorCode)> {
    let partition =
        |&(partition_index, offset): &(i32, i64)| DeleteRecordsPartition { partition_index, offset };
    let partitions = offsets.iter().map(partition).collect();
    let request = DeleteRecordsRequest {
        topics: vec![DeleteRecordsTopic { name: topic.into(), partitions }],
        timeout_ms: 30_000,
    };
    let [topic] = &client.call(2, &request).topics[..] else { panic!("one topic") };
    topic.partitions.iter().map(|row| (row.low_watermark, row.error_code)).collect()
}

#[test]
fn deleted_records_are_gone_and_what_cannot_be_deleted_is_refused() {
    let broker = TestBroker::start(2, &[TOPIC, COMPACT]);
    let mut client = Client::connect(broker.address);
    for partition in 0..3 {
        for _ in 0..10 {
            client.produce("t", partition, batch(b"x"));
        }
    }
    let ok = |offset| (offset, ErrorCode::None);
    let out_of_range = (-1, ErrorCode::OffsetOutOfRange);
    let unknown = (-1, ErrorCode::UnknownTopicOrPartition);
    let asked = [(0, 3), (1, -1), (2, 11), (9, 0)];
    assert_eq!(delete_records(&mut client, "t", &asked), [ok(3), ok(10), out_of_range, unknown]);
    assert_eq!(delete_records(&mut client, "t", &[(0, 2), (1, -1), (2, -2)]), [ok(3), ok(10), out_of_range]);
    assert_eq!(delete_records(&mut client, "x", &[(0, 0)]), [unknown]);
    assert_eq!(delete_records(&mut client, "c", &[(0, 0)]), [(-1, ErrorCode::PolicyViolation)]);
    let mut read = |offset| {
        let row = client.fetch(&fetch("t", &[(0, offset)])).responses.remove(0).partitions.remove(0);
        (row.error_code, row.log_start_offset, !row.records.is_empty())
    };
    assert_eq!(read(2), (ErrorCode::OffsetOutOfRange, -1, false));
    assert_eq!(read(3), (ErrorCode::None, 3, true));
    let metadata = ringlog_wire::metadata::MetadataRequest {
        topics: Some(vec![ringlog_wire::metadata::MetadataRequestTopic {
            name: Some("__consumer_offsets".into()),
            ..Default::default()
        }]),
        allow_auto_topic_creation: true,
        ..Default::default()
    };
    assert_eq!(client.call(9, &metadata).topics[0].error_code, ErrorCode::None);
    let internal = delete_records(&mut client, "__consumer_offsets", &[(0, 0)]);
    assert_eq!(internal, [(-1, ErrorCode::InvalidTopicException)]);
}

#[test]
fn data_directories_are_described_with_what_lies_in_them() {
    let broker = TestBroker::start(2, &[TOPIC, COMPACT]);
    let mut client = Client::connect(broker.address);
    let sent = batch(b"x");
    client.produce("t", 1, sent.clone());
    client.produce("t", 1, sent.clone());
    let mut describe = |version, topics: Option<Vec<(&str, Vec<i32>)>>| {
        let topic = |(topic, partitions): (&str, Vec<i32>)| DescribableLogDirTopic {
            topic: topic.into(),
            partitions,
        };
        let request =
            DescribeLogDirsRequest { topics: topics.map(|topics| topics.into_iter().map(topic).collect()) };
        let [dir] = &client.call(version, &request).results[..] else { panic!("one directory") };
        assert_eq!(dir.error_code, ErrorCode::None);
        assert!(dir.log_dir.starts_with('/'), "{}", dir.log_dir);
        let capacity = (dir.total_bytes > 0, dir.usable_bytes >= 0, dir.usable_bytes <= dir.total_bytes);
        assert!(capacity == (true, true, true) || version < 4, "{dir:?}");
        let mut found = Vec::new();
        for topic in &dir.topics {
            for row in &topic.partitions {
                found.push((topic.name.to_string(), row.partition_index, row.partition_size));
            }
        }
        found
    };
    let size = i64::try_from(2 * sent.len()).unwrap();
    let all: Vec<(String, i32, i64)> =
        vec![("c".into(), 0, 0), ("t".into(), 0, 0), ("t".into(), 1, size), ("t".into(), 2, 0)];
    for version in 1..=5 {
        assert_eq!(describe(version, None), all, "version {version}");
    }
    assert_eq!(describe(4, Some(vec![("t", vec![1, 7]), ("x", vec![0])])), all[2..3]);
    assert_eq!(describe(4, Some(vec![])), []);
}

#[test]
fn producers_are_known_by_what_they_wrote_last() {
    let broker = TestBroker::start(2, &[TOPIC]);
    let mut client = Client::connect(broker.address);
    let numbered = |sequence| Batch { producer: (7, 2, sequence), ..Batch::of(&[b"a", b"b"]) }.encode();
    for sequence in [0, 2] {
        client.produce("t", 1, numbered(sequence));
    }
    client.produce("t", 1, batch(b"nobody"));
    let mut describe = |topic: &str, partition: i32| {
        let topic =
            describe_producers::TopicRequest { name: topic.into(), partition_indexes: vec![partition] };
        let response = client.call(0, &DescribeProducersRequest { topics: vec![topic] });
        let row = &response.topics[0].partitions[0];
        assert_eq!(row.partition_index, partition);
        let producers = row.active_producers.iter();
        let state = |one: &describe_producers::ProducerState| {
            (one.producer_id, one.producer_epoch, one.last_sequence, one.last_timestamp)
        };
        (row.error_code, producers.map(state).collect::<Vec<_>>())
    };
    assert_eq!(describe("t", 1), (ErrorCode::None, vec![(7, 2, 3, 1_700_000_000_000)]));
    assert_eq!(describe("t", 0), (ErrorCode::None, vec![]));
    assert_eq!(describe("t", 9).0, ErrorCode::UnknownTopicOrPartition);
    assert_eq!(describe("a b", 0).0, ErrorCode::InvalidTopicException);
}

#[test]
fn topics_are_described_a_part_at_a_time() {
    let broker = TestBroker::start(1, &[TOPIC, COMPACT, Topic { name: "b", ..TOPIC }]);
    let mut client = Client::connect(broker.address);
    /// Topic, error, partitions; and where to go on.
    type Part = (Vec<(String, ErrorCode, Vec<i32>)>, Option<(String, i32)>);
    let mut describe = |names: &[&str], limit, cursor: Option<(&str, i32)>| -> Part {
        let topic = |name: &&str| describe_topic_partitions::TopicRequest { name: (*name).into() };
        let request = DescribeTopicPartitionsRequest {
            topics: names.iter().map(topic).collect(),
            response_partition_limit: limit,
            cursor: cursor
                .map(|(topic, partition_index)| Cursor { topic_name: topic.into(), partition_index }),
        };
        let response = client.call(0, &request);
        let mut topics = Vec::new();
        for topic in response.topics {
            let known = topic.error_code == ErrorCode::None;
            let name = topic.name.unwrap_or_default().to_string();
            assert_eq!(topic.topic_id, if known { topic_id(&name) } else { Uuid::ZERO });
            for partition in &topic.partitions {
                assert_eq!((partition.leader_id, partition.leader_epoch), (1, 4));
                assert_eq!((&partition.replica_nodes[..], &partition.isr_nodes[..]), (&[1][..], &[1][..]));
            }
            let indexes = topic.partitions.iter().map(|partition| partition.partition_index);
            topics.push((name, topic.error_code, indexes.collect()));
        }
        (topics, response.next_cursor.map(|cursor| (cursor.topic_name.to_string(), cursor.partition_index)))
    };
    let row = |name: &str, indexes: &[i32]| (name.to_owned(), ErrorCode::None, indexes.to_vec());
    let all = vec![row("b", &[0, 1, 2]), row("c", &[0]), row("t", &[0, 1, 2])];
    assert_eq!(describe(&[], 2000, None), (all, None));
    let (part, next) = describe(&[], 4, None);
    assert_eq!((part, next), (vec![row("b", &[0, 1, 2]), row("c", &[0])], Some(("t".into(), 0))));
    let (part, next) = describe(&[], 2, Some(("b", 1)));
    assert_eq!((part, next), (vec![row("b", &[1, 2])], Some(("c".into(), 0))));
    let (part, next) = describe(&["t", "b"], 0, Some(("t", 1)));
    assert_eq!((part, next), (vec![row("t", &[1])], Some(("t".into(), 2))));
    let (part, next) = describe(&["a b", "c", "x"], 2000, None);
    let refused = |name: &str, code| (name.to_owned(), code, vec![]);
    let expected = vec![
        refused("a b", ErrorCode::InvalidTopicException),
        row("c", &[0]),
        refused("x", ErrorCode::UnknownTopicOrPartition),
    ];
    assert_eq!((part, next), (expected, None));
    for cursor in [("x", 0), ("t", -1)] {
        let (part, next) = describe(&["t"], 9, Some(cursor));
        assert_eq!((part, next), (vec![refused("t", ErrorCode::InvalidRequest)], None));
    }
    assert_eq!(describe(&[], 9, Some(("t", 9))), (vec![row("t", &[])], None), "past the topic's end");
}

#[test]
fn one_node_leads_all_and_moves_nothing() {
    let broker = TestBroker::start(1, &[TOPIC]);
    let mut client = Client::connect(broker.address);
    let mut elect = |election_type, topic_partitions| {
        let request = ElectLeadersRequest { election_type, topic_partitions, timeout_ms: 1000 };
        let response = client.call(2, &request);
        let rows = response.replica_election_results.iter().flat_map(|topic| &topic.partition_result);
        (response.error_code, rows.map(|row| row.error_code).collect::<Vec<_>>())
    };
    let some = vec![
        TopicPartitions { topic: "t".into(), partitions: vec![0, 9] },
        TopicPartitions { topic: "x".into(), partitions: vec![0] },
    ];
    let unknown = ErrorCode::UnknownTopicOrPartition;
    let expected = vec![ErrorCode::ElectionNotNeeded, unknown, unknown];
    for election_type in [0, 1] {
        assert_eq!(elect(election_type, Some(some.clone())), (ErrorCode::None, expected.clone()));
        assert_eq!(elect(election_type, None), (ErrorCode::None, vec![]));
    }
    assert_eq!(elect(2, None).0, ErrorCode::InvalidRequest);

    let mut reassign = |name: &str, partition_index, replicas: Option<Vec<i32>>| {
        let partitions = vec![ReassignablePartition { partition_index, replicas }];
        let topics = vec![ReassignableTopic { name: name.into(), partitions }];
        let request = AlterPartitionReassignmentsRequest { topics, ..Default::default() };
        let response = client.call(1, &request);
        assert_eq!(response.error_code, ErrorCode::None);
        response.responses[0].partitions[0].error_code
    };
    assert_eq!(reassign("t", 0, Some(vec![1])), ErrorCode::None);
    for replicas in [vec![], vec![2], vec![1, 2], vec![1, 1]] {
        assert_eq!(reassign("t", 0, Some(replicas)), ErrorCode::InvalidReplicaAssignment);
    }
    assert_eq!(reassign("t", 0, None), ErrorCode::NoReassignmentInProgress);
    assert_eq!(reassign("t", 9, None), unknown);
    assert_eq!(reassign("x", 0, None), unknown);
    let response = client.call(0, &ListPartitionReassignmentsRequest::default());
    assert_eq!((response.error_code, response.topics.len()), (ErrorCode::None, 0));
}

#[test]
fn what_is_offline_is_told_as_offline() {
    let broker = TestBroker::start(2, &[TOPIC]);
    let mut client = Client::connect(broker.address);
    client.produce("t", 0, batch(b"x"));
    broker.ask(|brokers| brokers[0].go_offline(Offline::Directory(brokers[0].directories().dirs[0].id)));
    broker.until(|broker| {
        broker.ask(|brokers| brokers.iter().map(|broker| broker.offline_partitions()).sum::<usize>() == 3)
    });
    let response = client.call(4, &DescribeLogDirsRequest { topics: None });
    let [dir] = &response.results[..] else { panic!("one directory") };
    assert_eq!((dir.error_code, dir.topics.len()), (ErrorCode::KafkaStorageError, 0));
    let offline = (-1, ErrorCode::KafkaStorageError);
    assert_eq!(delete_records(&mut client, "t", &[(0, 1), (1, 0)]), [offline, offline]);
    let described = client.call(0, &DescribeTopicPartitionsRequest::default());
    for partition in &described.topics[0].partitions {
        assert_eq!((partition.leader_id, &partition.offline_replicas[..]), (-1, &[1][..]));
    }
    for (election_type, code) in
        [(0, ErrorCode::PreferredLeaderNotAvailable), (1, ErrorCode::EligibleLeadersNotAvailable)]
    {
        let request = ElectLeadersRequest { election_type, topic_partitions: None, timeout_ms: 1000 };
        let rows = client.call(2, &request).replica_election_results.remove(0).partition_result;
        assert_eq!(rows.iter().map(|row| row.error_code).collect::<Vec<_>>(), [code; 3]);
    }
}

#[test]
fn there_are_no_access_rules_and_clients_are_told_so() {
    let broker = TestBroker::start(1, &[]);
    let mut client = Client::connect(broker.address);
    for version in 1..=3 {
        let response = client.call(version, &DescribeAclsRequest::default());
        assert_eq!(response.error_code, ErrorCode::SecurityDisabled);
        let creations = vec![AclCreation::default(); 2];
        let results = client.call(version, &CreateAclsRequest { creations }).results;
        let codes: Vec<_> = results.iter().map(|result| result.error_code).collect();
        assert_eq!(codes, [ErrorCode::SecurityDisabled; 2]);
        let filters = vec![DeleteAclsFilter::default()];
        let results = client.call(version, &DeleteAclsRequest { filters }).filter_results;
        assert_eq!((results.len(), results[0].error_code), (1, ErrorCode::SecurityDisabled));
    }
}

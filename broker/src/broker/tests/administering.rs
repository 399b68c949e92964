//! Topics: created, asked for, grown, deleted; and what the broker says of itself.

use super::client::{Client, batch, fetch, produce};
use super::harness::{TestBroker, Topic, topic_id};
use ringlog_wire::api_versions::ApiVersionsRequest;
use ringlog_wire::create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic};
use ringlog_wire::create_topics::{CreatableTopic, CreateTopicsRequest};
use ringlog_wire::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use ringlog_wire::describe_cluster::DescribeClusterRequest;
use ringlog_wire::describe_configs::{DescribeConfigsRequest, DescribeConfigsResource};
use ringlog_wire::find_coordinator::FindCoordinatorRequest;
use ringlog_wire::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use ringlog_wire::{ErrorCode, Uuid};

const TOPIC: Topic = Topic { name: "t", partitions: 3, configs: &[] };

fn by_name(names: &[&str], create: bool) -> MetadataRequest {
    let topic = |name: &&str| MetadataRequestTopic { name: Some((*name).into()), ..Default::default() };
    MetadataRequest {
        topics: Some(names.iter().map(topic).collect()),
        allow_auto_topic_creation: create,
        ..Default::default()
    }
}

fn codes(response: &MetadataResponse) -> Vec<ErrorCode> {
    response.topics.iter().map(|topic| topic.error_code).collect()
}

#[test]
fn metadata_tells_of_topics_in_every_version() {
    let broker = TestBroker::start(2, &[TOPIC]);
    let mut client = Client::connect(broker.address);
    for version in 0..=13 {
        let response = client.call(version, &by_name(&["t"], false));
        let [node] = &response.brokers[..] else { panic!("one broker") };
        assert_eq!((&*node.host, node.port), ("127.0.0.1", i32::from(broker.address.port())));
        let [topic] = &response.topics[..] else { panic!("one topic") };
        assert_eq!((topic.error_code, topic.partitions.len()), (ErrorCode::None, 3), "v{version}");
        assert_eq!(topic.topic_id, if version >= 10 { topic_id("t") } else { Uuid::ZERO });
        for partition in &topic.partitions {
            assert_eq!((partition.leader_id, &partition.isr_nodes[..]), (node.node_id, &[node.node_id][..]));
            assert_eq!(partition.leader_epoch, if version >= 7 { 4 } else { -1 });
        }
    }
    let all = MetadataRequest { topics: None, ..Default::default() };
    assert_eq!(client.call(9, &all).topics.len(), 1);
    let none = MetadataRequest { topics: Some(vec![]), ..Default::default() };
    assert_eq!(client.call(9, &none).topics.len(), 0);
    assert_eq!(client.call(0, &none).topics.len(), 1, "in version 0 none means all");
    let by_id = |id: Uuid| MetadataRequest {
        topics: Some(vec![MetadataRequestTopic { topic_id: id, name: None }]),
        ..Default::default()
    };
    assert_eq!(codes(&client.call(12, &by_id(topic_id("t")))), [ErrorCode::None]);
    assert_eq!(codes(&client.call(12, &by_id(topic_id("x")))), [ErrorCode::UnknownTopicId]);
    assert_eq!(codes(&client.call(11, &by_id(topic_id("t")))), [ErrorCode::InvalidRequest]);
    assert_eq!(codes(&client.call(4, &by_name(&["x"], false))), [ErrorCode::UnknownTopicOrPartition]);
    assert_eq!(codes(&client.call(4, &by_name(&["a b"], true))), [ErrorCode::InvalidTopicException]);
}

#[test]
fn a_topic_that_metadata_has_created_takes_data_at_once() {
    let broker = TestBroker::with(2, &["num.partitions=4"], &[]);
    let mut client = Client::connect(broker.address);
    for n in 0..10 {
        let name = format!("made-{n}");
        let response = client.call(9, &by_name(&[&name], true));
        assert_eq!((codes(&response), response.topics[0].partitions.len()), (vec![ErrorCode::None], 4));
        for partition in 0..4 {
            let response = client.produce(&name, partition, batch(b"x"));
            assert_eq!(response.responses[0].partition_responses[0].error_code, ErrorCode::None);
        }
    }
    drop(client);
    let broker = TestBroker::with(1, &["auto.create.topics.enable=false"], &[]);
    let mut client = Client::connect(broker.address);
    assert_eq!(codes(&client.call(4, &by_name(&["x"], true))), [ErrorCode::UnknownTopicOrPartition]);
}

#[test]
fn topics_are_created_grown_and_deleted() {
    let broker = TestBroker::start(2, &[TOPIC]);
    let mut client = Client::connect(broker.address);
    let topic = |name: &str, partitions: i32| CreatableTopic {
        name: name.into(),
        num_partitions: partitions,
        replication_factor: -1,
        ..Default::default()
    };
    let topics = vec![
        topic("new", 2),
        topic("t", 1),
        topic("bad name", 1),
        topic("none", 0),
        topic("twice", 1),
        topic("twice", 1),
    ];
    let request = CreateTopicsRequest { topics, ..Default::default() };
    let results = client.call(7, &request).topics;
    let got: Vec<ErrorCode> = results.iter().map(|result| result.error_code).collect();
    let expected = [
        ErrorCode::None,
        ErrorCode::TopicAlreadyExists,
        ErrorCode::InvalidTopicException,
        ErrorCode::InvalidPartitions,
        ErrorCode::InvalidRequest,
    ];
    assert_eq!(got, expected);
    assert!(!results[0].topic_id.is_zero() && results[0].num_partitions == 2);
    assert_eq!(results[1].name, "t", "refusals name their topic");
    let id = results[0].topic_id;

    let grow = |name: &str, count: i32| CreatePartitionsRequest {
        topics: vec![CreatePartitionsTopic { name: name.into(), count, assignments: None }],
        ..Default::default()
    };
    assert_eq!(client.call(3, &grow("new", 5)).results[0].error_code, ErrorCode::None);
    assert_eq!(client.call(3, &grow("new", 5)).results[0].error_code, ErrorCode::InvalidPartitions);
    assert_eq!(client.call(3, &grow("x", 5)).results[0].error_code, ErrorCode::UnknownTopicOrPartition);
    let mut twice = grow("new", 7);
    twice.topics.push(twice.topics[0].clone());
    let results = client.call(3, &twice).results;
    assert_eq!((results.len(), results[0].error_code), (1, ErrorCode::InvalidRequest));
    let response = client.produce("new", 4, batch(b"x"));
    assert_eq!(response.responses[0].partition_responses[0].error_code, ErrorCode::None);

    let state = |name: Option<&str>, id: Uuid| DeleteTopicState { name: name.map(Into::into), topic_id: id };
    let mut delete = |topics: Vec<DeleteTopicState>| -> Vec<ErrorCode> {
        let responses = client.call(6, &DeleteTopicsRequest { topics, ..Default::default() }).responses;
        responses.iter().map(|result| result.error_code).collect()
    };
    // What is not clear is refused and nothing of it deleted, least of all a name with somebody else's id.
    let unclear = vec![
        state(Some("t"), topic_id("x")),
        state(None, Uuid::ZERO),
        state(Some("t"), Uuid::ZERO),
        state(Some("t"), Uuid::ZERO),
        state(None, id),
        state(None, id),
    ];
    assert_eq!(delete(unclear), [ErrorCode::InvalidRequest; 4]);
    let clear = vec![state(None, id), state(Some("t"), Uuid::ZERO), state(Some("x"), Uuid::ZERO)];
    assert_eq!(delete(clear), [ErrorCode::None, ErrorCode::None, ErrorCode::UnknownTopicOrPartition]);
    let response = client.call(9, &produce("new", 4, batch(b"x"), -1));
    let code = response.responses[0].partition_responses[0].error_code;
    assert_eq!(code, ErrorCode::UnknownTopicOrPartition);
    // A namesake is another topic, and empty.
    let again = CreateTopicsRequest { topics: vec![topic("new", 1)], ..Default::default() };
    let result = client.call(5, &again).topics.remove(0);
    assert_eq!(result.error_code, ErrorCode::None);
    let row = client.fetch(&fetch("new", &[(0, 0)])).responses.remove(0).partitions.remove(0);
    assert_eq!((row.error_code, row.high_watermark), (ErrorCode::None, 0));
}

#[test]
fn a_deleted_topic_wakes_the_fetches_that_wait_for_it() {
    let broker = TestBroker::start(2, &[TOPIC]);
    let mut consumer = Client::connect(broker.address);
    let mut request = fetch("t", &[(0, 0), (1, 0)]);
    request.max_wait_ms = 600_000;
    let id = consumer.send(12, &request);
    broker.until(|broker| broker.parked() > 0);
    let topic_names = vec!["t".into()];
    Client::connect(broker.address).call(3, &DeleteTopicsRequest { topic_names, ..Default::default() });
    let response = consumer.receive::<ringlog_wire::fetch::FetchRequest>(12, id);
    assert_eq!(response.responses[0].partitions[0].error_code, ErrorCode::NotLeaderOrFollower);
}

#[test]
fn configs_and_the_cluster_are_described() {
    let topic = Topic { name: "t", partitions: 1, configs: &[("retention.ms", "5")] };
    let broker = TestBroker::with(1, &["message.max.bytes=2000"], &[topic]);
    let mut client = Client::connect(broker.address);
    let mut describe = |resource_type: i8, name: &str, keys: Option<Vec<&str>>| {
        let configuration_keys = keys.map(|keys| keys.into_iter().map(Into::into).collect());
        let resource =
            DescribeConfigsResource { resource_type, resource_name: name.into(), configuration_keys };
        let request = DescribeConfigsRequest {
            resources: vec![resource],
            include_synonyms: true,
            include_documentation: true,
        };
        client.call(4, &request).results.remove(0)
    };
    let all = describe(2, "t", None);
    let value = |name: &str| {
        let config = all.configs.iter().find(|config| config.name == name).expect("listed");
        (config.value.as_deref().unwrap().to_owned(), config.config_source, config.synonyms.len())
    };
    assert_eq!(value("retention.ms"), ("5".into(), 1, 2));
    assert_eq!(value("max.message.bytes"), ("2000".into(), 4, 2));
    assert_eq!(value("cleanup.policy"), ("delete".into(), 5, 1));
    assert_eq!(describe(2, "t", Some(vec!["cleanup.policy"])).configs.len(), 1);
    assert!(describe(4, "1", None).configs.len() > 20);
    assert_eq!(describe(2, "x", None).error_code, ErrorCode::UnknownTopicOrPartition);
    assert_eq!(describe(2, "a b", None).error_code, ErrorCode::InvalidTopicException);
    assert_eq!(describe(4, "9", None).error_code, ErrorCode::InvalidRequest);
    assert_eq!(describe(77, "9", None).error_code, ErrorCode::InvalidRequest);

    let cluster = client.call(2, &DescribeClusterRequest { endpoint_type: 1, ..Default::default() });
    assert_eq!((cluster.brokers.len(), cluster.controller_id), (1, 1));
    let cluster = client.call(1, &DescribeClusterRequest { endpoint_type: 2, ..Default::default() });
    assert_eq!(cluster.error_code, ErrorCode::MismatchedEndpointType);
    let mut coordinator = FindCoordinatorRequest { key: "g".into(), ..Default::default() };
    let found = client.call(2, &coordinator);
    assert_eq!((found.error_code, found.node_id), (ErrorCode::None, 1));
    coordinator.key_type = 1;
    let refused = client.call(2, &coordinator).error_code;
    assert_eq!(refused, ErrorCode::TransactionalIdAuthorizationFailed);
    assert_eq!(client.call(0, &ApiVersionsRequest::default()).api_keys.len(), crate::api::APIS.len());
}

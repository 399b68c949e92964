//! Configs changed while the broker runs: they count from the answer on, on every shard.

use super::client::{Client, batch};
use super::harness::{TestBroker, Topic};
use ringlog_wire::ErrorCode;
use ringlog_wire::alter_configs::{self, AlterConfigsRequest};
use ringlog_wire::api_versions::ApiVersionsRequest;
use ringlog_wire::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult,
};
use ringlog_wire::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use ringlog_wire::list_config_resources::ListConfigResourcesRequest;

const TOPIC: Topic = Topic { name: "t", partitions: 3, configs: &[] };

const TOPIC_TYPE: i8 = 2;
const BROKER_TYPE: i8 = 4;
const LOGGER_TYPE: i8 = 8;
const GROUP_TYPE: i8 = 32;
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;

/// One resource and what is done to it: config, operation, value.
fn resource(kind: i8, name: &str, changes: &[(&str, i8, Option<&str>)]) -> AlterConfigsResource {
    let config = |(name, config_operation, value): &(&str, i8, Option<&str>)| AlterableConfig {
        name: (*name).into(),
        config_operation: *config_operation,
        value: value.map(Into::into),
    };
    let configs = changes.iter().map(config).collect();
    AlterConfigsResource { resource_type: kind, resource_name: name.into(), configs }
}

fn alter(client: &mut Client, resources: Vec<AlterConfigsResource>) -> Vec<ErrorCode> {
    let request = IncrementalAlterConfigsRequest { resources, validate_only: false };
    client.call(1, &request).responses.iter().map(|response| response.error_code).collect()
}

fn described(client: &mut Client, kind: i8, name: &str, key: &str) -> Option<DescribeConfigsResourceResult> {
    let resource = DescribeConfigsResource {
        resource_type: kind,
        resource_name: name.into(),
        configuration_keys: Some(vec![key.into()]),
    };
    let request =
        DescribeConfigsRequest { resources: vec![resource], include_synonyms: true, ..Default::default() };
    let result = client.call(4, &request).results.remove(0);
    assert_eq!(result.error_code, ErrorCode::None, "{:?}", result.error_message);
    result.configs.into_iter().next()
}

/// The value in force, where it comes from, and all places of it.
fn value(client: &mut Client, kind: i8, name: &str, key: &str) -> (String, i8, Vec<(String, i8)>) {
    let config = described(client, kind, name, key).expect("it is listed");
    let synonym =
        |value: Option<_>, source| (value.map(|value| format!("{value}")).unwrap_or_default(), source);
    let synonyms = config.synonyms.into_iter().map(|one| synonym(one.value, one.source)).collect();
    (config.value.unwrap_or_default().to_string(), config.config_source, synonyms)
}

/// What a batch of about 200 bytes comes to in each of the topic's partitions, which lie on different shards.
fn produce(client: &mut Client) -> Vec<ErrorCode> {
    let one = |partition| {
        let response = client.produce("t", partition, batch(&[b'x'; 200]));
        response.responses[0].partition_responses[0].error_code
    };
    (0..3).map(one).collect()
}

#[test]
fn a_change_counts_from_its_answer_on_wherever_a_partition_lies() {
    let broker = TestBroker::start(2, &[TOPIC]);
    let mut client = Client::connect(broker.address);
    let none = vec![ErrorCode::None];
    let (taken, refused) = (vec![ErrorCode::None; 3], vec![ErrorCode::MessageTooLarge; 3]);
    let small = Some("100");
    assert_eq!(produce(&mut client), taken);
    let key = "max.message.bytes";
    assert_eq!(alter(&mut client, vec![resource(TOPIC_TYPE, "t", &[(key, SET, small)])]), none);
    assert_eq!(produce(&mut client), refused, "set on the topic");
    let of_topic = vec![("100".into(), 1), ("1048588".into(), 5)];
    assert_eq!(value(&mut client, TOPIC_TYPE, "t", key), ("100".into(), 1, of_topic));
    assert_eq!(alter(&mut client, vec![resource(TOPIC_TYPE, "t", &[(key, DELETE, None)])]), none);
    assert_eq!(produce(&mut client), taken, "reset");

    let broker_key = "message.max.bytes";
    assert_eq!(alter(&mut client, vec![resource(BROKER_TYPE, "", &[(broker_key, SET, small)])]), none);
    assert_eq!(produce(&mut client), refused, "set for all brokers");
    let of_all = vec![("100".into(), 3), ("1048588".into(), 5)];
    assert_eq!(value(&mut client, TOPIC_TYPE, "t", key), ("100".into(), 3, of_all.clone()));
    assert_eq!(value(&mut client, BROKER_TYPE, "1", broker_key), ("100".into(), 3, of_all));
    let large = Some("1000");
    assert_eq!(alter(&mut client, vec![resource(BROKER_TYPE, "1", &[(broker_key, SET, large)])]), none);
    assert_eq!(produce(&mut client), taken, "set for this broker");
    let of_both = vec![("1000".into(), 2), ("100".into(), 3), ("1048588".into(), 5)];
    assert_eq!(value(&mut client, TOPIC_TYPE, "t", key), ("1000".into(), 2, of_both));
    let all = value(&mut client, BROKER_TYPE, "", broker_key);
    assert_eq!(all, ("100".into(), 3, vec![("100".into(), 3)]), "all brokers have their own view");
    let both = vec![
        resource(BROKER_TYPE, "1", &[(broker_key, DELETE, None)]),
        resource(BROKER_TYPE, "", &[(broker_key, DELETE, None)]),
    ];
    assert_eq!(alter(&mut client, both), [ErrorCode::None; 2]);
    assert_eq!(value(&mut client, TOPIC_TYPE, "t", key).1, 5);
    assert_eq!(described(&mut client, BROKER_TYPE, "", broker_key), None);
}

#[test]
fn what_is_not_clear_is_refused_and_nothing_of_it_done() {
    let broker = TestBroker::start(1, &[TOPIC]);
    let mut client = Client::connect(broker.address);
    let set = |name, value| (name, SET, Some(value));
    let resources = vec![
        resource(TOPIC_TYPE, "t", &[set("retention.ms", "5"), set("retention.ms", "6")]),
        resource(TOPIC_TYPE, "x", &[set("retention.ms", "5")]),
        resource(TOPIC_TYPE, "a b", &[set("retention.ms", "5")]),
        resource(BROKER_TYPE, "9", &[set("log.retention.ms", "5")]),
        resource(BROKER_TYPE, "b", &[set("log.retention.ms", "5")]),
        resource(BROKER_TYPE, "1", &[set("num.partitions", "5")]),
        resource(LOGGER_TYPE, "1", &[set("some.logger", "INFO")]),
        resource(GROUP_TYPE, "g", &[set("consumer.session.timeout.ms", "5")]),
        resource(64, "g", &[set("consumer.session.timeout.ms", "5")]),
    ];
    let expected = [
        ErrorCode::InvalidRequest,
        ErrorCode::UnknownTopicOrPartition,
        ErrorCode::InvalidTopicException,
        ErrorCode::InvalidRequest,
        ErrorCode::InvalidRequest,
        ErrorCode::InvalidRequest,
        ErrorCode::InvalidConfig,
        ErrorCode::InvalidConfig,
        ErrorCode::InvalidRequest,
    ];
    assert_eq!(alter(&mut client, resources), expected);
    for (changes, code) in [
        (vec![("retention.ms", SET, None)], ErrorCode::InvalidRequest),
        (vec![("retention.ms", 9, Some("5"))], ErrorCode::InvalidRequest),
        (vec![("retention.ms", APPEND, Some("5"))], ErrorCode::InvalidConfig),
        (vec![set("flush.ms", "5"), set("retention.ms", "x")], ErrorCode::InvalidConfig),
        (vec![set("flush.ms", "5"), set("no.such", "x")], ErrorCode::InvalidConfig),
    ] {
        assert_eq!(alter(&mut client, vec![resource(TOPIC_TYPE, "t", &changes)]), [code], "{changes:?}");
    }
    let twice = vec![resource(TOPIC_TYPE, "t", &[set("flush.ms", "5")]); 2];
    assert_eq!(alter(&mut client, twice), [ErrorCode::InvalidRequest; 2]);
    let resources = vec![resource(TOPIC_TYPE, "t", &[set("flush.ms", "5")])];
    let request = IncrementalAlterConfigsRequest { resources, validate_only: true };
    assert_eq!(client.call(0, &request).responses[0].error_code, ErrorCode::None);
    assert_eq!(value(&mut client, TOPIC_TYPE, "t", "flush.ms").1, 5, "nothing has changed");
}

#[test]
fn the_older_request_resets_what_it_does_not_name() {
    let broker = TestBroker::start(1, &[Topic { configs: &[("retention.ms", "5")], ..TOPIC }]);
    let mut client = Client::connect(broker.address);
    let mut replace = |configs: &[(&str, Option<&str>)]| {
        let config = |(name, value): &(&str, Option<&str>)| alter_configs::AlterableConfig {
            name: (*name).into(),
            value: value.map(Into::into),
        };
        let resource = alter_configs::AlterConfigsResource {
            resource_type: TOPIC_TYPE,
            resource_name: "t".into(),
            configs: configs.iter().map(config).collect(),
        };
        let request = AlterConfigsRequest { resources: vec![resource], validate_only: false };
        client.call(2, &request).responses[0].error_code
    };
    assert_eq!(replace(&[("flush.ms", None)]), ErrorCode::InvalidRequest);
    assert_eq!(replace(&[("flush.ms", Some("x"))]), ErrorCode::InvalidConfig);
    assert_eq!(replace(&[("flush.ms", Some("7"))]), ErrorCode::None);
    assert_eq!(value(&mut client, TOPIC_TYPE, "t", "flush.ms").0, "7");
    assert_eq!(value(&mut client, TOPIC_TYPE, "t", "retention.ms").1, 5);
}

#[test]
fn what_has_configs_is_listed() {
    let broker = TestBroker::start(1, &[TOPIC]);
    let mut client = Client::connect(broker.address);
    let mut list = |version, resource_types: &[i8]| {
        let request = ListConfigResourcesRequest { resource_types: resource_types.to_vec() };
        let response = client.call(version, &request);
        let all = response.config_resources.iter();
        (response.error_code, all.map(|one| (one.resource_type, one.resource_name.to_string())).collect())
    };
    let all = vec![(TOPIC_TYPE, "t".to_owned()), (BROKER_TYPE, "1".into()), (LOGGER_TYPE, "1".into())];
    assert_eq!(list(1, &[]), (ErrorCode::None, all.clone()));
    assert_eq!(list(1, &[TOPIC_TYPE]), (ErrorCode::None, all[..1].to_vec()));
    assert_eq!(list(1, &[77]), (ErrorCode::UnsupportedVersion, vec![]));
    assert_eq!(list(0, &[]), (ErrorCode::None, vec![]));
}

#[test]
fn limits_of_connections_change_at_once_and_a_listener_has_its_own_on_one_broker() {
    let broker = TestBroker::with(2, &["max.connections.per.ip=50"], &[]);
    let mut client = Client::connect(broker.address);
    let mut set = |name: &str, key, value| {
        alter(&mut client, vec![resource(BROKER_TYPE, name, &[(key, SET, Some(value))])])
    };
    let (none, refused) = (vec![ErrorCode::None], vec![ErrorCode::InvalidRequest]);
    let of_listener = "listener.name.plaintext.max.connections";
    assert_eq!(set("", "max.connections.per.ip", "many"), refused);
    assert_eq!(set("", "max.connections.per.ip.overrides", "localhost:2"), refused);
    assert_eq!(set("", of_listener, "2"), refused, "only for one broker");
    assert_eq!(set("1", of_listener, "two"), refused);
    assert_eq!(set("", "max.connections.per.ip.overrides", "127.0.0.1:2"), none);
    let mut second = Client::connect(broker.address);
    // Which is accepted once it is answered: on another shard the third might come before it.
    second.call(0, &ApiVersionsRequest::default());
    let mut third = Client::connect(broker.address);
    assert_eq!(third.receive_frame(), None, "closed at once");
    assert_eq!(set("", "max.connections.per.ip.overrides", ""), none);
    assert_eq!(set("1", of_listener, "2"), none);
    // It stays with the kernel until another has gone.
    let mut third = Client::connect(broker.address);
    third.send(0, &ApiVersionsRequest::default());
    broker.until(|broker| broker.ask(|brokers| brokers[0].quota_counts().delayed > 0));
    drop(second);
    assert!(third.receive_frame().is_some());
    let told = value(&mut client, BROKER_TYPE, "1", of_listener);
    assert_eq!((told.0.as_str(), told.1), ("2", 2));
}

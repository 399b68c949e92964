//! Groups over sockets: what is refused and how, versions that mean something different, and what survives the topics it is about.

use super::client::{Client, batch, produce};
use super::harness::{TestBroker, Topic, topic_id as id_of};
use crate::group::OFFSETS_TOPIC;
use crate::partition::PartitionId;
use ringlog_wire::delete_groups::DeleteGroupsRequest;
use ringlog_wire::delete_topics::DeleteTopicsRequest;
use ringlog_wire::describe_groups::DescribeGroupsRequest;
use ringlog_wire::find_coordinator::FindCoordinatorRequest;
use ringlog_wire::heartbeat::HeartbeatRequest;
use ringlog_wire::join_group::{JoinGroupRequest, JoinGroupRequestProtocol};
use ringlog_wire::leave_group::{LeaveGroupRequest, MemberIdentity};
use ringlog_wire::list_groups::ListGroupsRequest;
use ringlog_wire::metadata::MetadataRequest;
use ringlog_wire::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use ringlog_wire::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use ringlog_wire::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use ringlog_wire::sync_group::SyncGroupRequest;
use ringlog_wire::{ErrorCode, Uuid};

const TOPICS: &[Topic] = &[Topic { name: "t", partitions: 2, configs: &[] }];
const SETTINGS: &[&str] = &["group.initial.rebalance.delay.ms=0", "offsets.topic.num.partitions=4"];

fn start() -> (TestBroker, Client) {
    let broker = TestBroker::with(2, SETTINGS, TOPICS);
    let client = Client::connect(broker.address);
    (broker, client)
}

fn find(client: &mut Client) {
    let request = FindCoordinatorRequest { coordinator_keys: vec!["g".into()], ..Default::default() };
    let found = client.call(4, &request).coordinators;
    assert_eq!((found[0].error_code, found[0].node_id), (ErrorCode::None, 1));
}

fn commit(client: &mut Client, version: i16, name: &str, id: Uuid, partition_index: i32) -> ErrorCode {
    let partition =
        OffsetCommitRequestPartition { partition_index, committed_offset: 7, ..Default::default() };
    let topic = OffsetCommitRequestTopic { name: name.into(), topic_id: id, partitions: vec![partition] };
    let request = OffsetCommitRequest { group_id: "g".into(), topics: vec![topic], ..Default::default() };
    client.call(version, &request).topics[0].partitions[0].error_code
}

/// The offset told of partition 0 of `t`, and the error with it.
fn fetch(client: &mut Client, group: &str) -> (i64, ErrorCode) {
    let topic = OffsetFetchRequestTopic { name: "t".into(), partition_indexes: vec![0] };
    let request =
        OffsetFetchRequest { group_id: group.into(), topics: Some(vec![topic]), ..Default::default() };
    let response = client.call(5, &request);
    assert_eq!(response.error_code, ErrorCode::None);
    let row = &response.topics[0].partitions[0];
    (row.committed_offset, row.error_code)
}

fn topic_id(client: &mut Client) -> Uuid {
    let all = MetadataRequest { topics: None, ..Default::default() };
    let topics = client.call(12, &all).topics;
    for topic in &topics {
        assert_eq!(topic.is_internal, topic.name.as_deref() == Some(OFFSETS_TOPIC));
    }
    topics.into_iter().find(|topic| topic.name.as_deref() == Some("t")).expect("is there").topic_id
}

#[test]
fn without_their_topic_groups_have_no_coordinator() {
    let (_broker, mut client) = start();
    assert_eq!(commit(&mut client, 8, "t", Uuid::ZERO, 0), ErrorCode::NotCoordinator);
    assert!(client.call(4, &ListGroupsRequest::default()).groups.is_empty());
    find(&mut client);
    assert_eq!(commit(&mut client, 8, "t", Uuid::ZERO, 0), ErrorCode::None);
    assert_eq!(client.call(4, &ListGroupsRequest::default()).groups.len(), 1);
}

#[test]
fn what_keeps_a_group_is_awaited_while_it_is_opened() {
    let (broker, mut client) = start();
    find(&mut client);
    let list = |client: &mut Client| client.call(4, &ListGroupsRequest::default()).error_code;
    let opening = |is_opening: bool| {
        broker.ask(move |brokers| {
            let id = brokers[0].coordinator_of("g").expect("there is a topic");
            let owner = &brokers[usize::from(brokers[0].owner(id).0)];
            owner.0.opening.borrow_mut().extend(is_opening.then_some(id));
            match is_opening {
                true => owner.stop_coordinating(id),
                false => drop(owner.0.opening.borrow_mut().remove(&id)),
            }
        });
    };
    opening(true);
    let loading = ErrorCode::CoordinatorLoadInProgress;
    assert_eq!(commit(&mut client, 8, "t", Uuid::ZERO, 0), loading);
    assert_eq!(list(&mut client), loading);
    let beat = HeartbeatRequest { group_id: "g".into(), ..Default::default() };
    assert_eq!(client.call(4, &beat).error_code, ErrorCode::None, "who is a member is not known yet");
    opening(false);
    assert_eq!(commit(&mut client, 8, "t", Uuid::ZERO, 0), ErrorCode::NotCoordinator);
    assert_eq!(list(&mut client), ErrorCode::None);
}

#[test]
fn a_shard_that_does_not_know_the_topic_yet_is_asked_again() {
    let (broker, _client) = start();
    let answers = broker.ask(|brokers| {
        let unknown = PartitionId::new(Uuid([9; 16]), 0);
        [brokers[0].is_to_come(unknown), brokers[0].is_to_come(PartitionId::new(id_of("t"), 0))]
    });
    assert_eq!(answers, [true, false]);
}

#[test]
fn offsets_are_kept_by_name_and_by_id() {
    let (_broker, mut client) = start();
    find(&mut client);
    let id = topic_id(&mut client);
    assert_eq!(fetch(&mut client, "g"), (-1, ErrorCode::None), "an unknown group is at -1");
    assert_eq!(commit(&mut client, 9, "t", Uuid::ZERO, 2), ErrorCode::UnknownTopicOrPartition);
    assert_eq!(commit(&mut client, 9, "u", Uuid::ZERO, 0), ErrorCode::UnknownTopicOrPartition);
    assert_eq!(commit(&mut client, 10, "", Uuid([9; 16]), 0), ErrorCode::UnknownTopicId);
    assert_eq!(fetch(&mut client, "g"), (-1, ErrorCode::None));
    assert_eq!(commit(&mut client, 10, "", id, 0), ErrorCode::None);
    assert_eq!(fetch(&mut client, "g"), (7, ErrorCode::None));
    let asked =
        |topic_id| OffsetFetchRequestTopics { topic_id, partition_indexes: vec![0, 1], ..Default::default() };
    let group =
        |name: &str, topics| OffsetFetchRequestGroup { group_id: name.into(), topics, ..Default::default() };
    let groups =
        vec![group("g", Some(vec![asked(Uuid([9; 16])), asked(id)])), group("g", None), group("h", None)];
    let told = client.call(10, &OffsetFetchRequest { groups, ..Default::default() }).groups;
    let rows = |at: usize| {
        let rows = told[at].topics.iter().flat_map(|topic| &topic.partitions);
        rows.map(|row| (row.partition_index, row.committed_offset, row.error_code)).collect::<Vec<_>>()
    };
    let unknown = ErrorCode::UnknownTopicId;
    assert_eq!(
        rows(0),
        [(0, -1, unknown), (1, -1, unknown), (0, 7, ErrorCode::None), (1, -1, ErrorCode::None)]
    );
    assert_eq!((rows(1), rows(2)), (vec![(0, 7, ErrorCode::None)], vec![]));
    let deletion = DeleteTopicsRequest { topic_names: vec!["t".into()], ..Default::default() };
    assert_eq!(client.call(5, &deletion).responses[0].error_code, ErrorCode::None);
    let gone = OffsetFetchRequest { groups: vec![group("g", None)], ..Default::default() };
    assert!(client.call(9, &gone).groups[0].topics.is_empty(), "offsets go with their topic");
}

#[test]
fn wrong_requests_are_refused_with_kafkas_codes() {
    let (_broker, mut client) = start();
    find(&mut client);
    let join = |group: &str, session_timeout_ms| JoinGroupRequest {
        group_id: group.into(),
        session_timeout_ms,
        rebalance_timeout_ms: 60_000,
        protocol_type: "consumer".into(),
        protocols: vec![JoinGroupRequestProtocol { name: "range".into(), ..Default::default() }],
        ..Default::default()
    };
    for (request, expected) in [
        (join("", 10_000), ErrorCode::InvalidGroupId),
        (join("g", 5_999), ErrorCode::InvalidSessionTimeout),
        (join("g", 1_800_001), ErrorCode::InvalidSessionTimeout),
        (JoinGroupRequest { protocols: vec![], ..join("g", 10_000) }, ErrorCode::InconsistentGroupProtocol),
        (JoinGroupRequest { member_id: "x".into(), ..join("h", 10_000) }, ErrorCode::UnknownMemberId),
        (join("g", 10_000), ErrorCode::MemberIdRequired),
    ] {
        assert_eq!(client.call(9, &request).error_code, expected, "{request:?}");
    }
    let joined = client.call(3, &join("old", 10_000));
    assert_eq!((joined.error_code, joined.generation_id, joined.members.len()), (ErrorCode::None, 1, 1));
    let beat = HeartbeatRequest { group_id: "nobody".into(), ..Default::default() };
    assert_eq!(client.call(4, &beat).error_code, ErrorCode::UnknownMemberId);
    let sync = SyncGroupRequest { group_id: String::new().into(), ..Default::default() };
    assert_eq!(client.call(5, &sync).error_code, ErrorCode::InvalidGroupId);

    let describe =
        DescribeGroupsRequest { groups: vec!["nobody".into(), "old".into()], ..Default::default() };
    for (version, expected) in [(5, ErrorCode::None), (6, ErrorCode::GroupIdNotFound)] {
        let groups = client.call(version, &describe).groups;
        assert_eq!((groups[0].error_code, &*groups[0].group_state), (expected, "Dead"));
        assert_eq!(
            (&*groups[1].group_state, &*groups[1].members[0].client_id),
            ("CompletingRebalance", "test")
        );
    }
    let delete = DeleteGroupsRequest { groups_names: vec!["old".into(), "nobody".into()] };
    let codes: Vec<ErrorCode> = client.call(2, &delete).results.iter().map(|row| row.error_code).collect();
    assert_eq!(codes, [ErrorCode::NonEmptyGroup, ErrorCode::GroupIdNotFound]);

    let leave = |member: &str| LeaveGroupRequest {
        group_id: "old".into(),
        member_id: member.into(),
        members: vec![MemberIdentity { member_id: member.into(), ..Default::default() }],
    };
    assert_eq!(client.call(2, &leave("x")).error_code, ErrorCode::UnknownMemberId);
    assert_eq!(client.call(5, &leave("x")).members[0].error_code, ErrorCode::UnknownMemberId);
    assert_eq!(client.call(2, &leave(&joined.member_id)).error_code, ErrorCode::None);

    assert_eq!(commit(&mut client, 2, "t", Uuid::ZERO, 0), ErrorCode::None);
    let partition = |partition_index| OffsetDeleteRequestPartition { partition_index };
    let topic = OffsetDeleteRequestTopic { name: "t".into(), partitions: vec![partition(0), partition(9)] };
    let request = OffsetDeleteRequest { group_id: "g".into(), topics: vec![topic] };
    let deleted = client.call(0, &request);
    let codes: Vec<ErrorCode> = deleted.topics[0].partitions.iter().map(|row| row.error_code).collect();
    assert_eq!(
        (deleted.error_code, codes),
        (ErrorCode::None, vec![ErrorCode::None, ErrorCode::UnknownTopicOrPartition])
    );
    assert_eq!(fetch(&mut client, "g"), (-1, ErrorCode::None));
}

#[test]
fn clients_do_not_write_what_groups_keep() {
    let (_broker, mut client) = start();
    find(&mut client);
    let refused = client.call(9, &produce(OFFSETS_TOPIC, 0, batch(b"v"), -1));
    let code = refused.responses[0].partition_responses[0].error_code;
    assert_eq!(code, ErrorCode::InvalidTopicException);
}

//! Share groups: over sockets as members and administrators see them, and in the simulator through power cuts.

use super::client::{Client, batch};
use super::harness::{TestBroker, Topic, topic_id};
use super::simulated::{self, World, seeds};
use ringlog_wire::ErrorCode;
use ringlog_wire::alter_share_group_offsets::{
    AlterShareGroupOffsetsRequest, AlterShareGroupOffsetsRequestPartition, AlterShareGroupOffsetsRequestTopic,
};
use ringlog_wire::alter_user_scram_credentials::{
    AlterUserScramCredentialsRequest, ScramCredentialDeletion, ScramCredentialUpsertion,
};
use ringlog_wire::delete_groups::DeleteGroupsRequest;
use ringlog_wire::delete_share_group_offsets::{
    DeleteShareGroupOffsetsRequest, DeleteShareGroupOffsetsRequestTopic,
};
use ringlog_wire::describe_share_group_offsets::{
    DescribeShareGroupOffsetsRequest, DescribeShareGroupOffsetsRequestGroup,
};
use ringlog_wire::describe_user_scram_credentials::{DescribeUserScramCredentialsRequest, UserName};
use ringlog_wire::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use ringlog_wire::join_group::{JoinGroupRequest, JoinGroupRequestProtocol};
use ringlog_wire::list_groups::ListGroupsRequest;
use ringlog_wire::share_acknowledge::{
    AcknowledgePartition, AcknowledgeTopic, AcknowledgementBatch as Said, ShareAcknowledgeRequest,
};
use ringlog_wire::share_fetch::{
    AcknowledgementBatch, FetchPartition, FetchTopic, PartitionData, ShareFetchRequest,
};
use ringlog_wire::share_group_describe::ShareGroupDescribeRequest;
use ringlog_wire::share_group_heartbeat::{ShareGroupHeartbeatRequest, ShareGroupHeartbeatResponse};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

const TOPICS: &[Topic] = &[Topic { name: "t", partitions: 2, configs: &[] }];
const SETTINGS: &[&str] =
    &["offsets.topic.num.partitions=4", "share.coordinator.state.topic.num.partitions=4"];

fn start() -> (TestBroker, Client) {
    let broker = TestBroker::with(2, SETTINGS, TOPICS);
    let mut client = Client::connect(broker.address);
    assert_eq!(client.call(1, &from_the_first_on()).responses[0].error_code, ErrorCode::None);
    (broker, client)
}

/// The group reads from the first record on.
fn from_the_first_on() -> IncrementalAlterConfigsRequest {
    let config = AlterableConfig {
        name: "share.auto.offset.reset".into(),
        value: Some("earliest".into()),
        ..Default::default()
    };
    let group = AlterConfigsResource { resource_type: 32, resource_name: "g".into(), configs: vec![config] };
    IncrementalAlterConfigsRequest { resources: vec![group], ..Default::default() }
}

fn beat(member: &str, member_epoch: i32) -> ShareGroupHeartbeatRequest {
    ShareGroupHeartbeatRequest {
        group_id: "g".into(),
        member_id: member.into(),
        member_epoch,
        subscribed_topic_names: (member_epoch == 0).then(|| vec!["t".into()]),
        ..Default::default()
    }
}

fn partitions(response: &ShareGroupHeartbeatResponse) -> Option<usize> {
    assert_eq!(response.error_code, ErrorCode::None, "{:?}", response.error_message);
    let assignment = response.assignment.as_ref()?;
    Some(assignment.topic_partitions.iter().map(|topic| topic.partitions.len()).sum())
}

/// A partition, and what is said of its records: first and last offset, type.
type Wanted<'a> = (i32, &'a [(i64, i64, i8)]);

/// A fetch of these partitions.
fn fetch(member: &str, epoch: i32, wanted: &[Wanted<'_>]) -> ShareFetchRequest {
    let said = |&(first_offset, last_offset, kind): &(i64, i64, i8)| AcknowledgementBatch {
        first_offset,
        last_offset,
        acknowledge_types: vec![kind],
    };
    let partition = |(index, batches): &Wanted<'_>| FetchPartition {
        partition_index: *index,
        acknowledgement_batches: batches.iter().map(said).collect(),
        ..Default::default()
    };
    ShareFetchRequest {
        group_id: Some("g".into()),
        member_id: Some(member.into()),
        share_session_epoch: epoch,
        max_bytes: 1 << 20,
        max_records: 500,
        batch_size: 500,
        topics: vec![FetchTopic {
            topic_id: topic_id("t"),
            partitions: wanted.iter().map(partition).collect(),
        }],
        ..Default::default()
    }
}

fn acknowledge(member: &str, epoch: i32, index: i32, said: &[(i64, i64, i8)]) -> ShareAcknowledgeRequest {
    let batch = |&(first_offset, last_offset, kind): &(i64, i64, i8)| Said {
        first_offset,
        last_offset,
        acknowledge_types: vec![kind],
    };
    let acknowledgement_batches: Vec<_> = said.iter().map(batch).collect();
    let partition = AcknowledgePartition { partition_index: index, acknowledgement_batches };
    let partitions = if said.is_empty() { Vec::new() } else { vec![partition] };
    ShareAcknowledgeRequest {
        group_id: Some("g".into()),
        member_id: Some(member.into()),
        share_session_epoch: epoch,
        topics: vec![AcknowledgeTopic { topic_id: topic_id("t"), partitions }],
        ..Default::default()
    }
}

/// What was acquired: partition, first and last offset, delivery count.
fn acquired(rows: &[PartitionData]) -> Vec<(i32, i64, i64, i16)> {
    let ranges =
        rows.iter().flat_map(|row| row.acquired_records.iter().map(move |one| (row.partition_index, one)));
    ranges.map(|(index, one)| (index, one.first_offset, one.last_offset, one.delivery_count)).collect()
}

fn rows(client: &mut Client, request: &ShareFetchRequest) -> Result<Vec<PartitionData>, ErrorCode> {
    let response = client.call(2, request);
    match response.error_code {
        ErrorCode::None => Ok(response.responses.into_iter().flat_map(|topic| topic.partitions).collect()),
        code => Err(code),
    }
}

#[test]
fn two_members_share_a_partitions_records() {
    let (_broker, mut a) = start();
    let mut b = Client::connect(_broker.address);
    for value in [b"0", b"1", b"2"] {
        a.produce("t", 0, batch(value));
    }
    assert_eq!(partitions(&a.call(1, &beat("a", 0))), Some(2));
    assert_eq!(partitions(&b.call(1, &beat("b", 0))), Some(1));
    assert_eq!(rows(&mut a, &fetch("a", 1, &[])), Err(ErrorCode::ShareSessionNotFound));
    let got = rows(&mut a, &fetch("a", 0, &[(0, &[]), (1, &[])])).expect("a session");
    assert_eq!(acquired(&got), [(0, 0, 2, 1)]);
    assert!(rows(&mut b, &fetch("b", 0, &[(0, &[])])).is_ok_and(|rows| acquired(&rows).is_empty()));
    // Accepted, released, rejected; and what b never had.
    let said: &[(i64, i64, i8)] = &[(0, 0, 1), (1, 1, 2), (2, 2, 3)];
    let got = rows(&mut a, &fetch("a", 1, &[(0, said)])).expect("in turn");
    assert_eq!(got[0].acknowledge_error_code, ErrorCode::None);
    let refused = rows(&mut b, &fetch("b", 1, &[(0, &[(1, 1, 1)])])).expect("in turn");
    let told: Vec<_> = refused.iter().map(|row| row.acknowledge_error_code).collect();
    assert_eq!(told, [ErrorCode::InvalidRecordState]);
    let mut seen = acquired(&got);
    seen.extend(acquired(&refused));
    if seen.is_empty() {
        seen = acquired(&rows(&mut b, &fetch("b", 2, &[])).expect("in turn"));
    }
    assert_eq!(seen, [(0, 1, 1, 2)], "the one that was released comes again");
    assert_eq!(rows(&mut a, &fetch("a", 1, &[])), Err(ErrorCode::InvalidShareSessionEpoch));
    let twice = fetch("a", 2, &[(0, &[(0, 1, 1), (1, 1, 1)])]);
    assert_eq!(rows(&mut a, &twice).expect("in turn")[0].acknowledge_error_code, ErrorCode::InvalidRequest);
    let unknown = a.call(2, &acknowledge("a", 3, 7, &[(0, 0, 1)]));
    assert_eq!(unknown.responses[0].partitions[0].error_code, ErrorCode::UnknownTopicOrPartition);
    let closed = a.call(2, &acknowledge("a", -1, 0, &[]));
    assert_eq!((closed.error_code, closed.acquisition_lock_timeout_ms), (ErrorCode::None, 30_000));
    assert_eq!(a.call(2, &acknowledge("a", -1, 0, &[])).error_code, ErrorCode::ShareSessionNotFound);
}

#[test]
fn what_a_connection_had_is_free_when_it_closes() {
    let (broker, mut a) = start();
    a.produce("t", 0, batch(b"0"));
    let mut lost = Client::connect(broker.address);
    let got = rows(&mut lost, &fetch("lost", 0, &[(0, &[])])).expect("a session");
    assert_eq!(acquired(&got), [(0, 0, 0, 1)]);
    drop(lost);
    let mut next = fetch("a", 0, &[(0, &[])]);
    next.max_wait_ms = 20_000;
    let got = rows(&mut a, &next).expect("a session");
    assert_eq!(acquired(&got), [(0, 0, 0, 1)], "it was not delivered, as far as anybody knows");
}

#[test]
fn wrong_heartbeats_are_refused_with_kafkas_codes() {
    let (_broker, mut client) = start();
    let join = JoinGroupRequest {
        group_id: "g".into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        protocol_type: "consumer".into(),
        protocols: vec![JoinGroupRequestProtocol { name: "range".into(), ..Default::default() }],
        ..Default::default()
    };
    let classic = JoinGroupRequest { group_id: "classic".into(), ..join.clone() };
    assert_eq!(client.call(1, &beat("first", 0)).error_code, ErrorCode::None);
    assert_eq!(client.call(5, &join).error_code, ErrorCode::InconsistentGroupProtocol);
    assert_eq!(client.call(1, &beat("first", -1)).error_code, ErrorCode::None);
    assert_eq!(client.call(5, &classic).error_code, ErrorCode::MemberIdRequired);
    let request = ShareGroupHeartbeatRequest { group_id: "classic".into(), ..beat("a", 0) };
    assert_eq!(client.call(1, &request).error_code, ErrorCode::GroupIdNotFound);
    let mut check = |request: ShareGroupHeartbeatRequest, expected| {
        assert_eq!(client.call(1, &request).error_code, expected, "{request:?}");
    };
    check(beat("", 0), ErrorCode::InvalidRequest);
    check(ShareGroupHeartbeatRequest { group_id: "".into(), ..beat("a", 0) }, ErrorCode::InvalidRequest);
    check(
        ShareGroupHeartbeatRequest { subscribed_topic_names: None, ..beat("a", 0) },
        ErrorCode::InvalidRequest,
    );
    check(ShareGroupHeartbeatRequest { rack_id: Some("".into()), ..beat("a", 0) }, ErrorCode::InvalidRequest);
    check(beat("a", -2), ErrorCode::InvalidRequest);
    check(ShareGroupHeartbeatRequest { group_id: "none".into(), ..beat("a", 1) }, ErrorCode::GroupIdNotFound);
    check(beat("a", 0), ErrorCode::None);
    check(beat("b", 1), ErrorCode::UnknownMemberId);
    check(beat("a", 9), ErrorCode::FencedMemberEpoch);
    check(beat("a", -1), ErrorCode::None);
}

/// Where the group starts in partition 0, and how much it has left.
fn offset(client: &mut Client) -> (ErrorCode, Option<(i64, i64)>) {
    let group = DescribeShareGroupOffsetsRequestGroup { group_id: "g".into(), topics: None };
    let response = client.call(1, &DescribeShareGroupOffsetsRequest { groups: vec![group] });
    let group = &response.groups[0];
    let row = group.topics.first().map(|topic| &topic.partitions[0]);
    (group.error_code, row.map(|row| (row.start_offset, row.lag)))
}

#[test]
fn administrators_see_and_change_share_groups() {
    let (_broker, mut client) = start();
    for value in [b"0", b"1", b"2"] {
        client.produce("t", 0, batch(value));
    }
    assert_eq!(offset(&mut client).0, ErrorCode::NotCoordinator, "there is no topic for groups yet");
    client.call(1, &beat("a", 0));
    assert_eq!(offset(&mut client), (ErrorCode::None, Some((-1, -1))));
    rows(&mut client, &fetch("a", 0, &[(0, &[])])).expect("a session");
    assert_eq!(offset(&mut client), (ErrorCode::None, Some((0, 3))));
    client.call(2, &acknowledge("a", 1, 0, &[(0, 0, 1), (2, 2, 1)]));
    assert_eq!(offset(&mut client).1.expect("a row").1, 1, "one is left");

    let describe =
        ShareGroupDescribeRequest { group_ids: vec!["g".into(), "no".into()], ..Default::default() };
    let described = client.call(1, &describe).groups;
    assert_eq!((&*described[0].group_state, &*described[0].assignor_name), ("Stable", "simple"));
    assert_eq!(described[0].members[0].assignment.topic_partitions[0].topic_name, "t");
    assert_eq!(described[1].error_code, ErrorCode::GroupIdNotFound);
    let listed =
        |types: &str| ListGroupsRequest { types_filter: vec![types.to_owned().into()], ..Default::default() };
    assert_eq!(client.call(5, &listed("Share")).groups[0].group_type, "share");
    assert!(client.call(5, &listed("classic")).groups.is_empty());

    let set = |start_offset| AlterShareGroupOffsetsRequest {
        group_id: "g".into(),
        topics: vec![AlterShareGroupOffsetsRequestTopic {
            topic_name: "t".into(),
            partitions: vec![AlterShareGroupOffsetsRequestPartition { partition_index: 0, start_offset }],
        }],
    };
    let delete = DeleteGroupsRequest { groups_names: vec!["g".into()] };
    assert_eq!(client.call(0, &set(1)).error_code, ErrorCode::NonEmptyGroup);
    assert_eq!(client.call(2, &delete).results[0].error_code, ErrorCode::NonEmptyGroup);
    client.call(2, &acknowledge("a", -1, 0, &[]));
    client.call(1, &beat("a", -1));
    assert_eq!(client.call(0, &set(1)).responses[0].partitions[0].error_code, ErrorCode::None);
    assert_eq!(offset(&mut client), (ErrorCode::None, Some((1, 2))));
    let got = rows(&mut client, &fetch("a", 0, &[(0, &[])])).expect("a session");
    assert_eq!(acquired(&got), [(0, 1, 2, 1)], "nothing of before counts");
    client.call(2, &acknowledge("a", -1, 0, &[]));

    let topic = DeleteShareGroupOffsetsRequestTopic { topic_name: "t".into() };
    let forget = DeleteShareGroupOffsetsRequest { group_id: "g".into(), topics: vec![topic] };
    assert_eq!(client.call(0, &forget).responses[0].error_code, ErrorCode::None);
    assert_eq!(offset(&mut client), (ErrorCode::None, None));
    let got = rows(&mut client, &fetch("a", 0, &[(0, &[])])).expect("a session");
    assert_eq!(acquired(&got), [(0, 0, 2, 1)], "the group begins anew");
    client.call(2, &acknowledge("a", -1, 0, &[]));
    assert_eq!(client.call(2, &delete).results[0].error_code, ErrorCode::None);
    assert_eq!(client.call(2, &delete).results[0].error_code, ErrorCode::GroupIdNotFound);
}

#[test]
fn credentials_are_kept_and_told_without_their_secrets() {
    let (_broker, mut client) = start();
    let describe = |users: Option<&[&str]>| {
        let users = users
            .map(|users| users.iter().map(|name| UserName { name: (*name).to_owned().into() }).collect());
        DescribeUserScramCredentialsRequest { users }
    };
    let set = ScramCredentialUpsertion {
        name: "u".into(),
        mechanism: 1,
        iterations: 10_000,
        salt: "salt".into(),
        salted_password: "password".into(),
    };
    let set = AlterUserScramCredentialsRequest { upsertions: vec![set], ..Default::default() };
    assert_eq!(client.call(0, &describe(Some(&["u"]))).results[0].error_code, ErrorCode::ResourceNotFound);
    let changed = client.call(0, &set).results;
    assert_eq!((&*changed[0].user, changed[0].error_code), ("u", ErrorCode::None));
    let all = client.call(0, &describe(None)).results;
    assert_eq!((&*all[0].user, all[0].credential_infos[0].mechanism), ("u", 1));
    assert_eq!(all[0].credential_infos[0].iterations, 10_000);
    let twice = client.call(0, &describe(Some(&["u", "u"]))).results;
    assert_eq!((twice.len(), twice[0].error_code), (1, ErrorCode::DuplicateResource));
    let deletion = ScramCredentialDeletion { name: "u".into(), mechanism: 1 };
    let delete = AlterUserScramCredentialsRequest { deletions: vec![deletion], ..Default::default() };
    assert_eq!(client.call(0, &delete).results[0].error_code, ErrorCode::None);
    assert_eq!(client.call(0, &delete).results[0].error_code, ErrorCode::ResourceNotFound);
    assert!(client.call(0, &describe(None)).results.is_empty());
}

/// What a member of the simulator was told, and what it asked.
#[derive(Default)]
struct Told {
    /// Accepted or rejected, and answered.
    done: BTreeSet<(i32, i64)>,
    /// Asked to be, and not answered yet.
    asked: BTreeSet<(i32, i64)>,
}

/// Few partitions: the simulator opens each.
const SIMULATED: &[&str] =
    &["offsets.topic.num.partitions=2", "share.coordinator.state.topic.num.partitions=2"];

/// Records of one partition.
const RECORDS: i64 = 40;

/// Joins, and opens a session over both partitions; what it acquires. `None` when the broker has gone.
async fn join(client: &mut simulated::Client, member: &str) -> Option<Vec<(i32, i64, i64, i16)>> {
    loop {
        let joined = client.call(1, &beat(member, 0)).await?;
        if joined.error_code == ErrorCode::None {
            break;
        }
        assert!(joined.error_code.is_retriable(), "{:?}", joined.error_code);
    }
    read(client, fetch(member, 0, &[(0, &[]), (1, &[])])).await
}

async fn read(
    client: &mut simulated::Client,
    mut request: ShareFetchRequest,
) -> Option<Vec<(i32, i64, i64, i16)>> {
    request.max_wait_ms = 100;
    request.max_records = 7;
    let response = client.call(2, &request).await?;
    assert_eq!(response.error_code, ErrorCode::None);
    let rows: Vec<_> = response.responses.into_iter().flat_map(|topic| topic.partitions).collect();
    let codes = rows.iter().map(|row| row.error_code);
    // What is kept may still be being read.
    assert!(
        codes.clone().all(|code| !code.is_error() || code.is_retriable()),
        "{:?}",
        codes.collect::<Vec<_>>()
    );
    Some(acquired(&rows))
}

/// Reads and acknowledges until the broker goes: accepts, rejects, releases in turn.
async fn work(mut client: simulated::Client, member: String, told: Rc<RefCell<Told>>) -> Option<()> {
    let mut got = join(&mut client, &member).await?;
    let mut epoch = 1;
    loop {
        for (index, first, last, deliveries) in got {
            for offset in first..=last {
                // Delivered too often, a record is given up: that is not lost, but no better here.
                let kind =
                    if deliveries == 1 { [1, 3, 1, 2][usize::try_from(offset % 4).unwrap()] } else { 1 };
                if kind != 2 {
                    told.borrow_mut().asked.insert((index, offset));
                }
                let request = acknowledge(&member, epoch, index, &[(offset, offset, kind)]);
                let response = client.call(2, &request).await?;
                epoch += 1;
                assert_eq!(response.error_code, ErrorCode::None);
                assert_eq!(response.responses[0].partitions[0].error_code, ErrorCode::None);
                if kind != 2 {
                    told.borrow_mut().done.insert((index, offset));
                }
            }
        }
        got = read(&mut client, fetch(&member, epoch, &[])).await?;
        epoch += 1;
    }
}

#[test]
fn what_was_acknowledged_is_not_delivered_again_and_nothing_is_lost() {
    let mut checked = 0;
    for seed in 0..seeds(12) {
        let mut world = World::with(7000 + seed, SIMULATED);
        let (actor, mut client) = world.connect();
        world.sim.run(actor, async move {
            client.call(1, &from_the_first_on()).await.expect("connected");
            for index in [0, 1] {
                for _ in 0..RECORDS {
                    let produced = client.call(9, &super::client::produce("t", index, batch(b"v"), -1)).await;
                    assert!(produced.is_some());
                }
            }
        });
        let told = Rc::new(RefCell::new(Told::default()));
        for number in 0..2 {
            let (actor, client) = world.connect();
            let work = work(client, format!("m{number}"), told.clone());
            world.sim.shard(actor).spawn(async move {
                work.await;
            });
        }
        let enough = usize::try_from(5 + world.sim.random_below(40)).unwrap();
        world.sim.run_until(|| told.borrow().done.len() >= enough).unwrap();
        if seed % 2 == 0 {
            world.sim.power_cut(world.machine);
        } else {
            world.sim.kill(world.machine);
        }
        let told = std::mem::take(&mut *told.borrow_mut());
        world.boot(&[]);
        let (actor, mut client) = world.connect();
        let delivered = world.sim.run(actor, async move {
            let mut delivered = BTreeSet::new();
            let mut got = join(&mut client, "after").await.expect("the broker stays");
            let mut epoch = 1;
            let mut empty = 0;
            while empty < 20 {
                empty = if got.is_empty() { empty + 1 } else { 0 };
                for (index, first, last, _) in got {
                    for offset in first..=last {
                        assert!(delivered.insert((index, offset)), "{index} {offset} is with this member");
                    }
                }
                got = read(&mut client, fetch("after", epoch, &[])).await.expect("the broker stays");
                epoch += 1;
            }
            delivered
        });
        for place in &told.done {
            assert!(!delivered.contains(place), "seed {seed}: {place:?} was acknowledged");
            checked += 1;
        }
        for place in [0, 1].into_iter().flat_map(|index| (0..RECORDS).map(move |offset| (index, offset))) {
            let is_there = told.asked.contains(&place) || delivered.contains(&place);
            assert!(is_there, "seed {seed}: {place:?} is lost");
        }
        world.stop();
    }
    assert!(checked > 100, "only {checked} acknowledgements were checked");
}

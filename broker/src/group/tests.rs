//! A group's life, step by step, and then in any order: `orders.rs` has members act at random.

mod orders;
mod trial;

use super::*;
use bytes::Bytes;
use ringlog_wire::ErrorCode;
use trial::{Trial, assignment, code, joined, protocols, synced};

#[test]
fn a_group_belongs_to_the_partition_that_java_says() {
    let check =
        |group: &str, partitions, expected| assert_eq!(partition_for(group, partitions), expected, "{group}");
    // `"group".hashCode()` and so on, from a Java virtual machine.
    check("group", 50, 47);
    check("", 50, 0);
    check("polygenelubricants", 50, 0);
    check("ä𝄞", 50, 2);
    check("consumer-group-1", 50, 20);
    check("consumer-group-1", 1, 0);
}

#[test]
fn a_new_member_is_given_an_id_to_come_back_with() {
    let mut trial = Trial::new();
    let first = trial.join(None, |_| {});
    let refusal = trial.answer(first).expect("at once");
    assert_eq!(code(&refusal), ErrorCode::MemberIdRequired);
    let GroupAnswer::Joined(Err(JoinRefusal { member, .. })) = refusal else { panic!("{refusal:?}") };
    assert!(member.starts_with("client-") && member.len() == "client-".len() + 36, "{member}");
    let second = trial.join(Some(&member), |_| {});
    assert_eq!(trial.answer(second), None, "more may come");
    trial.pass(3_000);
    let joined = joined(&trial.answer(second).expect("the delay is over"));
    assert_eq!((joined.generation, &joined.member, &joined.leader), (1, &member, &member));
    assert_eq!(joined.members, [(member, None, Bytes::from_static(b"m-range"))]);
}

#[test]
fn an_id_that_nobody_comes_back_with_is_forgotten() {
    let mut trial = Trial::new();
    let member = trial.promised();
    trial.pass(10_000);
    let late = trial.join(Some(&member), |_| {});
    assert_eq!(code(&trial.answer(late).expect("at once")), ErrorCode::UnknownMemberId);
}

#[test]
fn old_clients_join_at_once_and_the_delay_grows_with_members() {
    let mut trial = Trial::new();
    let first = trial.join(None, |join| join.id_required = false);
    trial.pass(2_000);
    let second = trial.join(None, |join| join.id_required = false);
    trial.pass(2_000);
    assert_eq!(trial.answer(first), None, "one has come since the delay began");
    trial.pass(2_000);
    let (first, second) = (joined(&trial.answer(first).expect("")), joined(&trial.answer(second).expect("")));
    assert_eq!((first.generation, second.generation, first.members.len() + second.members.len()), (1, 1, 2));
}

#[test]
fn the_initial_delay_ends_with_the_rebalance_timeout() {
    let mut trial = Trial::new();
    let first = trial.join(None, |join| (join.id_required, join.rebalance_timeout_ms) = (false, 7_000));
    for _ in 0..6 {
        trial.join(None, |join| (join.id_required, join.rebalance_timeout_ms) = (false, 7_000));
        assert_eq!(trial.answer(first), None);
        trial.pass(1_000);
    }
    trial.pass(1_000);
    assert_eq!(joined(&trial.answer(first).expect("7 s have passed")).generation, 1);
}

#[test]
fn followers_wait_for_the_leader_and_the_leader_for_the_log() {
    let mut trial = Trial::new();
    let (leader, follower) = trial.two();
    trial.hold_records();
    let waiting = trial.sync(&follower, 1, &[]);
    assert_eq!(trial.answer(waiting), None);
    let leading = trial.sync(&leader, 1, &[(&leader, "a"), (&follower, "b"), ("stranger", "c")]);
    assert_eq!((trial.answer(waiting), trial.answer(leading)), (None, None), "it is not durable yet");
    trial.release_records(Ok(()));
    assert_eq!(synced(&trial.answer(waiting).expect("")), "b");
    assert_eq!(synced(&trial.answer(leading).expect("")), "a");
    assert_eq!(trial.state(), "Stable");
    let again = trial.sync(&follower, 1, &[]);
    assert_eq!(synced(&trial.answer(again).expect("at once")), "b");
}

#[test]
fn an_assignment_that_cannot_be_kept_makes_all_join_again() {
    let mut trial = Trial::new();
    let (leader, follower) = trial.two();
    let waiting = trial.sync(&follower, 1, &[]);
    trial.hold_records();
    let leading = trial.sync(&leader, 1, &[(&leader, "a")]);
    trial.release_records(Err(ErrorCode::NotCoordinator));
    for ticket in [waiting, leading] {
        assert_eq!(code(&trial.answer(ticket).expect("")), ErrorCode::NotCoordinator);
    }
    assert_eq!(trial.state(), "PreparingRebalance");
    assert_eq!(trial.heartbeat(&leader, 1), Err(ErrorCode::RebalanceInProgress));
}

#[test]
fn who_is_silent_or_leaves_is_missed_at_once() {
    let mut trial = Trial::new();
    let (leader, follower) = trial.stable_two();
    trial.pass(8_000);
    assert_eq!(trial.heartbeat(&leader, 1), Ok(()));
    trial.pass(2_000);
    // The follower's session has ended: the leader is the only one that has to come.
    assert_eq!(trial.heartbeat(&leader, 1), Err(ErrorCode::RebalanceInProgress));
    assert_eq!(trial.heartbeat(&follower, 1), Err(ErrorCode::UnknownMemberId));
    let again = trial.join(Some(&leader), |_| {});
    assert_eq!(joined(&trial.answer(again).expect("nobody else is waited for")).generation, 2);
    assert_eq!(
        trial.leave(&[(Some(&leader), None), (Some("x"), None)]),
        [ErrorCode::None, ErrorCode::UnknownMemberId]
    );
    assert_eq!(trial.state(), "Empty");
}

#[test]
fn leaving_while_others_join_completes_the_generation() {
    let mut trial = Trial::new();
    let (leader, follower) = trial.stable_two();
    let again = trial.join(Some(&leader), |_| {});
    assert_eq!(trial.answer(again), None, "the other has not come");
    assert_eq!(trial.leave(&[(Some(&follower), None)]), [ErrorCode::None]);
    assert_eq!(joined(&trial.answer(again).expect("nobody is waited for")).members.len(), 1);
}

#[test]
fn who_does_not_join_again_in_time_is_left_behind() {
    let mut trial = Trial::new();
    let (leader, follower) = trial.stable_two();
    let again = trial.join(Some(&leader), |_| {});
    for _ in 0..6 {
        trial.pass(9_999);
        let _ = trial.heartbeat(&follower, 1);
    }
    trial.pass(6);
    assert_eq!(joined(&trial.answer(again).expect("a minute has passed")).members.len(), 1);
    assert_eq!(trial.heartbeat(&follower, 1), Err(ErrorCode::UnknownMemberId));
}

#[test]
fn who_does_not_sync_in_time_is_left_behind() {
    let mut trial = Trial::new();
    let (leader, follower) = trial.two();
    let leading = trial.sync(&leader, 1, &[(&leader, "a")]);
    assert_eq!(synced(&trial.answer(leading).expect("")), "a");
    for _ in 0..6 {
        trial.pass(9_999);
        let _ = (trial.heartbeat(&leader, 1), trial.heartbeat(&follower, 1));
    }
    trial.pass(6);
    assert_eq!(trial.state(), "PreparingRebalance");
    assert_eq!(trial.heartbeat(&follower, 1), Err(ErrorCode::UnknownMemberId));
}

#[test]
fn requests_of_another_generation_or_member_are_refused() {
    let mut trial = Trial::new();
    let (leader, follower) = trial.stable_two();
    for (member, generation, expected) in [
        (leader.as_str(), 0, ErrorCode::IllegalGeneration),
        (leader.as_str(), 2, ErrorCode::IllegalGeneration),
        ("x", 1, ErrorCode::UnknownMemberId),
        ("", 1, ErrorCode::UnknownMemberId),
    ] {
        assert_eq!(trial.heartbeat(member, generation), Err(expected));
        assert_eq!(trial.commit(member, generation), Err(expected));
        let ticket = trial.sync(member, generation, &[]);
        assert_eq!(code(&trial.answer(ticket).expect("at once")), expected);
    }
    assert_eq!(trial.commit("", -1), Err(ErrorCode::UnknownMemberId), "nobody commits past the members");
    assert_eq!(trial.commit(&follower, 1), Ok(()));
    let other_kind = trial.join(None, |join| join.protocol_type = "connect".into());
    assert_eq!(code(&trial.answer(other_kind).expect("")), ErrorCode::InconsistentGroupProtocol);
    let other_protocol = trial.join(None, |join| join.protocols = protocols(&["sticky"]));
    assert_eq!(code(&trial.answer(other_protocol).expect("")), ErrorCode::InconsistentGroupProtocol);
}

#[test]
fn commits_keep_a_session_but_wait_for_the_assignment() {
    let mut trial = Trial::new();
    let (leader, follower) = trial.two();
    assert_eq!(trial.commit(&leader, 1), Err(ErrorCode::RebalanceInProgress));
    trial.sync(&follower, 1, &[]);
    trial.sync(&leader, 1, &[]);
    for _ in 0..4 {
        trial.pass(6_000);
        assert_eq!((trial.commit(&leader, 1), trial.commit(&follower, 1)), (Ok(()), Ok(())));
    }
    assert_eq!(trial.state(), "Stable");
}

#[test]
fn a_member_that_says_the_same_again_is_told_the_same() {
    let mut trial = Trial::new();
    let (leader, follower) = trial.stable_two();
    let same = trial.join(Some(&follower), |_| {});
    let told = joined(&trial.answer(same).expect("at once"));
    assert_eq!((told.generation, told.members.len(), told.leader.as_str()), (1, 0, leader.as_str()));
    assert_eq!(trial.state(), "Stable");
    let new = trial
        .join(Some(&follower), |join| join.protocols = vec![("range".into(), Bytes::from_static(b"new"))]);
    assert_eq!((trial.answer(new), trial.state()), (None, "PreparingRebalance"));
}

#[test]
fn the_protocol_that_most_like_best_among_the_common_is_chosen() {
    let mut trial = Trial::new();
    let lists: [&[&str]; 3] = [&["a", "b", "c"], &["c", "b"], &["b", "c"]];
    let tickets = lists
        .map(|list| trial.join(None, |join| (join.id_required, join.protocols) = (false, protocols(list))));
    trial.pass(10_000);
    for ticket in tickets {
        assert_eq!(joined(&trial.answer(ticket).expect("")).protocol.as_deref(), Some("b"));
    }
}

#[test]
fn a_group_has_as_many_members_as_it_may() {
    let mut trial = Trial::new();
    trial.limits.members_max = 2;
    let (leader, follower) = trial.stable_two();
    let third = trial.join(None, |_| {});
    assert_eq!(code(&trial.answer(third).expect("")), ErrorCode::GroupMaxSizeReached);
    let again = trial.join(Some(&leader), |_| {});
    let others = trial.join(Some(&follower), |_| {});
    assert!(trial.answer(again).is_some() && trial.answer(others).is_some());
    assert_eq!(trial.state(), "CompletingRebalance");
}

#[test]
fn a_static_member_comes_back_under_a_new_id_and_nobody_else_notices() {
    let mut trial = Trial::new();
    let (leader, follower) = trial.stable_static();
    for (instance, old, is_leader) in [("one", &leader, true), ("two", &follower, false)] {
        trial.hold_records();
        let back = trial.join(None, |join| join.instance = Some(instance.into()));
        assert_eq!(trial.answer(back), None, "its new id is not durable yet");
        trial.release_records(Ok(()));
        let told = joined(&trial.answer(back).expect(""));
        assert!(told.member.starts_with(&format!("{instance}-")) && told.member != *old);
        assert_eq!(
            (told.generation, told.skip_assignment, told.members.len()),
            (1, is_leader, if is_leader { 2 } else { 0 })
        );
        assert_eq!(trial.state(), "Stable");
        let sync = trial.sync(&told.member, 1, &[]);
        assert_eq!(synced(&trial.answer(sync).expect("")), if is_leader { "a" } else { "b" });
        // The old id is fenced wherever it names itself by its static name.
        let fenced = MemberAt { id: old.clone(), instance: Some(instance.into()), generation: 1 };
        assert_eq!(trial.heartbeat_as(&fenced), Err(ErrorCode::FencedInstanceId));
        assert_eq!(trial.heartbeat(old, 1), Err(ErrorCode::UnknownMemberId));
    }
}

#[test]
fn an_older_leader_that_comes_back_is_told_that_another_leads() {
    let mut trial = Trial::new();
    let (leader, _) = trial.stable_static();
    let back =
        trial.join(None, |join| (join.instance, join.can_skip_assignment) = (Some("one".into()), false));
    let told = joined(&trial.answer(back).expect(""));
    assert_eq!((told.leader, told.skip_assignment, told.members.len()), (leader, false, 0));
}

#[test]
fn a_static_member_whose_new_id_cannot_be_kept_keeps_the_old_one() {
    let mut trial = Trial::new();
    let (leader, _) = trial.stable_static();
    trial.hold_records();
    let back = trial.join(None, |join| join.instance = Some("one".into()));
    trial.release_records(Err(ErrorCode::CoordinatorNotAvailable));
    assert_eq!(code(&trial.answer(back).expect("")), ErrorCode::CoordinatorNotAvailable);
    let old = MemberAt { id: leader, instance: Some("one".into()), generation: 1 };
    assert_eq!(trial.heartbeat_as(&old), Ok(()));
}

#[test]
fn a_static_member_that_comes_back_during_a_rebalance_takes_part_in_it() {
    let mut trial = Trial::new();
    let (leader, follower) = trial.stable_static();
    let new = trial.join(None, |join| join.id_required = false);
    let waiting = trial.join(Some(&leader), |join| join.instance = Some("one".into()));
    let back = trial.join(None, |join| join.instance = Some("one".into()));
    assert_eq!(code(&trial.answer(waiting).expect("fenced")), ErrorCode::FencedInstanceId);
    assert_eq!(
        (trial.answer(new), trial.answer(back)),
        (None, None),
        "the other static member is waited for"
    );
    let last = trial.join(Some(&follower), |join| join.instance = Some("two".into()));
    for ticket in [new, back, last] {
        assert_eq!(joined(&trial.answer(ticket).expect("")).generation, 2);
    }
}

#[test]
fn an_absent_static_member_is_not_left_behind_before_its_session_ends() {
    let mut trial = Trial::new();
    let (leader, follower) = trial.stable_static();
    let new = trial.join(None, |join| join.id_required = false);
    let again = trial.join(Some(&leader), |join| join.instance = Some("one".into()));
    for _ in 0..7 {
        trial.pass(9_000);
        let other = MemberAt { id: follower.clone(), instance: Some("two".into()), generation: 1 };
        let _ = trial.heartbeat_as(&other);
    }
    let told = joined(&trial.answer(again).expect("the rebalance timeout has passed"));
    assert_eq!(told.generation, 2);
    assert!(trial.answer(new).is_some());
    assert!(
        trial.group().describe().members.iter().any(|member| member.id == follower),
        "it keeps its place"
    );
}

#[test]
fn admins_remove_static_members_by_name() {
    let mut trial = Trial::new();
    trial.stable_static();
    let codes = trial.leave(&[(None, Some("two")), (None, Some("three")), (None, None)]);
    assert_eq!(codes, [ErrorCode::None, ErrorCode::UnknownMemberId, ErrorCode::UnknownMemberId]);
    assert_eq!(trial.state(), "PreparingRebalance");
}

#[test]
fn a_group_reads_back_as_it_was() {
    let mut trial = Trial::new();
    let (leader, follower) = trial.stable_static();
    trial.restart();
    assert_eq!(trial.state(), "Stable");
    for (member, instance) in [(&leader, "one"), (&follower, "two")] {
        let at = MemberAt { id: member.clone(), instance: Some(instance.into()), generation: 1 };
        assert_eq!(trial.heartbeat_as(&at), Ok(()));
    }
    let sync = trial.sync(&follower, 1, &[]);
    assert_eq!(synced(&trial.answer(sync).expect("")), "b");
    trial.pass(10_000);
    assert_eq!(trial.state(), "Empty", "whoever does not come back after a start is missed");
}

#[test]
fn a_kind_of_group_that_nobody_knows_is_served_all_the_same() {
    let mut trial = Trial::new();
    let opaque = vec![("v0".to_owned(), Bytes::from_static(b"\xff\x00 anything"))];
    let ticket = trial.join(None, |join| {
        (join.id_required, join.protocol_type, join.protocols) = (false, "sr".into(), opaque.clone());
    });
    trial.pass(3_000);
    let told = joined(&trial.answer(ticket).expect(""));
    assert_eq!((told.protocol_type.as_deref(), &told.members[0].2), (Some("sr"), &opaque[0].1));
    let sync = trial.sync(&told.member, 1, &[(&told.member, "\u{fffd}x")]);
    assert_eq!(synced(&trial.answer(sync).expect("")), "\u{fffd}x");
    assert_eq!(assignment(&trial, &told.member), "\u{fffd}x");
    assert!(!trial.group().is_subscribed("t"));
}

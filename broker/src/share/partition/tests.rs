//! What a share partition promises: to each record one member at a time, and an end.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

const LIMITS: Limits = Limits { lock: Duration::from_secs(30), deliveries_max: 3, locks_max: 100 };

fn at(seconds: u64) -> Instant {
    Instant::default() + Duration::from_secs(seconds)
}

fn take(
    machine: &mut SharePartition,
    member: &str,
    records_max: i64,
    batches: &[(i64, i64)],
) -> Vec<(i64, i64, i16)> {
    let wanted = Acquire {
        member,
        fetched_from: machine.next_fetch_offset(),
        records_max,
        is_exact: false,
        batch_size: 1000,
    };
    let acquired = machine.acquire(at(0), &LIMITS, &wanted, batches);
    acquired.iter().map(|one| (one.first, one.last, one.deliveries)).collect()
}

fn say(
    machine: &mut SharePartition,
    member: &str,
    first: i64,
    last: i64,
    outcomes: &[Outcome],
) -> Result<Option<Change>, ErrorCode> {
    let said = Acknowledgement { first, last, outcomes: outcomes.to_vec() };
    machine.acknowledge(at(1), &LIMITS, member, &[said])
}

/// Says it, and it is written.
fn settle(
    machine: &mut SharePartition,
    member: &str,
    first: i64,
    last: i64,
    outcomes: &[Outcome],
) -> Vec<StateBatch> {
    let change =
        say(machine, member, first, last, outcomes).expect("it is hers").expect("it changes something");
    machine.written(change.number, true);
    change.batches
}

#[test]
fn each_record_has_one_member_and_accepted_ones_are_passed_over() {
    let mut machine = SharePartition::new(0);
    assert_eq!(take(&mut machine, "a", 5, &[(0, 9), (10, 19)]), [(0, 9, 1)], "whole batches");
    assert_eq!(take(&mut machine, "b", 500, &[(10, 19)]), [(10, 19, 1)]);
    assert_eq!(take(&mut machine, "c", 500, &[(0, 9), (10, 19)]), []);
    assert_eq!(say(&mut machine, "b", 0, 9, &[Outcome::Accept]), Err(ErrorCode::InvalidRecordState));
    assert_eq!(say(&mut machine, "a", 0, 10, &[Outcome::Accept]), Err(ErrorCode::InvalidRecordState));
    assert_eq!(say(&mut machine, "b", 10, 20, &[Outcome::Accept]), Err(ErrorCode::InvalidRecordState));
    settle(&mut machine, "b", 10, 19, &[Outcome::Accept]);
    assert_eq!(machine.start(), 0, "what lies before is not done");
    settle(&mut machine, "a", 0, 4, &[Outcome::Accept]);
    assert_eq!(machine.start(), 5);
    settle(
        &mut machine,
        "a",
        5,
        9,
        &[Outcome::Accept, Outcome::Gap, Outcome::Reject, Outcome::Accept, Outcome::Release],
    );
    assert_eq!((machine.start(), machine.next_fetch_offset()), (9, 9));
    assert_eq!(take(&mut machine, "c", 500, &[(0, 9), (10, 19)]), [(9, 9, 2)]);
    settle(&mut machine, "c", 9, 9, &[Outcome::Accept]);
    assert_eq!((machine.start(), machine.next_fetch_offset()), (20, 20));
    assert_eq!(say(&mut machine, "c", 9, 9, &[Outcome::Accept]), Ok(None), "done with, whatever is said");
}

#[test]
fn nothing_holds_before_it_is_written() {
    let mut machine = SharePartition::new(0);
    take(&mut machine, "a", 500, &[(0, 9)]);
    let change = say(&mut machine, "a", 0, 9, &[Outcome::Release]).expect("hers").expect("a change");
    assert_eq!(
        change.batches,
        [StateBatch { first: 0, last: 9, delivery: Delivery::Available, deliveries: 1 }]
    );
    assert_eq!(take(&mut machine, "b", 500, &[(0, 9)]), [], "not yet free");
    assert_eq!(say(&mut machine, "a", 0, 9, &[Outcome::Accept]), Err(ErrorCode::InvalidRecordState));
    assert_eq!(machine.next_deadline(), None);
    machine.written(change.number, false);
    assert_eq!(machine.next_deadline(), Some(at(30)), "as before");
    settle(&mut machine, "a", 0, 9, &[Outcome::Accept]);
    assert_eq!(machine.start(), 10);
}

#[test]
fn locks_end_and_are_renewed_and_deliveries_are_counted() {
    let mut machine = SharePartition::new(0);
    for deliveries in 1..=LIMITS.deliveries_max {
        assert_eq!(take(&mut machine, "a", 500, &[(0, 9)]), [(0, 9, deliveries)]);
        assert_eq!(machine.tick(at(29), &LIMITS), None);
        assert_eq!(say(&mut machine, "a", 5, 5, &[Outcome::Renew]), Ok(None));
        let change = machine.tick(at(30), &LIMITS).expect("a lock has ended");
        let delivery =
            if deliveries == LIMITS.deliveries_max { Delivery::Archived } else { Delivery::Available };
        assert_eq!(change.batches.len(), 2);
        assert!(
            change.batches.iter().all(|batch| batch.delivery == delivery && batch.deliveries == deliveries)
        );
        assert_eq!(machine.next_deadline(), Some(at(31)), "one was renewed");
        machine.tick(at(31), &LIMITS);
        if delivery == Delivery::Available {
            // The same in one piece.
            machine =
                SharePartition::restore(0, &[StateBatch { first: 0, last: 9, delivery, deliveries }], 100);
        }
    }
    assert_eq!((machine.start(), machine.next_fetch_offset()), (10, 10), "nobody can do it");
}

#[test]
fn a_member_that_goes_leaves_what_it_has_as_if_it_had_never_had_it() {
    let mut machine = SharePartition::new(0);
    take(&mut machine, "a", 10, &[(0, 9)]);
    take(&mut machine, "b", 10, &[(10, 19)]);
    let change = machine.release("a").expect("it had some");
    machine.written(change.number, true);
    assert_eq!(machine.release("a"), None);
    assert_eq!(take(&mut machine, "c", 500, &[(0, 9), (10, 19)]), [(0, 9, 1)]);
}

#[test]
fn records_in_flight_are_bounded_but_for_the_rest_of_a_batch() {
    let mut machine = SharePartition::new(0);
    assert_eq!(take(&mut machine, "a", 500, &[(0, 59), (60, 119), (120, 179)]), [(0, 119, 1)]);
    assert!(!machine.has_room(&LIMITS));
    settle(&mut machine, "a", 10, 10, &[Outcome::Release]);
    assert!(machine.has_room(&LIMITS), "what is free may be had");
    assert_eq!(take(&mut machine, "b", 500, &[(0, 59), (60, 119), (120, 179)]), [(10, 10, 2)]);
    let wanted = Acquire { member: "c", fetched_from: 0, records_max: 7, is_exact: true, batch_size: 4 };
    let mut exact = SharePartition::new(0);
    let acquired = exact.acquire(at(0), &LIMITS, &wanted, &[(0, 2), (3, 5), (6, 99)]);
    assert_eq!(acquired.iter().map(|one| (one.first, one.last)).collect::<Vec<_>>(), [(0, 5), (6, 6)]);
}

#[test]
fn what_is_gone_from_the_log_is_passed_over() {
    let mut machine = SharePartition::new(0);
    take(&mut machine, "a", 500, &[(0, 9), (10, 19)]);
    let change = say(&mut machine, "a", 0, 9, &[Outcome::Release]).expect("hers").expect("a change");
    machine.written(change.number, true);
    // Compaction: read from 0, the first batch lies at 20.
    assert_eq!(take(&mut machine, "b", 500, &[(20, 29)]), [(20, 29, 1)]);
    assert_eq!(machine.start(), 10);
    machine.log_starts_at(25);
    assert_eq!(machine.start(), 25);
    assert_eq!(say(&mut machine, "a", 10, 19, &[Outcome::Accept]), Ok(None));
    settle(&mut machine, "b", 20, 29, &[Outcome::Accept]);
    assert_eq!(machine.start(), 30);
    machine.log_starts_at(50);
    assert_eq!((machine.start(), machine.next_fetch_offset()), (50, 50));
}

#[test]
fn what_was_kept_goes_on() {
    let batch = |first, last, delivery, deliveries| StateBatch { first, last, delivery, deliveries };
    let kept = [
        batch(5, 9, Delivery::Acknowledged, 1),
        batch(12, 14, Delivery::Available, 2),
        batch(15, 19, Delivery::Archived, 3),
    ];
    let mut machine = SharePartition::restore(5, &kept, 100);
    assert_eq!((machine.start(), machine.next_fetch_offset()), (10, 10));
    assert_eq!(take(&mut machine, "a", 500, &[(0, 19), (20, 29)]), [(10, 11, 1), (12, 14, 3), (20, 29, 1)]);
    // Power has taken the log's end: what comes there are other records.
    let mut machine = SharePartition::restore(5, &kept, 7);
    assert_eq!((machine.start(), machine.next_fetch_offset()), (7, 7));
    assert_eq!(take(&mut machine, "a", 500, &[(7, 9)]), [(7, 9, 1)]);
    assert_eq!(SharePartition::restore(50, &[], 7).start(), 7);
}

#[test]
fn records_of_aborted_transactions_are_nobodys() {
    let mut machine = SharePartition::new(0);
    let wanted =
        Acquire { member: "a", fetched_from: 0, records_max: 500, is_exact: false, batch_size: 1000 };
    let acquired = machine.acquire(at(0), &LIMITS, &wanted, &[(0, 9), (10, 19)]);
    let left = machine.archive("a", &[(0, 2), (5, 6)], acquired);
    assert_eq!(left.iter().map(|one| (one.first, one.last)).collect::<Vec<_>>(), [(3, 4), (7, 19)]);
    assert_eq!(machine.start(), 3);
}

#[derive(Debug, Clone)]
enum Step {
    Take { member: u8, records_max: i64, is_exact: bool },
    Say { member: u8, which: usize, outcome: u8, is_kept: bool },
    Release { member: u8 },
    Wait { seconds: u64 },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0_u8..3, 1_i64..30, any::<bool>())
            .prop_map(|(member, records_max, is_exact)| Step::Take { member, records_max, is_exact }),
        4 => (0_u8..3, 0_usize..50, 0_u8..5, prop::bool::weighted(0.8))
            .prop_map(|(member, which, outcome, is_kept)| Step::Say { member, which, outcome, is_kept }),
        1 => (0_u8..3).prop_map(|member| Step::Release { member }),
        1 => (0_u64..40).prop_map(|seconds| Step::Wait { seconds }),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    /// Whatever members do, and however often the broker starts anew with what was written: nobody gets what somebody else has, nothing
    /// that was acknowledged comes again, and nothing is passed over that was not.
    #[test]
    fn no_record_is_lost_or_given_twice(steps in prop::collection::vec(step(), 1..60)) {
        const END: i64 = 60;
        let log: Vec<(i64, i64)> = (0..END / 6).map(|n| (6 * n, 6 * n + 5)).collect();
        let mut machine = SharePartition::new(0);
        let mut states = super::super::state::States::default();
        let key = super::super::state::StateKey { group: "g".into(), topic: [0; 16], partition: 0 };
        let mut written = 0;
        let mut write = |states: &mut super::super::state::States, start, batches| {
            let state_epoch = states.get(&key).map(|stored| stored.state_epoch);
            let request = super::super::state::StateRequest::Write { state_epoch, leader_epoch: 0, start, batches };
            let record = states.record(0, &key, &request, 5).expect("a record");
            states.applied(written, record);
            written += 1;
        };
        write(&mut states, 0, Vec::new());
        let mut held: Vec<BTreeSet<i64>> = vec![BTreeSet::new(); 3];
        let mut until = vec![0_u64; END as usize];
        let mut done: BTreeSet<i64> = BTreeSet::new();
        let mut deliveries = vec![0_i16; END as usize];
        let mut now = 0;
        for step in steps {
            match step {
                Step::Take { member, records_max, is_exact } => {
                    let from = machine.next_fetch_offset();
                    let batches: Vec<_> = log.iter().filter(|batch| batch.1 >= from).copied().collect();
                    let name = format!("m{member}");
                    let wanted = Acquire { member: &name, fetched_from: from, records_max, is_exact, batch_size: 4 };
                    let acquired = machine.acquire(at(now), &LIMITS, &wanted, &batches);
                    let mut count = 0;
                    for one in acquired {
                        for offset in one.first..=one.last {
                            prop_assert!(held.iter().all(|held| !held.contains(&offset)), "{} is with somebody", offset);
                            prop_assert!(!done.contains(&offset), "{} is done with", offset);
                            held[usize::from(member)].insert(offset);
                            until[offset as usize] = now + 30;
                            deliveries[offset as usize] = one.deliveries;
                            count += 1;
                        }
                    }
                    prop_assert!(!is_exact || count <= records_max);
                }
                Step::Say { member, which, outcome, is_kept } => {
                    let mine = &mut held[usize::from(member)];
                    let Some(&offset) = mine.iter().nth(which % mine.len().max(1)) else { continue };
                    let outcome = Outcome::from_code(outcome as i8).expect("one of five");
                    let said = Acknowledgement { first: offset, last: offset, outcomes: vec![outcome] };
                    let change = machine.acknowledge(at(now), &LIMITS, &format!("m{member}"), &[said]);
                    let change = change.expect("it is hers");
                    prop_assert_eq!(change.is_none(), outcome == Outcome::Renew);
                    let Some(change) = change else {
                        until[offset as usize] = now + 30;
                        continue;
                    };
                    if is_kept {
                        write(&mut states, change.start, change.batches);
                        mine.remove(&offset);
                        let is_spent = deliveries[offset as usize] >= LIMITS.deliveries_max;
                        if outcome != Outcome::Release || is_spent {
                            done.insert(offset);
                        }
                    }
                    machine.written(change.number, is_kept);
                }
                Step::Release { member } => {
                    if let Some(change) = machine.release(&format!("m{member}")) {
                        write(&mut states, change.start, change.batches);
                        machine.written(change.number, true);
                    }
                    held[usize::from(member)].clear();
                }
                Step::Wait { seconds } => {
                    now += seconds;
                    if let Some(change) = machine.tick(at(now), &LIMITS) {
                        write(&mut states, change.start, change.batches);
                    }
                    for mine in &mut held {
                        for offset in mine.extract_if(.., |offset| until[*offset as usize] <= now) {
                            if deliveries[offset as usize] >= LIMITS.deliveries_max {
                                done.insert(offset);
                            }
                        }
                    }
                }
                Step::Restart => {
                    let stored = states.get(&key).expect("written");
                    machine = SharePartition::restore(stored.start, &stored.batches, END);
                    held.iter_mut().for_each(BTreeSet::clear);
                }
            }
            let first = (0..END).find(|offset| !done.contains(offset)).unwrap_or(END);
            prop_assert!(machine.start() <= first, "{} is not done with", first);
            let mut last = machine.start() - 1;
            for (from, range) in &machine.ranges {
                prop_assert!(*from > last && range.last >= *from);
                last = range.last;
            }
            prop_assert!(machine.next > last);
        }
    }
}

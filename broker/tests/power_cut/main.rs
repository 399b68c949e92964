//! The whole broker under simulated power cuts: Kafka's bytes over several connections, cuts at any instant, recovery
//! included, and a checker outside that knows what was acknowledged and what was read. `docs/TESTING.md` says what it demands.
//!
//! `scripts/sim --seeds 1000` runs many seeds; `RINGLOG_PLAN='seed=7 …' cargo test --test power_cut` one plan, as a failure
//! prints it.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

mod administering;
mod client;
mod committing;
mod compacting;
mod consuming;
mod keeping;
mod ledger;
mod partition;
mod plan;
#[cfg(ringlog_plant)]
mod planted;
mod producing;
#[path = "../../../engine/tests/trial/mod.rs"]
mod trial;
mod world;

use ledger::Tally;
use plan::Plan;
use std::ops::Range;
use trial::Failure;

/// Seeds in `cargo test`: some seconds of a debug build.
const SEEDS: u64 = 40;

/// Plans that failed once.
const KEPT: &[(&str, &str)] = &[
    (
        "seed=1463 shards=1 dirs=1 topics=1 partitions=1 idempotent=1 plain=0 consumers=0 admin=0 deletes=1 resets=0 lives=p3058f1.23",
        "a deletion of records that had failed was taken for done when it was asked for again",
    ),
    (
        "seed=99 shards=1 dirs=2 topics=2 partitions=1 idempotent=1 plain=1 consumers=1 admin=1 deletes=0 resets=200 lives=k2789",
        "what lay in the folder of a topic stayed when a crash cut its deletion short",
    ),
    (
        "seed=670 shards=2 dirs=1 topics=2 partitions=2 idempotent=2 plain=2 consumers=1 groups=2 admin=0 deletes=1 resets=0 lives=s2548",
        "a fetch that met the deletion of the records it read was told that the disk had failed",
    ),
    (
        "seed=185 shards=1 dirs=1 topics=1 partitions=1 idempotent=2 plain=1 consumers=2 admin=0 deletes=0 resets=0 lives=kt8257,k486",
        "a read went on with the next segment where other reads had pushed the indexes of its own out of memory",
    ),
    (
        "seed=9032 shards=1 dirs=1 topics=1 partitions=1 idempotent=2 plain=0 consumers=1 admin=0 deletes=1 resets=200 lives=k7587,p2200",
        "a deletion of records removed segments behind the one at which recovery began, which took the hole for the log's end",
    ),
    (
        "seed=31184 shards=2 dirs=1 topics=2 partitions=1 idempotent=2 plain=2 consumers=2 admin=0 deletes=1 resets=200 lives=p9534,p3748",
        "a consumer was led past records while another read needed the memory of their index",
    ),
    (
        "seed=820 shards=2 dirs=2 topics=1 partitions=1 idempotent=1 plain=2 consumers=2 admin=1 deletes=1 resets=200 lives=p2258,p5547",
        "a segment was deleted while it was read, and the read went on behind it as if nothing had been there",
    ),
    (
        "seed=2135 shards=1 dirs=2 topics=1 partitions=1 idempotent=1 plain=1 consumers=0 groups=1 admin=0 deletes=1 resets=0 lives=pd330",
        "a consumer that was refused a coordinator while the disk was full never looked for one again",
    ),
    (
        "seed=3727 shards=1 dirs=1 topics=1 partitions=1 idempotent=1 plain=0 consumers=0 groups=0 admin=0 deletes=0 resets=200 lives=s2022,pt308",
        "the torn end of a segment that had its indexes from an earlier clean stop was kept as a sealed segment's damage",
    ),
    (
        "seed=28556 shards=1 dirs=1 topics=2 partitions=2 idempotent=2 plain=1 consumers=0 groups=1 admin=0 deletes=0 resets=0 lives=k5,p1139,kd1813",
        "a producer's first batch was refused by a full disk, its second one taken, and the broker killed before it could say so",
    ),
    (
        "seed=29203 shards=1 dirs=2 topics=3 partitions=1 idempotent=1 plain=2 consumers=2 groups=1 admin=0 deletes=1 resets=200 lives=pd888",
        "what there was to check was more than a connection that breaks now and then lasted for",
    ),
];

#[test]
fn nothing_promised_is_lost_and_nothing_else_comes_back() {
    if let Ok(plan) = std::env::var("RINGLOG_PLAN") {
        let plan: Plan = plan.parse().unwrap();
        println!("{:?}", trial::run(&plan).unwrap_or_else(|why| panic!("{why}")));
        return;
    }
    let seeds = seeds();
    let count = seeds.end - seeds.start;
    let mut total = Tally::default();
    for seed in seeds {
        match trial::run(&Plan::of(seed)) {
            Ok(tally) => total.add(&tally),
            Err(why) => panic!("{}", Failure::shrunk(Plan::of(seed), why)),
        }
    }
    println!("{count} seeds: {total:?}");
    if count >= SEEDS {
        assert!(total.promised >= 50 * count && total.recovered >= total.promised, "too little was promised");
        assert!(total.cut_in_recovery >= count / 10, "recoveries were not cut short often enough");
        assert!(
            total.stops >= count
                && total.faults >= count / 20
                && total.emptied >= count / 20
                && total.read >= 50 * count
        );
        assert!(total.commits >= 5 * count && total.offsets >= count && total.generations >= count / 3);
        assert!(total.changes >= count / 4 && total.tables >= count / 2 && total.rounds >= count / 4);
        assert!(total.retained >= count / 10, "too little was let go of");
    }
}

#[test]
fn what_failed_once_does_not_fail_again() {
    for (plan, why) in KEPT {
        if let Err(now) = trial::run(&plan.parse().unwrap()) {
            panic!("{why}: {now}\n  {plan}");
        }
    }
}

#[test]
fn equal_plans_go_alike() {
    let tally = |_| trial::run(&Plan::of(3)).map(|tally| format!("{tally:?}"));
    assert_eq!(tally(1), tally(2));
}

/// `RINGLOG_SEEDS` of them, from `RINGLOG_START` on.
fn seeds() -> Range<u64> {
    let start = variable("RINGLOG_START").unwrap_or(0);
    start..start + variable("RINGLOG_SEEDS").unwrap_or(SEEDS)
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect("a number"))
}

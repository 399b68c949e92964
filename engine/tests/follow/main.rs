//! Logs that follow one another on simulated machines that lose their power, die and are elected at any instant: what was
//! committed is in whichever log leads next, unaltered, and no follower takes anything else for committed.
//!
//! `RINGLOG_SEEDS=100000 cargo test --test follow` runs many seeds, from `RINGLOG_START` on; `RINGLOG_PLAN='seed=7 …'` one plan, as a
//! failure prints it.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

#[path = "../power_cut/batches.rs"]
mod batches;
mod book;
mod cluster;
mod plan;
#[cfg(ringlog_plant)]
mod planted;
mod producing;
mod replica;
#[path = "../trial/mod.rs"]
mod trial;
mod world;

use plan::Plan;
use trial::Failure;
use world::Tally;

/// Seeds in `cargo test`: some seconds of a debug build.
const SEEDS: u64 = 40;

/// Plans that failed once.
const KEPT: &[(&str, &str)] = &[(
    "seed=288 machines=2 fsync=1 segment=60000 idempotent=2 plain=2 gaps=0 deletes=0 disorder=1 acts=2732l0,3345u0,9e0,150l0,786c1",
    "of a truncation that was cut short a segment was gone and a later one there: the log was taken for one with damage",
)];

#[test]
fn what_failed_once_holds() {
    for (plan, what) in KEPT {
        trial::run(&plan.parse().unwrap()).unwrap_or_else(|why| panic!("{what}: {why}"));
    }
}

#[test]
fn what_is_committed_is_in_whichever_log_leads_next() {
    if let Ok(plan) = std::env::var("RINGLOG_PLAN") {
        let plan: Plan = plan.parse().unwrap();
        println!("{:?}", trial::run(&plan).unwrap_or_else(|why| panic!("{why}")));
        return;
    }
    let start = variable("RINGLOG_START").unwrap_or(0);
    let count = variable("RINGLOG_SEEDS").unwrap_or(SEEDS);
    let mut total = Tally::default();
    for seed in start..start + count {
        match trial::run(&Plan::of(seed)) {
            Ok(tally) => total.add(&tally),
            Err(why) => panic!("{}", Failure::shrunk(Plan::of(seed), why)),
        }
    }
    println!("{count} seeds: {total:?}");
    if count >= SEEDS {
        assert!(total.committed >= 500 * count && total.checked >= 500 * count, "too little was checked");
        assert!(total.elections >= 2 * count && total.truncated >= count / 3, "too little has happened");
        assert!(total.idle > 0 && total.gaps >= 10 * count, "too little that is rare has happened");
    }
}

#[test]
fn equal_plans_go_alike() {
    let tally = |_| trial::run(&Plan::of(3)).map(|tally| format!("{tally:?}"));
    assert_eq!(tally(1), tally(2));
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect("a number"))
}

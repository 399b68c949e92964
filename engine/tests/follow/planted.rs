//! This simulator is tested, too: each known bug of following is planted, and must be found.

use crate::plan::Plan;
use crate::{trial, variable};
use ringlog_engine::plant::{Plant, plant};

/// Each bug, and within how many seeds it must be found: several times what a run from the first seed took.
const PLANTED: &[(Plant, u64)] = &[
    (Plant::AskBeforeItIsHeld, 20),
    (Plant::SkipTheTruncation, 20),
    (Plant::TruncateToTheHighWatermark, 40),
    (Plant::CarryTheHighWatermarkPastTheEnd, 20),
    (Plant::AnswerWhereHistoriesPart, 40),
    (Plant::KeepTheProducersOfWhatIsCut, 200),
];

#[test]
fn every_planted_bug_is_found() {
    let start = variable("RINGLOG_START").unwrap_or(0);
    let mut missed = Vec::new();
    for (bug, within) in PLANTED {
        plant(Some(*bug));
        let found = (0..*within).find_map(|tries| {
            let broken = trial::run(&Plan::of(start + tries)).err()?;
            Some((tries + 1, broken))
        });
        plant(None);
        match found {
            Some((tries, why)) => println!("{bug:?}: found by seed {tries} of {within}: {why}"),
            None => missed.push(bug),
        }
    }
    assert!(missed.is_empty(), "a hole in the simulator or in the checker: {missed:?} found by no seed");
}

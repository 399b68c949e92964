//! The simulator is tested, too: each known bug is planted, and must be found.

use crate::plan::Plan;
use crate::{trial, variable};
use ringlog_engine::plant::{Plant, plant};

/// Each bug, and within how many seeds it must be found: about three times
/// what the slowest of six runs from different seeds took.
const PLANTED: &[(Plant, u64)] = &[
    (Plant::AcknowledgeBeforeTheWriteCompletes, 20),
    (Plant::SkipTheSync, 20),
    (Plant::SyncTheWrongFile, 30),
    (Plant::SkipTheDirectorySync, 200),
    (Plant::LeaveTheOldTail, 30),
    (Plant::TwoWritesInFlightOnOneBlock, 20),
    (Plant::AnswerADuplicateEarly, 1500),
    (Plant::CheckpointPastTheDurableMark, 30),
    (Plant::RetryAFailedSync, 800),
    (Plant::RepliesOutOfOrder, 20),
    (Plant::HighWatermarkPastDurable, 400),
    (Plant::BuildOnWhatWasNotSynced, 80),
    (Plant::ForgetTheProducers, 20),
    (Plant::SkipTheMetadataSync, 20),
    (Plant::TakeOverAnotherTopicsFolder, 300),
    (Plant::AcknowledgeAllWhenWritten, 30),
    (Plant::AcknowledgeCommitsEarly, 60),
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

//! The simulator is tested, too: each known bug is planted, and must be found.

use crate::trial;
use ringlog_engine::plant::Plant;

/// Each bug, and within how many seeds it must be found: about three times
/// what the slowest of six runs from different seeds took.
const PLANTED: &[(Plant, u64)] = &[
    (Plant::AcknowledgeBeforeTheWriteCompletes, 20),
    (Plant::SkipTheSync, 20),
    (Plant::SyncTheWrongFile, 30),
    (Plant::SkipTheDirectorySync, 200),
    (Plant::LeaveTheOldTail, 30),
    (Plant::TakeZeroedSpaceForWritten, 30),
    (Plant::TwoWritesInFlightOnOneBlock, 20),
    (Plant::AnswerADuplicateEarly, 1500),
    (Plant::CheckpointPastTheDurableMark, 30),
    (Plant::RetryAFailedSync, 800),
    (Plant::RepliesOutOfOrder, 20),
    (Plant::HighWatermarkPastDurable, 400),
    (Plant::BuildOnWhatWasNotSynced, 500),
    (Plant::ForgetTheProducers, 20),
    (Plant::SkipTheMetadataSync, 20),
    (Plant::TakeOverAnotherTopicsFolder, 300),
    (Plant::AcknowledgeAllWhenWritten, 30),
    (Plant::AcknowledgeCommitsEarly, 60),
    (Plant::ReuseTheJournalEarly, 500),
    (Plant::SkipTheReplay, 100),
];

#[test]
fn every_planted_bug_is_found() {
    trial::every_planted_bug_is_found(PLANTED);
}

//! This simulator is tested, too: each known bug of following is planted, and must be found.

use crate::trial;
use ringlog_engine::plant::Plant;

/// Each bug, and within how many seeds it must be found: several times what a run from the first seed took.
const PLANTED: &[(Plant, u64)] = &[
    (Plant::AskBeforeItIsHeld, 20),
    (Plant::SkipTheTruncation, 20),
    (Plant::TruncateToTheHighWatermark, 40),
    (Plant::CarryTheHighWatermarkPastTheEnd, 20),
    (Plant::AnswerWhereHistoriesPart, 40),
    (Plant::KeepTheProducersOfWhatIsCut, 1000),
    (Plant::TakeAnAnswerTwice, 1000),
    (Plant::KeepAnEpochWithoutRecords, 100),
    (Plant::BeginAnEpochAfterAGap, 1500),
    (Plant::TakeAnyGapForOneOfTheLeaders, 1500),
];

#[test]
fn every_planted_bug_is_found() {
    trial::every_planted_bug_is_found(PLANTED);
}

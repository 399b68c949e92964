//! Compaction: a log that keeps the last record of each key (Kafka's `LogCleaner` and `Cleaner`).
//!
//! ```text
//!   clean segments        | dirty segments                  | not to be touched: active, unsealed, too young, not yet seen
//!   log start        first dirty                    first uncleanable
//! ```
//!
//! A round notes the last offset of each key of the dirty part, as far as its memory reaches; then it writes all segments up to there
//! anew, some together where they have become small, without the records that are older than the last of their key. `docs/decisions`
//! tells the bounds and what a crash leaves.
//!
//! A shard only hands chunks from one operation to the next: reads, writes and the work in between are done by others.

mod filter;
mod offset_map;
mod range;
mod round;
mod swap;

pub use range::Dirtiness;
pub use round::{CleanError, Cleaned, CleanerLimits};
pub(super) use swap::finish_swaps;

use super::Offset;

/// What a log knows of its cleaning.
#[derive(Debug, Default)]
pub(super) struct Cleaning {
    /// Everything below has been cleaned; `None` until the file that tells it has been read.
    cleaned_to: Option<Offset>,
    /// A round is under way.
    runs: bool,
    /// No round may go on or begin: the log is being closed.
    stops: bool,
    /// Damage was met: the log is not cleaned again before the next start.
    pub(super) uncleanable: bool,
}

/// Tells up to where a log has been cleaned. It may be behind, and then some is cleaned again.
const CLEANED_FILE: &str = "ringlog.cleaned-to";
/// The ending of a segment file that is being written by a round.
const CLEANED: &str = ".cleaned";
/// The ending of a whole one that is about to take the place of others.
const SWAP: &str = ".swap";

//! What can go wrong with a log, as its callers must tell it apart.

use super::Offset;
use crate::io::is_of_device;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;

/// Why a log cannot be opened.
#[derive(Debug)]
pub enum OpenError {
    /// An operation on its files failed.
    Io {
        /// Verb and object: `list directory`.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A segment that was durable is not there, or not all of it.
    Lost {
        /// The segment file.
        file: PathBuf,
        /// Its bytes, if it is there.
        len: Option<u64>,
        /// The bytes that were durable.
        needed: u64,
    },
    /// The log was open in an earlier run, and there is no segment.
    Emptied {
        /// The log's directory.
        dir: PathBuf,
    },
    /// Records that were durable lay in a journal where that is damaged.
    LostInJournal {
        /// The journal's file.
        journal: PathBuf,
        /// The byte where it is damaged.
        pos: u64,
        /// The first offset that is missing.
        from: Offset,
    },
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { doing, path, error } => write!(f, "{doing} {}: {error}", path.display()),
            Self::Lost { file, len, needed } => {
                match len {
                    Some(len) => write!(f, "{} ends at byte {len} of {needed}", file.display())?,
                    None => write!(f, "{} is missing, {needed} bytes of it were durable", file.display())?,
                }
                write!(f, "; restore it, or remove ringlog.checkpoint beside it to go on with what is left")
            }
            Self::Emptied { dir } => write!(
                f,
                "{} has no segment, though it was in use: put its files back or, to go on without its records, empty it, and start again",
                dir.display()
            ),
            Self::LostInJournal { journal, pos, from } => write!(
                f,
                "records from offset {from} on lay in {}, which is damaged at byte {pos}; to go on without them, remove it when all other partitions have been opened once, and start again",
                journal.display()
            ),
        }
    }
}

impl std::error::Error for OpenError {}

/// The log takes no more appends and moves no mark any more; what was durable can still be read.
#[derive(Debug, Clone)]
pub enum LogFailed {
    /// A write, a sync or a change of its files failed.
    Storage {
        /// Verb and object: `write segment`.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        error: Rc<io::Error>,
    },
    /// What was waited for has been truncated away.
    Truncated,
    /// The log has been closed or removed.
    Closed,
}

impl LogFailed {
    /// Whether it is the device, or its file system, that has failed: other logs on it are in the same danger.
    pub fn is_of_device(&self) -> bool {
        matches!(self, Self::Storage { error, .. } if is_of_device(error))
    }
}

impl fmt::Display for LogFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Storage { doing, path, error } => write!(f, "{doing} {}: {error}", path.display()),
            Self::Truncated => f.write_str("the records were truncated away"),
            Self::Closed => f.write_str("the log is closed"),
        }
    }
}

impl std::error::Error for LogFailed {}

/// Why batches are not appended.
#[derive(Debug, Clone)]
pub enum AppendError {
    /// Shorter than it says, or its CRC does not match.
    Corrupt,
    /// Not a record batch of format v2.
    UnsupportedMagic,
    /// Breaks a rule of the format or of what clients may send.
    Invalid {
        /// Which rule.
        why: &'static str,
    },
    /// Larger than `max.message.bytes`.
    TooLarge,
    /// Larger than `segment.bytes`.
    TooLargeForSegment,
    /// A timestamp lies too far from the broker's time.
    InvalidTimestamp,
    /// The producer's sequence does not follow its last one.
    OutOfOrderSequence,
    /// The producer's epoch is behind the one known.
    InvalidProducerEpoch,
    /// A follower was given offsets that the log already has.
    OutOfOrderOffset {
        /// The first offset that would be taken.
        expected: Offset,
    },
    /// The leader epoch is behind the log's newest, or, of a batch that a follower was given, past its leader's.
    StaleEpoch,
    /// Too much is placed and not yet written; see [`super::Log::room`].
    Busy,
    /// The disk is full; appends are taken again once space returns.
    NoSpace,
    /// The log is offline.
    Failed(LogFailed),
}

impl fmt::Display for AppendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Corrupt => f.write_str("the batch is damaged"),
            Self::UnsupportedMagic => f.write_str("only record batches of format v2 are taken"),
            Self::Invalid { why } => write!(f, "invalid batch: {why}"),
            Self::TooLarge => f.write_str("the batch is larger than max.message.bytes"),
            Self::TooLargeForSegment => f.write_str("the batch is larger than segment.bytes"),
            Self::InvalidTimestamp => {
                f.write_str("the batch's timestamps lie too far from the broker's time")
            }
            Self::OutOfOrderSequence => f.write_str("the producer's sequence number is out of order"),
            Self::InvalidProducerEpoch => f.write_str("the producer's epoch is old"),
            Self::OutOfOrderOffset { expected } => write!(f, "the batch's offsets begin before {expected}"),
            Self::StaleEpoch => f.write_str("the leader epoch does not fit the log's"),
            Self::Busy => f.write_str("the disk is behind"),
            Self::NoSpace => f.write_str("the disk is full"),
            Self::Failed(failed) => failed.fmt(f),
        }
    }
}

impl std::error::Error for AppendError {}

/// Why nothing can be read from this offset.
#[derive(Debug)]
pub enum ReadError {
    /// Below the log start or past the log end.
    OutOfRange {
        /// The first offset there is.
        log_start: Offset,
        /// The offset the next record gets.
        log_end: Offset,
    },
    /// What is stored is not what was written.
    Corrupt {
        /// The segment file.
        file: PathBuf,
        /// The byte in it.
        pos: u64,
        /// The offset looked for.
        offset: Offset,
    },
    /// The read failed.
    Io {
        /// The file.
        file: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfRange { log_start, log_end } => {
                write!(f, "the offset is not within {log_start}..={log_end}")
            }
            Self::Corrupt { file, pos, offset } => {
                write!(f, "{} is damaged at byte {pos}, looking for offset {offset}", file.display())
            }
            Self::Io { file, error } => write!(f, "read {}: {error}", file.display()),
        }
    }
}

impl std::error::Error for ReadError {}

//! Looking through a partition that another broker wrote, before it is taken over: every batch is read and checked.

use super::checkpoint::CHECKPOINT_FILE;
use super::error::{LogFailed, OpenError};
use super::files::{opening, remove_file};
use super::recovery::{Files, offset_and_suffix};
use super::scan::Scan;
use super::transactions::{TRANSACTION_INDEX, Transactions, replace_index};
use super::{LogDir, Offset};
use crate::batch;
use crate::io::{FileMode, Io};
use std::fmt;
use std::path::PathBuf;

/// What a partition's directory holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Survey {
    /// The offset of the first batch, or of the first segment where there is none.
    pub first: Offset,
    /// The offset after the last whole batch.
    pub end: Offset,
    /// Segments.
    pub segments: usize,
    /// Whole batches.
    pub batches: u64,
    /// Their records, as the batches count them.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes behind the last whole batch of the last segment: what was being written when the other broker was killed.
    pub torn_bytes: u64,
    /// Transactions that were aborted.
    pub aborted: usize,
}

/// Why a partition cannot be taken over.
#[derive(Debug)]
pub enum SurveyError {
    /// The file system refused.
    Open(OpenError),
    /// Its files could not be written.
    Failed(LogFailed),
    /// What lies in the middle of the log is no batch that may come there.
    Damaged {
        /// The segment.
        file: PathBuf,
        /// Where in it.
        pos: u64,
        /// What is wrong.
        why: &'static str,
    },
    /// A transaction has neither been committed nor aborted.
    OpenTransaction {
        /// Whose it is.
        producer_id: i64,
        /// The offset of its first record.
        first_offset: Offset,
    },
}

impl fmt::Display for SurveyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(error) => error.fmt(f),
            Self::Failed(error) => error.fmt(f),
            Self::Damaged { file, pos, why } => write!(f, "{} at byte {pos}: {why}", file.display()),
            Self::OpenTransaction { producer_id, first_offset } => write!(
                f,
                "the transaction of producer {producer_id} that begins at offset {first_offset} has not ended"
            ),
        }
    }
}

impl std::error::Error for SurveyError {}

/// Looks through a partition, changing nothing.
pub async fn survey(io: &Io, place: &LogDir) -> Result<Survey, SurveyError> {
    look(io, place).await.map(|(survey, _)| survey)
}

/// Makes a partition that was looked through ready to be opened as a log that another broker wrote: what it knows of aborted
/// transactions is written anew from its batches, and no checkpoint of a former stay is left.
pub async fn take_over(io: &Io, place: &LogDir) -> Result<Survey, SurveyError> {
    let (survey, transactions) = look(io, place).await?;
    forget_checkpoint(io, place).await?;
    let files = Files::list(io, place).await.map_err(SurveyError::Open)?;
    let failed = |error| SurveyError::Open(opening("write to", &place.path)(error));
    for (at, &(base, _)) in files.segments.iter().enumerate() {
        let next = files.segments.get(at + 1).map_or(Offset::MAX, |(next, _)| *next);
        let aborted = &transactions.aborted;
        let from = aborted.partition_point(|one| one.last_offset < base);
        let to = aborted.partition_point(|one| one.last_offset < next);
        replace_index(io, place, base, &aborted[from..to]).await.map_err(failed)?;
    }
    // Those of segments that are gone.
    for entry in io.list(place.dir, place.path.clone()).await.map_err(failed)? {
        let Some((base, TRANSACTION_INDEX)) = offset_and_suffix(&entry.name) else { continue };
        if !files.segments.iter().any(|(segment, _)| *segment == base) {
            remove_file(io, place, &place.file(&entry.name)).await.map_err(failed)?;
        }
    }
    Ok(survey)
}

/// Removes ringlog's own checkpoint, durably: another broker will write to this log, or has.
pub async fn forget_checkpoint(io: &Io, place: &LogDir) -> Result<(), SurveyError> {
    let path = place.file(CHECKPOINT_FILE);
    let removed = remove_file(io, place, &path).await;
    removed.map_err(|error| SurveyError::Open(opening("remove", &path)(error)))?;
    let synced = io.sync_dir(place.dir, place.path.clone()).await;
    synced.map(drop).map_err(|error| SurveyError::Open(opening("sync directory", &place.path)(error)))
}

async fn look(io: &Io, place: &LogDir) -> Result<(Survey, Transactions), SurveyError> {
    let files = Files::list(io, place).await.map_err(SurveyError::Open)?;
    let first = files.segments.first().map_or(0, |(base, _)| *base);
    let mut survey = Survey { first, end: first, segments: files.segments.len(), ..Survey::default() };
    let mut transactions = Transactions::default();
    let mut epoch = -1;
    for (at, &(base, len)) in files.segments.iter().enumerate() {
        let path = place.offset_file(base, "log");
        let failed = |doing| {
            let path = path.clone();
            move |error| SurveyError::Open(OpenError::Io { doing, path, error })
        };
        let is_last = at + 1 == files.segments.len();
        if base < survey.end {
            let why = "the segment begins before the one in front of it ends";
            return Err(SurveyError::Damaged { file: path, pos: 0, why });
        }
        survey.end = base;
        let opened = io.open(place.dir, path.clone(), FileMode::Cached).await;
        let (file, _) = opened.map_err(failed("open"))?;
        let mut scan = Scan::new(io, file.clone(), 0, len);
        loop {
            let pos = scan.pos();
            if pos == len {
                break;
            }
            let damaged = |why| SurveyError::Damaged { file: path.clone(), pos, why };
            let found = scan.next().await.map_err(failed("read"))?;
            let whole = found.filter(|found| batch::verify(&found.bytes).is_ok());
            let Some(found) = whole else {
                if is_last {
                    survey.torn_bytes = len - pos;
                    break;
                }
                return Err(damaged("no whole batch of format v2"));
            };
            let header = found.header;
            if header.base_offset < survey.end {
                return Err(damaged("the batch begins before the one in front of it ends"));
            }
            if header.leader_epoch < epoch {
                return Err(damaged("the leader epoch goes back"));
            }
            transactions.note(&header, &found.bytes).ok_or_else(|| damaged("no transaction marker"))?;
            if survey.batches == 0 {
                survey.first = header.base_offset;
            }
            epoch = header.leader_epoch;
            survey.end = header.next_offset();
            survey.batches += 1;
            survey.records += u64::try_from(header.record_count).unwrap_or(0);
            survey.bytes += found.bytes.len() as u64;
        }
        io.close(file).await.map_err(failed("close"))?;
    }
    if let Some((&producer_id, &first_offset)) = transactions.open.iter().min_by_key(|(_, first)| **first) {
        return Err(SurveyError::OpenTransaction { producer_id, first_offset });
    }
    survey.aborted = transactions.aborted.len();
    Ok((survey, transactions))
}

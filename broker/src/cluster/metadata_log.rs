//! The metadata log: every committed record, durable, one line each, in one file of the first data directory.
//!
//! Records are appended and synced before they count. When the file has grown to several times what its image
//! needs it is replaced, at once, by the records that make the image.

use super::image::{Image, Topic};
use super::record::{Record, RecordError};
use bytes::Bytes;
use ringlog_engine::io::{DirId, File, FileMode, Io, is_no_space, small_file};
#[cfg(ringlog_plant)]
use ringlog_engine::plant::{self, Plant};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The open metadata log of this broker.
pub struct MetadataLog {
    io: Io,
    dir: DirId,
    path: PathBuf,
    file: File,
    end: u64,
    /// Size after the last compaction; grown to [`COMPACT_RATIO`] times it, the log is compacted again.
    compacted: u64,
    deleted: Vec<Arc<Topic>>,
    failed: bool,
}

/// The file's name in the data directory.
pub const METADATA_FILE: &str = "cluster-metadata.log";

/// The log is compacted when it has this many times the size it had after the last time…
const COMPACT_RATIO: u64 = 4;
/// …and at least this many bytes.
const COMPACT_BYTES_MIN: u64 = 1 << 20;
/// The largest metadata log that is read.
const METADATA_BYTES_MAX: u64 = 4 << 30;

impl MetadataLog {
    /// Opens or creates the log and makes the image of what it holds. A torn last line, the trace of a crash in
    /// the middle of an append that was never answered, is cut off; damage before it is an error.
    pub async fn open(io: &Io, dir: DirId, folder: &Path) -> Result<(Self, Image), MetadataError> {
        let path = folder.join(METADATA_FILE);
        let failed = |action| {
            let path = path.clone();
            move |error| MetadataError::Io { path, action, error }
        };
        let content = small_file::read(io, dir, &path, METADATA_BYTES_MAX).await.map_err(failed("read"))?;
        let (file, image, end, deleted) = match content {
            Some(content) => {
                let (image, end, deleted) = replay(&content)
                    .map_err(|(line, why)| MetadataError::Damaged { path: path.clone(), line, why })?;
                let (file, len) =
                    io.open(dir, path.clone(), FileMode::CachedWrite).await.map_err(failed("open"))?;
                if len > end {
                    io.truncate(file.clone(), end).await.map_err(failed("cut"))?;
                }
                (file, image, end, deleted)
            }
            None => {
                let file =
                    io.create(dir, path.clone(), FileMode::CachedWrite).await.map_err(failed("create"))?;
                (file, Image::default(), 0, Vec::new())
            }
        };
        // What is found may have been written by a process that did not live to sync it, or the file's name with it: it
        // is gone by no later power cut once somebody goes by it.
        io.sync_file(file.clone()).await.map_err(failed("sync"))?;
        io.sync_dir(dir, folder.to_owned()).await.map_err(failed("sync"))?;
        let log = Self { io: io.clone(), dir, path, file, end, compacted: end, deleted, failed: false };
        Ok((log, image))
    }

    /// The topics that were deleted since the log was last compacted before it was opened, as they were then. A process that died
    /// may have left their directories.
    pub fn take_deleted(&mut self) -> Vec<Arc<Topic>> {
        std::mem::take(&mut self.deleted)
    }

    /// Appends records; they are durable when this returns. After a failure nobody knows what the file holds, so
    /// every later append fails too.
    ///
    /// One after the other: power loss may leave any sectors of a write, and only a broken *last* line can be told from
    /// damage.
    pub async fn append(&mut self, records: &[Record]) -> Result<(), MetadataError> {
        if self.failed {
            return Err(MetadataError::Failed { path: self.path.clone() });
        }
        let begin = self.end;
        self.failed = true;
        let written = self.write(records).await;
        match &written {
            Ok(()) => self.failed = false,
            // Before anything of it counts: as if it had not been tried.
            Err(MetadataError::Io { action: "write", error, .. }) if is_no_space(error) => {
                self.cut_to(begin).await?;
                self.failed = false;
            }
            Err(_) => {}
        }
        written
    }

    async fn cut_to(&mut self, end: u64) -> Result<(), MetadataError> {
        let failed = |action| MetadataError::at(&self.path, action);
        self.io.truncate(self.file.clone(), end).await.map_err(failed("cut"))?;
        self.io.sync_file(self.file.clone()).await.map_err(failed("sync"))?;
        self.end = end;
        Ok(())
    }

    async fn write(&mut self, records: &[Record]) -> Result<(), MetadataError> {
        let failed = |action| MetadataError::at(&self.path, action);
        for record in records {
            let line = Bytes::from(record.to_line());
            let len = line.len() as u64;
            self.io.write(self.file.clone(), self.end, line).await.map_err(failed("write"))?;
            #[cfg(ringlog_plant)]
            if plant::is(Plant::SkipTheMetadataSync) {
                self.end += len;
                continue;
            }
            self.io.sync_file(self.file.clone()).await.map_err(failed("sync"))?;
            self.end += len;
        }
        Ok(())
    }

    /// Replaces the log by the records of `image` if it has grown enough since the last time.
    pub async fn compact_if_grown(&mut self, image: &Image) -> Result<(), MetadataError> {
        if self.failed || self.end < COMPACT_BYTES_MIN.max(self.compacted * COMPACT_RATIO) {
            return Ok(());
        }
        let lines: String = image.records().iter().map(Record::to_line).collect();
        let len = lines.len() as u64;
        self.failed = true;
        let failed = |action| MetadataError::at(&self.path, action);
        match small_file::replace(&self.io, self.dir, &self.path, Bytes::from(lines)).await {
            // It was to be written beside the log, which is as it was.
            Err(error) if is_no_space(&error) => {
                self.failed = false;
                return Ok(());
            }
            replaced => replaced.map_err(failed("replace"))?,
        }
        let old = self.file.clone();
        (self.file, _) =
            self.io.open(self.dir, self.path.clone(), FileMode::CachedWrite).await.map_err(failed("open"))?;
        self.failed = false;
        (self.end, self.compacted) = (len, len);
        self.io.close(old).await.map_err(failed("close"))?;
        Ok(())
    }
}

type Replayed = (Image, u64, Vec<Arc<Topic>>);

/// The image of a log's content, where its last whole record ends, and the topics that records of it delete.
pub(super) fn replay(content: &[u8]) -> Result<Replayed, (usize, String)> {
    let mut image = Image::default();
    let mut deleted = Vec::new();
    let mut end = 0;
    for (number, line) in content.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let is_last = end + line.len() == content.len();
        let record = match read_line(line) {
            Ok(record) => record,
            // A line of a newer version is whole: only a broken one may be the trace of a crash.
            Err(RecordError::Shape | RecordError::Checksum) if is_last && is_torn(line) => break,
            Err(error) => return Err((number + 1, format!("(at byte {end}) {error}"))),
        };
        if let Record::RemoveTopic { topic } = &record {
            deleted.extend(image.topic_by_id(*topic).cloned());
        }
        image.apply(&record).map_err(|why| (number + 1, why))?;
        end += line.len();
    }
    Ok((image, end as u64, deleted))
}

/// Whether a broken last line can be the trace of a write that was cut short: its end is missing, or parts of it are zeroes. One that is
/// all there, or would be but for one bit, was whole once, and may have been answered.
fn is_torn(line: &[u8]) -> bool {
    let all_there = line.ends_with(b"\n") && !line.contains(&0);
    let was_whole = all_there || line.len() <= BIT_SEARCH_BYTES_MAX && is_one_bit_off(line);
    !was_whole
}

fn is_one_bit_off(line: &[u8]) -> bool {
    let mut line = line.to_vec();
    (0..line.len() * 8).any(|bit| {
        line[bit / 8] ^= 1 << (bit % 8);
        let mended = line.split_inclusive(|byte| *byte == b'\n').all(|line| read_line(line).is_ok());
        line[bit / 8] ^= 1 << (bit % 8);
        mended
    })
}

/// Longer lines are not searched for the one bit that is wrong.
const BIT_SEARCH_BYTES_MAX: usize = 4096;

fn read_line(line: &[u8]) -> Result<Record, RecordError> {
    let line = line.strip_suffix(b"\n").ok_or(RecordError::Shape)?;
    Record::from_line(std::str::from_utf8(line).map_err(|_| RecordError::Shape)?)
}

/// Why the metadata log cannot be used.
#[derive(Debug)]
pub enum MetadataError {
    /// The file system refused.
    Io {
        /// The log.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Why not.
        error: std::io::Error,
    },
    /// A line in the middle cannot be read.
    Damaged {
        /// The log.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
    /// It does not go with what lies beside it.
    Foreign {
        /// The file at fault.
        path: PathBuf,
        /// Why.
        why: &'static str,
    },
    /// An earlier write failed.
    Failed {
        /// The log.
        path: PathBuf,
    },
}

impl MetadataError {
    fn at(path: &Path, action: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::Io { path, action, error }
    }
}

impl fmt::Display for MetadataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { path, action, error } => write!(f, "{action} {}: {error}", path.display()),
            Self::Damaged { path, line, why } => {
                write!(f, "{} is damaged: line {line} {why}; restore it from a copy", path.display())
            }
            Self::Foreign { path, why } => write!(f, "{} {why}", path.display()),
            Self::Failed { path } => {
                write!(f, "{} could not be written before; restart once its disk is well", path.display())
            }
        }
    }
}

impl std::error::Error for MetadataError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(records: &[Record]) -> Vec<u8> {
        records.iter().map(Record::to_line).collect::<String>().into_bytes()
    }

    #[test]
    fn a_torn_last_line_is_cut_at_any_byte_and_nothing_before_it_is_lost() {
        let whole = lines(&[Record::Cluster { cluster_id: "c".into() }, Record::ProducerIds { next: 1000 }]);
        let torn = lines(&[Record::ProducerIds { next: 2000 }]);
        for cut in 0..torn.len() {
            let content = [whole.as_slice(), &torn[..cut]].concat();
            let (image, end, _) = replay(&content).expect("a torn tail is no damage");
            assert_eq!((image.next_producer_id, end), (1000, whole.len() as u64), "cut at {cut}");
        }
    }

    #[test]
    fn a_torn_last_line_has_zeroes_where_its_sectors_are_missing() {
        let whole = lines(&[Record::Cluster { cluster_id: "c".into() }]);
        let mut torn = lines(&[Record::ProducerIds { next: 2000 }]);
        torn[20..30].fill(0);
        let (_, end, _) = replay(&[whole.as_slice(), &torn].concat()).expect("a torn tail is no damage");
        assert_eq!(end, whole.len() as u64);
    }

    #[test]
    fn no_flipped_bit_goes_unnoticed() {
        let content = lines(&[
            Record::Cluster { cluster_id: "c".into() },
            Record::Started,
            Record::ProducerIds { next: 1000 },
        ]);
        for bit in 0..content.len() * 8 {
            let mut damaged = content.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(replay(&damaged).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn damage_before_the_last_line_is_refused() {
        let mut content =
            lines(&[Record::Cluster { cluster_id: "c".into() }, Record::ProducerIds { next: 1000 }]);
        content[12] ^= 1;
        assert_eq!(replay(&content).expect_err("the first line is damaged").0, 1);
    }
}

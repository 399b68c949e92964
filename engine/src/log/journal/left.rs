//! What a process has left in its journals: read at a start, and where it is damaged told.

use super::frame::{ENTRY_LEN, Entries, FrameHeader, HEADER_LEN, MAGIC, NO_TOPIC};
use super::{LogId, NAME};
use crate::batch;
use crate::io::{DirId, FileMode, Io};
use crate::limits::BLOCK;
use crate::log::notices::Damage;
use bytes::{Buf, Bytes};
use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};

/// What a process has left in its journals, by log.
///
/// Where a frame that was durable cannot be read, what lies behind it is taken all the same, and what of it can be told apart. A log that it
/// had something of is not opened, as if nothing were missing, unless something later is known of it that goes on where its file ends.
#[derive(Debug, Default)]
pub struct Left {
    logs: HashMap<LogId, LeftOf>,
    damage: Vec<Damage>,
}

/// What a process has left of one log.
#[derive(Debug, Clone, Default)]
pub struct LeftOf {
    /// In order.
    batches: Vec<Bytes>,
    hole: Option<Hole>,
}

/// Some of a log's batches lay where a journal is damaged.
#[derive(Debug, Clone)]
struct Hole {
    /// How many of [`LeftOf::batches`] come before them.
    before: usize,
    journal: PathBuf,
    pos: u64,
}

impl LeftOf {
    /// Its batches, and whether they come behind some that are damaged.
    pub(in crate::log) fn batches(&self) -> Vec<(Bytes, bool)> {
        let before = self.hole.as_ref().map_or(usize::MAX, |hole| hole.before);
        self.batches.iter().enumerate().map(|(index, batches)| (batches.clone(), index >= before)).collect()
    }

    /// Some of it may have lain behind what there is so far.
    fn lacks(&mut self, journal: &Path, pos: u64) {
        let known = self.hole.as_ref().is_some_and(|hole| hole.journal == journal && hole.pos == pos);
        if !known {
            self.hole = Some(Hole { before: self.batches.len(), journal: journal.into(), pos });
        }
    }

    /// The journal that had more of it, and the byte where that is damaged.
    pub(in crate::log) fn damage(&self) -> Option<(PathBuf, u64)> {
        self.hole.as_ref().map(|hole| (hole.journal.clone(), hole.pos))
    }
}

impl Left {
    /// Reads all journals of a data directory, whichever shard wrote them.
    pub async fn read(&mut self, io: &Io, dir: DirId, data_dir: &Path) -> io::Result<()> {
        for path in journals(io, dir, data_dir).await? {
            let (file, len) = io.open(dir, path.clone(), FileMode::Cached).await?;
            let bytes = io.read(file.clone(), 0, usize::try_from(len).expect("a length in memory")).await?;
            io.close(file).await?;
            self.add(&path, &bytes);
        }
        Ok(())
    }

    /// Adds what one journal's file holds.
    pub fn add(&mut self, path: &Path, file: &Bytes) {
        let mut seen = HashSet::new();
        let mut unread = None;
        for piece in pieces(file) {
            match piece {
                Piece::Frame(entries) => {
                    for (log, batches) in Entries(entries) {
                        seen.insert(log);
                        if let Some(pos) = unread {
                            self.logs.entry(log).or_default().lacks(path, pos);
                        }
                        self.add_entry(log, batches);
                    }
                }
                Piece::Damaged { pos, entries: Some(entries) } => {
                    self.damaged(path, pos, "a frame that was durable is not what was written");
                    for (log, batches) in entries {
                        if batches.is_empty() || is_whole(&batches) {
                            self.add_entry(log, batches);
                        } else {
                            self.logs.entry(log).or_default().lacks(path, pos);
                        }
                    }
                }
                // Any of the logs in the journal may have been in it.
                Piece::Damaged { pos, entries: None } => {
                    self.damaged(path, pos, "what was durable there cannot be read, nor whose it was");
                    seen.iter().for_each(|log| self.logs.entry(*log).or_default().lacks(path, pos));
                    unread = Some(pos);
                }
            }
        }
    }

    fn add_entry(&mut self, log: LogId, batches: Bytes) {
        if batches.is_empty() {
            self.logs.remove(&log);
        } else {
            self.logs.entry(log).or_default().batches.push(batches);
        }
    }

    fn damaged(&mut self, path: &Path, pos: u64, what: &'static str) {
        self.damage.push(Damage { file: path.into(), pos, what });
    }

    /// What there is of one log.
    pub fn of(&self, log: LogId) -> LeftOf {
        self.logs.get(&log).cloned().unwrap_or_default()
    }

    /// A log has it all in its own files.
    pub fn forget(&mut self, log: LogId) {
        self.logs.remove(&log);
    }

    /// The logs of which there is something, or was.
    pub fn logs(&self) -> impl Iterator<Item = LogId> {
        self.logs.keys().copied()
    }

    /// Where journals are not what was written.
    pub fn damage(&self) -> &[Damage] {
        &self.damage
    }

    /// Removes all journals of a data directory, durably: what they hold is in the logs' files, and durable there.
    pub async fn remove(io: &Io, dir: DirId, data_dir: &Path) -> io::Result<()> {
        let journals = journals(io, dir, data_dir).await?;
        if journals.is_empty() {
            return Ok(());
        }
        for path in journals {
            io.unlink(dir, path).await?;
        }
        io.sync_dir(dir, data_dir.into()).await.map(drop)
    }
}

/// The journals of a data directory.
async fn journals(io: &Io, dir: DirId, data_dir: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = io.list(dir, data_dir.into()).await?;
    let is_journal = |name: &str| name.strip_prefix(NAME).is_some_and(|shard| shard.parse::<u16>().is_ok());
    let journals = entries.iter().filter(|entry| !entry.is_dir && is_journal(&entry.name));
    Ok(journals.map(|entry| data_dir.join(&entry.name)).collect())
}

/// Whether these are batches as they were written.
fn is_whole(batches: &[u8]) -> bool {
    let mut at = 0;
    while at < batches.len() {
        match batch::whole_len(&batches[at..]) {
            Some(len) if batch::verify(&batches[at..at + len]).is_ok() => at += len,
            _ => return false,
        }
    }
    true
}

/// What lies in a journal's file, in order.
enum Piece {
    /// The entries of a frame.
    Frame(Bytes),
    /// A frame, or several, that were durable and cannot be read.
    Damaged {
        /// Where in the file.
        pos: u64,
        /// Its entries, where they can be told apart.
        entries: Option<Vec<(LogId, Bytes)>>,
    },
}

/// A frame that was found.
struct Found {
    header: FrameHeader,
    entries: Bytes,
    /// Where in its half, in whole blocks.
    at: std::ops::Range<usize>,
}

/// Reads a journal's file: of each half what was written last there.
fn pieces(file: &Bytes) -> Vec<Piece> {
    let middle = (file.len() / 2).next_multiple_of(BLOCK as usize).min(file.len());
    let halves = [file.slice(..middle), file.slice(middle..)];
    // The run is known from where a frame of the journal's own always is. Elsewhere might lie what a producer has made up to look like one.
    let runs: Vec<u64> = halves.iter().filter_map(run_of).collect();
    let found = halves.each_ref().map(|half| frames(half, &runs));
    let newest = found.iter().flatten().map(|frame| frame.header.generation).max();
    let mut sorted: Vec<_> = halves.into_iter().zip(found).zip([0, middle]).collect();
    sorted.sort_by_key(|((_, found), _)| found.first().map(|frame| frame.header.generation));
    let mut pieces = Vec::new();
    for ((half, found), pos) in sorted {
        // A former generation is being freed, or is free, and then a frame of the next but one may have been about to take its place.
        let of_newest = found.iter().filter(|frame| Some(frame.header.generation) == newest);
        let durable = of_newest.map(Found::durable).max();
        let generation = match durable {
            Some(_) => newest,
            None => found.first().filter(|first| first.at.start == 0).map(|first| first.header.generation),
        };
        let of_generation = found.iter().filter(|frame| Some(frame.header.generation) == generation);
        add_pieces(&mut pieces, &half, pos as u64, of_generation, durable.unwrap_or(0));
    }
    pieces
}

/// Adds the frames of one half, of which so many are known to have been durable.
fn add_pieces<'a>(
    pieces: &mut Vec<Piece>,
    half: &Bytes,
    pos: u64,
    found: impl Iterator<Item = &'a Found>,
    durable: u32,
) {
    let (mut next, mut at) = (0, 0);
    for frame in found {
        let number = frame.header.number;
        if number != next {
            if number < next || next >= durable {
                return;
            }
            let is_one = number == next + 1;
            let entries = is_one.then(|| damaged_entries(half.slice(at..frame.at.start))).flatten();
            pieces.push(Piece::Damaged { pos: pos + at as u64, entries });
            if number > durable {
                // The others that are not here were lost with the power.
                return;
            }
        }
        pieces.push(Piece::Frame(frame.entries.clone()));
        (next, at) = (number + 1, frame.at.end);
    }
}

/// The run that the first frame of a half is of.
fn run_of(half: &Bytes) -> Option<u64> {
    let header = half.get(..HEADER_LEN).filter(|header| header[..4] == MAGIC)?;
    header[8..].first_chunk().map(|run| u64::from_be_bytes(*run))
}

/// All frames of these runs in a half, and between them whatever is none.
fn frames(half: &Bytes, runs: &[u64]) -> Vec<Found> {
    let mut found = Vec::new();
    let mut pos = 0;
    while pos < half.len() {
        let frame = FrameHeader::read(&half.slice(pos..)).filter(|(header, _)| runs.contains(&header.run));
        let Some((header, entries)) = frame else {
            pos += BLOCK as usize;
            continue;
        };
        let end = (pos + HEADER_LEN + entries.len()).next_multiple_of(BLOCK as usize).min(half.len());
        found.push(Found { header, entries, at: pos..end });
        pos = end;
    }
    found
}

impl Found {
    /// How many frames of its generation it says were durable.
    fn durable(&self) -> u32 {
        let Some(first) = self.entries.first_chunk::<ENTRY_LEN>() else { return 0 };
        let (topic, mut rest) = first.split_at(16);
        let frames = rest.get_u32();
        let says_so = topic == NO_TOPIC && rest.get_u32() == 0;
        // It says nothing of itself and of what comes after it.
        if says_so { frames.min(self.header.number) } else { 0 }
    }
}

/// The entries of a frame whose checksum fails, if the damage is in batches: then all follow each other up to the zeroes, and some batch is not what
/// was written. Else it may be in what tells whose they are.
fn damaged_entries(mut frame: Bytes) -> Option<Vec<(LogId, Bytes)>> {
    if frame.len() < HEADER_LEN {
        return None;
    }
    frame.advance(HEADER_LEN);
    let mut entries = Vec::new();
    let mut rest = Entries(frame);
    loop {
        if rest.0.iter().all(|byte| *byte == 0) {
            let some_are_damaged = entries.iter().any(|(_, batches): &(LogId, Bytes)| !is_whole(batches));
            return some_are_damaged.then_some(entries);
        }
        entries.push(rest.next()?);
    }
}

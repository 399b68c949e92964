//! One simulated file: what a live process reads, and what of it a power cut leaves.

use super::random::Random;
use bytes::Bytes;
use std::collections::BTreeSet;

/// File systems place data in blocks of this size; extents are converted and shared flushes judged by it.
pub(super) const BLOCK: u64 = 4096;

/// The page cache holds a file in pages of this size: the largest that Linux has.
const PAGE: u64 = 64 << 10;

/// What a device writes whole or not at all.
const SECTOR: usize = 512;

/// A file's two contents. The live one is what every read sees; the durable one is what is certain to be there after a
/// power cut, and `pending` are the changes since, in the order in which they took effect: each of them may or
/// may not survive, and a write may be torn.
#[derive(Default)]
pub(super) struct SimFile {
    live: Vec<u8>,
    durable: Vec<u8>,
    /// Blocks whose extent is durably marked as written: a flush of the device makes new data in them durable. Data
    /// in other blocks reads back as zeroes unless this very file was synced.
    established: BTreeSet<u64>,
    pending: Vec<Change>,
    /// Pages that reads have brought into the page cache.
    pages: BTreeSet<u64>,
}

struct Change {
    sequence: u64,
    what: What,
}

enum What {
    Size(u64),
    /// `cached`: the bytes lie in the page cache, where no flush of the device finds them.
    Write {
        pos: u64,
        bytes: Bytes,
        cached: bool,
    },
    /// Extents are marked as not written: where that is durable they read as zeroes, whatever the device holds.
    Zero {
        from: u64,
        to: u64,
    },
}

/// How much of what is pending a power cut leaves. Drawn once for a cut, so that extremes come up often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Survival {
    Nothing,
    Everything,
    /// Each change by itself.
    Some,
}

impl Survival {
    pub(super) fn draw(random: &mut Random) -> Self {
        match random.below(4) {
            0 => Self::Nothing,
            1 => Self::Everything,
            _ => Self::Some,
        }
    }

    pub(super) fn survives(self, random: &mut Random) -> bool {
        match self {
            Self::Nothing => false,
            Self::Everything => true,
            Self::Some => random.one_in(2),
        }
    }
}

impl SimFile {
    /// A file that has been there, whole and durable, since before the world began.
    pub(super) fn durable(content: &[u8]) -> Self {
        let mut file = Self { live: content.to_vec(), durable: content.to_vec(), ..Self::default() };
        file.established = (0..file.blocks()).collect();
        file
    }

    pub(super) fn live(&self) -> &[u8] {
        &self.live
    }

    pub(super) fn len(&self) -> u64 {
        self.live.len() as u64
    }

    /// Blocks of the durable content, a last partial one included.
    fn blocks(&self) -> u64 {
        (self.durable.len() as u64).div_ceil(BLOCK)
    }

    pub(super) fn read(&self, pos: u64, len: usize) -> Bytes {
        let from = usize::try_from(pos).map_or(self.live.len(), |pos| pos.min(self.live.len()));
        let to = from.saturating_add(len).min(self.live.len());
        Bytes::copy_from_slice(&self.live[from..to])
    }

    /// Reads through the page cache.
    pub(super) fn read_cached(&mut self, pos: u64, len: usize) -> Bytes {
        let bytes = self.read(pos, len);
        if !bytes.is_empty() {
            self.pages.extend(pos / PAGE..(pos + bytes.len() as u64).div_ceil(PAGE));
        }
        bytes
    }

    /// Whether some of what is about to be written past the page cache lies in it. Linux sees to it that no reader gets the old bytes then, but
    /// the writer waits for that, and it is not to be relied upon where both happen at once.
    pub(super) fn is_cached(&self, pos: u64, len: u64) -> bool {
        self.pages.range(pos / PAGE..(pos + len).div_ceil(PAGE)).next().is_some()
    }

    /// Whether all blocks up to `len` are such that a flush of the device makes durable what is written in them.
    pub(super) fn is_established(&self, len: u64) -> bool {
        (0..len / BLOCK).all(|block| self.established.contains(&block))
    }

    /// No read is under way any more: what the page cache has goes before it is written past it.
    pub(super) fn has_no_readers(&mut self) {
        self.pages.clear();
    }

    pub(super) fn write(&mut self, sequence: u64, pos: u64, bytes: Bytes, cached: bool) {
        let end = pos + bytes.len() as u64;
        if end > self.len() {
            self.set_len(sequence, end);
        }
        overwrite(&mut self.live, pos, &bytes);
        self.pending.push(Change { sequence, what: What::Write { pos, bytes, cached } });
    }

    /// Marks whole blocks as not written.
    pub(super) fn zero(&mut self, sequence: u64, from: u64, to: u64) {
        self.live[cut(from)..cut(to)].fill(0);
        self.pending.push(Change { sequence, what: What::Zero { from, to } });
    }

    pub(super) fn set_len(&mut self, sequence: u64, len: u64) {
        resize(&mut self.live, len);
        self.pages.split_off(&(len / PAGE));
        self.pending.push(Change { sequence, what: What::Size(len) });
    }

    /// A sync of this very file, submitted when `covered` changes had taken effect: those are durable now.
    pub(super) fn sync_all(&mut self, covered: u64) {
        let later = self.pending.iter().position(|change| change.sequence > covered);
        let rest = self.pending.split_off(later.unwrap_or(self.pending.len()));
        for change in std::mem::replace(&mut self.pending, rest) {
            match change.what {
                What::Size(len) => self.set_durable_len(len),
                What::Write { pos, bytes, .. } => {
                    overwrite(&mut self.durable, pos, &bytes);
                    self.established.extend(blocks_of(pos, bytes.len()));
                }
                What::Zero { from, to } => self.zero_durably(from, to),
            }
        }
    }

    /// A sync of this file failed: of the writes it should have covered some reached the disk, and the others never will.
    pub(super) fn lose(&mut self, covered: u64, random: &mut Random) {
        let mut rest = Vec::new();
        for change in std::mem::take(&mut self.pending) {
            match &change.what {
                What::Write { pos, bytes, .. } if change.sequence <= covered => {
                    if random.one_in(2) {
                        overwrite(&mut self.durable, *pos, bytes);
                    }
                }
                _ => rest.push(change),
            }
        }
        self.pending = rest;
    }

    /// A flush of the device: of the changes covered, only data in established blocks becomes durable.
    pub(super) fn flush(&mut self, covered: u64) {
        let mut rest = Vec::new();
        // Blocks with an older change that stays pending: a newer one must not get ahead of it, or a cut could
        // put the older data back over it.
        let mut held: BTreeSet<u64> = BTreeSet::new();
        // A change of size that is still pending may cut off what lies beyond it.
        let mut len = self.durable.len() as u64;
        for change in std::mem::take(&mut self.pending) {
            let What::Write { pos, bytes, cached: false } = &change.what else {
                match &change.what {
                    What::Size(to) => len = len.min(*to),
                    What::Write { pos, bytes, .. } => held.extend(blocks_of(*pos, bytes.len())),
                    What::Zero { from, to } => held.extend(from / BLOCK..to / BLOCK),
                }
                rest.push(change);
                continue;
            };
            if change.sequence > covered {
                held.extend(blocks_of(*pos, bytes.len()));
                rest.push(change);
                continue;
            }
            for block in blocks_of(*pos, bytes.len()) {
                let from = (block * BLOCK).max(*pos);
                let to = ((block + 1) * BLOCK).min(pos + bytes.len() as u64);
                let part = bytes.slice(cut(from - pos)..cut(to - pos));
                if to <= len && self.established.contains(&block) && !held.contains(&block) {
                    overwrite(&mut self.durable, from, &part);
                } else {
                    held.insert(block);
                    let what = What::Write { pos: from, bytes: part, cached: false };
                    rest.push(Change { sequence: change.sequence, what });
                }
            }
        }
        self.pending = rest;
    }

    /// The power goes: the durable content stays, and what of the pending changes the seed lets survive.
    pub(super) fn power_cut(&mut self, survival: Survival, random: &mut Random) {
        for change in std::mem::take(&mut self.pending) {
            if !survival.survives(random) {
                continue;
            }
            match change.what {
                What::Size(len) => self.set_durable_len(len),
                What::Write { pos, bytes, .. } => {
                    let torn = survival == Survival::Some && random.one_in(2);
                    // Torn by sectors or by blocks.
                    let unit = if random.one_in(2) { SECTOR } else { cut(BLOCK) };
                    // Each of them by itself, or all from one on.
                    let whole = torn.then(|| random.index(2 * bytes.len().div_ceil(unit)));
                    let in_order = whole.filter(|whole| *whole < bytes.len().div_ceil(unit));
                    for (index, part) in bytes.chunks(unit).enumerate() {
                        let is_lost =
                            in_order.map_or_else(|| torn && random.one_in(2), |whole| index >= whole);
                        if is_lost {
                            continue;
                        }
                        let from = pos + (index * unit) as u64;
                        overwrite(&mut self.durable, from, part);
                        self.established.extend(blocks_of(from, part.len()));
                    }
                }
                What::Zero { from, to } => {
                    // An extent each, as the file lies on the device.
                    let torn = survival == Survival::Some && random.one_in(2);
                    for block in from / BLOCK..to / BLOCK {
                        if !(torn && random.one_in(2)) {
                            self.zero_durably(block * BLOCK, (block + 1) * BLOCK);
                        }
                    }
                }
            }
        }
        self.live = self.durable.clone();
    }

    /// Bytes change by themselves, as on a bad disk.
    pub(super) fn damage(&mut self, pos: u64, bytes: &[u8]) {
        overwrite(&mut self.live, pos, bytes);
        overwrite(&mut self.durable, pos, bytes);
    }

    fn zero_durably(&mut self, from: u64, to: u64) {
        let end = self.durable.len();
        self.durable[cut(from).min(end)..cut(to).min(end)].fill(0);
        self.established.retain(|block| !(from / BLOCK..to / BLOCK).contains(block));
    }

    fn set_durable_len(&mut self, len: u64) {
        resize(&mut self.durable, len);
        let blocks = self.blocks();
        self.established.retain(|block| *block < blocks);
    }
}

fn blocks_of(pos: u64, len: usize) -> std::ops::Range<u64> {
    pos / BLOCK..(pos + len as u64).div_ceil(BLOCK)
}

fn cut(len: u64) -> usize {
    usize::try_from(len).expect("a simulated file fits in memory")
}

fn resize(content: &mut Vec<u8>, len: u64) {
    content.resize(cut(len), 0);
}

/// Writes over what is there; past the end nothing is kept (the size that would hold it did not survive).
fn overwrite(content: &mut [u8], pos: u64, bytes: &[u8]) {
    let from = cut(pos).min(content.len());
    let to = (from + bytes.len()).min(content.len());
    content[from..to].copy_from_slice(&bytes[..to - from]);
}

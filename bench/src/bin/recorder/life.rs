//! A disk from one power cut to the next: what it held when power came, all it was told, and what the next cut leaves of that.

use crate::pages::Pages;
use crate::record::{Record, Told};
use std::io;

/// A disk with a volatile cache.
pub(crate) struct Life {
    /// What it held when power came.
    base: Pages,
    /// What it answers reads with.
    pub(crate) now: Pages,
    pub(crate) record: Record,
    /// `base`, and the first `settled` entries of the record: kept from one cut to the next, which mostly is a later one.
    durable: Pages,
    settled: usize,
}

/// What becomes of the entries that no flush covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Volatile {
    /// All are lost.
    Lost,
    /// All are there.
    Kept,
    /// Some are there, some are not, some in part: a later one may be there without an earlier one.
    Torn {
        seed: u64,
        /// Bytes that are written whole or not at all.
        unit: usize,
    },
}

/// What a cut found that no flush covered, and what it left of that.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Left {
    pub(crate) volatile: usize,
    pub(crate) kept: usize,
    pub(crate) torn: usize,
}

impl Life {
    pub(crate) fn new(base: Pages, record: Record) -> Self {
        Self { now: base.clone(), durable: base.clone(), base, record, settled: 0 }
    }

    pub(crate) fn write(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.record.write(at, bytes)?;
        self.now.write(at, bytes);
        Ok(())
    }

    pub(crate) fn zero(&mut self, at: u64, len: usize) -> io::Result<()> {
        self.record.zero(at, len)?;
        self.now.zero(at, len);
        Ok(())
    }

    /// What the disk holds when power was cut at a position of the record and has come back.
    pub(crate) fn cut(&mut self, position: u64, volatile: Volatile) -> io::Result<(Pages, Left)> {
        let happened = self.record.entries.partition_point(|entry| entry.end <= position);
        let covered = self.record.entries[..happened].iter().rev().find_map(|entry| match entry.told {
            Told::Flush { covered } => Some(covered),
            _ => None,
        });
        let covered = covered.unwrap_or(0);
        let settled = self.record.entries.partition_point(|entry| entry.end <= covered);
        if settled < self.settled {
            (self.durable, self.settled) = (self.base.clone(), 0);
        }
        for entry in &self.record.entries[self.settled..settled] {
            apply(&mut self.durable, &self.record, entry.told, |_| true)?;
        }
        self.settled = settled;

        let mut pages = self.durable.clone();
        let mut left = Left::default();
        let (seed, unit) = match volatile {
            Volatile::Torn { seed, unit } => (seed, unit),
            Volatile::Lost | Volatile::Kept => (0, 512),
        };
        let mut dice = Dice(seed);
        // Out of 8: few are lost, half of them, most of them.
        let lost_of_8 = [1, 4, 7][dice.below(3)];
        for entry in &self.record.entries[settled..happened] {
            if matches!(entry.told, Told::Flush { .. }) {
                continue;
            }
            left.volatile += 1;
            let (whole, part) = match volatile {
                Volatile::Lost => (false, false),
                Volatile::Kept => (true, false),
                Volatile::Torn { .. } if dice.below(8) < lost_of_8 => (false, false),
                Volatile::Torn { .. } => (dice.below(3) > 0, true),
            };
            match (whole, part) {
                (true, _) => apply(&mut pages, &self.record, entry.told, |_| true)?,
                // Torn: a unit here and there, or those up to some point.
                (false, true) => {
                    let (first, scattered) = (dice.below(16), dice.below(2) == 0);
                    let mut seen = 0;
                    let keeps = |_| {
                        seen += 1;
                        if scattered { dice.below(2) == 0 } else { seen <= first }
                    };
                    apply_units(&mut pages, &self.record, entry.told, unit, keeps)?;
                    left.torn += 1;
                }
                (false, false) => {}
            }
            left.kept += usize::from(whole);
        }
        Ok((pages, left))
    }
}

fn apply(pages: &mut Pages, record: &Record, told: Told, keeps: impl FnMut(u64) -> bool) -> io::Result<()> {
    apply_units(pages, record, told, usize::MAX, keeps)
}

/// Does what the disk was told, in those of its units that `keeps` is true of; it is asked with where each begins.
fn apply_units(
    pages: &mut Pages,
    record: &Record,
    told: Told,
    unit: usize,
    mut keeps: impl FnMut(u64) -> bool,
) -> io::Result<()> {
    match told {
        Told::Write { at, len, bytes_at } => {
            let bytes = record.bytes(len, bytes_at)?;
            let mut place = at;
            for part in bytes.chunks(unit) {
                if keeps(place) {
                    pages.write(place, part);
                }
                place += part.len() as u64;
            }
        }
        Told::Zero { at, len } => {
            let mut done = 0;
            while done < len {
                let size = unit.min(len - done);
                if keeps(at + done as u64) {
                    pages.zero(at + done as u64, size);
                }
                done += size;
            }
        }
        Told::Flush { .. } => {}
    }
    Ok(())
}

/// Random numbers of a seed (SplitMix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk that was told: A; flush; B; C; a flush that was asked for before C was answered; D.
    fn disk() -> (tempfile::TempDir, Life, Vec<u64>) {
        let folder = tempfile::tempdir().unwrap();
        let mut life = Life::new(Pages::default(), Record::create(&folder.path().join("record")).unwrap());
        let mut ends = Vec::new();
        let mut end = |life: &Life| ends.push(life.record.end());
        life.write(0, &[b'A'; 1024]).unwrap();
        end(&life);
        life.record.flush(life.record.end()).unwrap();
        end(&life);
        life.write(0, &[b'B'; 1024]).unwrap();
        end(&life);
        let answered = life.record.end();
        life.write(4096, &[b'C'; 1024]).unwrap();
        end(&life);
        life.record.flush(answered).unwrap();
        end(&life);
        life.zero(0, 512).unwrap();
        end(&life);
        (folder, life, ends)
    }

    /// The first byte of the first two sectors and of the ninth.
    fn seen(pages: &Pages) -> [u8; 3] {
        [0, 512, 4096].map(|at| {
            let mut byte = [0];
            pages.read(at, &mut byte);
            byte[0]
        })
    }

    #[test]
    fn a_cut_takes_what_no_flush_covers_and_nothing_else() {
        let (_folder, mut life, ends) = disk();
        let mut check = |position: u64, volatile: Volatile, expected: &[u8; 3]| {
            let (pages, _) = life.cut(position, volatile).unwrap();
            assert_eq!(seen(&pages), *expected, "{volatile:?} at {position}");
        };
        check(ends[0], Volatile::Lost, b"\0\0\0");
        check(ends[0], Volatile::Kept, b"AA\0");
        check(ends[1], Volatile::Lost, b"AA\0");
        check(ends[3], Volatile::Kept, b"BBC");
        check(ends[3], Volatile::Lost, b"AA\0");
        // C was not answered when the flush was asked for, which is why it does not cover it.
        check(ends[4], Volatile::Lost, b"BB\0");
        check(ends[5], Volatile::Kept, b"\0BC");
        // An earlier one again.
        check(ends[1], Volatile::Lost, b"AA\0");
    }

    #[test]
    fn torn_cuts_mix_old_and_new_sectors() {
        let (_folder, mut life, ends) = disk();
        let mut outcomes = std::collections::HashSet::new();
        for seed in 0..500 {
            outcomes.insert(seen(&life.cut(ends[3], Volatile::Torn { seed, unit: 512 }).unwrap().0));
            let (pages, _) = life.cut(ends[4], Volatile::Torn { seed, unit: 512 }).unwrap();
            assert_eq!(&seen(&pages)[..2], b"BB", "what a flush covers is never torn");
        }
        for expected in [b"AA\0", b"AAC", b"BB\0", b"BBC", b"AB\0", b"BA\0", b"ABC", b"BAC"] {
            assert!(outcomes.contains(expected), "no seed in 500 left {expected:?}");
        }
    }
}

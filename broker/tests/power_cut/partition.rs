//! One partition in the checker's book: which batch lies at which offset, and how firmly that is promised.

use crate::ledger::{Ended, Target};
use std::collections::{BTreeMap, HashMap};

pub(crate) struct Partition {
    /// By base offset.
    known: BTreeMap<i64, Known>,
    /// Where each batch lies, by its CRC: none lies in two places.
    places: HashMap<u32, i64>,
    /// Records below are deleted; below `log_start_asked` they may be.
    pub(crate) log_start: i64,
    pub(crate) log_start_asked: i64,
    /// It lets go of records by itself: any may be deleted.
    pub(crate) retains: bool,
    /// It has refused something, or may have, being offline after a fault or short of space.
    pub(crate) refused: bool,
    /// The power was cut since the partition was last checked.
    power_was_cut: bool,
    /// The broker that lives has been checked.
    checked: bool,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    next: i64,
    crc: u32,
    epoch: Option<i32>,
    promise: Promise,
}

/// How firmly something is promised; see [`crate::ledger`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Promise {
    Weak,
    Strong,
}

/// A batch, and where it lies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    pub(crate) base: i64,
    pub(crate) next: i64,
    pub(crate) crc: u32,
    /// As stamped; an acknowledgement does not say.
    pub(crate) epoch: Option<i32>,
}

impl Partition {
    pub(crate) fn new(retains: bool) -> Self {
        Self {
            known: BTreeMap::new(),
            places: HashMap::new(),
            log_start: 0,
            log_start_asked: if retains { i64::MAX } else { 0 },
            retains,
            refused: false,
            power_was_cut: false,
            checked: false,
        }
    }

    /// Where a consumer that is out of range goes on.
    pub(crate) fn log_start_told(&self) -> i64 {
        if self.retains { self.log_start } else { self.log_start_asked }
    }

    pub(crate) fn ended(&mut self, how: Ended) {
        self.checked = false;
        match how {
            Ended::PowerCut => self.power_was_cut = true,
            Ended::Killed => {}
            Ended::Stopped => self.known.values_mut().for_each(|known| known.promise = Promise::Strong),
        }
    }

    /// Somebody was told that a batch lies somewhere.
    pub(crate) fn learn(&mut self, target: Target, found: &Found, promise: Promise) {
        let before = self.known.range(..=found.base).next_back().map(|(base, known)| (*base, *known));
        if let Some((base, known)) = before {
            if base == found.base {
                known.is(target, found);
                let known = self.known.get_mut(&base).expect("just seen");
                known.promise = known.promise.max(promise);
                known.epoch = known.epoch.or(found.epoch);
                return;
            }
            assert!(known.next <= found.base, "{target:?}: {found:?} overlaps {base} {known:?}");
        }
        if let Some((base, known)) = self.known.range(found.base..).next() {
            assert!(found.next <= *base, "{target:?}: {found:?} overlaps {base} {known:?}");
        }
        if let Some(other) = self.places.insert(found.crc, found.base) {
            panic!("{target:?}: a batch is there twice, at {other} and {}", found.base);
        }
        let known = Known { next: found.next, crc: found.crc, epoch: found.epoch, promise };
        self.known.insert(found.base, known);
    }

    /// A strong promise of a process that is gone, heard after its end.
    pub(crate) fn learn_late(&mut self, target: Target, found: &Found) {
        if !self.checked {
            return self.learn(target, found, Promise::Strong);
        }
        match self.known.get(&found.base) {
            Some(known) => known.is(target, found),
            None => {
                assert!(found.base < self.log_start_asked, "{target:?}: {found:?} was promised, and is gone")
            }
        }
    }

    /// Holds all that a broker that came back has against what is known; from now on that is what is known. Returns how
    /// many strong promises there were.
    pub(crate) fn check_recovered(
        &mut self,
        target: Target,
        log_start: i64,
        log_end: i64,
        all: &[Found],
    ) -> u64 {
        let asked = self.log_start_asked;
        assert!(
            log_start >= self.log_start,
            "{target:?}: deleted up to {}, back from {log_start}",
            self.log_start
        );
        assert!(log_start <= asked, "{target:?}: deleted up to {log_start}, asked for {asked}");
        let there: BTreeMap<i64, &Found> = all.iter().map(|found| (found.base, found)).collect();
        let mut promised = 0;
        for (base, known) in &self.known {
            promised += u64::from(known.promise == Promise::Strong);
            if known.next <= log_start {
                continue;
            }
            if let Some(found) = there.get(base) {
                known.is(target, found);
                continue;
            }
            let end_lost = *base >= log_end && self.power_was_cut && known.promise == Promise::Weak;
            assert!(end_lost, "{target:?}: {base} {known:?} is lost; the log is {log_start}..{log_end}");
        }
        self.known.clear();
        self.places.clear();
        for found in all {
            // What a recovered broker shows has been synced.
            self.learn(target, found, Promise::Strong);
        }
        self.log_start = log_start;
        self.log_start_asked = if self.retains { i64::MAX } else { log_start };
        self.power_was_cut = false;
        self.checked = true;
        promised
    }
}

impl Known {
    /// The batch found is the one that is known.
    fn is(&self, target: Target, found: &Found) {
        let epoch = self.epoch.zip(found.epoch).is_none_or(|(known, found)| known == found);
        assert!(
            self.crc == found.crc && self.next == found.next && epoch,
            "{target:?}: {found:?} is not what was there: {self:?}"
        );
    }
}

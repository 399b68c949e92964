//! How much of a shard's newest batches is kept: all that may be, unless much is written that nobody looks back for.
//!
//! Memory that is filled again while the processor still has it in its cache costs a third less to receive into, to copy into and to
//! write from than memory that was filled 200 MB ago. So where much is written the cache becomes small, and grows at once when a reader
//! looks for what it no longer has, or nearly no longer.

use crate::io::Instant;

/// What is kept at least, if the budget allows: what fits into a processor's cache, and eight arenas.
const LEAST_BYTES: usize = 16 << 20;
/// What is written and looked back for is judged whenever so many times what is kept has been put in.
const PERIOD: u64 = 2;
/// Less than this in a second is little: it costs hardly anything where it lies.
const LITTLE: u128 = 64 << 20;
/// More than this is much.
const MUCH: u128 = 128 << 20;

/// What is written, and how far back readers look.
pub(super) struct Demand {
    bytes_max: usize,
    wanted: usize,
    /// Bytes put into the cache so far.
    put_in: u64,
    /// The farthest that was looked back in this period.
    farthest: u64,
    period: Option<Period>,
}

struct Period {
    /// When it began, and what had been put in by then.
    began: Instant,
    from: u64,
    /// It ends when so much has been put in.
    to: u64,
}

impl Demand {
    /// Never more than `bytes_max` will be wanted.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, wanted: bytes_max, put_in: 0, farthest: 0, period: None }
    }

    /// How many bytes are worth keeping.
    pub(super) fn wanted(&self) -> usize {
        self.wanted
    }

    /// So many bytes more are put in: how many there were before, by which they are found again.
    pub(super) fn put_in(&mut self, bytes: usize, now: impl FnOnce() -> Instant) -> u64 {
        let before = self.put_in;
        self.put_in += bytes as u64;
        if self.period.as_ref().is_none_or(|period| period.to <= self.put_in) {
            let now = now();
            if let Some(period) = self.period.take() {
                self.judge(&period, now);
            }
            let to = self.put_in + PERIOD * self.wanted as u64;
            self.period = Some(Period { began: now, from: self.put_in, to });
            self.farthest = 0;
        }
        before
    }

    fn judge(&mut self, period: &Period, now: Instant) {
        let bytes = 1000 * u128::from(self.put_in - period.from);
        let millis = now.since(period.began).as_millis();
        if bytes < LITTLE * millis {
            self.wanted = self.bytes_max;
        } else if bytes > MUCH * millis {
            // Who is so far behind now may fall back further.
            let looked_for = usize::try_from(4 * self.farthest).unwrap_or(usize::MAX);
            self.wanted = looked_for.max(LEAST_BYTES).min(self.wanted);
        }
    }

    /// Somebody has read what was put in then.
    pub(super) fn found(&mut self, put_in: u64) {
        self.looked_back(self.put_in - put_in);
    }

    /// Somebody wanted what is not kept any more, and lies so far before the end of its log.
    pub(super) fn missed(&mut self, behind: u64) {
        if behind <= self.bytes_max as u64 {
            self.looked_back(behind.max(self.wanted as u64));
        }
    }

    fn looked_back(&mut self, bytes: u64) {
        self.farthest = self.farthest.max(bytes);
        let wanted = usize::try_from(2 * bytes).unwrap_or(usize::MAX);
        self.wanted = self.wanted.max(wanted).min(self.bytes_max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const MIB: usize = 1 << 20;

    struct World {
        demand: Demand,
        now: Instant,
        /// For each MiB.
        millis: u64,
    }

    impl World {
        fn put_in(&mut self) -> u64 {
            self.now = self.now + Duration::from_millis(self.millis);
            self.demand.put_in(MIB, || self.now)
        }

        fn go_on(&mut self, mebibytes: usize) {
            for _ in 0..mebibytes {
                self.put_in();
            }
        }

        fn wanted(&self) -> usize {
            self.demand.wanted() / MIB
        }
    }

    fn world() -> World {
        World { demand: Demand::new(192 * MIB), now: Instant::default(), millis: 1 }
    }

    #[test]
    fn of_much_as_much_is_kept_as_somebody_reads() {
        let mut world = world();
        assert_eq!(world.wanted(), 192);
        world.go_on(2 * 192 + 1);
        assert_eq!(world.wanted(), 16);
        // At the tail.
        for _ in 0..1000 {
            let at = world.put_in();
            world.demand.found(at);
        }
        assert_eq!(world.wanted(), 16);
        let at = world.put_in();
        world.go_on(39);
        world.demand.found(at);
        assert_eq!(world.wanted(), 80);
        world.demand.missed(30 * MIB as u64);
        assert_eq!(world.wanted(), 160);
        world.demand.missed(193 * MIB as u64);
        assert_eq!(world.wanted(), 160, "it would not be there with all of the budget");
        world.demand.missed(1);
        assert_eq!(world.wanted(), 192);
        // Somebody goes on being 30 MiB behind.
        for _ in 0..30 {
            let at = world.put_in();
            world.go_on(29);
            world.demand.found(at);
        }
        assert_eq!(world.wanted(), 4 * 30);
    }

    #[test]
    fn all_is_kept_while_little_is_written() {
        let mut world = world();
        world.go_on(2 * 192 + 1);
        assert_eq!(world.wanted(), 16);
        world.millis = 10;
        world.go_on(100);
        assert_eq!(world.wanted(), 16);
        world.millis = 20;
        world.go_on(2 * 2 * 16);
        assert_eq!(world.wanted(), 192);
        // What comes at once after a pause is a burst.
        world.millis = 1;
        world.go_on(2 * 192);
        world.go_on(2 * 192);
        assert_eq!(world.wanted(), 16);
        world.now = world.now + Duration::from_secs(1);
        world.go_on(2 * 16);
        assert_eq!(world.wanted(), 192);
    }

    #[test]
    fn a_small_budget_is_all_kept() {
        let mut world = world();
        world.demand = Demand::new(MIB);
        world.go_on(10);
        world.demand.missed(0);
        world.go_on(10);
        assert_eq!(world.wanted(), 1);
    }
}

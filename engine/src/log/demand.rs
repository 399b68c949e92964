//! How much of a shard's newest batches is kept: as much as somebody reads.
//!
//! Memory that is filled again and again while the processor still has it in its cache costs a third less to receive into, to copy into and to
//! write from than memory that was filled 200 MB ago. So the cache begins small, grows at once when a reader looks for what it no
//! longer has, or nearly no longer, and halves when for a while nobody has looked that far back.

/// What is kept at least, if the budget allows: what fits into a processor's cache, and eight arenas.
const LEAST_BYTES: usize = 16 << 20;
/// Readers are watched for so many times what is kept.
const PERIOD: u64 = 4;

/// How far back readers look.
pub(super) struct Demand {
    bytes_max: usize,
    wanted: usize,
    /// Bytes put into the cache so far.
    put_in: u64,
    /// The farthest that was looked back in this period, which ends when so much has been put in.
    farthest: u64,
    period_end: u64,
}

impl Demand {
    /// Nobody has read yet; never more than `bytes_max` will be wanted.
    pub(super) fn new(bytes_max: usize) -> Self {
        let wanted = LEAST_BYTES.min(bytes_max);
        Self { bytes_max, wanted, put_in: 0, farthest: 0, period_end: PERIOD * wanted as u64 }
    }

    /// How many bytes are worth keeping.
    pub(super) fn wanted(&self) -> usize {
        self.wanted
    }

    /// So many bytes more are put in: how many there were before, by which they are found again.
    pub(super) fn put_in(&mut self, bytes: usize) -> u64 {
        let before = self.put_in;
        self.put_in += bytes as u64;
        if self.put_in >= self.period_end {
            if self.farthest <= self.wanted as u64 / 4 {
                self.wanted = (self.wanted / 2).max(LEAST_BYTES.min(self.bytes_max));
            }
            self.farthest = 0;
            self.period_end = self.put_in + PERIOD * self.wanted as u64;
        }
        before
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
        // Twice as much, for who is so far behind now may fall back further.
        let wanted = usize::try_from(2 * bytes).unwrap_or(usize::MAX);
        self.wanted = self.wanted.max(wanted).min(self.bytes_max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn as_much_is_kept_as_somebody_reads() {
        let mut demand = Demand::new(192 * MIB);
        let go_on = |demand: &mut Demand, mebibytes: usize| {
            for _ in 0..mebibytes {
                demand.put_in(MIB);
            }
        };
        go_on(&mut demand, 1000);
        assert_eq!(demand.wanted(), 16 * MIB);
        // At the tail.
        for _ in 0..1000 {
            let at = demand.put_in(MIB);
            demand.found(at);
        }
        assert_eq!(demand.wanted(), 16 * MIB);
        let at = demand.put_in(MIB);
        go_on(&mut demand, 39);
        demand.found(at);
        assert_eq!(demand.wanted(), 80 * MIB);
        demand.missed(30 * MIB as u64);
        assert_eq!(demand.wanted(), 160 * MIB);
        demand.missed(193 * MIB as u64);
        assert_eq!(demand.wanted(), 160 * MIB, "it would not be there with all of the budget");
        demand.missed(1);
        assert_eq!(demand.wanted(), 192 * MIB);
        // Somebody goes on being 60 MiB behind.
        for _ in 0..30 {
            let at = demand.put_in(MIB);
            go_on(&mut demand, 59);
            demand.found(at);
        }
        assert_eq!(demand.wanted(), 192 * MIB);
        go_on(&mut demand, 2 * 4 * 192);
        assert_eq!(demand.wanted(), 96 * MIB);
        go_on(&mut demand, 4 * (96 + 48 + 24 + 16));
        assert_eq!(demand.wanted(), 16 * MIB);
    }

    #[test]
    fn a_small_budget_is_all_kept() {
        let mut demand = Demand::new(MIB);
        demand.put_in(10 * MIB);
        demand.missed(0);
        demand.put_in(10 * MIB);
        assert_eq!(demand.wanted(), MIB);
    }
}

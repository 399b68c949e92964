//! Times counted by how long they were: four buckets to each doubling, so that a percentile is told to a few percent.

use std::time::Duration;

/// How many times there were, their sum, and how many lie in each bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Histogram {
    pub(super) count: u64,
    pub(super) nanos: u64,
    /// By [`BOUNDS`]; what is above the last is in the count alone.
    buckets: [u64; BOUNDS.len()],
}

/// Buckets to a doubling.
const FINE: usize = 4;
/// From 50 microseconds to 13 seconds.
const DOUBLINGS: usize = 18;
/// Upper bounds in nanoseconds, included: 50 microseconds times powers of the fourth root of two.
const BOUNDS: [u64; DOUBLINGS * FINE + 1] = bounds();

const fn bounds() -> [u64; DOUBLINGS * FINE + 1] {
    let first: [u64; FINE] = [50_000, 59_460, 70_711, 84_090];
    let mut bounds = [0; DOUBLINGS * FINE + 1];
    let mut at = 0;
    while at < bounds.len() {
        bounds[at] = first[at % FINE] << (at / FINE);
        at += 1;
    }
    bounds
}

impl Default for Histogram {
    fn default() -> Self {
        Self { count: 0, nanos: 0, buckets: [0; BOUNDS.len()] }
    }
}

impl Histogram {
    /// Counts one.
    pub(super) fn note(&mut self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.count += 1;
        self.nanos = self.nanos.saturating_add(nanos);
        if let Some(bucket) = self.buckets.get_mut(BOUNDS.partition_point(|bound| *bound < nanos)) {
            *bucket += 1;
        }
    }

    /// Counts another's too.
    pub(super) fn add(&mut self, more: &Self) {
        self.count += more.count;
        self.nanos = self.nanos.saturating_add(more.nanos);
        self.buckets.iter_mut().zip(more.buckets).for_each(|(sum, more)| *sum += more);
    }

    /// What has come since it was so.
    pub(super) fn since(&self, earlier: &Self) -> Self {
        let mut new = self.clone();
        new.count -= earlier.count;
        new.nanos -= earlier.nanos;
        new.buckets.iter_mut().zip(earlier.buckets).for_each(|(sum, less)| *sum -= less);
        new
    }

    /// How many took no longer than each of the coarse bounds: one to a doubling.
    pub(super) fn cumulative(&self) -> impl Iterator<Item = (Duration, u64)> {
        let mut below = 0;
        BOUNDS.iter().zip(self.buckets).enumerate().filter_map(move |(at, (bound, count))| {
            below += count;
            at.is_multiple_of(FINE).then_some((Duration::from_nanos(*bound), below))
        })
    }

    /// Below what this share of the times lie: evenly spread within a bucket, and at most the last bound. `None` where there were none.
    pub(super) fn quantile(&self, share: f64) -> Option<Duration> {
        let rank = share * self.count as f64;
        let mut below = 0.0;
        for (at, count) in self.buckets.iter().enumerate() {
            let count = *count as f64;
            if count > 0.0 && below + count >= rank {
                let from = if at == 0 { 0 } else { BOUNDS[at - 1] };
                let inside = (BOUNDS[at] - from) as f64 * ((rank - below) / count);
                return Some(Duration::from_nanos(from + inside as u64));
            }
            below += count;
        }
        (self.count > 0).then_some(Duration::from_nanos(BOUNDS[BOUNDS.len() - 1]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_told_to_a_few_percent() {
        let mut times = Histogram::default();
        assert_eq!(times.quantile(0.5), None);
        for micros in 1..=100_000 {
            times.note(Duration::from_micros(micros));
        }
        for share in [0.001, 0.1, 0.5, 0.99, 0.999] {
            let told = times.quantile(share).unwrap().as_secs_f64();
            let real = share * 0.1;
            assert!((told / real - 1.0).abs() < 0.1, "{share}: {told} for {real}");
        }
        times.note(Duration::from_secs(60));
        assert_eq!(times.quantile(1.0), Some(Duration::from_nanos(50_000 << DOUBLINGS)));
    }

    #[test]
    fn what_has_come_since_is_what_was_noted_since() {
        let mut times = Histogram::default();
        times.note(Duration::from_micros(60));
        let earlier = times.clone();
        let mut new = Histogram::default();
        for took in [Duration::from_micros(50), Duration::from_millis(3), Duration::from_secs(60)] {
            times.note(took);
            new.note(took);
        }
        assert_eq!(times.since(&earlier), new);
        let mut sum = earlier;
        sum.add(&new);
        assert_eq!(sum, times);
        // A bound belongs to its bucket, and what is above the last is in none.
        let bounds: Vec<_> = new.cumulative().collect();
        assert_eq!(bounds[0], (Duration::from_micros(50), 1));
        assert_eq!(bounds.last(), Some(&(Duration::from_nanos(50_000 << DOUBLINGS), 2)));
        assert_eq!(bounds.len(), DOUBLINGS + 1);
    }
}

//! Latencies, of the whole window and of each of its seconds.

use hdrhistogram::Histogram;
use std::fmt::Write;

/// Latencies in nanoseconds.
pub(crate) struct Latencies {
    all: Histogram<u64>,
    second: Histogram<u64>,
    /// Since it was last told.
    interval: Histogram<u64>,
    /// p50, p99 and the highest of each second, in microseconds.
    seconds: Vec<[u64; 3]>,
}

/// Three digits are kept of each.
const DIGITS: u8 = 3;
const PERCENTILES: [(&str, f64); 6] =
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("p99.99", 0.9999), ("max", 1.0)];

impl Latencies {
    pub(crate) fn new() -> Self {
        let empty = Histogram::new(DIGITS).expect("a histogram that grows");
        Self { all: empty.clone(), second: empty.clone(), interval: empty, seconds: Vec::new() }
    }

    pub(crate) fn note(&mut self, nanos: u64) {
        self.second.record(nanos).expect("the histogram grows");
    }

    /// A second has passed.
    pub(crate) fn end_second(&mut self) {
        let at = |quantile| self.second.value_at_quantile(quantile) / 1_000;
        if !self.second.is_empty() {
            self.seconds.push([at(0.5), at(0.99), at(1.0)]);
        }
        self.all.add(&self.second).expect("histograms that grow");
        self.interval.add(&self.second).expect("histograms that grow");
        self.second.reset();
    }

    /// What came since this was last asked, as JSON: pairs of a latency in microseconds and how often it was met, for whoever adds intervals up.
    pub(crate) fn interval_json(&mut self) -> String {
        let counts: Vec<_> = self
            .interval
            .iter_recorded()
            .map(|bucket| (bucket.value_iterated_to() / 1_000, bucket.count_at_value()))
            .collect();
        self.interval.reset();
        let pairs: Vec<_> = counts.iter().map(|(micros, count)| format!("[{micros},{count}]")).collect();
        format!("[{}]", pairs.join(","))
    }

    /// What the window had, as JSON: microseconds.
    pub(crate) fn json(&mut self) -> String {
        self.end_second();
        let mut json = format!("{{\"count\": {}, \"mean\": {:.1}", self.all.len(), self.all.mean() / 1e3);
        for (name, quantile) in PERCENTILES {
            let micros = self.all.value_at_quantile(quantile) as f64 / 1e3;
            write!(json, ", \"{name}\": {micros:.1}").expect("memory takes all");
        }
        write!(json, ", \"seconds\": {:?}}}", self.seconds).expect("memory takes all");
        json
    }
}

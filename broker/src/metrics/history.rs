//! What the broker has done in the last ten minutes: a sample every two seconds, so that a page just opened shows the past.
//!
//! A sample costs each shard some copies, however many partitions it has. What is kept is a hundred bytes a sample, and six samples as they came,
//! some KiB for each API in use: together below a MiB, whatever happens.

use super::histogram::Histogram;
use super::{Vitals, answered};
use ringlog_wire::{ApiKey, ErrorCode};
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

/// A sample is taken this often.
pub const SAMPLE_EVERY: Duration = Duration::from_secs(2);
/// Ten minutes.
const POINTS_MAX: usize = 300;
/// What is happening now is what happened in the last ten seconds.
const RECENT: usize = 5;

/// The last ten minutes.
#[derive(Default)]
pub(super) struct History(Mutex<State>);

#[derive(Default)]
struct State {
    /// The last samples as they came.
    samples: VecDeque<Sample>,
    points: VecDeque<Point>,
    /// Points there have been, those included that are not kept any more.
    points_ever: u64,
    /// A shard did not answer when it was last asked.
    silent: bool,
}

/// What all shards have counted.
#[derive(Debug, Clone, Default)]
struct Sample {
    at_nanos: u64,
    wall_millis: i64,
    requests: BTreeMap<ApiKey, Histogram>,
    errors: BTreeMap<(ApiKey, ErrorCode), u64>,
    produced_records: u64,
    produced_bytes: u64,
    fetched_bytes: u64,
    busy_nanos: Vec<u64>,
}

/// What happened between two samples: by second, or share of the time.
#[derive(Debug, Clone, Copy)]
struct Point {
    wall_millis: i64,
    records_in: f64,
    bytes_in: f64,
    bytes_out: f64,
    produce_micros: [Option<u64>; QUANTILES.len()],
    busy_mean: f64,
    busy_max: f64,
}

const QUANTILES: [f64; 3] = [0.5, 0.99, 0.999];

/// Points by column, the oldest first; those from the number `first` on.
#[derive(Debug, Default, Serialize)]
pub(super) struct Columns {
    first: u64,
    next: u64,
    every_millis: u64,
    /// Unix time in milliseconds.
    time: Vec<i64>,
    records_in: Vec<u64>,
    bytes_in: Vec<u64>,
    bytes_out: Vec<u64>,
    /// Microseconds from a Produce request's arrival to its answer; nothing where there was none.
    produce_p50: Vec<Option<u64>>,
    produce_p99: Vec<Option<u64>>,
    produce_p999: Vec<Option<u64>>,
    /// Thousandths of the time that shards were awake: of all, and of the busiest.
    busy_mean: Vec<u64>,
    busy_max: Vec<u64>,
}

/// What happens now: over the last ten seconds.
#[derive(Debug, Default, Serialize)]
pub(super) struct Now {
    /// Over how long, in milliseconds: less after a start.
    pub(super) over_millis: u64,
    records_in: f64,
    bytes_in: f64,
    bytes_out: f64,
    /// By shard, the share of the time that it was awake.
    pub(super) busy: Vec<f64>,
    requests: Vec<RequestRow>,
    errors: Vec<ErrorRow>,
}

/// One API's requests.
#[derive(Debug, Serialize)]
struct RequestRow {
    api: String,
    per_second: f64,
    /// In microseconds; nothing where there was none.
    p50: Option<u64>,
    p99: Option<u64>,
    p999: Option<u64>,
    /// Since the start.
    total: u64,
}

/// One kind of errors in answers, of those that came.
#[derive(Debug, Serialize)]
struct ErrorRow {
    api: String,
    error: String,
    per_second: f64,
}

impl History {
    /// Takes in what the shards say; `None` where one did not answer.
    pub(super) fn note(&self, shards: Option<&[Vitals]>) {
        let mut state = self.lock();
        state.silent = shards.is_none();
        let Some(shards) = shards else { return };
        let sample = Sample::of(shards);
        if let Some(last) = state.samples.back() {
            let point = Point::between(last, &sample);
            state.points.push_back(point);
            state.points_ever += 1;
        }
        state.samples.push_back(sample);
        while state.points.len() > POINTS_MAX {
            state.points.pop_front();
        }
        while state.samples.len() > RECENT + 1 {
            state.samples.pop_front();
        }
    }

    /// Points there have been; `None` where a shard did not answer lately.
    pub(super) fn count(&self) -> Option<u64> {
        let state = self.lock();
        (!state.silent).then_some(state.points_ever)
    }

    /// The points from this number on, as far as they are kept.
    pub(super) fn columns(&self, from: u64) -> Columns {
        let state = self.lock();
        let oldest = state.points_ever - state.points.len() as u64;
        let first = from.clamp(oldest, state.points_ever);
        let skipped = usize::try_from(first - oldest).unwrap_or(usize::MAX);
        let points = || state.points.iter().skip(skipped);
        let whole = |of: fn(&Point) -> f64| points().map(|point| of(point).round() as u64).collect();
        let quantile = |at: usize| points().map(|point| point.produce_micros[at]).collect();
        Columns {
            first,
            next: state.points_ever,
            every_millis: SAMPLE_EVERY.as_millis() as u64,
            time: points().map(|point| point.wall_millis).collect(),
            records_in: whole(|point| point.records_in),
            bytes_in: whole(|point| point.bytes_in),
            bytes_out: whole(|point| point.bytes_out),
            produce_p50: quantile(0),
            produce_p99: quantile(1),
            produce_p999: quantile(2),
            busy_mean: whole(|point| 1000.0 * point.busy_mean),
            busy_max: whole(|point| 1000.0 * point.busy_max),
        }
    }

    /// What happens now.
    pub(super) fn now(&self) -> Now {
        let state = self.lock();
        match (state.samples.front(), state.samples.back()) {
            (Some(first), Some(last)) => Now::between(first, last),
            _ => Now::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nothing panics while it holds the history")
    }
}

impl Sample {
    fn of(shards: &[Vitals]) -> Self {
        let (requests, errors) = answered(shards);
        let mut sum = Self { requests, errors, ..Self::default() };
        for shard in shards {
            sum.at_nanos = sum.at_nanos.max(shard.at_nanos);
            sum.wall_millis = sum.wall_millis.max(shard.wall_millis);
            sum.produced_records += shard.produced_records;
            sum.produced_bytes += shard.produced_bytes;
            sum.fetched_bytes += shard.fetched_bytes;
            sum.busy_nanos.push(shard.busy_nanos);
        }
        sum
    }

    fn seconds_since(&self, earlier: &Self) -> f64 {
        Duration::from_nanos(self.at_nanos.saturating_sub(earlier.at_nanos)).as_secs_f64()
    }

    /// By shard.
    fn busy_since(&self, earlier: &Self) -> Vec<f64> {
        let nanos = 1e9 * self.seconds_since(earlier);
        let share = |(now, then): (&u64, &u64)| (now.saturating_sub(*then) as f64 / nanos).clamp(0.0, 1.0);
        self.busy_nanos.iter().zip(&earlier.busy_nanos).map(share).collect()
    }

    fn times_since(&self, earlier: &Self, api: ApiKey) -> Histogram {
        match (self.requests.get(&api), earlier.requests.get(&api)) {
            (Some(now), Some(then)) => now.since(then),
            (now, _) => now.cloned().unwrap_or_default(),
        }
    }
}

fn micros(times: &Histogram) -> [Option<u64>; QUANTILES.len()] {
    QUANTILES.map(|share| times.quantile(share).and_then(|took| u64::try_from(took.as_micros()).ok()))
}

impl Point {
    fn between(earlier: &Sample, now: &Sample) -> Self {
        let seconds = now.seconds_since(earlier);
        let rate = |now: u64, then: u64| (now - then) as f64 / seconds;
        let busy = now.busy_since(earlier);
        Self {
            wall_millis: now.wall_millis,
            records_in: rate(now.produced_records, earlier.produced_records),
            bytes_in: rate(now.produced_bytes, earlier.produced_bytes),
            bytes_out: rate(now.fetched_bytes, earlier.fetched_bytes),
            produce_micros: micros(&now.times_since(earlier, ApiKey::Produce)),
            busy_mean: busy.iter().sum::<f64>() / busy.len().max(1) as f64,
            busy_max: busy.iter().copied().fold(0.0, f64::max),
        }
    }
}

impl Now {
    fn between(earlier: &Sample, now: &Sample) -> Self {
        let seconds = now.seconds_since(earlier);
        if seconds == 0.0 {
            return Self { busy: vec![0.0; now.busy_nanos.len()], ..Self::default() };
        }
        let rate = |now: u64, then: u64| (now - then) as f64 / seconds;
        let requests = now.requests.iter().map(|(api, all)| {
            let times = now.times_since(earlier, *api);
            let [p50, p99, p999] = micros(&times);
            RequestRow {
                api: api.to_string(),
                per_second: times.count as f64 / seconds,
                p50,
                p99,
                p999,
                total: all.count,
            }
        });
        let errors = now.errors.iter().filter_map(|((api, error), count)| {
            let new = count - earlier.errors.get(&(*api, *error)).unwrap_or(&0);
            let row =
                ErrorRow { api: api.to_string(), error: error.to_string(), per_second: new as f64 / seconds };
            (new > 0 && *error != ErrorCode::None).then_some(row)
        });
        Self {
            over_millis: (1000.0 * seconds) as u64,
            records_in: rate(now.produced_records, earlier.produced_records),
            bytes_in: rate(now.produced_bytes, earlier.produced_bytes),
            bytes_out: rate(now.fetched_bytes, earlier.fetched_bytes),
            busy: now.busy_since(earlier),
            requests: requests.collect(),
            errors: errors.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A shard that has been up for this many seconds, has taken 1000 records of 100 bytes each second, and was awake half of the time.
    fn shard(seconds: u64) -> Vitals {
        let mut produce = Histogram::default();
        (0..10 * seconds).for_each(|_| produce.note(Duration::from_millis(3)));
        Vitals {
            at_nanos: seconds * 1_000_000_000,
            wall_millis: 1_700_000_000_000 + 1000 * seconds as i64,
            requests: BTreeMap::from([(ApiKey::Produce, produce)]),
            errors: BTreeMap::from([((ApiKey::Produce, ErrorCode::CorruptMessage), 2 * seconds)]),
            produced_records: 1000 * seconds,
            produced_bytes: 100_000 * seconds,
            fetched_bytes: 50_000 * seconds,
            busy_nanos: seconds * 500_000_000,
            ..Vitals::default()
        }
    }

    fn idle(seconds: u64) -> Vitals {
        Vitals { at_nanos: seconds * 1_000_000_000, ..Vitals::default() }
    }

    #[test]
    fn rates_are_of_the_time_between_samples() {
        let history = History::default();
        for seconds in [10, 12, 13] {
            history.note(Some(&[shard(seconds), idle(seconds)]));
        }
        let columns = history.columns(0);
        assert_eq!((columns.first, columns.next), (0, 2));
        assert_eq!(columns.time, [1_700_000_012_000, 1_700_000_013_000]);
        assert_eq!(columns.records_in, [1000, 1000]);
        assert_eq!((columns.bytes_in[1], columns.bytes_out[1]), (100_000, 50_000));
        assert_eq!((columns.busy_mean[1], columns.busy_max[1]), (250, 500));
        let p99 = columns.produce_p99[1].unwrap();
        assert!((2_690..=3_200).contains(&p99), "{p99}");
        let now = history.now();
        assert_eq!((now.over_millis, now.records_in, &now.busy[..]), (3000, 1000.0, &[0.5, 0.0][..]));
        assert_eq!((now.requests[0].per_second, now.requests[0].total), (10.0, 130));
        assert_eq!((&*now.errors[0].error, now.errors[0].per_second), ("CORRUPT_MESSAGE", 2.0));
    }

    #[test]
    fn no_more_than_ten_minutes_are_kept_and_asked_for_in_parts() {
        let history = History::default();
        let samples = POINTS_MAX as u64 + 51;
        (0..samples).for_each(|seconds| history.note(Some(&[shard(seconds)])));
        let all = history.columns(0);
        assert_eq!((all.first, all.next, all.time.len()), (50, 350, POINTS_MAX));
        assert_eq!(history.columns(348).time.len(), 2);
        assert_eq!(history.columns(350).time.len(), 0);
        // The broker was started again, and whoever asks does not know.
        assert_eq!(history.columns(9999).first, 350);
    }

    #[test]
    fn a_shard_that_is_silent_is_told_of_and_then_forgiven() {
        let history = History::default();
        history.note(Some(&[idle(1)]));
        assert_eq!(history.count(), Some(0));
        history.note(None);
        assert_eq!(history.count(), None);
        history.note(Some(&[idle(9)]));
        assert_eq!(history.count(), Some(1));
        // Nothing was produced: there is no percentile of nothing.
        assert_eq!(history.columns(0).produce_p50, [None]);
    }
}

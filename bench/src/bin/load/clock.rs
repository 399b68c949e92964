//! Clocks.
#![expect(clippy::disallowed_methods, reason = "an instrument reads the clock")]

use rustix::time::{ClockId, clock_gettime};
use std::time::{Duration, Instant, SystemTime};

pub(crate) const NANOS_PER_SECOND: u64 = 1_000_000_000;

pub(crate) fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).expect("a short time")
}

/// What this process has taken of a core.
pub(crate) fn cpu() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).expect("time is positive")
}

/// Time since the start, and the time of day.
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn now(&self) -> u64 {
        nanos(self.0.elapsed())
    }

    pub(crate) fn wall_ms(&self) -> i64 {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).expect("this century")
    }
}

/// Before what was not ready is tried again.
pub(crate) fn pause() {
    std::thread::sleep(Duration::from_millis(100));
}

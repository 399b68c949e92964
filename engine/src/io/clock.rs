//! The real clocks and the real dice. The only place that reads them.

use super::{Instant, WallTime};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Monotonic time since a Driver began.
pub(super) struct Clock {
    origin: std::time::Instant,
}

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "this is the Driver's clock")]
    pub(super) fn new() -> Self {
        Self { origin: std::time::Instant::now() }
    }

    pub(super) fn now(&self) -> Instant {
        let nanos = self.origin.elapsed().as_nanos();
        Instant::from_nanos(u64::try_from(nanos).expect("five centuries fit"))
    }

    #[expect(clippy::disallowed_methods, reason = "this is the Driver's clock")]
    #[expect(clippy::unused_self, reason = "both times are asked of the clock")]
    pub(super) fn wall_time(&self) -> WallTime {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        WallTime(i64::try_from(since.as_millis()).expect("the year is below 292 million"))
    }
}

/// A span as the kernel takes it.
pub(super) fn timespec(span: Duration) -> rustix::event::Timespec {
    rustix::event::Timespec {
        tv_sec: i64::try_from(span.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(span.subsec_nanos()),
    }
}

/// 64 random bits from the kernel.
pub(super) fn random() -> u64 {
    let mut bytes = [0; 8];
    let mut filled = 0;
    while filled < bytes.len() {
        match rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty()) {
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("the kernel gives no random bytes: {error}"),
        }
    }
    u64::from_ne_bytes(bytes)
}

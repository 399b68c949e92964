//! How many connections there may be and how fast they may come, over all shards: Kafka's `ConnectionQuotas`.
//!
//! What is above the limit of its address is closed at once, so that one address cannot keep a listener from the others. What is above
//! the limit of its listener or of the broker waits: its listener takes no more meanwhile, and those who come stay with the kernel.
//!
//! Shared by the shards of a process, behind a lock that is held for some lookups, once as a connection comes and once as it goes.

use crate::config::{BrokerConfig, ConnectionLimits};
use ringlog_engine::io::Instant;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// The connections of a process.
pub struct ConnectionQuotas {
    /// As many as the process has files for, whatever is configured.
    open_max: usize,
    state: Mutex<State>,
}

struct State {
    limits: ConnectionLimits,
    open: usize,
    /// By the listener's place among the configured ones.
    listeners: Vec<ListenerState>,
    addresses: HashMap<IpAddr, usize>,
    due: Due,
    counts: QuotaCounts,
}

#[derive(Default)]
struct ListenerState {
    open: usize,
    due: Due,
}

/// What limits have done since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QuotaCounts {
    /// Connections closed for `max.connections.per.ip`.
    pub refused: u64,
    /// Connections that had to wait for `max.connections` or `max.connection.creation.rate`.
    pub delayed: u64,
}

/// Whether a connection may be served.
#[derive(Debug)]
pub enum Admission {
    /// It may, for as long as it keeps this.
    Admitted(Place),
    /// Its address has too many.
    Refused,
    /// Not now: ask again after this time.
    Later(Duration),
}

/// A connection's place among those there may be, given back when dropped, on whatever shard that is.
pub struct Place {
    quotas: Arc<ConnectionQuotas>,
    listener: usize,
    address: IpAddr,
}

/// How soon a listener looks again whether a connection has ended.
const FULL_RETRY: Duration = Duration::from_millis(50);

/// Connections may come in bursts of one second's number.
const BURST: Duration = Duration::from_secs(1);

/// When the next connection is due if they come evenly.
#[derive(Clone, Copy, Default)]
struct Due(Option<Instant>);

impl Due {
    /// How long a connection must wait, at this many a second. None waits longer than a second for itself, as in Kafka.
    fn wait(self, now: Instant, per_second: u32) -> Duration {
        let ahead = self.0.map_or(Duration::ZERO, |due| due.since(now));
        (ahead + interval(per_second)).saturating_sub(BURST).min(BURST)
    }

    fn take(&mut self, now: Instant, per_second: u32) {
        let ahead = self.0.map_or(Duration::ZERO, |due| due.since(now));
        self.0 = Some(now + (ahead + interval(per_second)).min(BURST));
    }
}

fn interval(per_second: u32) -> Duration {
    BURST / per_second.max(1)
}

impl ConnectionQuotas {
    /// No connections yet, and never more than `open_max`.
    pub fn new(config: &BrokerConfig, open_max: usize) -> Arc<Self> {
        let state = State {
            limits: ConnectionLimits::new(&config.settings, &config.listeners),
            open: 0,
            listeners: (0..config.listeners.len()).map(|_| ListenerState::default()).collect(),
            addresses: HashMap::new(),
            due: Due::default(),
            counts: QuotaCounts::default(),
        };
        Arc::new(Self { open_max, state: Mutex::new(state) })
    }

    /// The limits have changed. Connections that are open stay.
    pub fn set_limits(&self, limits: ConnectionLimits) {
        self.lock().limits = limits;
    }

    /// What the limits have done.
    pub fn counts(&self) -> QuotaCounts {
        self.lock().counts
    }

    /// Counts a connection that had to wait.
    pub(super) fn count_delayed(&self) {
        self.lock().counts.delayed += 1;
    }

    /// Asks for a connection that has come in by this listener from this address.
    pub fn admit(self: &Arc<Self>, listener: usize, address: IpAddr, now: Instant) -> Admission {
        let address = address.to_canonical();
        let mut state = self.lock();
        let State { limits, open, listeners, addresses, due, counts } = &mut *state;
        let from_here = addresses.get(&address).copied().unwrap_or(0);
        if from_here >= limits.of_address(address) {
            counts.refused += 1;
            return Admission::Refused;
        }
        let (of_listener, own) = (limits.of_listener(listener), &mut listeners[listener]);
        if *open >= limits.open_max.min(self.open_max) || own.open >= of_listener.open_max {
            return Admission::Later(FULL_RETRY);
        }
        let wait = due.wait(now, limits.per_second).max(own.due.wait(now, of_listener.per_second));
        if !wait.is_zero() {
            return Admission::Later(wait);
        }
        due.take(now, limits.per_second);
        own.due.take(now, of_listener.per_second);
        own.open += 1;
        *open += 1;
        addresses.insert(address, from_here + 1);
        Admission::Admitted(Place { quotas: self.clone(), listener, address })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds the counts")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.quotas.lock();
        state.open -= 1;
        state.listeners[self.listener].open -= 1;
        let from_here = state.addresses.get_mut(&self.address).expect("it was counted");
        *from_here -= 1;
        if *from_here == 0 {
            state.addresses.remove(&self.address);
        }
    }
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Place({} by listener {})", self.address, self.listener)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Settings, Source};

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    fn config(pairs: &[&str]) -> BrokerConfig {
        let mut settings = Settings::default();
        let listeners =
            ["listeners=IN://:0,OUT://:0", "listener.security.protocol.map=IN:PLAINTEXT,OUT:PLAINTEXT"];
        for pair in listeners.iter().chain(pairs) {
            settings.set_pair(pair, Source::CommandLine).unwrap();
        }
        BrokerConfig::new(settings).unwrap()
    }

    fn quotas(pairs: &[&str]) -> Arc<ConnectionQuotas> {
        ConnectionQuotas::new(&config(pairs), usize::MAX)
    }

    fn admitted(admission: Admission) -> Place {
        match admission {
            Admission::Admitted(place) => place,
            other => panic!("{other:?}"),
        }
    }

    fn waits(admission: Admission) -> Duration {
        match admission {
            Admission::Later(span) => span,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_full_broker_lets_the_next_one_wait_until_one_has_gone() {
        let quotas = quotas(&["max.connections=2"]);
        let first = admitted(quotas.admit(0, HERE, at(0)));
        let _second = admitted(quotas.admit(1, THERE, at(0)));
        for listener in 0..2 {
            assert_eq!(waits(quotas.admit(listener, THERE, at(0))), FULL_RETRY);
        }
        drop(first);
        let _third = admitted(quotas.admit(1, THERE, at(0)));
        assert_eq!(waits(quotas.admit(1, THERE, at(0))), FULL_RETRY);
        let changed = config(&["max.connections=3"]);
        quotas.set_limits(ConnectionLimits::new(&changed.settings, &changed.listeners));
        let _fourth = admitted(quotas.admit(0, HERE, at(0)));
    }

    #[test]
    fn a_process_without_files_counts_as_full() {
        let quotas = ConnectionQuotas::new(&config(&[]), 1);
        let _first = admitted(quotas.admit(0, HERE, at(0)));
        assert_eq!(waits(quotas.admit(0, HERE, at(0))), FULL_RETRY);
    }

    #[test]
    fn a_full_listener_does_not_keep_the_other_waiting() {
        let quotas = quotas(&["listener.name.in.max.connections=1"]);
        let _first = admitted(quotas.admit(0, HERE, at(0)));
        assert_eq!(waits(quotas.admit(0, HERE, at(0))), FULL_RETRY);
        let _others: Vec<Place> = (0..50).map(|_| admitted(quotas.admit(1, HERE, at(0)))).collect();
    }

    #[test]
    fn an_address_above_its_number_is_refused_even_where_others_would_wait() {
        let quotas = quotas(&[
            "max.connections=3",
            "max.connections.per.ip=1",
            "max.connections.per.ip.overrides=10.0.0.1:2,::1:0",
        ]);
        let mapped: IpAddr = "::ffff:127.0.0.1".parse().unwrap();
        let first = admitted(quotas.admit(0, HERE, at(0)));
        let _theirs = (admitted(quotas.admit(0, THERE, at(0))), admitted(quotas.admit(1, THERE, at(0))));
        for refused in [HERE, THERE, mapped, "::1".parse().unwrap()] {
            assert!(matches!(quotas.admit(1, refused, at(0)), Admission::Refused), "{refused}");
        }
        assert_eq!(quotas.counts(), QuotaCounts { refused: 4, delayed: 0 });
        drop(first);
        let _again = admitted(quotas.admit(1, mapped, at(0)));
        assert!(matches!(quotas.admit(1, HERE, at(0)), Admission::Refused));
    }

    #[test]
    fn connections_above_the_rate_come_evenly_after_a_burst() {
        let quotas =
            quotas(&["max.connection.creation.rate=10", "listener.name.out.max.connection.creation.rate=5"]);
        let open = |listener, now| admitted(quotas.admit(listener, HERE, now));
        // Those that have gone count as well: it is about how fast they come.
        (0..10).for_each(|_| drop(open(0, at(1000))));
        assert_eq!(waits(quotas.admit(0, HERE, at(1000))), Duration::from_millis(100));
        assert_eq!(waits(quotas.admit(0, HERE, at(1060))), Duration::from_millis(40));
        drop(open(0, at(1100)));
        assert_eq!(waits(quotas.admit(0, HERE, at(1100))), Duration::from_millis(100));
        (0..5).for_each(|_| drop(open(1, at(3000))));
        assert_eq!(waits(quotas.admit(1, HERE, at(3000))), Duration::from_millis(200));
        (0..5).for_each(|_| drop(open(0, at(3000))));
    }

    #[test]
    fn no_rate_is_slower_than_one_a_second() {
        let quotas = quotas(&["max.connection.creation.rate=0"]);
        drop(admitted(quotas.admit(0, HERE, at(0))));
        assert_eq!(waits(quotas.admit(0, HERE, at(0))), Duration::from_secs(1));
        drop(admitted(quotas.admit(0, HERE, at(1000))));
    }
}

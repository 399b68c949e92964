//! How many connections there may be: Kafka's `max.connections` and what belongs to it.

use super::{ListenAddress, Settings, list};
use std::collections::HashMap;
use std::net::IpAddr;

/// Limits of the connections of a broker.
#[derive(Debug, Clone, PartialEq)]
pub struct ConnectionLimits {
    /// Open at a time (`max.connections`).
    pub open_max: usize,
    /// New ones a second (`max.connection.creation.rate`).
    pub per_second: u32,
    /// By listener, in their order.
    listeners: Vec<ListenerLimits>,
    /// Of one address (`max.connections.per.ip`).
    of_address: usize,
    /// Of certain addresses (`max.connections.per.ip.overrides`).
    overrides: HashMap<IpAddr, usize>,
}

/// Limits of the connections of one listener.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ListenerLimits {
    /// Open at a time.
    pub open_max: usize,
    /// New ones a second.
    pub per_second: u32,
}

impl ConnectionLimits {
    /// The limits in force.
    pub fn new(settings: &Settings, listeners: &[ListenAddress]) -> Self {
        let parse = |name| settings.parse(name).expect("it has a default");
        let (open_max, per_second) = (parse("max.connections"), parse("max.connection.creation.rate"));
        let of_listener = |listener: &ListenAddress| {
            let own = |name: &str| {
                let name = format!("listener.name.{}.{name}", listener.name.to_ascii_lowercase());
                settings.explicit(&name).map(|(value, _)| value.parse().expect("checked when it was set"))
            };
            ListenerLimits {
                open_max: own("max.connections").map_or(usize::MAX, |value: u32| value as usize),
                per_second: own("max.connection.creation.rate").unwrap_or(u32::MAX),
            }
        };
        Self {
            open_max: open_max as usize,
            per_second,
            listeners: listeners.iter().map(of_listener).collect(),
            of_address: parse("max.connections.per.ip") as usize,
            overrides: list(settings.get("max.connections.per.ip.overrides"))
                .map(|entry| address_and_count(entry).expect("checked when it was set"))
                .collect(),
        }
    }

    /// Those of one listener.
    pub fn of_listener(&self, listener: usize) -> ListenerLimits {
        self.listeners[listener]
    }

    /// How many one address may have.
    pub fn of_address(&self, address: IpAddr) -> usize {
        self.overrides.get(&address).copied().unwrap_or(self.of_address)
    }
}

/// Reads `127.0.0.1:200`, or `[::1]:200`, or `::1:200` as Kafka does.
pub(super) fn address_and_count(entry: &str) -> Option<(IpAddr, usize)> {
    let (address, count) = entry.rsplit_once(':')?;
    let address = address.trim();
    let address = address.strip_prefix('[').and_then(|address| address.strip_suffix(']')).unwrap_or(address);
    let address: IpAddr = address.parse().ok()?;
    let count: i32 = count.trim().parse().ok()?;
    Some((address.to_canonical(), usize::try_from(count).ok()?))
}

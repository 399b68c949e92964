//! Listeners: where the broker listens, and what it tells clients.

use super::{ConfigError, Settings, list};
use std::fmt;

/// One address to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenAddress {
    /// The listener's name.
    pub name: String,
    /// The host; empty for every address.
    pub host: String,
    /// The port; 0 for a free one.
    pub port: u16,
}

/// One address clients are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advertised {
    /// The listener whose clients are told it.
    pub name: String,
    /// The host; `None` for the one the listener is bound to.
    pub host: Option<String>,
    /// The port; 0 for the one the listener is bound to.
    pub port: u16,
}

impl ListenAddress {
    /// The host to bind: an empty one means every address.
    pub fn host_or_any(&self) -> &str {
        if self.host.is_empty() { "0.0.0.0" } else { &self.host }
    }

    /// Reads `NAME://host:port`, or `host:port` for the listener `PLAINTEXT`.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let (name, address) = text.split_once("://").unwrap_or(("PLAINTEXT", text));
        let refuse = || ConfigError::Conflict(format!("listener `{text}`: expected NAME://host:port"));
        let (host, port) = address.rsplit_once(':').ok_or_else(refuse)?;
        let port = port.parse().map_err(|_| refuse())?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if name.is_empty() || host.contains(['/', '[', ']']) {
            return Err(refuse());
        }
        Ok(Self { name: name.to_ascii_uppercase(), host: host.to_owned(), port })
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, host, port } = self;
        if host.contains(':') {
            write!(f, "{name}://[{host}]:{port}")
        } else {
            write!(f, "{name}://{host}:{port}")
        }
    }
}

/// The listeners for clients. Those of Kafka's controllers (`controller.listener.names`) are left out: a single node
/// needs none.
pub(super) fn parse_listeners(settings: &Settings) -> Result<Vec<ListenAddress>, ConfigError> {
    let controllers = settings.explicit("controller.listener.names").map_or("", |(names, _)| names);
    let is_controller =
        |name: &str| list(controllers).any(|controller| controller.eq_ignore_ascii_case(name));
    let mut listeners: Vec<ListenAddress> = Vec::new();
    for text in list(settings.get("listeners")) {
        let listener = ListenAddress::parse(text)?;
        if is_controller(&listener.name) {
            continue;
        }
        check_protocol(settings, &listener.name)?;
        if listeners.iter().any(|other| other.name == listener.name) {
            return Err(ConfigError::Conflict(format!("listeners: {} is there twice", listener.name)));
        }
        listeners.push(listener);
    }
    if listeners.is_empty() {
        return Err(ConfigError::Conflict("listeners names no listener for clients".into()));
    }
    Ok(listeners)
}

/// What each listener advertises.
pub(super) fn parse_advertised(
    settings: &Settings,
    listeners: &[ListenAddress],
) -> Result<Vec<Advertised>, ConfigError> {
    let mut given = Vec::new();
    for text in list(settings.get("advertised.listeners")) {
        let address = ListenAddress::parse(text)?;
        if !listeners.iter().any(|listener| listener.name == address.name) {
            let name = address.name;
            return Err(ConfigError::Conflict(format!("advertised.listeners: there is no listener {name}")));
        }
        if address.host.is_empty() || address.host == "0.0.0.0" || address.host == "::" {
            let why = format!("advertised.listeners: `{text}` is no address a client can connect to");
            return Err(ConfigError::Conflict(why));
        }
        given.push(address);
    }
    let advertise = |listener: &ListenAddress| {
        let own = given.iter().find(|address| address.name == listener.name);
        let any = matches!(listener.host.as_str(), "" | "0.0.0.0" | "::");
        match own {
            Some(address) => Advertised {
                name: address.name.clone(),
                host: Some(address.host.clone()),
                port: address.port,
            },
            None => {
                let host = (!any).then(|| listener.host.clone());
                Advertised { name: listener.name.clone(), host, port: 0 }
            }
        }
    };
    Ok(listeners.iter().map(advertise).collect())
}

/// A listener's protocol is its name, or what `listener.security.protocol.map` makes of it.
fn check_protocol(settings: &Settings, listener: &str) -> Result<(), ConfigError> {
    let map = settings.explicit("listener.security.protocol.map").map_or("", |(map, _)| map);
    let mapped = list(map)
        .filter_map(|entry| entry.split_once(':'))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case(listener))
        .map(|(_, protocol)| protocol.trim().to_ascii_uppercase());
    let protocol = mapped.unwrap_or_else(|| listener.to_owned());
    if protocol == "PLAINTEXT" {
        return Ok(());
    }
    Err(ConfigError::Conflict(format!(
        "listener {listener} asks for {protocol}: only PLAINTEXT is served (listener.security.protocol.map can name it so)"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_kafka_writes_them() {
        let check = |text: &str, name: &str, host: &str, port: u16| {
            let address = ListenAddress::parse(text).expect(text);
            assert_eq!(
                (address.name.as_str(), address.host.as_str(), address.port),
                (name, host, port),
                "{text}"
            );
        };
        check("PLAINTEXT://127.0.0.1:9092", "PLAINTEXT", "127.0.0.1", 9092);
        check("internal://:0", "INTERNAL", "", 0);
        check("PLAINTEXT://[::1]:9092", "PLAINTEXT", "::1", 9092);
        check("localhost:9092", "PLAINTEXT", "localhost", 9092);
        for text in ["PLAINTEXT://host", "://h:1", "A://h:70000", "A://h:x", "A://x/y:1", ""] {
            assert!(ListenAddress::parse(text).is_err(), "{text}");
        }
    }
}

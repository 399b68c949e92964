//! How the protocol names what has configs, and where their values come from.

use crate::config::{Origin, Settings, Source};

/// A topic.
pub(super) const TOPIC: i8 = 2;
/// A broker or, without a name, all of them.
pub(super) const BROKER: i8 = 4;
/// The loggers of a broker.
pub(super) const BROKER_LOGGER: i8 = 8;
/// What clients tell of their metrics.
pub(super) const CLIENT_METRICS: i8 = 16;
/// A group.
pub(super) const GROUP: i8 = 32;

/// Kafka's number for a value that was set on its topic.
const SET_ON_TOPIC: i8 = 1;
/// Kafka's number for a value that was set on its group.
pub(super) const SET_ON_GROUP: i8 = 8;
/// Kafka's number for a value nobody has set.
pub(super) const DEFAULT: i8 = 5;

/// Kafka's number for where a broker config's value comes from.
pub(super) fn source_number(source: &Source) -> i8 {
    match source {
        Source::ThisBroker => 2,
        Source::AllBrokers => 3,
        Source::File(_) | Source::Environment(_) | Source::CommandLine => 4,
    }
}

/// Kafka's number for where a topic config's value comes from.
pub(super) fn origin_number(settings: &Settings, origin: Origin) -> i8 {
    match origin {
        Origin::Topic => SET_ON_TOPIC,
        Origin::Broker(name) => settings.explicit(name).map_or(DEFAULT, |(_, source)| source_number(source)),
        Origin::Default => DEFAULT,
    }
}

/// Which broker a name means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NamedBroker {
    /// This one.
    This,
    /// All, which have no name.
    All,
}

/// Which broker is meant, or why none.
pub(super) fn named_broker(name: &str, node_id: i32) -> Result<NamedBroker, String> {
    if name.is_empty() {
        return Ok(NamedBroker::All);
    }
    match name.parse::<i32>() {
        Ok(id) if id == node_id => Ok(NamedBroker::This),
        Ok(_) => {
            Err(format!("Unexpected broker id, expected {node_id} or empty string, but received {name}"))
        }
        Err(_) => Err(format!("Node id must be an integer, but it is: {name}")),
    }
}

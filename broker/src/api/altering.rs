//! What AlterConfigs and IncrementalAlterConfigs have in common: what a request may ask, and the change of the metadata.

use super::Context;
use super::config_resources::{BROKER, BROKER_LOGGER, GROUP, NamedBroker, TOPIC, named_broker};
use crate::cluster::{Change, ConfigChange, Configured, Outcome, Refusal, Request};
use ringlog_wire::{ByteString, ErrorCode};
use std::collections::{HashMap, HashSet};

/// What a request asks of one resource.
pub(super) struct Asked<'a> {
    /// The resource's type.
    pub(super) resource_type: i8,
    /// Its name.
    pub(super) resource_name: &'a str,
    /// The configs named, in the request's order.
    pub(super) names: Vec<&'a str>,
    /// Those that need a value and have none.
    pub(super) without_value: Vec<&'a str>,
    /// The change, or why there can be none.
    pub(super) change: Result<Change, Refusal>,
}

/// Changes what is clear, and gives the result for each of what was asked.
pub(super) async fn alter(
    context: &Context,
    asked: Vec<Asked<'_>>,
    validate_only: bool,
) -> Vec<Result<(), Refusal>> {
    let mut times: HashMap<(i8, &str), usize> = HashMap::new();
    for asked in &asked {
        *times.entry((asked.resource_type, asked.resource_name)).or_default() += 1;
    }
    let node_id = context.broker.config().node_id;
    let mut changes = Vec::new();
    let mut results: Vec<Result<(), Refusal>> = Vec::with_capacity(asked.len());
    for asked in asked {
        let once = times[&(asked.resource_type, asked.resource_name)] == 1;
        let change = if once { change(asked, node_id) } else { Err(invalid(TWICE)) };
        results.push(change.map(|change| changes.push(change)));
    }
    if changes.is_empty() {
        return results;
    }
    let count = changes.len();
    let outcomes = match context.broker.control(Request::AlterConfigs { changes, validate_only }).await {
        Outcome::Configs(outcomes) => outcomes,
        Outcome::Failed(code) => vec![Err(Refusal::new(code, "the metadata log cannot be written")); count],
        Outcome::Topics(_) | Outcome::Scram(_) | Outcome::ProducerIds { .. } => {
            unreachable!("configs are answered with configs")
        }
    };
    let asked_of_controller = results.iter_mut().filter(|result| result.is_ok());
    for (result, outcome) in asked_of_controller.zip(outcomes) {
        *result = outcome;
    }
    results
}

const TWICE: &str = "Each resource must appear at most once.";

/// What is asked of one resource, if it is clear.
fn change(asked: Asked<'_>, node_id: i32) -> Result<ConfigChange, Refusal> {
    let mut seen = HashSet::new();
    if !asked.names.iter().all(|name| seen.insert(name)) {
        return Err(invalid("Error due to duplicate config keys"));
    }
    if !asked.without_value.is_empty() {
        return Err(invalid(format!("Null value not supported for : {}", asked.without_value.join(", "))));
    }
    let of = match asked.resource_type {
        TOPIC => Configured::Topic(asked.resource_name.to_owned()),
        BROKER | BROKER_LOGGER => match named_broker(asked.resource_name, node_id).map_err(invalid)? {
            NamedBroker::This => Configured::ThisBroker,
            NamedBroker::All => Configured::AllBrokers,
        },
        GROUP => Configured::Group(asked.resource_name.to_owned()),
        other => return Err(invalid(format!("Unknown resource type {other}"))),
    };
    Ok(ConfigChange { of, change: asked.change? })
}

fn invalid(message: impl Into<String>) -> Refusal {
    Refusal::new(ErrorCode::InvalidRequest, message)
}

/// A result as responses have it.
pub(super) fn refuse(result: Result<(), Refusal>) -> (ErrorCode, Option<ByteString>) {
    match result {
        Ok(()) => (ErrorCode::None, None),
        Err(Refusal { code, message }) => (code, Some(message.into())),
    }
}

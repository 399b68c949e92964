//! IncrementalAlterConfigs: configs of topics and brokers are set, reset, and their lists changed, one by one.

use super::Context;
use super::altering::{Asked, alter, refuse};
use super::config_resources::BROKER_LOGGER;
use crate::cluster::{Change, Operation, Refusal};
use ringlog_wire::ErrorCode;
use ringlog_wire::incremental_alter_configs::{
    AlterConfigsResource, AlterConfigsResourceResponse, AlterableConfig, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
};
use std::rc::Rc;

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

pub(super) async fn handle(
    context: Rc<Context>,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let asked = request.resources.iter().map(asked).collect();
    let results = alter(&context, asked, request.validate_only).await;
    let responses = request.resources.into_iter().zip(results).map(|(resource, result)| {
        let (error_code, error_message) = refuse(result);
        AlterConfigsResourceResponse {
            error_code,
            error_message,
            resource_type: resource.resource_type,
            resource_name: resource.resource_name,
        }
    });
    IncrementalAlterConfigsResponse { responses: responses.collect(), ..Default::default() }
}

fn asked(resource: &AlterConfigsResource) -> Asked<'_> {
    let names = resource.configs.iter().map(|config| &*config.name).collect();
    let without = |config: &&AlterableConfig| config.value.is_none() && config.config_operation != DELETE;
    let without_value = resource.configs.iter().filter(without).map(|config| &*config.name).collect();
    Asked {
        resource_type: resource.resource_type,
        resource_name: &resource.resource_name,
        names,
        without_value,
        change: if resource.resource_type == BROKER_LOGGER {
            Err(no_logger(resource))
        } else {
            resource.configs.iter().map(operation).collect::<Result<_, _>>().map(Change::Some)
        },
    }
}

fn operation(config: &AlterableConfig) -> Result<(String, Operation), Refusal> {
    let value = config.value.as_deref().unwrap_or_default().to_owned();
    let operation = match config.config_operation {
        SET => Operation::Set(value),
        DELETE => Operation::Delete,
        APPEND => Operation::Append(value),
        SUBTRACT => Operation::Subtract(value),
        other => {
            let message = format!("Unknown operations type {other}");
            return Err(Refusal::new(ErrorCode::InvalidRequest, message));
        }
    };
    Ok((config.name.to_string(), operation))
}

/// There are no loggers whose levels could be changed.
fn no_logger(resource: &AlterConfigsResource) -> Refusal {
    let name = resource.configs.first().map(|config| &*config.name).unwrap_or_default();
    Refusal::new(ErrorCode::InvalidConfig, format!("Logger {name} does not exist!"))
}

//! AlterConfigs: all configs of topics and brokers are replaced. Clients that can use IncrementalAlterConfigs instead.

use super::Context;
use super::altering::{Asked, alter, refuse};
use super::config_resources::BROKER_LOGGER;
use crate::cluster::{Change, Refusal};
use ringlog_wire::ErrorCode;
use ringlog_wire::alter_configs::{
    AlterConfigsRequest, AlterConfigsResource, AlterConfigsResourceResponse, AlterConfigsResponse,
};
use std::rc::Rc;

pub(super) async fn handle(context: Rc<Context>, request: AlterConfigsRequest) -> AlterConfigsResponse {
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
    AlterConfigsResponse { responses: responses.collect(), ..Default::default() }
}

fn asked(resource: &AlterConfigsResource) -> Asked<'_> {
    let configs = &resource.configs;
    let value = |value: &Option<_>| value.as_ref().map(ToString::to_string).unwrap_or_default();
    Asked {
        resource_type: resource.resource_type,
        resource_name: &resource.resource_name,
        names: configs.iter().map(|config| &*config.name).collect(),
        without_value: configs.iter().filter(|c| c.value.is_none()).map(|c| &*c.name).collect(),
        change: if resource.resource_type == BROKER_LOGGER {
            let message = format!("Unknown resource type {BROKER_LOGGER}");
            Err(Refusal::new(ErrorCode::InvalidRequest, message))
        } else {
            Ok(Change::All(configs.iter().map(|c| (c.name.to_string(), value(&c.value))).collect()))
        },
    }
}

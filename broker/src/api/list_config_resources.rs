//! ListConfigResources: what has configs. Version 0 asks for clients' metrics alone, of which there are none.

use super::Context;
use super::config_resources::{BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP, TOPIC};
use ringlog_wire::list_config_resources::{
    ConfigResource, ListConfigResourcesRequest, ListConfigResourcesResponse,
};
use ringlog_wire::{ByteString, ErrorCode};
use std::rc::Rc;

const ALL: [i8; 5] = [TOPIC, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP];

pub(super) async fn handle(
    context: Rc<Context>,
    request: ListConfigResourcesRequest,
) -> ListConfigResourcesResponse {
    let wanted = match context.version {
        0 => vec![CLIENT_METRICS],
        _ if request.resource_types.is_empty() => ALL.to_vec(),
        _ => request.resource_types,
    };
    if wanted.iter().any(|wanted| !ALL.contains(wanted)) {
        return ListConfigResourcesResponse {
            error_code: ErrorCode::UnsupportedVersion,
            ..Default::default()
        };
    }
    let node = ByteString::from(context.broker.config().node_id.to_string());
    let image = context.broker.image();
    let resource = |resource_type, resource_name| ConfigResource { resource_name, resource_type };
    let mut config_resources = Vec::new();
    for kind in ALL.into_iter().filter(|kind| wanted.contains(kind)) {
        match kind {
            TOPIC => config_resources
                .extend(image.topics().map(|topic| resource(TOPIC, ByteString::from(&*topic.name)))),
            BROKER | BROKER_LOGGER => config_resources.push(resource(kind, node.clone())),
            GROUP => config_resources
                .extend(image.groups_with_configs().map(|group| resource(GROUP, ByteString::from(group)))),
            // Clients' metrics have none here.
            _ => {}
        }
    }
    ListConfigResourcesResponse { config_resources, ..Default::default() }
}

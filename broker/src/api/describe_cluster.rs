//! DescribeCluster: the brokers and the controller.

use super::Context;
use crate::config::Endpoint;
use ringlog_wire::describe_cluster::{
    DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse,
};
use ringlog_wire::{ByteString, ErrorCode};
use std::rc::Rc;

/// Who is to be listed: brokers. The other kind, controllers, is asked of controllers.
const BROKERS: i8 = 1;

pub(super) async fn handle(context: Rc<Context>, request: DescribeClusterRequest) -> DescribeClusterResponse {
    if request.endpoint_type != BROKERS {
        let known = request.endpoint_type == 2;
        let (error_code, message) = if known {
            (
                ErrorCode::MismatchedEndpointType,
                "The request was sent to an endpoint of the wrong type: this is a broker.",
            )
        } else {
            (ErrorCode::UnsupportedEndpointType, "There is no such type of endpoint.")
        };
        return DescribeClusterResponse {
            error_code,
            error_message: Some(ByteString::from_static(message)),
            ..Default::default()
        };
    }
    let Endpoint { host, port } = context.broker.config().endpoint(context.peer.listener).clone();
    let node_id = context.broker.config().node_id;
    DescribeClusterResponse {
        cluster_id: ByteString::from(&*context.broker.image().cluster_id),
        controller_id: node_id,
        brokers: vec![DescribeClusterBroker {
            broker_id: node_id,
            host: host.into(),
            port: i32::from(port),
            ..Default::default()
        }],
        cluster_authorized_operations: if request.include_cluster_authorized_operations {
            super::metadata::CLUSTER_OPERATIONS
        } else {
            i32::MIN
        },
        ..Default::default()
    }
}

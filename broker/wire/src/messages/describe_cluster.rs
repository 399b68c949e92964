//! DescribeCluster: brokers and controller.

use bytestring::ByteString;

use crate::error::ErrorCode;
use crate::message::{Request, messages};

messages! {
    /// Asks for the brokers and the controller.
    pub message DescribeClusterRequest: DescribeCluster [0-2], flexible [0+] {
        /// Whether to say what the client may do with the cluster.
        include_cluster_authorized_operations: bool [0+],
        /// Whom to list: 1 for brokers, 2 for controllers.
        endpoint_type: i8 [1+] = 1,
        /// Whether to list fenced brokers.
        include_fenced_brokers: bool [2+],
    }

    /// The brokers and the controller.
    pub message DescribeClusterResponse: DescribeCluster [0-2], flexible [0+] {
        /// How long the client should hold back, in milliseconds.
        throttle_time_ms: i32 [0+],
        /// What went wrong, or `NONE`.
        error_code: ErrorCode [0+],
        /// Words about the error, or null.
        error_message: Option<ByteString> [0+] null [0+],
        /// Who is listed: 1 for brokers, 2 for controllers.
        endpoint_type: i8 [1+] = 1,
        /// The cluster's id, or null.
        cluster_id: ByteString [0+],
        /// The controller; -1 for unknown.
        controller_id: i32 [0+] = -1,
        /// The brokers.
        brokers: Vec<DescribeClusterBroker> [0+],
        /// What the client may do with the cluster, as bits; the default for not asked.
        cluster_authorized_operations: i32 [0+] = i32::MIN,
    }

    /// One broker.
    pub struct DescribeClusterBroker {
        /// The broker.
        broker_id: i32 [0+],
        /// Its host name.
        host: ByteString [0+],
        /// Its port.
        port: i32 [0+],
        /// Its rack, or null.
        rack: Option<ByteString> [0+] null [0+],
        /// Whether the broker is fenced.
        is_fenced: bool [2+],
    }
}

impl Request for DescribeClusterRequest {
    type Response = DescribeClusterResponse;
}

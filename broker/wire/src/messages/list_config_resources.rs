//! ListConfigResources: what has configs.

use bytestring::ByteString;

use crate::error::ErrorCode;
use crate::message::{Request, messages};

messages! {
    /// Asks for resources by their types.
    pub message ListConfigResourcesRequest: ListConfigResources [0-1], flexible [0+] {
        /// The types wanted: 2 topics, 4 brokers, 8 brokers' loggers, 16 client metrics, 32 groups; none for all.
        resource_types: Vec<i8> [1+],
    }

    /// The resources.
    pub message ListConfigResourcesResponse: ListConfigResources [0-1], flexible [0+] {
        /// How long the client should hold back, in milliseconds.
        throttle_time_ms: i32 [0+],
        /// What went wrong, or `NONE`.
        error_code: ErrorCode [0+],
        /// The resources.
        config_resources: Vec<ConfigResource> [0+],
    }

    /// One resource.
    pub struct ConfigResource {
        /// Its name.
        resource_name: ByteString [0+],
        /// Its type.
        resource_type: i8 [1+] = 16,
    }
}

impl Request for ListConfigResourcesRequest {
    type Response = ListConfigResourcesResponse;
}

//! AlterConfigs: all configs of topics and brokers are replaced.

use bytestring::ByteString;

use crate::error::ErrorCode;
use crate::message::{Request, messages};

messages! {
    /// Asks to replace the configs of resources; those that are not named are reset.
    pub message AlterConfigsRequest: AlterConfigs [0-2], flexible [2+] {
        /// The resources.
        resources: Vec<AlterConfigsResource> [0+],
        /// Whether only to say what would be done.
        validate_only: bool [0+],
    }

    /// One resource and its configs.
    pub struct AlterConfigsResource {
        /// The type: 2 a topic, 4 a broker.
        resource_type: i8 [0+],
        /// The name; empty for what all brokers have in common.
        resource_name: ByteString [0+],
        /// The configs it is to have.
        configs: Vec<AlterableConfig> [0+],
    }

    /// One config.
    pub struct AlterableConfig {
        /// The config.
        name: ByteString [0+],
        /// The value, or null.
        value: Option<ByteString> [0+] null [0+] = Some(ByteString::new()),
    }

    /// What became of each resource.
    pub message AlterConfigsResponse: AlterConfigs [0-2], flexible [2+] {
        /// How long the client should hold back, in milliseconds.
        throttle_time_ms: i32 [0+],
        /// The results, one for each resource.
        responses: Vec<AlterConfigsResourceResponse> [0+],
    }

    /// What became of one resource.
    pub struct AlterConfigsResourceResponse {
        /// What went wrong, or `NONE`.
        error_code: ErrorCode [0+],
        /// Words about the error, or null.
        error_message: Option<ByteString> [0+] null [0+] = Some(ByteString::new()),
        /// The type: 2 a topic, 4 a broker.
        resource_type: i8 [0+],
        /// The name; empty for what all brokers have in common.
        resource_name: ByteString [0+],
    }
}

impl Request for AlterConfigsRequest {
    type Response = AlterConfigsResponse;
}

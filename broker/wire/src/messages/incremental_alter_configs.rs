//! IncrementalAlterConfigs: single configs of topics and brokers are set, reset, and changed.

use bytestring::ByteString;

use crate::error::ErrorCode;
use crate::message::{Request, messages};

messages! {
    /// Asks to change configs; those that are not named stay as they are.
    pub message IncrementalAlterConfigsRequest: IncrementalAlterConfigs [0-1], flexible [1+] {
        /// The resources.
        resources: Vec<AlterConfigsResource> [0+],
        /// Whether only to say what would be done.
        validate_only: bool [0+],
    }

    /// One resource and its changes.
    pub struct AlterConfigsResource {
        /// The type: 2 a topic, 4 a broker, 8 a broker's loggers.
        resource_type: i8 [0+],
        /// The name; empty for what all brokers have in common.
        resource_name: ByteString [0+],
        /// The changes.
        configs: Vec<AlterableConfig> [0+],
    }

    /// One change.
    pub struct AlterableConfig {
        /// The config.
        name: ByteString [0+],
        /// What to do: 0 set, 1 reset, 2 append to a list, 3 take out of a list.
        config_operation: i8 [0+],
        /// The value; null where the config is reset.
        value: Option<ByteString> [0+] null [0+] = Some(ByteString::new()),
    }

    /// What became of each resource.
    pub message IncrementalAlterConfigsResponse: IncrementalAlterConfigs [0-1], flexible [1+] {
        /// How long the client should hold back, in milliseconds.
        throttle_time_ms: i32 [0+],
        /// The results, one for each resource.
        responses: Vec<AlterConfigsResourceResponse> [0+],
    }

    /// What became of one resource: all of its changes were made, or none.
    pub struct AlterConfigsResourceResponse {
        /// What went wrong, or `NONE`.
        error_code: ErrorCode [0+],
        /// Words about the error, or null.
        error_message: Option<ByteString> [0+] null [0+] = Some(ByteString::new()),
        /// The type: 2 a topic, 4 a broker, 8 a broker's loggers.
        resource_type: i8 [0+],
        /// The name; empty for what all brokers have in common.
        resource_name: ByteString [0+],
    }
}

impl Request for IncrementalAlterConfigsRequest {
    type Response = IncrementalAlterConfigsResponse;
}

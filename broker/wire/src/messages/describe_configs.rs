//! DescribeConfigs.

use bytestring::ByteString;

use crate::error::ErrorCode;
use crate::message::{Request, messages};

messages! {
    /// Asks for the configs of topics and brokers.
    pub message DescribeConfigsRequest: DescribeConfigs [1-4], flexible [4+] {
        /// The resources.
        resources: Vec<DescribeConfigsResource> [0+],
        /// Whether to tell other places of each value.
        include_synonyms: bool [1+],
        /// Whether to tell what each config means.
        include_documentation: bool [3+],
    }

    /// One resource to describe.
    pub struct DescribeConfigsResource {
        /// The type: 2 a topic, 4 a broker, 8 a broker's loggers.
        resource_type: i8 [0+],
        /// The name.
        resource_name: ByteString [0+],
        /// The configs wanted; null for all.
        configuration_keys: Option<Vec<ByteString>> [0+] null [0+] = Some(Vec::new()),
    }

    /// The configs.
    pub message DescribeConfigsResponse: DescribeConfigs [1-4], flexible [4+] {
        /// How long the client should hold back, in milliseconds.
        throttle_time_ms: i32 [0+],
        /// The results.
        results: Vec<DescribeConfigsResult> [0+],
    }

    /// The configs of one resource.
    pub struct DescribeConfigsResult {
        /// What went wrong, or `NONE`.
        error_code: ErrorCode [0+],
        /// Words about the error, or null.
        error_message: Option<ByteString> [0+] null [0+] = Some(ByteString::new()),
        /// The type: 2 a topic, 4 a broker.
        resource_type: i8 [0+],
        /// The name.
        resource_name: ByteString [0+],
        /// The configs.
        configs: Vec<DescribeConfigsResourceResult> [0+],
    }

    /// One config.
    pub struct DescribeConfigsResourceResult {
        /// The name.
        name: ByteString [0+],
        /// The value, or null.
        value: Option<ByteString> [0+] null [0+] = Some(ByteString::new()),
        /// Whether it cannot be changed at run time.
        read_only: bool [0+],
        /// Where the value comes from.
        config_source: i8 [1+] = -1,
        /// Whether the value is secret; it is null then.
        is_sensitive: bool [0+],
        /// Other places of the value, the strongest first.
        synonyms: Vec<DescribeConfigsSynonym> [1+],
        /// The type of the value.
        config_type: i8 [3+],
        /// What the config means, or null.
        documentation: Option<ByteString> [3+] null [0+] = Some(ByteString::new()),
    }

    /// Another place that could give the config its value.
    pub struct DescribeConfigsSynonym {
        /// The name.
        name: ByteString [1+],
        /// The value, or null.
        value: Option<ByteString> [1+] null [0+] = Some(ByteString::new()),
        /// The place.
        source: i8 [1+],
    }
}

impl Request for DescribeConfigsRequest {
    type Response = DescribeConfigsResponse;
}

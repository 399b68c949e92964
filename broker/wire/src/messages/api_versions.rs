//! ApiVersions: what the broker speaks.

use bytestring::ByteString;

use crate::error::ErrorCode;
use crate::message::{Request, messages};

messages! {
    /// Asks what the broker speaks; the first request on most connections.
    pub message ApiVersionsRequest: ApiVersions [0-4], flexible [3+] {
        /// The client library's name.
        client_software_name: ByteString [3+],
        /// The client library's version.
        client_software_version: ByteString [3+],
    }

    /// What the broker speaks. To a request in a version it does not know it answers in version 0 (KIP-511).
    pub message ApiVersionsResponse: ApiVersions [0-4], flexible [3+] {
        /// What went wrong, or `NONE`.
        error_code: ErrorCode [0+],
        /// The APIs.
        api_keys: Vec<ApiVersion> [0+],
        /// How long the client should hold back, in milliseconds.
        throttle_time_ms: i32 [1+],
        /// The features that the broker has.
        supported_features: Vec<SupportedFeatureKey> [3+] tag 0,
        /// The epoch of the finalized features; -1 for unknown.
        finalized_features_epoch: i64 [3+] tag 1 = -1,
        /// The features that the cluster has agreed on.
        finalized_features: Vec<FinalizedFeatureKey> [3+] tag 2,
        /// A remnant of ZooKeeper; always false.
        zk_migration_ready: bool [3+] tag 3,
    }

    /// One API and its versions.
    pub struct ApiVersion {
        /// The API.
        api_key: i16 [0+],
        /// Its lowest version.
        min_version: i16 [0+],
        /// Its highest version.
        max_version: i16 [0+],
    }

    /// A feature and the levels that the broker can run at.
    pub struct SupportedFeatureKey {
        /// The name.
        name: ByteString [3+],
        /// Its lowest level.
        min_version: i16 [3+],
        /// Its highest level.
        max_version: i16 [3+],
    }

    /// A feature and the levels that the cluster has agreed on.
    pub struct FinalizedFeatureKey {
        /// The name.
        name: ByteString [3+],
        /// Its highest level.
        max_version_level: i16 [3+],
        /// Its lowest level.
        min_version_level: i16 [3+],
    }
}

impl Request for ApiVersionsRequest {
    type Response = ApiVersionsResponse;
}

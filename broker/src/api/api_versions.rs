//! ApiVersions: what is served, and the fallback for clients that ask in a version nobody knows yet (KIP-511).

use super::{APIS, Context, served};
use ringlog_wire::api_versions::{
    ApiVersion, ApiVersionsRequest, ApiVersionsResponse, FinalizedFeatureKey, SupportedFeatureKey,
};
use ringlog_wire::{ApiKey, ByteString, ErrorCode};
use std::rc::Rc;

pub(super) async fn handle(context: Rc<Context>, request: ApiVersionsRequest) -> ApiVersionsResponse {
    if context.version >= 3 {
        let (name, version) = (&request.client_software_name, &request.client_software_version);
        if !is_software_word(name) || !is_software_word(version) {
            return ApiVersionsResponse { error_code: ErrorCode::InvalidRequest, ..Default::default() };
        }
        *context.peer.software.borrow_mut() = Some((name.to_string(), version.to_string()));
    }
    let name = SHARE_VERSION;
    ApiVersionsResponse {
        api_keys: APIS.iter().map(row).collect(),
        supported_features: vec![SupportedFeatureKey { name: name.clone(), min_version: 0, max_version: 1 }],
        // It does not change.
        finalized_features_epoch: 0,
        finalized_features: vec![FinalizedFeatureKey { name, max_version_level: 1, min_version_level: 1 }],
        ..Default::default()
    }
}

/// The feature that says that there are share groups (KIP-932).
const SHARE_VERSION: ByteString = ByteString::from_static("share.version");

/// The answer, in version 0, to a request in a version that is not served: it says which are.
pub(super) fn unsupported() -> ApiVersionsResponse {
    let own = served(ApiKey::ApiVersions.code()).expect("it is in the table");
    ApiVersionsResponse {
        error_code: ErrorCode::UnsupportedVersion,
        api_keys: vec![row(own)],
        ..Default::default()
    }
}

fn row(api: &super::Api) -> ApiVersion {
    ApiVersion {
        api_key: api.key.code(),
        min_version: if api.key == ApiKey::Produce { api.key.spec().advertised_min() } else { api.min },
        max_version: api.max,
    }
}

/// Letters and digits, inside also dashes and dots (`ApiVersionsRequest.SUPPORTED_CLIENT_SOFTWARE_NAME_AND_VERSION`).
fn is_software_word(word: &str) -> bool {
    let is_inside = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
    let bytes = word.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() && bytes.iter().copied().all(is_inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_software_are_checked_as_kafka_checks_them() {
        for word in ["apache-kafka-java", "librdkafka", "4.3.1", "a", "v2.15.0-RC1"] {
            assert!(is_software_word(word), "{word}");
        }
        for word in ["", "-a", "a-", ".", "a b", "a_b", "é", "a\0"] {
            assert!(!is_software_word(word), "{word}");
        }
    }

    #[test]
    fn produce_is_listed_from_zero() {
        let produce = served(ApiKey::Produce.code()).expect("served");
        assert_eq!((row(produce).min_version, produce.min), (0, 3));
    }
}

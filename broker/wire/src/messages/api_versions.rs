//! ApiVersions: what the broker speaks.

use bytestring::ByteString;

use crate::error::ErrorCode;
use crate::message::{Message, Request, messages};
use crate::reader::{DecodeError, Reader};

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

impl ApiVersionsResponse {
    /// Reads the answer to a request in `version`, from behind the header: in that version, or in version 0 from a broker that does not
    /// know it and so answers `UNSUPPORTED_VERSION` with the versions it does know (KIP-511).
    pub fn decode_negotiated(
        reader: &mut Reader<'_>,
        version: i16,
    ) -> Result<ApiVersionsResponse, DecodeError> {
        let mut oldest = reader.clone();
        let response = ApiVersionsResponse::decode(&mut oldest, 0);
        match response {
            Ok(response) if response.error_code == ErrorCode::UnsupportedVersion => {
                *reader = oldest;
                Ok(response)
            }
            // The error code comes first in every version; any other means that the version was taken.
            _ => ApiVersionsResponse::decode(reader, version),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::encode_response;
    use crate::header::ResponseHeader;
    use crate::{ApiKey, Part};

    #[test]
    fn a_refusal_in_version_0_is_read_whatever_was_asked() {
        let check = |asked: i16, answered: i16, error_code: ErrorCode| {
            let keys = vec![ApiVersion { api_key: 18, min_version: 0, max_version: 2 }];
            let response = ApiVersionsResponse { error_code, api_keys: keys, ..Default::default() };
            let parts = encode_response(answered, 1, &response).unwrap().parts;
            let [Part::Bytes(frame)] = &parts[..] else { panic!("one part") };
            let frame = frame.slice(4..);
            let mut reader = Reader::new(&frame);
            ResponseHeader::read(&mut reader, ApiKey::ApiVersions, asked).unwrap();
            assert_eq!(
                ApiVersionsResponse::decode_negotiated(&mut reader, asked),
                Ok(response),
                "{asked} {answered}"
            );
            assert_eq!(reader.remaining(), 0);
        };
        for asked in 0..=4 {
            check(asked, 0, ErrorCode::UnsupportedVersion);
            check(asked, asked, ErrorCode::None);
            check(asked, asked, ErrorCode::InvalidRequest);
        }
    }
}

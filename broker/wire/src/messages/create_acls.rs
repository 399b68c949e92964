//! CreateAcls: rules of who may do what are made.

use bytestring::ByteString;

use crate::error::ErrorCode;
use crate::message::{Request, messages};

messages! {
    /// Asks to make access rules.
    pub message CreateAclsRequest: CreateAcls [1-3], flexible [2+] {
        /// The rules.
        creations: Vec<AclCreation> [0+],
    }

    /// One rule.
    pub struct AclCreation {
        /// The type of resource.
        resource_type: i8 [0+],
        /// Its name.
        resource_name: ByteString [0+],
        /// How its name matches.
        resource_pattern_type: i8 [1+] = 3,
        /// Who.
        principal: ByteString [0+],
        /// From where.
        host: ByteString [0+],
        /// What is done.
        operation: i8 [0+],
        /// Whether it is allowed or denied.
        permission_type: i8 [0+],
    }

    /// What became of each rule.
    pub message CreateAclsResponse: CreateAcls [1-3], flexible [2+] {
        /// How long the client should hold back, in milliseconds.
        throttle_time_ms: i32 [0+],
        /// The results, one for each rule.
        results: Vec<AclCreationResult> [0+],
    }

    /// What became of one rule.
    pub struct AclCreationResult {
        /// What went wrong, or `NONE`.
        error_code: ErrorCode [0+],
        /// Words about the error, or null.
        error_message: Option<ByteString> [0+] null [0+] = Some(ByteString::new()),
    }
}

impl Request for CreateAclsRequest {
    type Response = CreateAclsResponse;
}

//! DeleteAcls: rules of who may do what are taken away.

use bytestring::ByteString;

use crate::error::ErrorCode;
use crate::message::{Request, messages};

messages! {
    /// Asks to take away the access rules that match.
    pub message DeleteAclsRequest: DeleteAcls [1-3], flexible [2+] {
        /// Which rules.
        filters: Vec<DeleteAclsFilter> [0+],
    }

    /// Which rules.
    pub struct DeleteAclsFilter {
        /// The type of resource.
        resource_type_filter: i8 [0+],
        /// Its name; null for any.
        resource_name_filter: Option<ByteString> [0+] null [0+] = Some(ByteString::new()),
        /// How names match.
        pattern_type_filter: i8 [1+] = 3,
        /// Who; null for anybody.
        principal_filter: Option<ByteString> [0+] null [0+] = Some(ByteString::new()),
        /// From where; null for anywhere.
        host_filter: Option<ByteString> [0+] null [0+] = Some(ByteString::new()),
        /// What is done.
        operation: i8 [0+],
        /// Whether it is allowed or denied.
        permission_type: i8 [0+],
    }

    /// What was taken away.
    pub message DeleteAclsResponse: DeleteAcls [1-3], flexible [2+] {
        /// How long the client should hold back, in milliseconds.
        throttle_time_ms: i32 [0+],
        /// The results, one for each filter.
        filter_results: Vec<DeleteAclsFilterResult> [0+],
    }

    /// What matched one filter.
    pub struct DeleteAclsFilterResult {
        /// What went wrong, or `NONE`.
        error_code: ErrorCode [0+],
        /// Words about the error, or null.
        error_message: Option<ByteString> [0+] null [0+] = Some(ByteString::new()),
        /// The rules that matched.
        matching_acls: Vec<DeleteAclsMatchingAcl> [0+],
    }

    /// One rule.
    pub struct DeleteAclsMatchingAcl {
        /// What went wrong, or `NONE`.
        error_code: ErrorCode [0+],
        /// Words about the error, or null.
        error_message: Option<ByteString> [0+] null [0+] = Some(ByteString::new()),
        /// The type of resource.
        resource_type: i8 [0+],
        /// Its name.
        resource_name: ByteString [0+],
        /// How its name matches.
        pattern_type: i8 [1+] = 3,
        /// Who.
        principal: ByteString [0+],
        /// From where.
        host: ByteString [0+],
        /// What is done.
        operation: i8 [0+],
        /// Whether it is allowed or denied.
        permission_type: i8 [0+],
    }
}

impl Request for DeleteAclsRequest {
    type Response = DeleteAclsResponse;
}

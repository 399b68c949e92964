//! DescribeAcls: who may do what.

use bytestring::ByteString;

use crate::error::ErrorCode;
use crate::message::{Request, messages};

messages! {
    /// Asks for access rules.
    pub message DescribeAclsRequest: DescribeAcls [1-3], flexible [2+] {
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

    /// The rules.
    pub message DescribeAclsResponse: DescribeAcls [1-3], flexible [2+] {
        /// How long the client should hold back, in milliseconds.
        throttle_time_ms: i32 [0+],
        /// What went wrong, or `NONE`.
        error_code: ErrorCode [0+],
        /// Words about the error, or null.
        error_message: Option<ByteString> [0+] null [0+] = Some(ByteString::new()),
        /// The resources.
        resources: Vec<DescribeAclsResource> [0+],
    }

    /// The rules of one resource.
    pub struct DescribeAclsResource {
        /// Its type.
        resource_type: i8 [0+],
        /// Its name.
        resource_name: ByteString [0+],
        /// How its name matches.
        pattern_type: i8 [1+] = 3,
        /// Its rules.
        acls: Vec<AclDescription> [0+],
    }

    /// One rule.
    pub struct AclDescription {
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

impl Request for DescribeAclsRequest {
    type Response = DescribeAclsResponse;
}

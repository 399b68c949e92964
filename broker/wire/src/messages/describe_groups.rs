//! DescribeGroups: states and members of groups.

use bytes::Bytes;
use bytestring::ByteString;

use crate::error::ErrorCode;
use crate::message::{Request, messages};

messages! {
    /// Asks for what there is to know of groups.
    pub message DescribeGroupsRequest: DescribeGroups [0-6], flexible [5+] {
        /// The groups.
        groups: Vec<ByteString> [0+],
        /// Whether to say what the client may do with the groups.
        include_authorized_operations: bool [3+],
    }

    /// The groups.
    pub message DescribeGroupsResponse: DescribeGroups [0-6], flexible [5+] {
        /// How long the client should hold back, in milliseconds.
        throttle_time_ms: i32 [1+],
        /// The groups.
        groups: Vec<DescribedGroup> [0+],
    }

    /// One group.
    pub struct DescribedGroup {
        /// What went wrong, or `NONE`.
        error_code: ErrorCode [0+],
        /// Words about the error, or null.
        error_message: Option<ByteString> [6+] null [6+],
        /// The group.
        group_id: ByteString [0+],
        /// The group's state.
        group_state: ByteString [0+],
        /// What kind of group it is, such as `consumer`.
        protocol_type: ByteString [0+],
        /// The protocol chosen, or nothing.
        protocol_data: ByteString [0+],
        /// The members.
        members: Vec<DescribedGroupMember> [0+],
        /// What the client may do with the group, as bits; the default for not asked.
        authorized_operations: i32 [3+] = i32::MIN,
    }

    /// One member.
    pub struct DescribedGroupMember {
        /// The member, as the coordinator named it.
        member_id: ByteString [0+],
        /// The name of a static member, or null.
        group_instance_id: Option<ByteString> [4+] null [4+],
        /// What the client calls itself.
        client_id: ByteString [0+],
        /// Where the client connects from.
        client_host: ByteString [0+],
        /// What the member says about itself under the protocol chosen; opaque to the broker.
        member_metadata: Bytes [0+],
        /// What the member was assigned; opaque to the broker.
        member_assignment: Bytes [0+],
    }
}

impl Request for DescribeGroupsRequest {
    type Response = DescribeGroupsResponse;
}

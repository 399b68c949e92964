//! ListGroups: all groups, of this one broker.

use super::Context;
use crate::group::Listed;
use ringlog_wire::ByteString;
use ringlog_wire::list_groups::{ListGroupsRequest, ListGroupsResponse, ListedGroup};
use std::rc::Rc;

/// Groups whose members speak the classic protocol.
const CLASSIC: &str = "classic";
/// Share groups.
const SHARE: &str = "share";

pub(super) async fn handle(context: Rc<Context>, request: ListGroupsRequest) -> ListGroupsResponse {
    let groups = match context.broker.list_groups().await {
        Ok(groups) => groups,
        Err(error_code) => return ListGroupsResponse { error_code, ..Default::default() },
    };
    let wanted = |filter: &[ByteString], word: &str| {
        filter.is_empty() || filter.iter().any(|named| named.trim().eq_ignore_ascii_case(word))
    };
    let kind = |group: &Listed| if group.is_share { SHARE } else { CLASSIC };
    let listed = groups.into_iter().filter(|group| {
        wanted(&request.types_filter, kind(group)) && wanted(&request.states_filter, group.state)
    });
    let row = |group: Listed| ListedGroup {
        group_type: ByteString::from_static(kind(&group)),
        group_id: group.id.into(),
        protocol_type: group.protocol_type.unwrap_or_default().into(),
        group_state: ByteString::from_static(group.state),
    };
    ListGroupsResponse { groups: listed.map(row).collect(), ..Default::default() }
}

//! DeleteGroups: groups without members, with all their offsets.

use super::Context;
use crate::group::{GroupAnswer, GroupRequest};
use ringlog_wire::ErrorCode;
use ringlog_wire::delete_groups::{DeletableGroupResult, DeleteGroupsRequest, DeleteGroupsResponse};
use std::rc::Rc;

pub(super) async fn handle(context: Rc<Context>, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    let asked: Vec<_> = request
        .groups_names
        .iter()
        .map(|group| context.broker.ask_group(group, GroupRequest::Delete))
        .collect();
    let mut results = Vec::with_capacity(asked.len());
    for (group_id, answer) in request.groups_names.into_iter().zip(asked) {
        let error_code = match answer.await {
            GroupAnswer::Done => ErrorCode::None,
            GroupAnswer::Refused(code) => code,
            other => unreachable!("a deletion is answered with {other:?}"),
        };
        results.push(DeletableGroupResult { group_id, error_code });
    }
    DeleteGroupsResponse { results, ..Default::default() }
}

//! DeleteGroups: groups without members, with all their offsets.

use super::Context;
use super::delete_share_group_offsets::forget;
use crate::broker::Broker;
use crate::group::{GroupAnswer, GroupRequest, ShareRequest};
use ringlog_wire::ErrorCode;
use ringlog_wire::delete_groups::{DeletableGroupResult, DeleteGroupsRequest, DeleteGroupsResponse};
use std::rc::Rc;

pub(super) async fn handle(context: Rc<Context>, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    let asked: Vec<_> =
        request.groups_names.iter().map(|group| delete(context.broker.clone(), group.to_string())).collect();
    let mut results = Vec::with_capacity(asked.len());
    for (group_id, deleted) in request.groups_names.into_iter().zip(asked) {
        let error_code = deleted.await.err().unwrap_or(ErrorCode::None);
        results.push(DeletableGroupResult { group_id, error_code });
    }
    DeleteGroupsResponse { results, ..Default::default() }
}

async fn delete(broker: Broker, group: String) -> Result<(), ErrorCode> {
    // What a share group has made of records goes first: a group of that name that comes later begins anew.
    match broker.ask_group(&group, GroupRequest::Share(ShareRequest::Topics)).await {
        GroupAnswer::ShareTopics(Some(known)) if known.has_members => return Err(ErrorCode::NonEmptyGroup),
        GroupAnswer::ShareTopics(Some(known)) => forget(&broker, &group, &known.topics).await?,
        GroupAnswer::ShareTopics(None) => {}
        GroupAnswer::Refused(code) => return Err(code),
        other => unreachable!("topics are answered with {other:?}"),
    }
    match broker.ask_group(&group, GroupRequest::Delete).await {
        GroupAnswer::Done => Ok(()),
        GroupAnswer::Refused(code) => Err(code),
        other => unreachable!("a deletion is answered with {other:?}"),
    }
}

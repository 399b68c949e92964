//! ListPartitionReassignments. There is one broker: no partition is ever being moved.

use super::Context;
use ringlog_wire::list_partition_reassignments::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse,
};
use std::rc::Rc;

pub(super) async fn handle(
    _: Rc<Context>,
    _: ListPartitionReassignmentsRequest,
) -> ListPartitionReassignmentsResponse {
    ListPartitionReassignmentsResponse { error_message: None, ..Default::default() }
}

//! InitProducerId: ids for idempotent producers.

use super::Context;
use ringlog_wire::ErrorCode;
use ringlog_wire::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use std::rc::Rc;

pub(super) async fn handle(context: Rc<Context>, request: InitProducerIdRequest) -> InitProducerIdResponse {
    let refuse = |error_code| InitProducerIdResponse { error_code, producer_epoch: -1, ..Default::default() };
    match request.transactional_id {
        // There are no transactions: an error that no client takes for a passing one.
        Some(id) if !id.is_empty() => return refuse(ErrorCode::TransactionalIdAuthorizationFailed),
        Some(_) => return refuse(ErrorCode::InvalidRequest),
        None if (request.producer_id == -1) != (request.producer_epoch == -1) => {
            return refuse(ErrorCode::InvalidRequest);
        }
        None => {}
    }
    match context.broker.new_producer_id().await {
        Ok(producer_id) => InitProducerIdResponse { producer_id, producer_epoch: 0, ..Default::default() },
        Err(error_code) => refuse(error_code),
    }
}

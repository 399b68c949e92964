//! ConsumerGroupHeartbeat: groups speak the classic protocol alone, and who asks for the newer one (KIP-848) is told so.
//!
//! It is listed all the same, as by Apache Kafka where that protocol is switched off: librdkafka takes a broker without it for a
//! coordinator that is away, looks for another one for ever, and its user reads nothing and hears nothing.

use super::Context;
use ringlog_wire::consumer_group_heartbeat::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};
use ringlog_wire::{ByteString, ErrorCode};
use std::rc::Rc;

pub(super) async fn handle(
    _: Rc<Context>,
    _: ConsumerGroupHeartbeatRequest,
) -> ConsumerGroupHeartbeatResponse {
    ConsumerGroupHeartbeatResponse {
        error_code: ErrorCode::UnsupportedVersion,
        error_message: Some(ByteString::from_static("Groups of the classic protocol alone are served.")),
        ..Default::default()
    }
}

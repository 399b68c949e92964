//! InitProducerId: ids for idempotent and transactional producers.

use bytestring::ByteString;

use crate::error::ErrorCode;
use crate::message::{Request, messages};

messages! {
    /// Asks for a producer id, for idempotent or transactional producing. Version 6 is not stable in Kafka 4.3.
    pub message InitProducerIdRequest: InitProducerId [0-6], flexible [2+] {
        /// The transactional id; null for a producer without transactions.
        transactional_id: Option<ByteString> [0+] null [0+] = Some(ByteString::new()),
        /// How long a transaction may stay open, in milliseconds.
        transaction_timeout_ms: i32 [0+],
        /// The id in use until now; -1 for none.
        producer_id: i64 [3+] = -1,
        /// The epoch in use until now; -1 for none.
        producer_epoch: i16 [3+] = -1,
        /// Whether the client commits in two phases.
        enable_2pc: bool [6+],
        /// Whether to keep a prepared transaction.
        keep_prepared_txn: bool [6+],
    }

    /// The producer id and epoch to use.
    pub message InitProducerIdResponse: InitProducerId [0-6], flexible [2+] {
        /// How long the client should hold back, in milliseconds.
        throttle_time_ms: i32 [0+],
        /// What went wrong, or `NONE`.
        error_code: ErrorCode [0+],
        /// The producer id.
        producer_id: i64 [0+] = -1,
        /// The producer epoch.
        producer_epoch: i16 [0+],
        /// The prepared transaction's producer id; -1 for none.
        ongoing_txn_producer_id: i64 [6+] = -1,
        /// The prepared transaction's producer epoch; -1 for none.
        ongoing_txn_producer_epoch: i16 [6+] = -1,
    }
}

impl Request for InitProducerIdRequest {
    type Response = InitProducerIdResponse;
}

//! DeleteRecords: a partition's first records are deleted.

use super::{Partition, ReadRefusal};
use crate::config::CleanupPolicy;
use ringlog_engine::log::TruncateError;
use ringlog_wire::ErrorCode;

impl Partition {
    /// Deletes the records before this offset, `None` for the high watermark. Durable when it returns; gives the first offset there is.
    pub async fn delete_records(&self, before: Option<i64>) -> Result<i64, ReadRefusal> {
        self.check_epoch(None)?;
        let CleanupPolicy { delete, compact } = self.config().cleanup;
        if compact && !delete {
            return Err(ErrorCode::PolicyViolation);
        }
        let high_watermark = self.high_watermark();
        let before = before.unwrap_or(high_watermark);
        if !(0..=high_watermark).contains(&before) {
            return Err(ErrorCode::OffsetOutOfRange);
        }
        self.log().delete_before(before).await.map_err(|error| match error {
            TruncateError::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
            TruncateError::Failed(_) | TruncateError::NoSpace | TruncateError::Read(_) => self.lost(),
        })
    }
}

//! The small files' formats, for `crate::fuzz`: what holds for any bytes.

use super::checkpoint::Checkpoint;
use super::epochs::Epochs;
use super::journal::Left;
use super::offset_index::OffsetIndex;
use super::producers::Producers;
use super::time_index::TimeIndex;
use super::{Offset, transactions};
use crate::batch::Header;
use bytes::Bytes;
use std::path::Path;

pub(crate) fn offset_index(base: Offset, bytes: &[u8]) {
    let Some(index) = OffsetIndex::decode(base, bytes) else { return };
    assert_eq!(index.encode(), bytes);
    let mut last = 0;
    for step in 0..=64 {
        let pos = index.lookup(base + (i64::from(u32::MAX) / 64) * step);
        assert!(pos >= last, "look-ups go forward");
        last = pos;
        assert!(u64::from(index.start_before(u64::from(pos))) <= u64::from(pos));
    }
    assert!(last <= index.start_before(u64::MAX));
}

pub(crate) fn time_index(base: Offset, bytes: &[u8]) {
    let Some(index) = TimeIndex::decode(base, bytes) else { return };
    assert_eq!(index.encode(), bytes);
    let mut last = base;
    for timestamp in [i64::MIN, -1, 0, 1, 1 << 40, i64::MAX] {
        let offset = index.entry_before(timestamp).map_or(base, |(_, offset)| offset);
        assert!(offset >= last, "look-ups go forward");
        last = offset;
    }
    assert!(index.last().is_none_or(|(_, offset)| last <= offset));
}

pub(crate) fn checkpoint(bytes: &[u8]) {
    let Some(checkpoint) = Checkpoint::decode(bytes) else { return };
    assert_eq!(Checkpoint::decode(&checkpoint.encode()), Some(checkpoint));
}

pub(crate) fn journal(bytes: &[u8]) {
    let mut left = Left::default();
    left.add(Path::new("journal"), &Bytes::copy_from_slice(bytes));
    let kept: usize =
        left.logs().flat_map(|log| left.of(log).batches()).map(|(batches, _)| batches.len()).sum();
    assert!(kept <= bytes.len(), "what is left of logs lies in the journal");
}

pub(crate) fn producers(bytes: &[u8], batch: Option<Header>) {
    let Some(mut producers) = Producers::decode(bytes, 0) else { return };
    let again = Producers::decode(&producers.checkpoint(), 0);
    assert_eq!(again.as_ref(), Some(&producers), "a checkpoint keeps all of it");
    assert!(Producers::decode(&producers.snapshot(), 0).is_some());
    if let Some(batch) = batch.filter(Header::has_producer_id)
        && producers.check(&batch).is_ok()
    {
        producers.apply(&batch, 0);
    }
}

pub(crate) fn epochs(epoch: i32, offset: Offset, text: &str) {
    let Some(mut epochs) = Epochs::decode(text) else { return };
    assert_eq!(Epochs::decode(&epochs.encode()).as_ref(), Some(&epochs));
    if let Some(end) = epochs.end_offset_for(epoch, offset) {
        assert!(end.epoch <= epoch);
    }
    let _ = epochs.at(offset);
    epochs.assign(epoch, offset);
    epochs.truncate_from_start(offset / 2);
    epochs.truncate_from_end(offset);
    assert_eq!(Epochs::decode(&epochs.encode()), Some(epochs));
}

pub(crate) fn transaction_index(bytes: &[u8]) {
    let Some(entries) = transactions::decode(bytes) else { return };
    assert_eq!(transactions::encode(&entries), bytes);
}

//! The records in `__share_group_state`, in Apache Kafka's formats.
//!
//! ```text
//!   key    0 snapshot, 1 update: 2 bytes, then group, topic id, partition
//!   value  version 0: 2 bytes, then    snapshot   snapshot epoch, state epoch, leader epoch, start, created, written, batches, tag 0
//!                                      update     snapshot epoch, leader epoch, start, batches, tag 0
//!   batch  first, last, state (0 available, 2 acknowledged, 4 archived), delivery count
//!   tag 0  records from the start on that are done with
//! ```
//!
//! A snapshot's key without a value says that the share partition is gone.

use super::compact::{Fields, put_key_string, put_length, put_no_tags, put_uvarint};
use super::state::{Delivery, StateBatch, StateKey, Stored, Update};
use crate::group::record::Malformed;
use bytes::{BufMut, Bytes};

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateRecord {
    /// All that is kept of a share partition.
    Snapshot {
        /// Which.
        key: StateKey,
        /// What is kept; `None` when it is gone.
        value: Option<Stored>,
    },
    /// What has changed since its snapshot.
    Update {
        /// Which.
        key: StateKey,
        /// What has changed.
        value: Update,
    },
}

const SNAPSHOT: i16 = 0;
const UPDATE: i16 = 1;
const COMPLETE_COUNT: u32 = 0;

impl StateRecord {
    /// Its key.
    pub fn key(&self) -> Vec<u8> {
        let (kind, key) = match self {
            Self::Snapshot { key, .. } => (SNAPSHOT, key),
            Self::Update { key, .. } => (UPDATE, key),
        };
        let mut out = Vec::new();
        out.put_i16(kind);
        put_key_string(&mut out, &key.group);
        out.put_slice(&key.topic);
        out.put_i32(key.partition);
        out
    }

    /// Its value.
    pub fn value(&self) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        out.put_i16(0);
        match self {
            Self::Snapshot { value: None, .. } => return None,
            Self::Snapshot { value: Some(stored), .. } => {
                out.put_i32(stored.snapshot_epoch);
                out.put_i32(stored.state_epoch);
                out.put_i32(stored.leader_epoch);
                out.put_i64(stored.start);
                out.put_i64(stored.created_ms);
                out.put_i64(stored.written_ms);
                put_batches(&mut out, &stored.batches);
                put_complete_count(&mut out, stored.complete_count());
            }
            Self::Update { value, .. } => {
                out.put_i32(value.snapshot_epoch);
                out.put_i32(value.leader_epoch);
                out.put_i64(value.start);
                put_batches(&mut out, &value.batches);
                put_complete_count(&mut out, value.complete_count);
            }
        }
        Some(out)
    }

    /// Reads one. `None` for kinds that are not known.
    pub fn read(key: &Bytes, value: Option<&Bytes>) -> Result<Option<Self>, Malformed> {
        let (kind, mut fields) = Fields::versioned(key)?;
        if !matches!(kind, SNAPSHOT | UPDATE) {
            return if kind < 0 { Err(Malformed) } else { Ok(None) };
        }
        let key = StateKey { group: fields.key_string()?, topic: fields.uuid()?, partition: fields.int()? };
        match (kind, value) {
            (SNAPSHOT, value) => {
                Ok(Some(Self::Snapshot { key, value: value.map(read_snapshot).transpose()? }))
            }
            (_, Some(value)) => Ok(Some(Self::Update { key, value: read_update(value)? })),
            (_, None) => Ok(None),
        }
    }
}

fn put_batches(out: &mut Vec<u8>, batches: &[StateBatch]) {
    put_length(out, batches.len());
    for batch in batches {
        out.put_i64(batch.first);
        out.put_i64(batch.last);
        out.put_i8(batch.delivery.code());
        out.put_i16(batch.deliveries);
        put_no_tags(out);
    }
}

fn put_complete_count(out: &mut Vec<u8>, count: i32) {
    put_uvarint(out, 1);
    put_uvarint(out, COMPLETE_COUNT);
    put_uvarint(out, 4);
    out.put_i32(count);
}

fn read_batches(fields: &mut Fields) -> Result<Vec<StateBatch>, Malformed> {
    fields.array(|fields| {
        let (first, last) = (fields.long()?, fields.long()?);
        let delivery = Delivery::from_code(fields.byte()?).ok_or(Malformed)?;
        let deliveries = fields.short()?;
        fields.no_tags()?;
        if first > last || first < 0 {
            return Err(Malformed);
        }
        Ok(StateBatch { first, last, delivery, deliveries })
    })
}

fn read_snapshot(value: &Bytes) -> Result<Stored, Malformed> {
    let mut fields = Fields::of_value(value)?;
    let stored = Stored {
        snapshot_epoch: fields.int()?,
        state_epoch: fields.int()?,
        leader_epoch: fields.int()?,
        start: fields.long()?,
        created_ms: fields.long()?,
        written_ms: fields.long()?,
        batches: read_batches(&mut fields)?,
    };
    fields.no_tags()?;
    Ok(stored)
}

fn read_update(value: &Bytes) -> Result<Update, Malformed> {
    let mut fields = Fields::of_value(value)?;
    let mut update = Update {
        snapshot_epoch: fields.int()?,
        leader_epoch: fields.int()?,
        start: fields.long()?,
        complete_count: -1,
        batches: read_batches(&mut fields)?,
    };
    fields.tagged(|tag, field| {
        if tag == COMPLETE_COUNT {
            update.complete_count = field.int()?;
        }
        Ok(())
    })?;
    Ok(update)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key() -> StateKey {
        StateKey { group: "g".into(), topic: [7; 16], partition: 3 }
    }

    fn batch() -> StateBatch {
        StateBatch { first: 5, last: 9, delivery: Delivery::Acknowledged, deliveries: 2 }
    }

    #[test]
    fn bytes_are_kafkas() {
        let stored = Stored {
            snapshot_epoch: 1,
            state_epoch: 2,
            leader_epoch: 3,
            start: 5,
            created_ms: 6,
            written_ms: 7,
            batches: vec![batch()],
        };
        let snapshot = StateRecord::Snapshot { key: key(), value: Some(stored) };
        assert_eq!(snapshot.key(), [&b"\0\0\0\x01g"[..], &[7; 16], b"\0\0\0\x03"].concat());
        let batch_bytes = b"\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x09\x02\0\x02\0";
        let head =
            b"\0\0\0\0\0\x01\0\0\0\x02\0\0\0\x03\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x06\0\0\0\0\0\0\0\x07\x02";
        let tag = b"\x01\0\x04\0\0\0\x05";
        assert_eq!(snapshot.value(), Some([&head[..], batch_bytes, tag].concat()));
        let update = Update {
            snapshot_epoch: 1,
            leader_epoch: 3,
            start: -1,
            complete_count: 5,
            batches: vec![batch()],
        };
        let update = StateRecord::Update { key: key(), value: update };
        let head = b"\0\0\0\0\0\x01\0\0\0\x03\xff\xff\xff\xff\xff\xff\xff\xff\x02";
        assert_eq!(update.value(), Some([&head[..], batch_bytes, tag].concat()));
        for record in [snapshot, update, StateRecord::Snapshot { key: key(), value: None }] {
            let read = StateRecord::read(&record.key().into(), record.value().map(Bytes::from).as_ref());
            assert_eq!(read, Ok(Some(record)));
        }
    }

    proptest! {
        #[test]
        fn hostile_bytes_are_refused_without_a_panic(
            changes in prop::collection::vec((0_usize..80, any::<u8>()), 0..8),
            cut in 0_usize..80,
            bytes in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            let stored = Stored { start: 5, batches: vec![batch()], ..Stored::default() };
            let record = StateRecord::Snapshot { key: key(), value: Some(stored) };
            let mut value = record.value().expect("has one");
            for (at, to) in changes {
                if let Some(byte) = value.get_mut(at) {
                    *byte = to;
                }
            }
            value.truncate(value.len() - cut.min(value.len()));
            let _ = StateRecord::read(&record.key().into(), Some(&value.into()));
            let bytes = Bytes::from(bytes);
            let _ = StateRecord::read(&bytes, Some(&bytes));
        }
    }
}

//! Records of Kafka's metadata log (KRaft): those that say which topics there are. For moving a directory from and to Apache Kafka.
//!
//! ```text
//!   a record's value:  frame version uvarint = 1 | key uvarint | version uvarint | fields
//! ```

use bytes::Bytes;

use bytestring::ByteString;

use crate::message::messages;
use crate::reader::{DecodeError, DecodeErrorKind, Reader};
use crate::records::Part;
use crate::schema::MessageSchema;
use crate::uuid::Uuid;
use crate::writer::{EncodeError, Writer};

/// A record of the metadata log.
pub trait MetadataRecord: Sized {
    /// Its number among the records.
    const KEY: i16;
    /// What it looks like, as data.
    const SCHEMA: &'static MessageSchema;

    #[doc(hidden)]
    fn read_fields(reader: &mut Reader<'_>) -> Result<Self, DecodeError>;

    #[doc(hidden)]
    fn write_fields(&self, writer: &mut Writer) -> Result<(), EncodeError>;

    /// Reads it, from behind the head.
    fn decode(reader: &mut Reader<'_>, head: RecordHead) -> Result<Self, DecodeError> {
        let version = head.version;
        if !Self::SCHEMA.versions.contains(version) {
            reader.field = Self::SCHEMA.body.name;
            return Err(reader.fail(DecodeErrorKind::UnsupportedVersion { version }));
        }
        reader.version = version;
        reader.flexible = Self::SCHEMA.flexible.contains(version);
        Self::read_fields(reader)
    }

    /// The record's value in this version, head included.
    fn encode(&self, version: i16) -> Result<Bytes, EncodeError> {
        if !Self::SCHEMA.versions.contains(version) {
            return Err(EncodeError::UnsupportedVersion { message: Self::SCHEMA.body.name, version });
        }
        let mut writer = Writer::new();
        writer.put_uvarint(FRAME_VERSION);
        writer.put_uvarint(u32::from(Self::KEY.cast_unsigned()));
        writer.put_uvarint(u32::from(version.cast_unsigned()));
        writer.version = version;
        writer.flexible = Self::SCHEMA.flexible.contains(version);
        self.write_fields(&mut writer)?;
        let parts = writer.finish()?;
        let [Part::Bytes(framed)] = &parts[..] else { unreachable!("only records make more parts than one") };
        // A record has no length prefix: its batch knows its length.
        Ok(framed.slice(crate::frame::PREFIX_LEN..))
    }
}

/// What a record says of itself before its fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordHead {
    /// Which record it is.
    pub key: i16,
    /// The version of its fields.
    pub version: i16,
}

impl RecordHead {
    /// Reads the head of a record's value.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.field = "head of a metadata record";
        let frame = short(reader)?;
        if u32::from(frame.cast_unsigned()) != FRAME_VERSION {
            return Err(reader.fail(DecodeErrorKind::UnsupportedVersion { version: frame }));
        }
        Ok(Self { key: short(reader)?, version: short(reader)? })
    }
}

fn short(reader: &mut Reader<'_>) -> Result<i16, DecodeError> {
    let number = reader.uvarint()?;
    i16::try_from(number).map_err(|_| reader.fail(DecodeErrorKind::VarintTooLong))
}

const FRAME_VERSION: u32 = 1;

/// The key of `BeginTransactionRecord`: what follows counts once the transaction has ended.
pub const BEGIN_TRANSACTION: i16 = 23;
/// The key of `EndTransactionRecord`: what came since the transaction's begin counts.
pub const END_TRANSACTION: i16 = 24;
/// The key of `AbortTransactionRecord`: what came since the transaction's begin does not count.
pub const ABORT_TRANSACTION: i16 = 25;

messages! {
    /// A topic was created.
    pub record TopicRecord = 2 [0-0], flexible [0+] {
        /// Its name.
        name: ByteString [0+],
        /// Its id.
        topic_id: Uuid [0+],
    }

    /// A partition was created.
    pub record PartitionRecord = 3 [0-2], flexible [0+] {
        /// Its index.
        partition_id: i32 [0+] = -1,
        /// Its topic.
        topic_id: Uuid [0+],
        /// The brokers that hold it, the preferred one first.
        replicas: Vec<i32> [0+],
        /// Those of them that are in sync.
        isr: Vec<i32> [0+],
        /// Those that are being taken away.
        removing_replicas: Vec<i32> [0+],
        /// Those that are being added.
        adding_replicas: Vec<i32> [0+],
        /// Who leads; -1 for nobody.
        leader: i32 [0+] = -1,
        /// 1 while it recovers from an unclean election.
        leader_recovery_state: i8 [0+] tag 0,
        /// The epoch of its leader.
        leader_epoch: i32 [0+] = -1,
        /// Grows with every change of the partition.
        partition_epoch: i32 [0+] = -1,
        /// The log directory of each replica.
        directories: Vec<Uuid> [1+],
        /// Who may be elected though not in sync.
        eligible_leader_replicas: Option<Vec<i32>> [2+] null [2+] tag 1 = None,
        /// Who could be elected last.
        last_known_elr: Option<Vec<i32>> [2+] null [2+] tag 2 = None,
    }

    /// A config was set or, without a value, reset.
    pub record ConfigRecord = 4 [0-0], flexible [0+] {
        /// What it is the config of: 2 a topic, 4 a broker.
        resource_type: i8 [0+],
        /// Which of those.
        resource_name: ByteString [0+],
        /// The config's name.
        name: ByteString [0+],
        /// Its value.
        value: Option<ByteString> [0+] null [0+] = Some(ByteString::new()),
    }

    /// A partition changed: fields at their default did not.
    pub record PartitionChangeRecord = 5 [0-2], flexible [0+] {
        /// Its index.
        partition_id: i32 [0+] = -1,
        /// Its topic.
        topic_id: Uuid [0+],
        /// The brokers in sync.
        isr: Option<Vec<i32>> [0+] null [0+] tag 0 = None,
        /// Who leads; -1 for nobody, -2: as before.
        leader: i32 [0+] tag 1 = -2,
        /// The brokers that hold it.
        replicas: Option<Vec<i32>> [0+] null [0+] tag 2 = None,
        /// Those that are being taken away.
        removing_replicas: Option<Vec<i32>> [0+] null [0+] tag 3 = None,
        /// Those that are being added.
        adding_replicas: Option<Vec<i32>> [0+] null [0+] tag 4 = None,
        /// 1 while it recovers from an unclean election; -1: as before.
        leader_recovery_state: i8 [0+] tag 5 = -1,
        /// The log directory of each replica.
        directories: Option<Vec<Uuid>> [1+] null [1+] tag 8 = None,
        /// Who may be elected though not in sync.
        eligible_leader_replicas: Option<Vec<i32>> [2+] null [2+] tag 6 = None,
        /// Who could be elected last.
        last_known_elr: Option<Vec<i32>> [2+] null [2+] tag 7 = None,
    }

    /// A topic was deleted, with its partitions.
    pub record RemoveTopicRecord = 9 [0-0], flexible [0+] {
        /// The topic.
        topic_id: Uuid [0+],
    }

    /// A feature is at this level from here on.
    pub record FeatureLevelRecord = 12 [0-0], flexible [0+] {
        /// The feature, like `metadata.version`.
        name: ByteString [0+],
        /// Its level.
        feature_level: i16 [0+],
    }

    /// A block of producer ids was given out.
    pub record ProducerIdsRecord = 15 [0-0], flexible [0+] {
        /// To this broker.
        broker_id: i32 [0+],
        /// In this epoch of it.
        broker_epoch: i64 [0+] = -1,
        /// The first id of the next block.
        next_producer_id: i64 [0+],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_written_as_kafka_writes_it() {
        let record = TopicRecord { name: "ab".into(), topic_id: Uuid([7; 16]) };
        let value = record.encode(0).expect("version 0 exists");
        assert_eq!(&value[..], [&[1, 2, 0, 3, b'a', b'b'][..], &[7; 16], &[0]].concat());
        let mut reader = Reader::new(&value);
        let head = RecordHead::read(&mut reader).expect("a head");
        assert_eq!(head, RecordHead { key: TopicRecord::KEY, version: 0 });
        assert_eq!(TopicRecord::decode(&mut reader, head), Ok(record));
        assert_eq!(reader.remaining(), 0);
    }

    #[test]
    fn other_frames_and_versions_are_refused() {
        for value in [&[0_u8, 2, 0][..], &[2, 2, 0], &[1, 0xff, 0xff, 3, 0], &[1], &[]] {
            let value = Bytes::copy_from_slice(value);
            assert!(RecordHead::read(&mut Reader::new(&value)).is_err(), "{value:?}");
        }
        let head = RecordHead { key: TopicRecord::KEY, version: 1 };
        assert!(TopicRecord::decode(&mut Reader::new(&Bytes::new()), head).is_err());
        assert!(TopicRecord::default().encode(1).is_err());
    }
}

//! What a share group keeps in `__consumer_offsets`, in Apache Kafka's formats.
//!
//! ```text
//!   key  10 member       group, member     rack, client id, client host, topics
//!        11 group        group             epoch, hash of its topics
//!        12 target       group             epoch of the assignment, when it was made
//!        13 target of    group, member     partitions by topic
//!        14 current of   group, member     epoch, former epoch, state, partitions by topic
//!        15 state        group             topics whose state is kept
//! ```

use super::compact::{Fields, put_key_string, put_length, put_no_tags, put_string, put_uvarint};
use crate::group::record::Malformed;
use bytes::{BufMut, Bytes};
use std::collections::{BTreeMap, BTreeSet};

/// Partitions, by the ids of their topics.
pub type Partitions = BTreeMap<[u8; 16], BTreeSet<i32>>;

/// Topics of which a group keeps state: names and partitions, by id.
pub type KeptTopics = BTreeMap<[u8; 16], (String, BTreeSet<i32>)>;

/// One record of a share group; without a value it says that there is none any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareRecord {
    /// The group.
    pub group: String,
    /// What of it.
    pub kept: ShareKept,
}

/// What of a group is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShareKept {
    /// A member, as it describes itself.
    Member(String, Option<StoredMember>),
    /// The group's epoch, and a hash of the topics it is subscribed to.
    Group(Option<(i32, i64)>),
    /// The epoch of the assignment, and when it was made.
    Target(Option<(i32, i64)>),
    /// What a member is to have.
    TargetOf(String, Option<Partitions>),
    /// What a member has.
    CurrentOf(String, Option<Current>),
    /// Topics of which share partitions are kept: names and partitions by ids.
    Topics(Option<KeptTopics>),
}

/// A member, as it describes itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoredMember {
    /// Its rack.
    pub rack: Option<String>,
    /// What the client calls itself.
    pub client_id: String,
    /// Where it connects from.
    pub client_host: String,
    /// What it subscribes to.
    pub topics: BTreeSet<String>,
}

/// What a member has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Current {
    /// Its epoch.
    pub epoch: i32,
    /// The one before, if the member was not told.
    pub former_epoch: i32,
    /// Its partitions.
    pub partitions: Partitions,
}

const MEMBER: i16 = 10;
const GROUP: i16 = 11;
const TARGET: i16 = 12;
const TARGET_OF: i16 = 13;
const CURRENT_OF: i16 = 14;
const TOPICS: i16 = 15;

/// Kinds of records that are a share group's.
pub const KINDS: std::ops::RangeInclusive<i16> = MEMBER..=TOPICS;

/// The one state of a member that has what it is to have (Kafka's `MemberState.STABLE`).
const STABLE: i8 = 0;

impl ShareRecord {
    /// Its key.
    pub fn key(&self) -> Vec<u8> {
        let (kind, member) = match &self.kept {
            ShareKept::Member(member, _) => (MEMBER, Some(member)),
            ShareKept::Group(_) => (GROUP, None),
            ShareKept::Target(_) => (TARGET, None),
            ShareKept::TargetOf(member, _) => (TARGET_OF, Some(member)),
            ShareKept::CurrentOf(member, _) => (CURRENT_OF, Some(member)),
            ShareKept::Topics(_) => (TOPICS, None),
        };
        let mut out = Vec::new();
        out.put_i16(kind);
        put_key_string(&mut out, &self.group);
        if let Some(member) = member {
            put_key_string(&mut out, member);
        }
        out
    }

    /// Its value.
    pub fn value(&self) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        out.put_i16(0);
        match &self.kept {
            ShareKept::Member(_, member) => {
                let member = member.as_ref()?;
                match &member.rack {
                    Some(rack) => put_string(&mut out, rack),
                    None => put_uvarint(&mut out, 0),
                }
                put_string(&mut out, &member.client_id);
                put_string(&mut out, &member.client_host);
                put_length(&mut out, member.topics.len());
                member.topics.iter().for_each(|topic| put_string(&mut out, topic));
            }
            ShareKept::Group(value) => {
                let (epoch, hash) = (*value)?;
                out.put_i32(epoch);
                out.put_i64(hash);
            }
            ShareKept::Target(value) => {
                let (epoch, at_ms) = (*value)?;
                out.put_i32(epoch);
                put_uvarint(&mut out, 1);
                put_uvarint(&mut out, 0);
                put_uvarint(&mut out, 8);
                out.put_i64(at_ms);
                return Some(out);
            }
            ShareKept::TargetOf(_, partitions) => put_partitions(&mut out, partitions.as_ref()?),
            ShareKept::CurrentOf(_, current) => {
                let current = current.as_ref()?;
                out.put_i32(current.epoch);
                out.put_i32(current.former_epoch);
                out.put_i8(STABLE);
                put_partitions(&mut out, &current.partitions);
            }
            ShareKept::Topics(topics) => {
                let topics = topics.as_ref()?;
                // Topics being set up, of which there are none: it is done when it is said.
                put_length(&mut out, 0);
                put_length(&mut out, topics.len());
                for (id, (name, partitions)) in topics {
                    out.put_slice(id);
                    put_string(&mut out, name);
                    put_length(&mut out, partitions.len());
                    partitions.iter().for_each(|index| out.put_i32(*index));
                    put_no_tags(&mut out);
                }
                // Nor are there topics being forgotten.
                put_length(&mut out, 0);
            }
        }
        put_no_tags(&mut out);
        Some(out)
    }

    /// Reads one whose key is of one of [`KINDS`].
    pub fn read(key: &Bytes, value: Option<&Bytes>) -> Result<Self, Malformed> {
        let (kind, mut key) = Fields::versioned(key)?;
        let group = key.key_string()?;
        let mut value = value.map(Fields::of_value).transpose()?;
        let value = value.as_mut();
        let kept = match kind {
            MEMBER => ShareKept::Member(key.key_string()?, value.map(read_member).transpose()?),
            GROUP => ShareKept::Group(value.map(|it| Ok((it.int()?, it.long()?))).transpose()?),
            TARGET => ShareKept::Target(value.map(read_target).transpose()?),
            TARGET_OF => ShareKept::TargetOf(key.key_string()?, value.map(read_partitions).transpose()?),
            CURRENT_OF => ShareKept::CurrentOf(key.key_string()?, value.map(read_current).transpose()?),
            TOPICS => ShareKept::Topics(value.map(read_topics).transpose()?),
            _ => return Err(Malformed),
        };
        Ok(Self { group, kept })
    }
}

fn put_partitions(out: &mut Vec<u8>, partitions: &Partitions) {
    put_length(out, partitions.len());
    for (id, indexes) in partitions {
        out.put_slice(id);
        put_length(out, indexes.len());
        indexes.iter().for_each(|index| out.put_i32(*index));
        put_no_tags(out);
    }
}

fn read_partitions(fields: &mut Fields) -> Result<Partitions, Malformed> {
    let topics = fields.array(|fields| {
        let topic = (fields.uuid()?, fields.array(Fields::int)?.into_iter().collect());
        fields.no_tags()?;
        Ok(topic)
    })?;
    Ok(topics.into_iter().collect())
}

fn read_member(fields: &mut Fields) -> Result<StoredMember, Malformed> {
    Ok(StoredMember {
        rack: fields.nullable()?,
        client_id: fields.string()?,
        client_host: fields.string()?,
        topics: fields.array(Fields::string)?.into_iter().collect(),
    })
}

fn read_target(fields: &mut Fields) -> Result<(i32, i64), Malformed> {
    let epoch = fields.int()?;
    let mut at_ms = 0;
    fields.tagged(|tag, field| {
        if tag == 0 {
            at_ms = field.long()?;
        }
        Ok(())
    })?;
    Ok((epoch, at_ms))
}

fn read_current(fields: &mut Fields) -> Result<Current, Malformed> {
    let (epoch, former_epoch) = (fields.int()?, fields.int()?);
    fields.byte()?;
    Ok(Current { epoch, former_epoch, partitions: read_partitions(fields)? })
}

fn read_topics(fields: &mut Fields) -> Result<KeptTopics, Malformed> {
    let mut topics = BTreeMap::new();
    // Those that are being set up and those that are.
    for _ in 0..2 {
        let some = fields.array(|fields| {
            let topic =
                (fields.uuid()?, (fields.string()?, fields.array(Fields::int)?.into_iter().collect()));
            fields.no_tags()?;
            Ok(topic)
        })?;
        topics.extend(some);
    }
    Ok(topics)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn records() -> Vec<ShareRecord> {
        let partitions = Partitions::from([([1; 16], BTreeSet::from([0, 2]))]);
        let member = StoredMember {
            rack: None,
            client_id: "c".into(),
            client_host: "/h".into(),
            topics: BTreeSet::from(["t".into()]),
        };
        let topics = BTreeMap::from([([1; 16], ("t".to_owned(), BTreeSet::from([0])))]);
        let current = Current { epoch: 3, former_epoch: 2, partitions: partitions.clone() };
        [
            ShareKept::Member("m".into(), Some(member)),
            ShareKept::Group(Some((3, -9))),
            ShareKept::Target(Some((3, 77))),
            ShareKept::TargetOf("m".into(), Some(partitions)),
            ShareKept::CurrentOf("m".into(), Some(current)),
            ShareKept::Topics(Some(topics)),
            ShareKept::Member("m".into(), None),
            ShareKept::Group(None),
        ]
        .map(|kept| ShareRecord { group: "g".into(), kept })
        .into()
    }

    #[test]
    fn what_is_written_reads_back() {
        for record in records() {
            let read = ShareRecord::read(&record.key().into(), record.value().map(Bytes::from).as_ref());
            assert_eq!(read, Ok(record));
        }
    }

    #[test]
    fn bytes_are_kafkas() {
        let values: Vec<_> = records().iter().map(|record| (record.key(), record.value())).collect();
        assert_eq!(values[0].0, b"\0\x0a\0\x01g\0\x01m");
        assert_eq!(values[0].1.as_deref(), Some(&b"\0\0\0\x02c\x03/h\x02\x02t\0"[..]));
        assert_eq!(values[1].0, b"\0\x0b\0\x01g");
        assert_eq!(values[1].1.as_deref(), Some(&b"\0\0\0\0\0\x03\xff\xff\xff\xff\xff\xff\xff\xf7\0"[..]));
        assert_eq!(values[2].1.as_deref(), Some(&b"\0\0\0\0\0\x03\x01\0\x08\0\0\0\0\0\0\0\x4d"[..]));
        let partitions = [&b"\x02"[..], &[1; 16], b"\x03\0\0\0\0\0\0\0\x02\0"].concat();
        assert_eq!(values[3].1, Some([b"\0\0", &partitions[..], b"\0"].concat()));
        assert_eq!(values[4].1, Some([b"\0\0\0\0\0\x03\0\0\0\x02\0", &partitions[..], b"\0"].concat()));
        let topic = [&b"\x01\x02"[..], &[1; 16], b"\x02t\x02\0\0\0\0\0\x01\0"].concat();
        assert_eq!(values[5].1, Some([b"\0\0", &topic[..]].concat()));
    }

    proptest! {
        #[test]
        fn hostile_bytes_are_refused_without_a_panic(
            which in 0_usize..6,
            changes in prop::collection::vec((0_usize..60, any::<u8>()), 0..8),
            cut in 0_usize..60,
        ) {
            let record = &records()[which];
            let mut value = record.value().expect("has one");
            for (at, to) in changes {
                if let Some(byte) = value.get_mut(at) {
                    *byte = to;
                }
            }
            value.truncate(value.len() - cut.min(value.len()));
            let _ = ShareRecord::read(&record.key().into(), Some(&value.into()));
        }
    }
}

//! The records in `__consumer_offsets`, in Apache Kafka's formats: written as Kafka 4.3 writes them, read in every version it has had.
//!
//! ```text
//!   key    version  2 bytes, then                          value   version  2 bytes, then
//!          0, 1     group, topic, partition                        0-4      offset, [epoch], metadata, commit time, [expire time]
//!          2        group                                          0-4      type, generation, protocol, leader, [since], members
//!          10 to 15 what share groups keep                        (`share/group_record.rs`)
//!          others   what newer kinds of groups keep                (not read)
//! ```
//!
//! A string is its length in two bytes and UTF-8, bytes have a length of four; version 4 has compact lengths and tagged fields
//! instead. A key without a value says that there is none any more.

use super::offsets::Committed;
use crate::share::{KINDS as SHARE_KINDS, ShareRecord};
use bytes::{Buf, BufMut, Bytes};
use std::fmt;

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupRecord {
    /// An offset that a group has committed.
    Offset {
        /// The group.
        group: String,
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The offset; `None` when it is forgotten.
        value: Option<Committed>,
    },
    /// A generation of a group.
    Group {
        /// The group.
        group: String,
        /// What is kept of it; `None` when it is deleted.
        value: Option<StoredGroup>,
    },
    /// What a share group keeps.
    Share(ShareRecord),
}

/// What is kept of a group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoredGroup {
    /// What kind of group it is; empty for none yet.
    pub protocol_type: String,
    /// Its generation.
    pub generation: i32,
    /// The protocol chosen.
    pub protocol: Option<String>,
    /// The member that makes the assignment.
    pub leader: Option<String>,
    /// Since when it is in its state, in milliseconds since the Unix epoch.
    pub since: Option<i64>,
    /// Its members.
    pub members: Vec<StoredMember>,
}

/// What is kept of a member.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoredMember {
    /// Its id.
    pub id: String,
    /// The name of a static member.
    pub instance: Option<String>,
    /// What the client calls itself.
    pub client_id: String,
    /// Where it connects from.
    pub client_host: String,
    /// How long it may take to join again, in milliseconds; `None` in the oldest records.
    pub rebalance_timeout_ms: Option<i32>,
    /// After how long without a heartbeat it is gone, in milliseconds.
    pub session_timeout_ms: i32,
    /// What it says about itself.
    pub subscription: Bytes,
    /// What it was assigned.
    pub assignment: Bytes,
}

/// Bytes that are none of Kafka's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a record is in none of Kafka's formats")
    }
}

impl std::error::Error for Malformed {}

const OFFSET_KEY: i16 = 1;
const GROUP_KEY: i16 = 2;
/// The version of values written: the last before the flexible ones, which Kafka reads but does not write.
const VALUE: i16 = 3;
/// The last version with an expire time, written only for clients that ask for one.
const EXPIRING_VALUE: i16 = 1;
const FLEXIBLE_FROM: i16 = 4;

impl GroupRecord {
    /// Its key.
    pub fn key(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Offset { group, topic, partition, .. } => {
                out.put_i16(OFFSET_KEY);
                put_string(&mut out, group);
                put_string(&mut out, topic);
                out.put_i32(*partition);
            }
            Self::Group { group, .. } => {
                out.put_i16(GROUP_KEY);
                put_string(&mut out, group);
            }
            Self::Share(record) => return record.key(),
        }
        out
    }

    /// Its value.
    pub fn value(&self) -> Option<Vec<u8>> {
        match self {
            Self::Offset { value, .. } => value.as_ref().map(offset_value),
            Self::Group { value, .. } => value.as_ref().map(group_value),
            Self::Share(record) => record.value(),
        }
    }

    /// Reads one. `None` for what newer kinds of groups keep.
    pub fn read(key: &Bytes, value: Option<&Bytes>) -> Result<Option<Self>, Malformed> {
        let whole = key;
        let mut key = Fields::versioned(key)?;
        match key.version {
            0..=OFFSET_KEY => {
                let (group, topic) = (key.string()?, key.string()?);
                let partition = key.int()?;
                let value = value.map(read_offset_value).transpose()?;
                Ok(Some(Self::Offset { group, topic, partition, value }))
            }
            GROUP_KEY => {
                let group = key.string()?;
                let value = value.map(read_group_value).transpose()?;
                Ok(Some(Self::Group { group, value }))
            }
            version if SHARE_KINDS.contains(&version) => {
                ShareRecord::read(whole, value).map(|record| Some(Self::Share(record)))
            }
            version if version > GROUP_KEY => Ok(None),
            _ => Err(Malformed),
        }
    }
}

fn offset_value(committed: &Committed) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_i16(if committed.expire_time.is_some() { EXPIRING_VALUE } else { VALUE });
    out.put_i64(committed.offset);
    if committed.expire_time.is_none() {
        out.put_i32(committed.leader_epoch.unwrap_or(-1));
    }
    put_string(&mut out, &committed.metadata);
    out.put_i64(committed.commit_time);
    if let Some(time) = committed.expire_time {
        out.put_i64(time);
    }
    out
}

fn read_offset_value(value: &Bytes) -> Result<Committed, Malformed> {
    let mut value = Fields::versioned(value)?;
    if !(0..=4).contains(&value.version) {
        return Err(Malformed);
    }
    let offset = value.long()?;
    let leader_epoch = if value.version >= 3 { value.int()? } else { -1 };
    let metadata = value.string()?;
    let commit_time = value.long()?;
    let expire_time = if value.version == EXPIRING_VALUE { value.long()? } else { -1 };
    value.tagged()?;
    Ok(Committed {
        offset,
        leader_epoch: Some(leader_epoch).filter(|epoch| *epoch >= 0),
        metadata,
        commit_time,
        expire_time: Some(expire_time).filter(|time| *time >= 0),
    })
}

fn group_value(group: &StoredGroup) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_i16(VALUE);
    put_string(&mut out, &group.protocol_type);
    out.put_i32(group.generation);
    put_nullable(&mut out, group.protocol.as_deref());
    put_nullable(&mut out, group.leader.as_deref());
    out.put_i64(group.since.unwrap_or(-1));
    out.put_i32(i32::try_from(group.members.len()).expect("members are counted in 32 bits"));
    for member in &group.members {
        put_string(&mut out, &member.id);
        put_nullable(&mut out, member.instance.as_deref());
        put_string(&mut out, &member.client_id);
        put_string(&mut out, &member.client_host);
        out.put_i32(member.rebalance_timeout_ms.unwrap_or(-1));
        out.put_i32(member.session_timeout_ms);
        put_bytes(&mut out, &member.subscription);
        put_bytes(&mut out, &member.assignment);
    }
    out
}

fn read_group_value(value: &Bytes) -> Result<StoredGroup, Malformed> {
    let mut value = Fields::versioned(value)?;
    let version = value.version;
    if !(0..=4).contains(&version) {
        return Err(Malformed);
    }
    let protocol_type = value.string()?;
    let generation = value.int()?;
    let protocol = value.nullable()?;
    let leader = value.nullable()?;
    let since = if version >= 2 { value.long()? } else { -1 };
    let count = value.count()?;
    let mut members = Vec::new();
    for _ in 0..count {
        let member = StoredMember {
            id: value.string()?,
            instance: if version >= 3 { value.nullable()? } else { None },
            client_id: value.string()?,
            client_host: value.string()?,
            rebalance_timeout_ms: if version >= 1 { Some(value.int()?).filter(|ms| *ms >= 0) } else { None },
            session_timeout_ms: value.int()?,
            subscription: value.bytes()?,
            assignment: value.bytes()?,
        };
        value.tagged()?;
        members.push(member);
    }
    value.tagged()?;
    let since = Some(since).filter(|time| *time >= 0);
    Ok(StoredGroup { protocol_type, generation, protocol, leader, since, members })
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    out.put_i16(i16::try_from(text.len()).expect("strings on the wire are this short"));
    out.put_slice(text.as_bytes());
}

fn put_nullable(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        Some(text) => put_string(out, text),
        None => out.put_i16(-1),
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.put_i32(i32::try_from(bytes.len()).expect("a request is below 2 GiB"));
    out.put_slice(bytes);
}

/// The fields of a key or a value, one after the other.
struct Fields {
    version: i16,
    flexible: bool,
    rest: Bytes,
}

impl Fields {
    fn versioned(bytes: &Bytes) -> Result<Self, Malformed> {
        let mut rest = bytes.clone();
        let version = rest.try_get_i16().map_err(|_| Malformed)?;
        // Keys have versions of their own, but none of those read is flexible.
        Ok(Self { version, flexible: version >= FLEXIBLE_FROM, rest })
    }

    fn int(&mut self) -> Result<i32, Malformed> {
        self.rest.try_get_i32().map_err(|_| Malformed)
    }

    fn long(&mut self) -> Result<i64, Malformed> {
        self.rest.try_get_i64().map_err(|_| Malformed)
    }

    fn uvarint(&mut self) -> Result<u32, Malformed> {
        let mut value = 0_u32;
        for shift in (0..32).step_by(7) {
            let byte = self.rest.try_get_u8().map_err(|_| Malformed)?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    /// What has this length; none below 0.
    fn cut(&mut self, len: i64) -> Result<Option<Bytes>, Malformed> {
        match usize::try_from(len) {
            Err(_) => Ok(None),
            Ok(len) if len <= self.rest.len() => Ok(Some(self.rest.split_to(len))),
            Ok(_) => Err(Malformed),
        }
    }

    fn nullable(&mut self) -> Result<Option<String>, Malformed> {
        let len = match self.flexible {
            true => i64::from(self.uvarint()?) - 1,
            false => i64::from(self.rest.try_get_i16().map_err(|_| Malformed)?),
        };
        let Some(bytes) = self.cut(len)? else { return Ok(None) };
        String::from_utf8(bytes.to_vec()).map(Some).map_err(|_| Malformed)
    }

    fn string(&mut self) -> Result<String, Malformed> {
        self.nullable()?.ok_or(Malformed)
    }

    fn length(&mut self) -> Result<i64, Malformed> {
        match self.flexible {
            true => Ok(i64::from(self.uvarint()?) - 1),
            false => self.int().map(i64::from),
        }
    }

    fn bytes(&mut self) -> Result<Bytes, Malformed> {
        let len = self.length()?;
        // A copy: what is kept must not hold a whole batch in memory.
        self.cut(len)?.map(|bytes| Bytes::copy_from_slice(&bytes)).ok_or(Malformed)
    }

    fn count(&mut self) -> Result<usize, Malformed> {
        usize::try_from(self.length()?).map_err(|_| Malformed)
    }

    /// Passes over the tagged fields of a flexible structure.
    fn tagged(&mut self) -> Result<(), Malformed> {
        if !self.flexible {
            return Ok(());
        }
        for _ in 0..self.uvarint()? {
            self.uvarint()?;
            let len = self.uvarint()?;
            self.cut(i64::from(len))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn committed() -> Committed {
        Committed {
            offset: 42,
            leader_epoch: Some(7),
            metadata: "m".into(),
            commit_time: 1000,
            expire_time: None,
        }
    }

    fn offset(value: Option<Committed>) -> GroupRecord {
        GroupRecord::Offset { group: "g".into(), topic: "topic".into(), partition: 3, value }
    }

    fn member(n: u8) -> StoredMember {
        StoredMember {
            id: format!("m-{n}"),
            instance: n.is_multiple_of(2).then(|| format!("i-{n}")),
            client_id: "client".into(),
            client_host: "/127.0.0.1".into(),
            rebalance_timeout_ms: Some(60_000),
            session_timeout_ms: 10_000,
            subscription: Bytes::from_static(b"sub"),
            assignment: Bytes::copy_from_slice(&[n; 5]),
        }
    }

    fn group(members: u8) -> GroupRecord {
        let value = StoredGroup {
            protocol_type: "consumer".into(),
            generation: 5,
            protocol: Some("range".into()),
            leader: Some("m-0".into()),
            since: Some(1234),
            members: (0..members).map(member).collect(),
        };
        GroupRecord::Group { group: "g".into(), value: Some(value) }
    }

    fn read_back(record: &GroupRecord) -> Result<Option<GroupRecord>, Malformed> {
        GroupRecord::read(&record.key().into(), record.value().map(Bytes::from).as_ref())
    }

    #[test]
    fn what_is_written_reads_back() {
        let expiring = Committed { expire_time: Some(9), leader_epoch: None, ..committed() };
        let none = GroupRecord::Group { group: "ä".into(), value: Some(StoredGroup::default()) };
        let deleted = GroupRecord::Group { group: "g".into(), value: None };
        for record in [
            offset(Some(committed())),
            offset(Some(expiring)),
            offset(None),
            group(0),
            group(3),
            none,
            deleted,
        ] {
            assert_eq!(read_back(&record), Ok(Some(record)));
        }
    }

    #[test]
    fn bytes_are_kafkas() {
        // As Apache Kafka 4.3.1 writes them (shown by its kafka-dump-log over our topic, and by reading a topic of its own).
        let record = offset(Some(committed()));
        assert_eq!(record.key(), b"\0\x01\0\x01g\0\x05topic\0\0\0\x03");
        assert_eq!(
            record.value().as_deref(),
            Some(&b"\0\x03\0\0\0\0\0\0\0\x2a\0\0\0\x07\0\x01m\0\0\0\0\0\0\x03\xe8"[..])
        );
        let key = b"\0\x02\0\x01g";
        assert_eq!(group(0).key(), key);
        assert_eq!(
            group(0).value().as_deref(),
            Some(&b"\0\x03\0\x08consumer\0\0\0\x05\0\x05range\0\x03m-0\0\0\0\0\0\0\x04\xd2\0\0\0\0"[..])
        );
    }

    #[test]
    fn older_and_flexible_versions_are_read() {
        let key = Bytes::from(offset(None).key());
        let check = |value: &'static [u8], leader_epoch, expire_time| {
            let value = Bytes::from_static(value);
            let expected = Committed { leader_epoch, expire_time, ..committed() };
            assert_eq!(GroupRecord::read(&key, Some(&value)), Ok(Some(offset(Some(expected)))));
        };
        check(b"\0\0\0\0\0\0\0\0\0\x2a\0\x01m\0\0\0\0\0\0\x03\xe8", None, None);
        check(b"\0\x01\0\0\0\0\0\0\0\x2a\0\x01m\0\0\0\0\0\0\x03\xe8\0\0\0\0\0\0\0\x09", None, Some(9));
        check(b"\0\x02\0\0\0\0\0\0\0\x2a\0\x01m\0\0\0\0\0\0\x03\xe8", None, None);
        check(b"\0\x04\0\0\0\0\0\0\0\x2a\0\0\0\x07\x02m\0\0\0\0\0\0\x03\xe8\0", Some(7), None);
        check(b"\0\x04\0\0\0\0\0\0\0\x2a\0\0\0\x07\x02m\0\0\0\0\0\0\x03\xe8\x01\0\x02xy", Some(7), None);

        let key = Bytes::from_static(b"\0\x02\0\x01g");
        let v0 = b"\0\0\0\x01c\0\0\0\x05\0\x01r\0\x01m\0\0\0\x01\0\x01m\0\x01k\0\x01h\0\0\0\x09\0\0\0\x01s\0\0\0\x01a";
        let v4 = b"\0\x04\x02c\0\0\0\x05\x02r\x02m\xff\xff\xff\xff\xff\xff\xff\xff\x02\x02m\0\x02k\x02h\xff\xff\xff\xff\0\0\0\x09\x02s\x02a\0\0";
        for value in [&v0[..], v4] {
            let value = Bytes::from_static(value);
            let Ok(Some(GroupRecord::Group { value: Some(group), .. })) =
                GroupRecord::read(&key, Some(&value))
            else {
                panic!("{value:?} is a group");
            };
            assert_eq!((group.protocol_type.as_str(), group.generation, group.since), ("c", 5, None));
            let member = &group.members[0];
            assert_eq!(
                (member.id.as_str(), member.session_timeout_ms, member.rebalance_timeout_ms),
                ("m", 9, None)
            );
            assert_eq!((&member.subscription[..], &member.assignment[..]), (&b"s"[..], &b"a"[..]));
        }
    }

    #[test]
    fn what_newer_kinds_of_groups_keep_is_passed_over() {
        assert_eq!(GroupRecord::read(&Bytes::from_static(b"\0\x03\0\x01g"), None), Ok(None));
        assert_eq!(GroupRecord::read(&Bytes::from_static(b"\xff\xff\0\x01g"), None), Err(Malformed));
        assert_eq!(GroupRecord::read(&Bytes::from_static(b"\0"), None), Err(Malformed));
    }

    proptest! {
        #[test]
        fn hostile_bytes_are_refused_without_a_panic(
            flexible in any::<bool>(),
            of_group in any::<bool>(),
            changes in prop::collection::vec((0_usize..120, any::<u8>()), 1..8),
            cut in 0_usize..120,
        ) {
            let record = if of_group { group(2) } else { offset(Some(committed())) };
            let mut value = record.value().expect("has one");
            if flexible {
                value[1] = 4;
            }
            for (at, to) in changes {
                if let Some(byte) = value.get_mut(at) {
                    *byte = to;
                }
            }
            value.truncate(value.len() - cut.min(value.len()));
            let value = Bytes::from(value);
            let _ = GroupRecord::read(&record.key().into(), Some(&value));
            let _ = GroupRecord::read(&value, Some(&value));
        }
    }
}

//! Metadata records: what the metadata log holds, one line of text each.
//!
//! A line is the CRC-32C of its JSON in eight hexadecimal digits, a space, the JSON, a newline. It can be
//! read with `cat`; a torn last line is recognised and cut. See `docs/FORMAT.md`.

use super::scram::{Mechanism, ScramCredential};
use ringlog_wire::Uuid;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// One durable change of the cluster's metadata. Applied in order they give the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case", deny_unknown_fields)]
pub enum Record {
    /// The first record of every metadata log.
    Cluster {
        /// Kafka's cluster id: 22 characters of base64url.
        cluster_id: String,
    },
    /// The broker started: the leader epoch of every partition grows by one.
    Started,
    /// Every partition of the records before this one has been opened, and its directory is durable: where there is none, it has gone.
    Opened,
    /// A topic was created (or, in a compacted log, exists).
    Topic {
        /// Its name.
        name: String,
        /// Its id, never reused.
        #[serde(with = "uuid_text")]
        id: Uuid,
        /// Its partitions, by index.
        partitions: Vec<PartitionRecord>,
        /// Configs set on the topic, by Kafka's names.
        configs: BTreeMap<String, String>,
    },
    /// Partitions were added to a topic.
    Partitions {
        /// The topic.
        #[serde(with = "uuid_text")]
        topic: Uuid,
        /// The new partitions; the first has the index of the topic's former count.
        added: Vec<PartitionRecord>,
    },
    /// A topic was deleted.
    RemoveTopic {
        /// The topic.
        #[serde(with = "uuid_text")]
        topic: Uuid,
    },
    /// Configs of a topic were set or, with no value, reset to the broker's defaults: all of them at once.
    TopicConfigs {
        /// The topic.
        #[serde(with = "uuid_text")]
        topic: Uuid,
        /// Values by Kafka's names.
        configs: BTreeMap<String, Option<String>>,
    },
    /// Configs of a broker, or of all, were set while they ran or, with no value, reset to what they were started with.
    BrokerConfigs {
        /// The broker's number, or `None` for all.
        broker: Option<i32>,
        /// Values by Kafka's names.
        configs: BTreeMap<String, Option<String>>,
    },
    /// Configs of a group were set or, with no value, reset.
    GroupConfigs {
        /// The group.
        group: String,
        /// Values by Kafka's names.
        configs: BTreeMap<String, Option<String>>,
    },
    /// A user's SCRAM credential was set or, without one, deleted.
    Scram {
        /// The user.
        user: String,
        /// How the password is hashed.
        mechanism: Mechanism,
        /// What is kept of it.
        credential: Option<ScramCredential>,
    },
    /// Producer ids below `next` have been handed to shards.
    ProducerIds {
        /// The lowest id nobody has.
        next: i64,
    },
}

/// One partition as a record holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartitionRecord {
    /// Its leader epoch when the record was written.
    pub leader_epoch: i32,
    /// The id of the data directory that holds it (`directory.id` in `meta.properties`).
    #[serde(with = "uuid_text")]
    pub directory: Uuid,
}

impl Record {
    /// The record's line, newline included.
    pub fn to_line(&self) -> String {
        let json = serde_json::to_string(self).expect("a record has only string keys");
        format!("{:08x} {json}\n", crc_fast::crc32_iscsi(json.as_bytes()))
    }

    /// Reads one line, without its newline.
    pub fn from_line(line: &str) -> Result<Self, RecordError> {
        let (crc, json) = line.split_once(' ').ok_or(RecordError::Shape)?;
        u32::from_str_radix(crc, 16).map_err(|_| RecordError::Shape)?;
        // As text: a digit of the other case is a flipped bit as well.
        if crc != format!("{:08x}", crc_fast::crc32_iscsi(json.as_bytes())) {
            return Err(RecordError::Checksum);
        }
        serde_json::from_str(json).map_err(|error| RecordError::Content(error.to_string()))
    }
}

/// Why a line of the metadata log cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordError {
    /// Not a checksum, a space and text.
    Shape,
    /// The checksum does not match.
    Checksum,
    /// The checksum holds, the content is not a record this version knows.
    Content(String),
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shape => write!(f, "is not a checksummed record"),
            Self::Checksum => write!(f, "does not match its checksum"),
            Self::Content(why) => write!(f, "is not a record this version knows: {why}"),
        }
    }
}

impl std::error::Error for RecordError {}

/// Ids as Kafka writes them in text: base64url without padding.
mod uuid_text {
    use ringlog_wire::Uuid;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(id: &Uuid, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&id.to_string())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Uuid, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse()
            .map_err(|_| D::Error::custom(format!("`{text}` is not an id of 22 base64url characters")))
    }
}

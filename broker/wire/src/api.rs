//! Kafka's APIs: numbers, names, versions, and from which version each is in the flexible encoding.

use std::fmt;

use crate::message::versions;
use crate::schema::VersionRange;

/// One row of the table of APIs.
#[derive(Debug, Clone, Copy)]
pub struct ApiSpec {
    /// The API.
    pub key: ApiKey,
    /// Kafka's name for it.
    pub name: &'static str,
    /// The lowest version: that Kafka 4.3.1 reads, and for a served API that this crate reads.
    pub min: i16,
    /// The highest version that Kafka 4.3.1 offers, and for a served API at most what this crate writes. Below `min` for an API that is gone.
    pub max: i16,
    /// The first version in the flexible encoding, `i16::MAX` if none is.
    pub flexible_from: i16,
    /// Whether this crate has its messages.
    pub served: bool,
}

impl ApiSpec {
    /// The versions from `min` to `max`.
    pub const fn versions(&self) -> VersionRange {
        VersionRange { min: self.min, max: self.max }
    }

    /// The lowest version to name in an ApiVersions response. That is `min`, but 0 for Produce: librdkafka takes a range without the old
    /// versions to mean that the broker cannot take compressed batches. Kafka says 0 too, and refuses 0 to 2 all the same.
    pub const fn advertised_min(&self) -> i16 {
        match self.key {
            ApiKey::Produce => 0,
            _ => self.min,
        }
    }
}

macro_rules! apis {
    ($($name:ident = $key:literal, [$($versions:tt)*], flexible [$($flexible:tt)*], $served:ident;)*) => {
        /// Every API of Apache Kafka 4.3.1, its controllers' and those that older releases had included, so that each can be named.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(i16)]
        pub enum ApiKey {
            $(
                #[doc = concat!("`", stringify!($name), "`")]
                $name = $key,
            )*
        }

        const SPECS: &[ApiSpec] = &[
            $(ApiSpec {
                key: ApiKey::$name,
                name: stringify!($name),
                min: versions!($($versions)*).min,
                max: versions!($($versions)*).max,
                flexible_from: first(versions!($($flexible)*)),
                served: apis!(@ $served),
            },)*
        ];
    };
    (@ served) => { true };
    (@ named) => { false };
}

const fn first(range: VersionRange) -> i16 {
    if range.is_empty() { i16::MAX } else { range.min }
}

// The table is in order of the keys and has no gap, so a key is its index.
apis! {
    Produce                      =  0, [3-13], flexible [9+], served;
    Fetch                        =  1, [4-18], flexible [12+], served;
    ListOffsets                  =  2, [1-11], flexible [6+], served;
    Metadata                     =  3, [0-13], flexible [9+], served;
    LeaderAndIsr                 =  4, [none], flexible [none], named;
    StopReplica                  =  5, [none], flexible [none], named;
    UpdateMetadata               =  6, [none], flexible [none], named;
    ControlledShutdown           =  7, [none], flexible [none], named;
    OffsetCommit                 =  8, [2-10], flexible [8+], served;
    OffsetFetch                  =  9, [1-10], flexible [6+], served;
    FindCoordinator              = 10, [0-6], flexible [3+], served;
    JoinGroup                    = 11, [0-9], flexible [6+], served;
    Heartbeat                    = 12, [0-4], flexible [4+], served;
    LeaveGroup                   = 13, [0-5], flexible [4+], served;
    SyncGroup                    = 14, [0-5], flexible [4+], served;
    DescribeGroups               = 15, [0-6], flexible [5+], served;
    ListGroups                   = 16, [0-5], flexible [3+], served;
    SaslHandshake                = 17, [0-1], flexible [none], named;
    ApiVersions                  = 18, [0-4], flexible [3+], served;
    CreateTopics                 = 19, [2-7], flexible [5+], served;
    DeleteTopics                 = 20, [1-6], flexible [4+], served;
    DeleteRecords                = 21, [0-2], flexible [2+], served;
    InitProducerId               = 22, [0-5], flexible [2+], served;
    OffsetForLeaderEpoch         = 23, [2-4], flexible [4+], served;
    AddPartitionsToTxn           = 24, [0-5], flexible [3+], named;
    AddOffsetsToTxn              = 25, [0-4], flexible [3+], named;
    EndTxn                       = 26, [0-5], flexible [3+], named;
    WriteTxnMarkers              = 27, [1-2], flexible [1+], named;
    TxnOffsetCommit              = 28, [0-5], flexible [3+], named;
    DescribeAcls                 = 29, [1-3], flexible [2+], served;
    CreateAcls                   = 30, [1-3], flexible [2+], served;
    DeleteAcls                   = 31, [1-3], flexible [2+], served;
    DescribeConfigs              = 32, [1-4], flexible [4+], served;
    AlterConfigs                 = 33, [0-2], flexible [2+], served;
    AlterReplicaLogDirs          = 34, [1-2], flexible [2+], named;
    DescribeLogDirs              = 35, [1-5], flexible [2+], served;
    SaslAuthenticate             = 36, [0-2], flexible [2+], named;
    CreatePartitions             = 37, [0-3], flexible [2+], served;
    CreateDelegationToken        = 38, [1-3], flexible [2+], named;
    RenewDelegationToken         = 39, [1-2], flexible [2+], named;
    ExpireDelegationToken        = 40, [1-2], flexible [2+], named;
    DescribeDelegationToken      = 41, [1-3], flexible [2+], named;
    DeleteGroups                 = 42, [0-2], flexible [2+], served;
    ElectLeaders                 = 43, [0-2], flexible [2+], served;
    IncrementalAlterConfigs      = 44, [0-1], flexible [1+], served;
    AlterPartitionReassignments  = 45, [0-1], flexible [0+], served;
    ListPartitionReassignments   = 46, [0-0], flexible [0+], served;
    OffsetDelete                 = 47, [0-0], flexible [none], served;
    DescribeClientQuotas         = 48, [0-1], flexible [1+], named;
    AlterClientQuotas            = 49, [0-1], flexible [1+], named;
    DescribeUserScramCredentials = 50, [0-0], flexible [0+], served;
    AlterUserScramCredentials    = 51, [0-0], flexible [0+], served;
    Vote                         = 52, [0-2], flexible [0+], named;
    BeginQuorumEpoch             = 53, [0-1], flexible [1+], named;
    EndQuorumEpoch               = 54, [0-1], flexible [1+], named;
    DescribeQuorum               = 55, [0-2], flexible [0+], named;
    AlterPartition               = 56, [2-3], flexible [0+], named;
    UpdateFeatures               = 57, [0-2], flexible [0+], named;
    Envelope                     = 58, [0-0], flexible [0+], named;
    FetchSnapshot                = 59, [0-1], flexible [0+], named;
    DescribeCluster              = 60, [0-2], flexible [0+], served;
    DescribeProducers            = 61, [0-0], flexible [0+], served;
    BrokerRegistration           = 62, [0-4], flexible [0+], named;
    BrokerHeartbeat              = 63, [0-2], flexible [0+], named;
    UnregisterBroker             = 64, [0-0], flexible [0+], named;
    DescribeTransactions         = 65, [0-0], flexible [0+], named;
    ListTransactions             = 66, [0-2], flexible [0+], named;
    AllocateProducerIds          = 67, [0-0], flexible [0+], named;
    ConsumerGroupHeartbeat       = 68, [0-1], flexible [0+], served;
    ConsumerGroupDescribe        = 69, [0-1], flexible [0+], named;
    ControllerRegistration       = 70, [0-0], flexible [0+], named;
    GetTelemetrySubscriptions    = 71, [0-0], flexible [0+], named;
    PushTelemetry                = 72, [0-0], flexible [0+], named;
    AssignReplicasToDirs         = 73, [0-0], flexible [0+], named;
    ListConfigResources          = 74, [0-1], flexible [0+], served;
    DescribeTopicPartitions      = 75, [0-0], flexible [0+], served;
    ShareGroupHeartbeat          = 76, [1-1], flexible [0+], served;
    ShareGroupDescribe           = 77, [1-1], flexible [0+], served;
    ShareFetch                   = 78, [1-2], flexible [0+], served;
    ShareAcknowledge             = 79, [1-2], flexible [0+], served;
    AddRaftVoter                 = 80, [0-1], flexible [0+], named;
    RemoveRaftVoter              = 81, [0-0], flexible [0+], named;
    UpdateRaftVoter              = 82, [0-0], flexible [0+], named;
    InitializeShareGroupState    = 83, [0-0], flexible [0+], named;
    ReadShareGroupState          = 84, [0-0], flexible [0+], named;
    WriteShareGroupState         = 85, [0-1], flexible [0+], named;
    DeleteShareGroupState        = 86, [0-0], flexible [0+], named;
    ReadShareGroupStateSummary   = 87, [0-1], flexible [0+], named;
    StreamsGroupHeartbeat        = 88, [0-0], flexible [0+], named;
    StreamsGroupDescribe         = 89, [0-0], flexible [0+], named;
    DescribeShareGroupOffsets    = 90, [0-1], flexible [0+], served;
    AlterShareGroupOffsets       = 91, [0-0], flexible [0+], served;
    DeleteShareGroupOffsets      = 92, [0-0], flexible [0+], served;
}

impl ApiKey {
    /// Every API, in order of its key.
    pub const ALL: &'static [ApiSpec] = SPECS;

    /// The API with this number.
    pub fn from_code(code: i16) -> Option<ApiKey> {
        let index = usize::try_from(code).ok()?;
        SPECS.get(index).map(|spec| spec.key)
    }

    /// The number on the wire.
    pub const fn code(self) -> i16 {
        self as i16
    }

    /// Its row in the table.
    pub const fn spec(self) -> &'static ApiSpec {
        &SPECS[self as usize]
    }

    /// Kafka's name, such as `ListOffsets`.
    pub const fn name(self) -> &'static str {
        self.spec().name
    }

    /// Whether this version is in the flexible encoding. Also answers for versions that do not exist: a header must be read before its version can be refused.
    pub const fn is_flexible(self, version: i16) -> bool {
        version >= self.spec().flexible_from
    }

    /// The version of the header before a request: 2 in the flexible encoding, else 1. (Header 0 went with ControlledShutdown version 0.)
    pub const fn request_header_version(self, version: i16) -> i16 {
        if self.is_flexible(version) { 2 } else { 1 }
    }

    /// The version of the header before a response: 1 in the flexible encoding, else 0. ApiVersions always has 0, because a client
    /// reads it before it knows what the broker speaks (KIP-511).
    pub const fn response_header_version(self, version: i16) -> i16 {
        match self {
            ApiKey::ApiVersions => 0,
            _ if self.is_flexible(version) => 1,
            _ => 0,
        }
    }
}

impl fmt::Display for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_is_its_index() {
        for (index, spec) in ApiKey::ALL.iter().enumerate() {
            assert_eq!(spec.key.code() as usize, index, "{}", spec.name);
            assert_eq!(ApiKey::from_code(spec.key.code()), Some(spec.key));
        }
        assert_eq!(ApiKey::ALL.iter().filter(|spec| spec.served).count(), 46);
        for code in [-1, ApiKey::ALL.len() as i16, i16::MIN, i16::MAX] {
            assert_eq!(ApiKey::from_code(code), None);
        }
    }

    #[test]
    fn headers_follow_the_flexible_encoding_but_for_api_versions() {
        assert_eq!(ApiKey::Produce.request_header_version(8), 1);
        assert_eq!(ApiKey::Produce.request_header_version(9), 2);
        assert_eq!(ApiKey::Produce.response_header_version(8), 0);
        assert_eq!(ApiKey::Produce.response_header_version(9), 1);
        assert_eq!(ApiKey::ApiVersions.request_header_version(3), 2);
        assert_eq!(ApiKey::ApiVersions.response_header_version(4), 0);
        assert_eq!(ApiKey::SaslHandshake.request_header_version(1), 1);
    }
}

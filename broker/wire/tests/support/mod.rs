//! What the tests of the codec share: every message by name, and an independent writer of bytes that works from the schemas alone.

// Each test file is a crate of its own and uses its part of this.
#![allow(dead_code, reason = "shared by several test crates, each of which uses some of it")]

pub(crate) mod fuzz;

use bytes::Bytes;
use ringlog_wire::schema::{FieldSchema, Kind, MessageSchema, StructSchema, Value};
use ringlog_wire::{
    ApiKey, DecodeError, ErrorCode, Message, Part, Parts, Reader, Request, RequestHeader, ResponseHeader,
    encode_request, encode_response,
};

/// Calls a macro with every message this crate has, as `Request => Response` pairs by API module.
macro_rules! for_each_api {
    ($then:ident) => {
        $then! {
            produce: ProduceRequest => ProduceResponse,
            fetch: FetchRequest => FetchResponse,
            list_offsets: ListOffsetsRequest => ListOffsetsResponse,
            metadata: MetadataRequest => MetadataResponse,
            offset_commit: OffsetCommitRequest => OffsetCommitResponse,
            offset_fetch: OffsetFetchRequest => OffsetFetchResponse,
            find_coordinator: FindCoordinatorRequest => FindCoordinatorResponse,
            join_group: JoinGroupRequest => JoinGroupResponse,
            heartbeat: HeartbeatRequest => HeartbeatResponse,
            leave_group: LeaveGroupRequest => LeaveGroupResponse,
            sync_group: SyncGroupRequest => SyncGroupResponse,
            describe_groups: DescribeGroupsRequest => DescribeGroupsResponse,
            list_groups: ListGroupsRequest => ListGroupsResponse,
            api_versions: ApiVersionsRequest => ApiVersionsResponse,
            create_topics: CreateTopicsRequest => CreateTopicsResponse,
            delete_topics: DeleteTopicsRequest => DeleteTopicsResponse,
            delete_records: DeleteRecordsRequest => DeleteRecordsResponse,
            init_producer_id: InitProducerIdRequest => InitProducerIdResponse,
            offset_for_leader_epoch: OffsetForLeaderEpochRequest => OffsetForLeaderEpochResponse,
            describe_acls: DescribeAclsRequest => DescribeAclsResponse,
            create_acls: CreateAclsRequest => CreateAclsResponse,
            delete_acls: DeleteAclsRequest => DeleteAclsResponse,
            describe_configs: DescribeConfigsRequest => DescribeConfigsResponse,
            alter_configs: AlterConfigsRequest => AlterConfigsResponse,
            describe_log_dirs: DescribeLogDirsRequest => DescribeLogDirsResponse,
            create_partitions: CreatePartitionsRequest => CreatePartitionsResponse,
            delete_groups: DeleteGroupsRequest => DeleteGroupsResponse,
            elect_leaders: ElectLeadersRequest => ElectLeadersResponse,
            incremental_alter_configs: IncrementalAlterConfigsRequest => IncrementalAlterConfigsResponse,
            alter_partition_reassignments: AlterPartitionReassignmentsRequest => AlterPartitionReassignmentsResponse,
            list_partition_reassignments: ListPartitionReassignmentsRequest => ListPartitionReassignmentsResponse,
            offset_delete: OffsetDeleteRequest => OffsetDeleteResponse,
            describe_user_scram_credentials: DescribeUserScramCredentialsRequest => DescribeUserScramCredentialsResponse,
            alter_user_scram_credentials: AlterUserScramCredentialsRequest => AlterUserScramCredentialsResponse,
            describe_cluster: DescribeClusterRequest => DescribeClusterResponse,
            describe_producers: DescribeProducersRequest => DescribeProducersResponse,
            consumer_group_heartbeat: ConsumerGroupHeartbeatRequest => ConsumerGroupHeartbeatResponse,
            list_config_resources: ListConfigResourcesRequest => ListConfigResourcesResponse,
            describe_topic_partitions: DescribeTopicPartitionsRequest => DescribeTopicPartitionsResponse,
            share_group_heartbeat: ShareGroupHeartbeatRequest => ShareGroupHeartbeatResponse,
            share_group_describe: ShareGroupDescribeRequest => ShareGroupDescribeResponse,
            share_fetch: ShareFetchRequest => ShareFetchResponse,
            share_acknowledge: ShareAcknowledgeRequest => ShareAcknowledgeResponse,
            describe_share_group_offsets: DescribeShareGroupOffsetsRequest => DescribeShareGroupOffsetsResponse,
            alter_share_group_offsets: AlterShareGroupOffsetsRequest => AlterShareGroupOffsetsResponse,
            delete_share_group_offsets: DeleteShareGroupOffsetsRequest => DeleteShareGroupOffsetsResponse,
        }
    };
}

/// One message's codec, with the type taken away.
pub(crate) struct Codec {
    pub(crate) api: ApiKey,
    pub(crate) schema: &'static MessageSchema,
    pub(crate) is_request: bool,
    /// Reads a body; that is all, so that a test can count what it costs.
    pub(crate) decode: fn(&Bytes, i16) -> Result<(), DecodeError>,
    /// Reads a body and writes it again.
    pub(crate) again: fn(&Bytes, i16) -> Result<Again, DecodeError>,
}

/// A body read and written again.
pub(crate) struct Again {
    /// The message in Rust's debug notation.
    pub(crate) debug: String,
    /// The body written from it.
    pub(crate) body: Bytes,
    /// How many bytes of the original were read.
    pub(crate) read: usize,
}

impl Codec {
    pub(crate) fn name(&self) -> &'static str {
        self.schema.body.name
    }
}

macro_rules! codecs {
    ($($module:ident: $request:ident => $response:ident,)*) => {
        /// Every message, requests before their responses.
        pub(crate) fn codecs() -> Vec<Codec> {
            vec![$(
                Codec {
                    api: ringlog_wire::$module::$request::API,
                    schema: ringlog_wire::$module::$request::SCHEMA,
                    is_request: true,
                    decode: decode::<ringlog_wire::$module::$request>,
                    again: |body, version| again::<ringlog_wire::$module::$request>(body, version, request_body),
                },
                Codec {
                    api: ringlog_wire::$module::$response::API,
                    schema: ringlog_wire::$module::$response::SCHEMA,
                    is_request: false,
                    decode: decode::<ringlog_wire::$module::$response>,
                    again: |body, version| again::<ringlog_wire::$module::$response>(body, version, response_body),
                },
            )*]
        }
    };
}
for_each_api!(codecs);

fn decode<M: Message>(body: &Bytes, version: i16) -> Result<(), DecodeError> {
    M::decode(&mut Reader::new(body), version).map(drop)
}

fn again<M: Message>(body: &Bytes, version: i16, write: fn(i16, &M) -> Bytes) -> Result<Again, DecodeError> {
    let mut reader = Reader::new(body);
    let message = M::decode(&mut reader, version)?;
    Ok(Again { debug: format!("{message:?}"), body: write(version, &message), read: reader.position() })
}

/// The body of `request` as it goes on the wire; the frame and the header around it are checked and taken off.
pub(crate) fn request_body<R: Request>(version: i16, request: &R) -> Bytes {
    let frame = without_prefix(encode_request(version, 77, Some("tester"), request).expect("encode request"));
    let mut reader = Reader::new(&frame);
    let header = RequestHeader::read(&mut reader).expect("read request header");
    let expect = (Some(R::API), version, 77, Some("tester"));
    assert_eq!(
        (header.api(), header.api_version, header.correlation_id, header.client_id.as_deref()),
        expect
    );
    frame.slice(reader.position()..)
}

/// The body of `response` as it goes on the wire; the frame and the header around it are checked and taken off.
pub(crate) fn response_body<M: Message>(version: i16, response: &M) -> Bytes {
    let frame = without_prefix(encode_response(version, 78, response).expect("encode response").parts);
    let mut reader = Reader::new(&frame);
    let header = ResponseHeader::read(&mut reader, M::API, version).expect("read response header");
    assert_eq!(header.correlation_id, 78);
    frame.slice(reader.position()..)
}

fn without_prefix(parts: Parts) -> Bytes {
    let mut frame = Vec::new();
    for part in &parts {
        let Part::Bytes(bytes) = part else { panic!("nothing external was handed in") };
        frame.extend_from_slice(bytes);
    }
    let len = i32::from_be_bytes(*frame.first_chunk().expect("a prefix"));
    assert_eq!(len as usize, frame.len() - 4, "the prefix counts what follows");
    Bytes::from(frame).slice(4..)
}

/// Where a generated message takes its choices from. Out of bytes it gives zeroes, so fewer bytes make a simpler message and a failure shrinks.
pub(crate) struct Choices<'a> {
    bytes: std::slice::Iter<'a, u8>,
    /// Take nothing from the bytes: every field is there and differs from its default, every array has two elements.
    filled: Option<u8>,
}

impl<'a> Choices<'a> {
    pub(crate) fn from_bytes(bytes: &'a [u8]) -> Choices<'a> {
        Choices { bytes: bytes.iter(), filled: None }
    }

    pub(crate) fn filled() -> Choices<'static> {
        Choices { bytes: [].iter(), filled: Some(0) }
    }

    fn byte(&mut self) -> u8 {
        match &mut self.filled {
            // Small, never zero, and different for fields that follow one another.
            Some(last) => {
                *last = *last % 100 + 1;
                *last
            }
            None => self.bytes.next().copied().unwrap_or(0),
        }
    }

    fn number(&mut self, bytes: usize) -> i64 {
        // Mostly small, now and then as wide as the field.
        let mut number = i64::from(self.byte() as i8);
        if self.filled.is_none() && self.byte() >= 192 {
            for _ in 1..bytes {
                number = number << 8 | i64::from(self.byte());
            }
        }
        let unused = 64 - 8 * bytes as u32;
        number << unused >> unused
    }

    /// Whether something that may be left out is there.
    fn present(&mut self) -> bool {
        self.filled.is_some() || self.byte() & 3 != 0
    }

    fn count(&mut self) -> usize {
        if self.filled.is_some() { 2 } else { usize::from(self.byte() % 4) }
    }
}

/// A length that lies, in place of the true one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lie {
    /// The most the encoding can say.
    Most,
    /// One element more than an array may have.
    OverLimit,
    /// Below zero; in the compact encoding, null.
    Negative,
    /// A compact length that does not end within five bytes.
    Endless,
}

/// Writes a message's body from its schema and nothing else. What the codec does must agree with it.
pub(crate) struct BodyWriter<'a> {
    version: i16,
    flexible: bool,
    choices: Choices<'a>,
    /// Put a tagged field that nobody knows at the end of every structure.
    pub(crate) unknown_tags: bool,
    /// Lie about this length, counted from 0 as they are written.
    pub(crate) lie: Option<(usize, Lie)>,
    /// Lengths written so far.
    pub(crate) lengths: usize,
    /// Fields written so far.
    pub(crate) fields: usize,
}

impl<'a> BodyWriter<'a> {
    pub(crate) fn new(schema: &MessageSchema, version: i16, choices: Choices<'a>) -> BodyWriter<'a> {
        BodyWriter {
            version,
            flexible: schema.flexible.contains(version),
            choices,
            unknown_tags: false,
            lie: None,
            lengths: 0,
            fields: 0,
        }
    }

    pub(crate) fn body(&mut self, schema: &MessageSchema) -> Bytes {
        let mut out = Vec::new();
        self.structure(schema.body, &mut out);
        Bytes::from(out)
    }

    fn structure(&mut self, schema: &StructSchema, out: &mut Vec<u8>) {
        let version = self.version;
        let mut tagged = Vec::new();
        for field in schema.fields.iter().filter(|field| field.versions.contains(version)) {
            self.fields += 1;
            let Some(tag) = field.tag else {
                self.field(field, out);
                continue;
            };
            let mut value = Vec::new();
            self.field(field, &mut value);
            let mut default = Vec::new();
            self.default(field.kind, &(field.default)(), &mut default);
            // Kafka leaves a tagged field out when it has its default.
            if value != default {
                tagged.push((tag, value));
            }
        }
        if !self.flexible {
            return;
        }
        if self.unknown_tags {
            tagged.push((4_000_000_000, b"from the future".to_vec()));
        }
        uvarint(tagged.len() as u32, out);
        for (tag, value) in tagged {
            uvarint(tag, out);
            uvarint(value.len() as u32, out);
            out.extend(value);
        }
    }

    fn field(&mut self, field: &FieldSchema, out: &mut Vec<u8>) {
        let nullable = field.nullable.contains(self.version);
        if nullable && matches!(field.kind, Kind::Struct(_)) {
            let present = self.choices.present();
            out.push(if present { 1 } else { 0xff });
            if present {
                self.value(field.kind, out);
            }
        } else if nullable && !self.choices.present() {
            self.length(None, matches!(field.kind, Kind::String), out);
        } else if field.name.ends_with("error_code") {
            // Only codes that are in the table read back as they were.
            let codes = ErrorCode::ALL;
            let code = codes[(self.choices.number(2).unsigned_abs() as usize + 1) % codes.len()].code();
            out.extend(code.to_be_bytes());
        } else {
            self.value(field.kind, out);
        }
    }

    fn value(&mut self, kind: Kind, out: &mut Vec<u8>) {
        match kind {
            Kind::Bool => out.push(self.choices.byte() & 1),
            Kind::Int8 => out.extend((self.choices.number(1) as i8).to_be_bytes()),
            Kind::Int16 => out.extend((self.choices.number(2) as i16).to_be_bytes()),
            Kind::Int32 => out.extend((self.choices.number(4) as i32).to_be_bytes()),
            Kind::Int64 => out.extend(self.choices.number(8).to_be_bytes()),
            Kind::Uuid => (0..16).for_each(|_| out.push(self.choices.byte())),
            Kind::String => {
                let text: String =
                    (0..self.choices.count()).map(|_| char::from(self.choices.byte())).collect();
                self.length(Some(text.len()), true, out);
                out.extend(text.as_bytes());
            }
            Kind::Bytes | Kind::Records => {
                // Long enough now and then for a compact length of two bytes.
                let len = self.choices.count() * usize::from(self.choices.byte());
                self.length(Some(len), false, out);
                (0..len).for_each(|i| out.push(i as u8));
            }
            Kind::Array(element) => {
                let count = self.choices.count();
                self.length(Some(count), false, out);
                (0..count).for_each(|_| self.value(*element, out));
            }
            Kind::Struct(schema) => self.structure(schema, out),
        }
    }

    fn length(&mut self, len: Option<usize>, is_string: bool, out: &mut Vec<u8>) {
        let lie = self.lie.filter(|(at, _)| *at == self.lengths).map(|(_, lie)| lie);
        self.lengths += 1;
        let len = len.map_or(-1, |len| len as i64);
        let len = match (self.flexible, is_string, lie) {
            (true, _, Some(Lie::Endless)) => return out.extend([0xff; 6]),
            (true, _, Some(Lie::Most)) => i64::from(u32::MAX) - 1,
            (false, true, Some(Lie::Most | Lie::OverLimit)) => i64::from(i16::MAX),
            (false, false, Some(Lie::Most)) => i64::from(i32::MAX),
            (_, _, Some(Lie::OverLimit)) => 1_000_001,
            (true, _, Some(Lie::Negative)) => -1,
            (false, true, Some(Lie::Negative)) => i64::from(i16::MIN),
            (false, false, Some(Lie::Negative)) => i64::from(i32::MIN),
            (false, _, Some(Lie::Endless)) | (_, _, None) => len,
        };
        match (self.flexible, is_string) {
            (true, _) => uvarint((len + 1) as u32, out),
            (false, true) => out.extend((len as i16).to_be_bytes()),
            (false, false) => out.extend((len as i32).to_be_bytes()),
        }
    }

    fn default(&mut self, kind: Kind, value: &Value, out: &mut Vec<u8>) {
        match (kind, value) {
            (Kind::Bool, Value::Bool(value)) => out.push(u8::from(*value)),
            (Kind::Int8, Value::Int(value)) => out.extend((*value as i8).to_be_bytes()),
            (Kind::Int16, Value::Int(value)) => out.extend((*value as i16).to_be_bytes()),
            (Kind::Int32, Value::Int(value)) => out.extend((*value as i32).to_be_bytes()),
            (Kind::Int64, Value::Int(value)) => out.extend(value.to_be_bytes()),
            (Kind::Uuid, Value::Uuid(value)) => out.extend(value),
            // Tagged fields exist in the compact encoding only.
            (_, Value::Null) => out.push(0),
            (Kind::String, Value::String(value)) if value.is_empty() => out.push(1),
            (Kind::Array(_), Value::Length(0)) => out.push(1),
            (Kind::Struct(schema), Value::Struct(values)) => {
                for (field, (name, value)) in schema.fields.iter().zip(values) {
                    assert_eq!(field.name, *name);
                    if field.versions.contains(self.version) {
                        self.default(field.kind, value, out);
                    }
                }
                uvarint(0, out);
            }
            other => panic!("no tagged field has such a default: {other:?}"),
        }
    }
}

fn uvarint(mut value: u32, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

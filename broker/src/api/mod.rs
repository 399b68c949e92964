//! The Kafka APIs served: one table, one file for each.
//!
//! Versions go as high as what they mean is complete here:
//!
//! - Topic ids are real and durable from a topic's creation, leader epochs grow with every start: so Metadata 13, Fetch 18,
//!   Produce 13 and CreateTopics 7 mean what they do in Apache Kafka.
//! - Produce is listed from 0 though 0 to 2 are refused: librdkafka takes a range without them to mean that the broker cannot take
//!   compressed batches. Apache Kafka does the same.
//! - There are no transactions: a transactional id is refused with an error no client retries, features are left out, and a client that would
//!   need `transaction.version` 2 stays with the older protocol.
//! - Groups speak the classic protocol: there is no `group.version` feature, and clients that could speak a newer one stay with it. Who
//!   insists on it is refused with an error no client retries.
//! - Share groups are served, and the feature `share.version` is told: clients of other kinds do not look at it.
//! - An API that is not served is not listed. A request for one closes the connection, as in Apache Kafka.

mod acknowledging;
mod acls;
mod alter_configs;
mod alter_partition_reassignments;
mod alter_share_group_offsets;
mod alter_user_scram_credentials;
mod altering;
mod api_versions;
mod config_resources;
mod consumer_group_heartbeat;
mod create_partitions;
mod create_topics;
mod delete_groups;
mod delete_records;
mod delete_share_group_offsets;
mod delete_topics;
mod describe_cluster;
mod describe_configs;
mod describe_groups;
mod describe_log_dirs;
mod describe_producers;
mod describe_share_group_offsets;
mod describe_topic_partitions;
mod describe_user_scram_credentials;
mod elect_leaders;
mod fetch;
mod fetch_session;
mod find_coordinator;
mod heartbeat;
mod incremental_alter_configs;
mod init_producer_id;
mod join_group;
mod leave_group;
mod list_config_resources;
mod list_groups;
mod list_offsets;
mod list_partition_reassignments;
mod metadata;
mod offset_commit;
mod offset_delete;
mod offset_fetch;
mod offset_for_leader_epoch;
mod produce;
mod share_acknowledge;
mod share_fetch;
mod share_group_describe;
mod share_group_heartbeat;
mod sync_group;

pub use fetch_session::{SessionFigures, Sessions};

use crate::broker::Broker;
use crate::net::{Part, Parts, Peer, PendingReply, Reply};
use bytes::{Bytes, BytesMut};
use ringlog_engine::io::Instant;
use ringlog_wire as wire;
use ringlog_wire::{ApiKey, Message, Reader, Request, RequestHeader};
use std::future::Future;
use std::rc::Rc;

/// One API as it is served.
pub struct Api {
    /// Which.
    pub key: ApiKey,
    /// The lowest version answered.
    pub min: i16,
    /// The highest.
    pub max: i16,
    /// Whether its requests may overlap with earlier ones of their connection.
    overlaps: bool,
    /// How many times its frame's length a request takes in memory, about.
    memory_factor: usize,
    dispatch: fn(Context, Reader<'_>) -> Dispatched,
}

/// The APIs served, in the order of their keys.
pub const APIS: &[Api] = &[
    Api { overlaps: true, memory_factor: 1, ..api(ApiKey::Produce, produce::dispatch) },
    api(ApiKey::Fetch, fetch::dispatch),
    api(ApiKey::ListOffsets, |context, reader| answer(context, reader, list_offsets::handle)),
    api(ApiKey::Metadata, |context, reader| answer(context, reader, metadata::handle)),
    api(ApiKey::OffsetCommit, |context, reader| answer(context, reader, offset_commit::handle)),
    api(ApiKey::OffsetFetch, |context, reader| answer(context, reader, offset_fetch::handle)),
    api(ApiKey::FindCoordinator, |context, reader| answer(context, reader, find_coordinator::handle)),
    api(ApiKey::JoinGroup, |context, reader| answer(context, reader, join_group::handle)),
    api(ApiKey::Heartbeat, |context, reader| answer(context, reader, heartbeat::handle)),
    api(ApiKey::LeaveGroup, |context, reader| answer(context, reader, leave_group::handle)),
    api(ApiKey::SyncGroup, |context, reader| answer(context, reader, sync_group::handle)),
    api(ApiKey::DescribeGroups, |context, reader| answer(context, reader, describe_groups::handle)),
    api(ApiKey::ListGroups, |context, reader| answer(context, reader, list_groups::handle)),
    api(ApiKey::ApiVersions, |context, reader| answer(context, reader, api_versions::handle)),
    api(ApiKey::CreateTopics, |context, reader| answer(context, reader, create_topics::handle)),
    api(ApiKey::DeleteTopics, |context, reader| answer(context, reader, delete_topics::handle)),
    api(ApiKey::DeleteRecords, |context, reader| answer(context, reader, delete_records::handle)),
    api(ApiKey::InitProducerId, |context, reader| answer(context, reader, init_producer_id::handle)),
    api(ApiKey::OffsetForLeaderEpoch, |context, reader| {
        answer(context, reader, offset_for_leader_epoch::handle)
    }),
    api(ApiKey::DescribeAcls, |context, reader| answer(context, reader, acls::describe)),
    api(ApiKey::CreateAcls, |context, reader| answer(context, reader, acls::create)),
    api(ApiKey::DeleteAcls, |context, reader| answer(context, reader, acls::delete)),
    api(ApiKey::DescribeConfigs, |context, reader| answer(context, reader, describe_configs::handle)),
    api(ApiKey::AlterConfigs, |context, reader| answer(context, reader, alter_configs::handle)),
    api(ApiKey::DescribeLogDirs, |context, reader| answer(context, reader, describe_log_dirs::handle)),
    api(ApiKey::CreatePartitions, |context, reader| answer(context, reader, create_partitions::handle)),
    api(ApiKey::DeleteGroups, |context, reader| answer(context, reader, delete_groups::handle)),
    api(ApiKey::ElectLeaders, |context, reader| answer(context, reader, elect_leaders::handle)),
    api(ApiKey::IncrementalAlterConfigs, |context, reader| {
        answer(context, reader, incremental_alter_configs::handle)
    }),
    api(ApiKey::AlterPartitionReassignments, |context, reader| {
        answer(context, reader, alter_partition_reassignments::handle)
    }),
    api(ApiKey::ListPartitionReassignments, |context, reader| {
        answer(context, reader, list_partition_reassignments::handle)
    }),
    api(ApiKey::OffsetDelete, |context, reader| answer(context, reader, offset_delete::handle)),
    api(ApiKey::DescribeUserScramCredentials, |context, reader| {
        answer(context, reader, describe_user_scram_credentials::handle)
    }),
    api(ApiKey::AlterUserScramCredentials, |context, reader| {
        answer(context, reader, alter_user_scram_credentials::handle)
    }),
    api(ApiKey::DescribeCluster, |context, reader| answer(context, reader, describe_cluster::handle)),
    api(ApiKey::DescribeProducers, |context, reader| answer(context, reader, describe_producers::handle)),
    api(ApiKey::ConsumerGroupHeartbeat, |context, reader| {
        answer(context, reader, consumer_group_heartbeat::handle)
    }),
    api(ApiKey::ListConfigResources, |context, reader| {
        answer(context, reader, list_config_resources::handle)
    }),
    api(ApiKey::DescribeTopicPartitions, |context, reader| {
        answer(context, reader, describe_topic_partitions::handle)
    }),
    api(ApiKey::ShareGroupHeartbeat, |context, reader| {
        answer(context, reader, share_group_heartbeat::handle)
    }),
    api(ApiKey::ShareGroupDescribe, |context, reader| answer(context, reader, share_group_describe::handle)),
    api(ApiKey::ShareFetch, share_fetch::dispatch),
    api(ApiKey::ShareAcknowledge, |context, reader| answer(context, reader, share_acknowledge::handle)),
    api(ApiKey::DescribeShareGroupOffsets, |context, reader| {
        answer(context, reader, describe_share_group_offsets::handle)
    }),
    api(ApiKey::AlterShareGroupOffsets, |context, reader| {
        answer(context, reader, alter_share_group_offsets::handle)
    }),
    api(ApiKey::DeleteShareGroupOffsets, |context, reader| {
        answer(context, reader, delete_share_group_offsets::handle)
    }),
];

/// A row with what the wire knows, for requests that are small and wait for those before them.
const fn api(key: ApiKey, dispatch: fn(Context, Reader<'_>) -> Dispatched) -> Api {
    let spec = key.spec();
    assert!(spec.served, "the wire crate has its messages");
    Api { key, min: spec.min, max: spec.max, overlaps: false, memory_factor: 16, dispatch }
}

/// Where a request comes from and how it wants its answer.
pub struct Context {
    /// The shard that serves its connection.
    pub broker: Broker,
    /// Who asks.
    pub peer: Rc<Peer>,
    /// The version of request and response.
    pub version: i16,
    key: ApiKey,
    correlation_id: i32,
    arrived: Instant,
}

/// A request that has begun, or why its connection must close.
type Dispatched = Result<PendingReply, String>;

/// The API with this number, if it is served.
pub fn served(key: i16) -> Option<&'static Api> {
    APIS.iter().find(|api| api.key.code() == key)
}

/// Whether a request may overlap with earlier ones of its connection.
pub fn overlaps(frame: &[u8]) -> bool {
    key_of(frame).and_then(served).is_some_and(|api| api.overlaps)
}

/// Memory a request takes: `start` is what is known of its frame, which is `len` bytes long.
pub fn cost(start: &[u8], len: usize) -> usize {
    const REQUEST_BYTES_ABOUT: usize = 512;
    let factor = key_of(start).and_then(served).map_or(1, |api| api.memory_factor);
    REQUEST_BYTES_ABOUT + len * factor
}

/// Memory for a large request of which the start is here.
pub fn memory(broker: &Broker, start: &Bytes, len: usize) -> BytesMut {
    produce::memory(broker, start, len).unwrap_or_else(|| BytesMut::with_capacity(len))
}

fn key_of(frame: &[u8]) -> Option<i16> {
    frame.first_chunk().map(|bytes| i16::from_be_bytes(*bytes))
}

/// Starts a request. What must happen in the order of arrival has happened when this returns.
pub fn dispatch(broker: &Broker, peer: &Rc<Peer>, frame: &Bytes) -> PendingReply {
    match try_dispatch(broker, peer, frame) {
        Ok(reply) => reply,
        Err(why) => Box::pin(std::future::ready(Reply::Close(why))),
    }
}

fn try_dispatch(broker: &Broker, peer: &Rc<Peer>, frame: &Bytes) -> Dispatched {
    broker.metrics().received(wire::PREFIX_LEN + frame.len());
    let mut reader = Reader::new(frame);
    let header = RequestHeader::read(&mut reader).map_err(|error| format!("a request's header: {error}"))?;
    note_client(peer, header.client_id.as_deref());
    let Some(api) = served(header.api_key) else {
        return Err(match header.api() {
            Some(key) => format!("{key} is not served"),
            None => format!("there is no API {}", header.api_key),
        });
    };
    let context = Context {
        broker: broker.clone(),
        peer: peer.clone(),
        version: header.api_version,
        key: api.key,
        correlation_id: header.correlation_id,
        arrived: broker.shard().now(),
    };
    if !(api.min..=api.max).contains(&header.api_version) {
        if api.key == ApiKey::ApiVersions {
            let reply = context.reply_in(0, &api_versions::unsupported());
            return Ok(Box::pin(std::future::ready(reply)));
        }
        let Api { key, min, max, .. } = api;
        return Err(format!("{key} version {} is not served, only {min} to {max}", header.api_version));
    }
    (api.dispatch)(context, reader)
}

/// Remembers what a client calls itself, for the line that says why its connection closed.
fn note_client(peer: &Peer, client_id: Option<&str>) {
    let mut known = peer.client_id.borrow_mut();
    let client_id = client_id.unwrap_or_default();
    if *known != client_id {
        client_id.clone_into(&mut known);
    }
}

/// A leader epoch of a request: -1 is none.
fn epoch(epoch: i32) -> Option<i32> {
    (epoch >= 0).then_some(epoch)
}

/// Decodes a request, hands it to its handler, encodes what comes.
fn answer<R, F>(context: Context, mut reader: Reader<'_>, handle: fn(Rc<Context>, R) -> F) -> Dispatched
where
    R: Request + 'static,
    F: Future<Output = R::Response> + 'static,
{
    let request = decode::<R>(&context, &mut reader)?;
    let context = Rc::new(context);
    let response = handle(context.clone(), request);
    if !lists(context.key) {
        return Ok(Box::pin(async move { context.reply(&response.await) }));
    }
    Ok(Box::pin(async move {
        let held = context.broker.list_memory(context.key).await;
        if held.is_some() {
            // It may be long.
            context.broker.shard().yield_now().await;
        }
        let reply = context.reply(&response.await);
        let Reply::Send(parts) = reply else { return reply };
        let bytes = parts.iter().map(Part::len).sum::<u64>();
        let bytes = usize::try_from(bytes).expect("it is in memory");
        context.broker.note_list_bytes(context.key, bytes);
        match held {
            Some(mut held) => {
                held.shrink_to(bytes);
                Reply::SendHeld(parts, held)
            }
            None => Reply::Send(parts),
        }
    }))
}

/// Whether a small request may have a large answer, which has to wait for memory.
fn lists(api: ApiKey) -> bool {
    matches!(
        api,
        ApiKey::Metadata
            | ApiKey::ListOffsets
            | ApiKey::OffsetFetch
            | ApiKey::DescribeGroups
            | ApiKey::ListGroups
            | ApiKey::ApiVersions
            | ApiKey::DescribeConfigs
            | ApiKey::DescribeLogDirs
            | ApiKey::DescribeProducers
            | ApiKey::DescribeTopicPartitions
            | ApiKey::ListConfigResources
            | ApiKey::OffsetForLeaderEpoch
    )
}

fn decode<M: Message>(context: &Context, reader: &mut Reader<'_>) -> Result<M, String> {
    M::decode(reader, context.version).map_err(|error| format!("{} {}: {error}", M::API, context.version))
}

impl Context {
    /// The reply that carries this response.
    fn reply<M: Message>(&self, response: &M) -> Reply {
        self.reply_in(self.version, response)
    }

    /// The same, in another version than the request's.
    fn reply_in<M: Message>(&self, version: i16, response: &M) -> Reply {
        self.answered(match self.encode(version, response) {
            Ok(parts) => Reply::Send(without_files(parts)),
            Err(why) => Reply::Close(why),
        })
    }

    fn encode<M: Message>(&self, version: i16, response: &M) -> Result<wire::Parts, String> {
        let encoded = wire::encode_response(version, self.correlation_id, response)
            .map_err(|error| format!("the answer to {} {version}: {error}", M::API))?;
        for error in encoded.errors {
            self.broker.metrics().error(self.key, error);
        }
        Ok(encoded.parts)
    }

    /// Counts a request that has its reply.
    fn answered(&self, reply: Reply) -> Reply {
        let metrics = self.broker.metrics();
        metrics.answered(self.key, self.broker.shard().now().since(self.arrived));
        if let Reply::Send(parts) | Reply::SendHeld(parts, _) = &reply {
            metrics.sent(parts.iter().map(Part::len).sum());
        }
        reply
    }
}

fn without_files(parts: wire::Parts) -> Parts {
    parts
        .into_iter()
        .map(|part| match part {
            wire::Part::Bytes(bytes) => Part::Bytes(bytes),
            wire::Part::External { .. } => unreachable!("only Fetch names ranges of files"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order_and_within_what_the_wire_speaks() {
        assert!(APIS.is_sorted_by(|a, b| a.key < b.key));
        for api in APIS {
            let spec = api.key.spec();
            assert!(spec.min <= api.min && api.min <= api.max && api.max <= spec.max, "{}", api.key);
        }
    }
}

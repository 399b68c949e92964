//! ShareFetch: a member of a share group acknowledges records, and acquires more.

use super::acknowledging::{Range, Said, find, hand_over, read};
use super::{Context, Dispatched, decode, without_files};
use crate::broker::{ShareFetch, ShareFound, ShareRead};
use crate::net::Reply;
use crate::share::{Asked, Opened, Place};
use ringlog_engine::shard::sync::Permit;
use ringlog_wire::share_fetch::{
    AcquiredRecords, FetchTopic, PartitionData, ShareFetchRequest, ShareFetchResponse,
    ShareFetchableTopicResponse,
};
use ringlog_wire::{ByteString, ErrorCode, Reader, Records, Uuid};
use std::collections::BTreeMap;
use std::time::Duration;

/// The acquire mode that stops in the middle of a batch.
const RECORD_LIMIT: i8 = 1;

pub(super) fn dispatch(context: Context, mut reader: Reader<'_>) -> Dispatched {
    let request: ShareFetchRequest = decode(&context, &mut reader)?;
    Ok(Box::pin(async move {
        match answer(&context, request).await {
            Ok((response, memory)) => match context.encode(context.version, &response) {
                Ok(parts) => context.answered(match memory {
                    Some(memory) => Reply::SendHeld(without_files(parts), memory),
                    None => Reply::Send(without_files(parts)),
                }),
                Err(why) => Reply::Close(why),
            },
            Err((error_code, why)) => {
                let error_message = why.map(ByteString::from_static);
                context.reply(&ShareFetchResponse { error_code, error_message, ..Default::default() })
            }
        }
    }))
}

async fn answer(
    context: &Context,
    mut request: ShareFetchRequest,
) -> Result<(ShareFetchResponse, Option<Permit>), (ErrorCode, Option<&'static str>)> {
    let group = request.group_id.as_ref().map(ToString::to_string).unwrap_or_default();
    let member = request.member_id.as_ref().map(ToString::to_string).unwrap_or_default();
    if group.is_empty() || member.is_empty() {
        return Err((ErrorCode::InvalidRequest, None));
    }
    let reads_too = [request.max_wait_ms, request.min_bytes, request.max_bytes, request.max_records];
    if request.is_renew_ack && reads_too.iter().any(|wanted| *wanted != 0) {
        let why = "What is renewed is not fetched with: all limits must be 0.";
        return Err((ErrorCode::InvalidRequest, Some(why)));
    }
    let config = context.broker.share_config(&group);
    let renews = request.is_renew_ack && config.may_renew;
    let topics = std::mem::take(&mut request.topics);
    let added: Vec<Place> = places(&topics);
    let said = said(&topics, renews);
    let dropped: Vec<Place> = request
        .forgotten_topics_data
        .iter()
        .flat_map(|topic| topic.partitions.iter().map(|index| (topic.topic_id.0, *index)))
        .collect();
    let asked = Asked {
        group: &group,
        member: &member,
        epoch: request.share_session_epoch,
        socket: context.peer.socket,
    };
    let opened = context.broker.share_sessions().fetch(asked, &added, &dropped, !said.is_empty());
    let opened = opened.map_err(|code| (code, None))?;
    let acknowledging = hand_over(context, &group, &member, said);
    let lock_ms = i32::try_from(config.lock.as_millis()).unwrap_or(i32::MAX);
    let mut rows: BTreeMap<Place, PartitionData> = BTreeMap::new();
    let mut memory = None;
    match opened {
        Opened::Reads(mut places) => {
            if !places.is_empty() {
                // Everybody is first in turn.
                let turn = usize::try_from(request.share_session_epoch).unwrap_or(0) % places.len();
                places.rotate_left(turn);
            }
            memory = fetch(context, &request, &group, &member, &places, &mut rows).await;
            for (place, code) in acknowledging.await {
                row(&mut rows, place).acknowledge_error_code = code;
            }
        }
        Opened::Ended(places) => {
            for (place, code) in acknowledging.await {
                row(&mut rows, place).acknowledge_error_code = code;
            }
            context.broker.release_share(&group, &member, &places).await;
        }
    }
    let mut responses: Vec<ShareFetchableTopicResponse> = Vec::new();
    for ((topic, _), data) in rows {
        match responses.last_mut() {
            Some(last) if last.topic_id.0 == topic => last.partitions.push(data),
            _ => {
                responses.push(ShareFetchableTopicResponse { topic_id: Uuid(topic), partitions: vec![data] })
            }
        }
    }
    let response =
        ShareFetchResponse { acquisition_lock_timeout_ms: lock_ms, responses, ..Default::default() };
    Ok((response, memory))
}

fn places(topics: &[FetchTopic]) -> Vec<Place> {
    let of = |topic: &FetchTopic| {
        let id = topic.topic_id.0;
        topic.partitions.iter().map(move |partition| (id, partition.partition_index)).collect::<Vec<_>>()
    };
    topics.iter().flat_map(of).collect()
}

fn said(topics: &[FetchTopic], renews: bool) -> Said {
    let mut said = Said::new();
    for topic in topics {
        for partition in topic.partitions.iter().filter(|one| !one.acknowledgement_batches.is_empty()) {
            let ranges = partition.acknowledgement_batches.iter().map(|batch| Range {
                first: batch.first_offset,
                last: batch.last_offset,
                types: &batch.acknowledge_types,
            });
            said.insert((topic.topic_id.0, partition.partition_index), read(ranges, renews));
        }
    }
    said
}

/// A partition's row, made if it is not there.
fn row(rows: &mut BTreeMap<Place, PartitionData>, place: Place) -> &mut PartitionData {
    rows.entry(place).or_insert_with(|| PartitionData {
        partition_index: place.1,
        records: Records::empty(),
        ..Default::default()
    })
}

/// Reads what the session wants, and puts what there is to tell of it into rows.
async fn fetch(
    context: &Context,
    request: &ShareFetchRequest,
    group: &str,
    member: &str,
    places: &[Place],
    rows: &mut BTreeMap<Place, PartitionData>,
) -> Option<Permit> {
    let mut partitions = Vec::with_capacity(places.len());
    for place in places {
        match find(context, *place) {
            Ok(id) => partitions.push(id),
            Err(code) => row(rows, *place).error_code = code,
        }
    }
    let bytes_max =
        usize::try_from(request.max_bytes).unwrap_or(0).min(context.broker.config().fetch_bytes_max);
    if partitions.is_empty() || bytes_max == 0 || request.max_records <= 0 {
        return None;
    }
    let wait_ms = u64::try_from(request.max_wait_ms).unwrap_or(0);
    let fetch = ShareFetch {
        read: ShareRead {
            group: group.to_owned(),
            member: member.to_owned(),
            partitions,
            bytes_max,
            records_max: i64::from(request.max_records),
            is_exact: request.share_acquire_mode == RECORD_LIMIT,
            batch_size: i64::from(request.batch_size.max(1)),
        },
        wait: Duration::from_millis(wait_ms),
    };
    let (results, memory) = context.broker.fetch_shared(&fetch).await;
    // The first answer of a session names all it reads, later ones what there is to tell.
    let names_all = request.share_session_epoch == 0;
    for (id, result) in fetch.read.partitions.iter().zip(results) {
        let place = (id.topic, id.index);
        match result {
            Ok(found) if found.acquired.is_empty() && !names_all => {}
            Ok(found) => {
                context.broker.metrics().fetched(found.records.len() as u64);
                fill(row(rows, place), found);
            }
            Err(code) => row(rows, place).error_code = code,
        }
    }
    Some(memory)
}

fn fill(row: &mut PartitionData, found: ShareFound) {
    row.records = Records::Bytes(found.records);
    row.acquired_records = found
        .acquired
        .iter()
        .map(|range| AcquiredRecords {
            first_offset: range.first,
            last_offset: range.last,
            delivery_count: range.deliveries,
        })
        .collect();
}

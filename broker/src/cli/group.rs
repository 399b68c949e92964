//! `ringlog group`: list, describe with lag, reset offsets, delete.

use super::client::{Client, check};
use super::produce::now;
use super::{BrokerAddress, Failure, Named};
use crate::group::assigned_partitions;
use clap::{Args, Subcommand};
use ringlog_engine::batch::Header;
use ringlog_wire::delete_groups::DeleteGroupsRequest;
use ringlog_wire::describe_groups::{DescribeGroupsRequest, DescribedGroup};
use ringlog_wire::fetch::{FetchPartition, FetchRequest, FetchTopic};
use ringlog_wire::find_coordinator::FindCoordinatorRequest;
use ringlog_wire::list_groups::ListGroupsRequest;
use ringlog_wire::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use ringlog_wire::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use ringlog_wire::offset_fetch::{OffsetFetchRequest, OffsetFetchRequestGroup};
use ringlog_wire::{ByteString, ErrorCode, Records};
use std::collections::BTreeMap;
use std::time::Duration;

#[derive(Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// List the groups: name, state, kind
    List(BrokerAddress),
    /// Show a group's state and, for each partition, how far it has come, its lag in records and in seconds, and who consumes it
    Describe(Named),
    /// Set how far a group without members has come in a topic
    Reset {
        /// The group's name
        name: String,
        /// The topic
        #[arg(long)]
        topic: String,
        /// Only this partition; all of them if not given
        #[arg(long, value_name = "N")]
        partition: Option<i32>,
        #[command(flatten)]
        to: To,
        /// Only show what would be set
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        broker: BrokerAddress,
    },
    /// Delete a group without members, with all its offsets
    Delete(Named),
}

/// Where a group is set to.
#[derive(Args)]
#[group(required = true, multiple = false)]
struct To {
    /// To the first record there is
    #[arg(long)]
    to_earliest: bool,
    /// Behind the last record there is
    #[arg(long)]
    to_latest: bool,
    /// To the first record at or after this time, in milliseconds since 1970
    #[arg(long, value_name = "MS")]
    to_time: Option<i64>,
    /// To this offset, or the nearest there is
    #[arg(long, value_name = "OFFSET")]
    to_offset: Option<i64>,
    /// By so many records from where it is, back if negative, as far as there are records
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    shift_by: Option<i64>,
}

pub(super) fn run(arguments: Arguments) -> Result<(), Failure> {
    match arguments.action {
        Action::List(broker) => list(&broker),
        Action::Describe(group) => describe(&group),
        Action::Reset { name, topic, partition, to, dry_run, broker } => {
            let reset = Reset { group: &name, topic: &topic, partition, to: &to, dry_run };
            reset.run(&mut Client::connect(&broker.address)?)
        }
        Action::Delete(group) => delete(&group),
    }
}

fn list(broker: &BrokerAddress) -> Result<(), Failure> {
    let response = Client::connect(&broker.address)?.call(&ListGroupsRequest::default())?;
    check(response.error_code, "list groups")?;
    let mut groups = response.groups;
    groups.sort_by(|a, b| a.group_id.cmp(&b.group_id));
    let rows = groups.iter().map(|group| {
        let kind = if group.protocol_type.is_empty() { "-" } else { &*group.protocol_type };
        vec![group.group_id.to_string(), group.group_state.to_string(), kind.to_owned()]
    });
    print(&["GROUP", "STATE", "KIND"], rows.collect());
    Ok(())
}

fn describe(Named { name, broker }: &Named) -> Result<(), Failure> {
    let mut client = Client::connect(&broker.address)?;
    let request = DescribeGroupsRequest { groups: vec![name.as_str().into()], ..Default::default() };
    let described = client.call(&request)?.groups.into_iter().next();
    let group = described.ok_or_else(|| Failure("an empty answer".into()))?;
    check(group.error_code, &format!("group {name}"))?;
    let committed = committed(&mut client, name)?;
    let consumers = consumers(&group);
    println!("group {name}: {}, {} members", group.group_state, group.members.len());
    let mut partitions: Vec<&(String, i32)> = committed.keys().chain(consumers.keys()).collect();
    partitions.sort_unstable();
    partitions.dedup();
    let ends = offsets_at(&mut client, &partitions, LATEST)?;
    let starts = offsets_at(&mut client, &partitions, EARLIEST)?;
    let mut rows = Vec::with_capacity(partitions.len());
    for partition in partitions {
        let (at, end) = (committed.get(partition).copied(), ends.get(partition).copied());
        // A group that was set past the end lags by nothing.
        let lag = at.zip(end).map(|(at, end)| (end - at).max(0));
        let seconds = match at {
            // Where the next record has been deleted, the first one that is there comes next.
            Some(at) if lag > Some(0) => {
                age(&mut client, partition, at.max(starts.get(partition).copied().unwrap_or(at)))?
            }
            _ => lag.map(|_| Duration::ZERO),
        };
        let number = |number: Option<i64>| number.map_or("-".to_owned(), |number| number.to_string());
        let seconds = seconds.map_or("-".to_owned(), |age| format!("{:.1}", age.as_secs_f64()));
        let consumer = consumers.get(partition).cloned().unwrap_or_else(|| "-".into());
        let (topic, index) = (partition.0.clone(), partition.1.to_string());
        rows.push(vec![topic, index, number(at), number(end), number(lag), seconds, consumer]);
    }
    print(&["TOPIC", "PARTITION", "COMMITTED", "END", "LAG", "SECONDS", "CONSUMER"], rows);
    Ok(())
}

/// For how long the record that comes next has been there: that of its batch's first record, as in the broker's metrics. `None` where
/// there is none any more, or it carries no time.
fn age(client: &mut Client, (topic, index): &(String, i32), at: i64) -> Result<Option<Duration>, Failure> {
    let partition =
        FetchPartition { partition: *index, fetch_offset: at, partition_max_bytes: 1, ..Default::default() };
    // One batch comes whatever its size.
    let request = FetchRequest {
        replica_id: -1,
        max_bytes: 1,
        session_epoch: -1,
        topics: vec![FetchTopic {
            topic: ByteString::from(topic.as_str()),
            partitions: vec![partition],
            ..Default::default()
        }],
        ..Default::default()
    };
    let response = client.call_up_to(&request, FETCH_BY_NAME)?;
    check(response.error_code, "fetch")?;
    let row = response.responses.iter().flat_map(|topic| &topic.partitions).next();
    let row = row.ok_or_else(|| Failure("an empty answer".into()))?;
    match row.error_code {
        // It has just been deleted.
        ErrorCode::OffsetOutOfRange | ErrorCode::UnknownTopicOrPartition => return Ok(None),
        code => check(code, &format!("read {topic}-{index}"))?,
    }
    let Records::Bytes(batch) = &row.records else { return Ok(None) };
    let Some(time) = Header::parse(batch).ok().and_then(|header| header.first_time()) else {
        return Ok(None);
    };
    Ok(Some(Duration::from_millis(u64::try_from(now() - time).unwrap_or(0))))
}

/// Which member consumes which partition, where members say it as consumers do.
fn consumers(group: &DescribedGroup) -> BTreeMap<(String, i32), String> {
    let mut consumers = BTreeMap::new();
    for member in &group.members {
        for (topic, partitions) in assigned_partitions(&member.member_assignment).unwrap_or_default() {
            let consumer = format!("{} ({}, {})", member.member_id, member.client_id, member.client_host);
            consumers.extend(partitions.into_iter().map(|index| ((topic.clone(), index), consumer.clone())));
        }
    }
    consumers
}

/// How far a group has come.
fn committed(client: &mut Client, name: &str) -> Result<BTreeMap<(String, i32), i64>, Failure> {
    let group = OffsetFetchRequestGroup { group_id: name.into(), topics: None, ..Default::default() };
    let request = OffsetFetchRequest { groups: vec![group], ..Default::default() };
    let response = client.call_up_to(&request, BY_NAME)?;
    let mut committed = BTreeMap::new();
    for group in response.groups {
        check(group.error_code, &format!("offsets of group {name}"))?;
        for topic in group.topics {
            for row in topic.partitions {
                check(row.error_code, &format!("the offset of {}-{}", topic.name, row.partition_index))?;
                committed.insert((topic.name.to_string(), row.partition_index), row.committed_offset);
            }
        }
    }
    Ok(committed)
}

/// The last version of Fetch that does.
const FETCH_BY_NAME: i16 = 12;
/// The last version of requests about offsets that names topics.
const BY_NAME: i16 = 9;
/// What ListOffsets calls the end and the beginning.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;

/// The offsets at a time, of partitions that are there; -1 where no record is so new.
fn offsets_at(
    client: &mut Client,
    partitions: &[&(String, i32)],
    timestamp: i64,
) -> Result<BTreeMap<(String, i32), i64>, Failure> {
    let mut topics: BTreeMap<&str, Vec<ListOffsetsPartition>> = BTreeMap::new();
    for (topic, partition_index) in partitions {
        let partition =
            ListOffsetsPartition { partition_index: *partition_index, timestamp, ..Default::default() };
        topics.entry(topic).or_default().push(partition);
    }
    let topic = |(name, partitions): (&str, _)| ListOffsetsTopic { name: name.into(), partitions };
    let topics = topics.into_iter().map(topic).collect();
    let response = client.call(&ListOffsetsRequest { replica_id: -1, topics, ..Default::default() })?;
    let mut offsets = BTreeMap::new();
    for topic in response.topics {
        for row in topic.partitions {
            match row.error_code {
                // Committed once, and gone since.
                ErrorCode::UnknownTopicOrPartition => {}
                code => {
                    check(code, &format!("the offsets of {}-{}", topic.name, row.partition_index))?;
                    offsets.insert((topic.name.to_string(), row.partition_index), row.offset);
                }
            }
        }
    }
    Ok(offsets)
}

/// A group that is to be set.
struct Reset<'a> {
    group: &'a str,
    topic: &'a str,
    partition: Option<i32>,
    to: &'a To,
    dry_run: bool,
}

impl Reset<'_> {
    fn run(&self, client: &mut Client) -> Result<(), Failure> {
        let topic = client.topic(self.topic, false)?;
        let mut indexes: Vec<i32> = topic.partitions.iter().map(|row| row.partition_index).collect();
        if let Some(partition) = self.partition {
            if !indexes.contains(&partition) {
                return Err(Failure(format!("topic {} has no partition {partition}", self.topic)));
            }
            indexes = vec![partition];
        }
        indexes.sort_unstable();
        let partitions: Vec<(String, i32)> =
            indexes.iter().map(|index| (self.topic.to_owned(), *index)).collect();
        let wanted = self.wanted(client, &partitions)?;
        if !self.dry_run {
            self.commit(client, &wanted)?;
        }
        let rows = wanted.iter().map(|((topic, partition), offset)| {
            vec![topic.clone(), partition.to_string(), offset.to_string()]
        });
        print(&["TOPIC", "PARTITION", "OFFSET"], rows.collect());
        Ok(())
    }

    /// Where each partition is to be, among the records there are.
    fn wanted(
        &self,
        client: &mut Client,
        partitions: &[(String, i32)],
    ) -> Result<BTreeMap<(String, i32), i64>, Failure> {
        let asked: Vec<&(String, i32)> = partitions.iter().collect();
        let first = offsets_at(client, &asked, EARLIEST)?;
        let end = offsets_at(client, &asked, LATEST)?;
        let timed = match self.to.to_time {
            Some(time) => offsets_at(client, &asked, time)?,
            None => BTreeMap::new(),
        };
        let committed = committed(client, self.group)?;
        let mut wanted = BTreeMap::new();
        for partition in partitions {
            let (first, end) = (first[partition], end[partition]);
            let offset = match self.to {
                To { to_earliest: true, .. } => first,
                To { to_offset: Some(offset), .. } => *offset,
                To { shift_by: Some(by), .. } => {
                    let at = committed.get(partition).ok_or_else(|| {
                        Failure(format!(
                            "{}-{}: nothing is committed to shift from",
                            partition.0, partition.1
                        ))
                    })?;
                    at.saturating_add(*by)
                }
                To { to_time: Some(_), .. } => {
                    timed.get(partition).copied().filter(|at| *at >= 0).unwrap_or(end)
                }
                To { .. } => end,
            };
            wanted.insert(partition.clone(), offset.clamp(first, end));
        }
        Ok(wanted)
    }

    fn commit(&self, client: &mut Client, wanted: &BTreeMap<(String, i32), i64>) -> Result<(), Failure> {
        // The topic that keeps groups is made when somebody looks for a coordinator.
        let request = FindCoordinatorRequest {
            key: self.group.into(),
            coordinator_keys: vec![self.group.into()],
            ..Default::default()
        };
        let found = client.call(&request)?;
        found.coordinators.iter().try_for_each(|row| check(row.error_code, "find the coordinator"))?;
        let partitions = wanted.iter().map(|((_, partition_index), offset)| OffsetCommitRequestPartition {
            partition_index: *partition_index,
            committed_offset: *offset,
            ..Default::default()
        });
        let topic = OffsetCommitRequestTopic {
            name: ByteString::from(self.topic),
            partitions: partitions.collect(),
            ..Default::default()
        };
        let request =
            OffsetCommitRequest { group_id: self.group.into(), topics: vec![topic], ..Default::default() };
        let response = client.call_up_to(&request, BY_NAME)?;
        for row in response.topics.iter().flat_map(|topic| &topic.partitions) {
            if row.error_code == ErrorCode::UnknownMemberId {
                return Err(Failure(format!("group {} has members: stop them first", self.group)));
            }
            check(row.error_code, &format!("{}-{}", self.topic, row.partition_index))?;
        }
        Ok(())
    }
}

fn delete(Named { name, broker }: &Named) -> Result<(), Failure> {
    let request = DeleteGroupsRequest { groups_names: vec![name.as_str().into()] };
    let response = Client::connect(&broker.address)?.call(&request)?;
    for row in response.results {
        check(row.error_code, &format!("group {name}"))?;
    }
    println!("deleted {name}");
    Ok(())
}

/// Columns under their names, each as wide as its widest.
pub(super) fn print(names: &[&str], rows: Vec<Vec<String>>) {
    let header = names.iter().map(|name| (*name).to_owned()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(header).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..names.len()).map(width).collect();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        println!("{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}

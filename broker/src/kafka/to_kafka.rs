//! Giving data directories to Apache Kafka.
//!
//! The logs are recovered and stopped, so that all that Kafka finds is whole; then ringlog's topics are written as a snapshot of Kafka's
//! metadata. The directory is ringlog's until its own metadata log has another name.

use super::kraft::{Cluster, KraftTopic, ReplicaState, snapshot_name};
use super::offset_files::{self, Offsets};
use super::{CLEAN_SHUTDOWN, HIGH_WATERMARKS, KRAFT_FOLDER, LOG_STARTS, MoveError, RECOVERY_POINTS, Words};
use crate::cluster::{DataDirs, Image, METADATA_FILE, MetadataLog};
use bytes::Bytes;
use ringlog_engine::io::host::{Host, IoChoice};
use ringlog_engine::io::{DirId, Io, small_file};
use ringlog_engine::log::{self, Cache, Journaled, Left, Log, LogConfig, LogDir, LogId};
use ringlog_engine::shard::{Executor, Shard, ShardId};
use ringlog_wire::Uuid;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What has been given to Kafka.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Returned {
    /// Topics.
    pub topics: usize,
    /// Partitions.
    pub partitions: usize,
    /// The cluster's id.
    pub cluster_id: String,
    /// The node's id.
    pub node_id: i32,
    /// What has been left behind, in words.
    pub notes: Vec<String>,
}

/// Configs of topics that only ringlog has.
const OWN_CONFIGS: [&str; 1] = ["durability"];

/// Gives the data directories of a broker that has been stopped to Apache Kafka.
pub fn to_kafka(dirs: &[PathBuf], io: IoChoice) -> Result<Returned, MoveError> {
    let first = dirs.first().expect("there is a directory");
    if !first.join(METADATA_FILE).exists() {
        let why = format!("holds no {METADATA_FILE}: give all of ringlog's directories, in their order");
        return Err(MoveError::directory(first, why));
    }
    let host = Host::open(dirs, io).map_err(|error| MoveError::directory(first, error.to_string()))?;
    let driver = host.driver().map_err(MoveError::io("start to read", first))?;
    let mut executor = Executor::new(ShardId(0), driver);
    let shard = executor.shard().clone();
    let dirs = dirs.to_vec();
    executor.block_on(async move { give(shard, &dirs).await })
}

async fn give(shard: Shard, paths: &[PathBuf]) -> Result<Returned, MoveError> {
    let io = shard.io();
    let first = &paths[0];
    let node_id = DataDirs::node_id(io, DirId(0), first).await?;
    let node_id = node_id.ok_or_else(|| MoveError::directory(first, "holds no meta.properties"))?;
    let dirs = DataDirs::open(io, paths, node_id).await?;
    refuse_kafkas_own(&dirs)?;
    let (_, image) = MetadataLog::open(io, DirId(0), first).await?;
    let mut returned = Returned { cluster_id: dirs.cluster_id.clone(), node_id, ..Returned::default() };
    let cluster = cluster(&image, node_id, &mut returned.notes);

    let mut left = Left::default();
    for data in &dirs.dirs {
        let read = left.read(io, data.dir, &data.path).await;
        read.map_err(MoveError::io("read the journals of", &data.path))?;
    }
    let mut refused = Vec::new();
    let mut places = Vec::new();
    // By directory: where each log starts and ends.
    let mut starts = vec![Offsets::new(); dirs.dirs.len()];
    let mut ends = vec![Offsets::new(); dirs.dirs.len()];
    for topic in image.topics() {
        for (index, partition) in (0..).zip(&topic.partitions) {
            let name = format!("{}-{index}", topic.name);
            let Some(dir) = dirs.by_id(partition.directory) else {
                refused.push((name, "its data directory is not among these".into()));
                continue;
            };
            let place = LogDir { dir: dir.dir, path: dir.path.join(&name) };
            let id = LogId { topic: topic.id.0, index };
            let journaled = Journaled {
                journal: None,
                id,
                left: left.of(id),
                was_open: image.was_opened(topic.id, index),
            };
            match settle(&shard, &place, journaled).await {
                Ok((start, end)) => {
                    let at = usize::from(dir.dir.0);
                    starts[at].insert((topic.name.to_string(), index), start);
                    ends[at].insert((topic.name.to_string(), index), end);
                    places.push(place);
                }
                Err(Words(why)) => refused.push((name, why)),
            }
        }
    }
    if !refused.is_empty() {
        return Err(MoveError::Partitions(refused));
    }
    returned.topics = image.topics().len();
    returned.partitions = places.len();

    for data in &dirs.dirs {
        let removed = Left::remove(io, data.dir, &data.path).await;
        removed.map_err(MoveError::io("remove the journals of", &data.path))?;
    }
    for place in &places {
        let forgotten = log::forget_checkpoint(io, place).await;
        forgotten.map_err(|error| MoveError::directory(&place.path, error.to_string()))?;
    }
    for (at, dir) in dirs.dirs.iter().enumerate() {
        // All of it is durable, and visible to consumers.
        let files = [(LOG_STARTS, &starts[at]), (RECOVERY_POINTS, &ends[at]), (HIGH_WATERMARKS, &ends[at])];
        for (name, offsets) in files {
            write(io, dir.dir, &dir.path.join(name), offset_files::text(offsets)).await?;
        }
        write(io, dir.dir, &dir.path.join(CLEAN_SHUTDOWN), CLEAN.to_owned()).await?;
    }
    let folder = first.join(KRAFT_FOLDER);
    io.make_dir(DirId(0), folder.clone()).await.map_err(MoveError::io("make", &folder))?;
    let directory_of = |topic: &[u8; 16], index: i32| {
        let state = image.topic_by_id(Uuid(*topic)).and_then(|topic| topic.partition(index).copied());
        state.map_or(Uuid::ZERO, |state| state.directory)
    };
    let snapshot = cluster.snapshot(directory_of, shard.wall_time().0);
    let snapshot = snapshot.map_err(|error| MoveError::directory(&folder, error.to_string()))?;
    let path = folder.join(snapshot_name(cluster.end));
    let written = small_file::replace(io, DirId(0), &path, snapshot).await;
    written.map_err(MoveError::io("write", &path))?;
    io.sync_dir(DirId(0), first.clone()).await.map_err(MoveError::io("sync", first))?;

    let metadata = first.join(METADATA_FILE);
    let aside = first.join(format!("{METADATA_FILE}.before-kafka"));
    io.rename(DirId(0), metadata.clone(), aside).await.map_err(MoveError::io("rename", &metadata))?;
    io.sync_dir(DirId(0), first.clone()).await.map_err(MoveError::io("sync", first))?;
    Ok(returned)
}

/// What Kafka writes when it has been stopped in order; the epoch is that of no broker.
const CLEAN: &str = "{\"version\":0,\"brokerEpoch\":-1}";

/// A metadata log that Kafka has written must not be mixed with a snapshot of ringlog's.
fn refuse_kafkas_own(dirs: &DataDirs) -> Result<(), MoveError> {
    for dir in &dirs.dirs {
        let folder = dir.path.join(KRAFT_FOLDER);
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.map_err(MoveError::io("list", &folder))?.path();
            if path.extension().is_some_and(|ending| ending == "log") {
                let why = "Kafka has written its metadata here: finish with `ringlog from-kafka` first";
                return Err(MoveError::directory(&folder, why));
            }
        }
    }
    Ok(())
}

/// Recovers a partition and stops it. Returns where it starts and ends.
async fn settle(shard: &Shard, place: &LogDir, journaled: Journaled<'_>) -> Result<(i64, i64), Words> {
    let (config, cache) = (LogConfig::default(), Cache::new(1 << 20));
    let (log, _) = Log::open_journaled(shard, place.clone(), config, &cache, journaled).await?;
    let marks = log.marks();
    log.close().await?;
    Ok((marks.log_start, marks.log_end))
}

async fn write(io: &Io, dir: DirId, path: &Path, text: String) -> Result<(), MoveError> {
    small_file::replace(io, dir, path, Bytes::from(text)).await.map_err(MoveError::io("write", path))
}

/// ringlog's metadata in Kafka's terms.
fn cluster(image: &Image, node_id: i32, notes: &mut Vec<String>) -> Cluster {
    let mut cluster = Cluster { next_producer_id: image.next_producer_id, ..Cluster::default() };
    for topic in image.topics() {
        let state = |leader_epoch| ReplicaState {
            replicas: vec![node_id],
            isr: vec![node_id],
            eligible: Vec::new(),
            leader: None,
            leader_epoch,
        };
        let partitions: BTreeMap<i32, ReplicaState> =
            (0..).zip(topic.partitions.iter().map(|partition| state(partition.leader_epoch))).collect();
        cluster.topics.insert(topic.id.0, KraftTopic { name: topic.name.to_string(), partitions });
        for (name, value) in &topic.configs {
            if OWN_CONFIGS.contains(&name.as_str()) {
                notes.push(format!("config {name}={value} of topic {} is ringlog's own", topic.name));
                continue;
            }
            cluster.topic_configs.insert((topic.name.to_string(), name.clone()), value.clone());
        }
    }
    let dynamic = image.dynamic(node_id);
    for (whose, configs) in [("this broker", &dynamic.this_broker), ("all brokers", &dynamic.all_brokers)] {
        let left = |(name, value)| format!("config {name}={value} of {whose}: set it in Kafka's own config");
        notes.extend(configs.iter().map(left));
    }
    // As if each of its records had been a record of Kafka's log.
    cluster.end = (i64::try_from(image.version).expect("far fewer").max(1), 1);
    cluster
}

//! Taking over data directories that Apache Kafka has left.
//!
//! Everything is looked through before anything is taken: a directory is Kafka's until `cluster-metadata.log` is there, whole, and
//! ringlog's from then on. What was done before that does not keep Kafka from starting again.

use super::kraft::{Cluster, KraftTopic, ReplicaState};
use super::offset_files::{self, Offsets};
use super::{CLEAN_SHUTDOWN, HIGH_WATERMARKS, KRAFT_FOLDER, LOG_STARTS, MoveError, RECOVERY_POINTS, Words};
use crate::broker::topic_of;
use crate::cluster::{DataDir, DataDirs, Image, METADATA_FILE, PartitionRecord, Record};
use crate::config::topic_key;
use bytes::Bytes;
use ringlog_engine::io::host::{Host, IoChoice};
use ringlog_engine::io::{DirId, Io, small_file};
use ringlog_engine::log::{self, Cache, Log, LogConfig, LogDir, Survey};
use ringlog_engine::shard::{Executor, Shard, ShardId};
use ringlog_wire::Uuid;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What has been taken over.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Taken {
    /// Topics.
    pub topics: usize,
    /// Partitions.
    pub partitions: usize,
    /// Batches, all of them checked.
    pub batches: u64,
    /// Their records.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes at ends of logs that were no whole batches: Kafka was killed.
    pub torn_bytes: u64,
    /// Transactions that were aborted.
    pub aborted: usize,
    /// Whether only the end of a former run was left to do.
    pub finished_only: bool,
    /// What has been left behind, in words.
    pub notes: Vec<String>,
}

/// Whether a directory holds Apache Kafka's data and nothing of ringlog's, or a move was cut short; and what to do about it.
pub fn is_kafkas(dirs: &[PathBuf]) -> Option<String> {
    let ringlogs = dirs.first()?.join(METADATA_FILE).exists();
    let kraft = dirs.iter().find(|dir| dir.join(KRAFT_FOLDER).exists());
    let other = || {
        dirs.iter().find(|dir| [CLEAN_SHUTDOWN, RECOVERY_POINTS].iter().any(|name| dir.join(name).exists()))
    };
    match (ringlogs, kraft) {
        (true, Some(dir)) => Some(format!(
            "{}: a move from or to Apache Kafka was cut short; run `ringlog from-kafka` or `ringlog to-kafka` again",
            dir.display()
        )),
        (false, Some(dir)) => Some(held(dir)),
        (true, None) => None,
        (false, None) => other().map(|dir| held(dir)),
    }
}

fn held(dir: &Path) -> String {
    format!(
        "{} holds data of Apache Kafka; `ringlog from-kafka` takes it over, or give another directory",
        dir.display()
    )
}

/// Takes over the data directories of one Kafka node that has been stopped.
pub fn from_kafka(dirs: &[PathBuf], io: IoChoice) -> Result<Taken, MoveError> {
    let first = dirs.first().expect("there is a directory");
    let host = Host::open(dirs, io).map_err(|error| MoveError::directory(first, error.to_string()))?;
    let driver = host.driver().map_err(MoveError::io("start to read", first))?;
    let mut executor = Executor::new(ShardId(0), driver);
    let shard = executor.shard().clone();
    let dirs = dirs.to_vec();
    executor.block_on(async move { Taking::begin(shard, &dirs).await?.take(&dirs).await })
}

struct Taking {
    shard: Shard,
    dirs: DataDirs,
    node_id: i32,
}

/// A partition as it lies there.
struct Found {
    name: String,
    place: LogDir,
    directory: Uuid,
    log_start: Option<i64>,
    leader_epoch: i32,
}

impl Taking {
    async fn begin(shard: Shard, paths: &[PathBuf]) -> Result<Self, MoveError> {
        let io = shard.io();
        let mut node_id = None;
        for (dir, path) in (0..).map(DirId).zip(paths) {
            let says = DataDirs::node_id(io, dir, path).await?;
            let says = says
                .ok_or_else(|| MoveError::directory(path, "holds no meta.properties: it is not Kafka's"))?;
            node_id = node_id.or(Some(says));
        }
        let node_id = node_id.expect("there is a directory");
        let dirs = DataDirs::open(io, paths, node_id).await?;
        Ok(Self { shard, dirs, node_id })
    }

    fn io(&self) -> &Io {
        self.shard.io()
    }

    async fn take(&self, paths: &[PathBuf]) -> Result<Taken, MoveError> {
        let first = &paths[0];
        let kraft = paths.iter().find(|path| path.join(KRAFT_FOLDER).exists());
        if first.join(METADATA_FILE).exists() {
            return match kraft {
                Some(_) => {
                    self.clear_up().await?;
                    Ok(Taken { finished_only: true, ..Taken::default() })
                }
                None => Err(MoveError::directory(first, "is ringlog's already")),
            };
        }
        let folder = kraft.ok_or_else(|| {
            let why = format!("there is no {KRAFT_FOLDER} in any directory: give all of the node's log.dirs");
            MoveError::directory(first, why)
        })?;
        let folder = folder.join(KRAFT_FOLDER);
        let cluster = Cluster::read(&folder).map_err(MoveError::io("read", &folder))?;
        let starts = self.log_starts()?;
        let mut taken = Taken::default();
        let mut refused = Vec::new();
        let mut found: BTreeMap<[u8; 16], Vec<Found>> = BTreeMap::new();
        for (id, topic) in &cluster.topics {
            for (index, (&partition, state)) in topic.partitions.iter().enumerate() {
                let name = format!("{}-{partition}", topic.name);
                if usize::try_from(partition) != Ok(index) {
                    refused.push((name, "partitions before it are not in Kafka's metadata".into()));
                    continue;
                }
                let start = starts.get(&(topic.name.clone(), partition)).copied();
                match self.look(*id, &name, state, start).await {
                    Ok((one, survey)) => {
                        taken.count(&survey);
                        found.entry(*id).or_default().push(one);
                    }
                    Err(Words(why)) => refused.push((name, why)),
                }
            }
        }
        if !refused.is_empty() {
            return Err(MoveError::Partitions(refused));
        }
        // From here on files of Kafka's partitions are written, to forms that Kafka reads too.
        let mut image = Image::default();
        let mut records = vec![
            Record::Cluster { cluster_id: self.dirs.cluster_id.clone() },
            Record::ProducerIds { next: cluster.next_producer_id },
        ];
        for (id, topic) in &cluster.topics {
            let configs = configs(&cluster, topic, &mut taken.notes);
            let mut partitions = Vec::new();
            for one in found.remove(id).unwrap_or_default() {
                let leader_epoch = self
                    .settle(&one)
                    .await
                    .map_err(|Words(why)| MoveError::Partitions(vec![(one.name.clone(), why)]))?;
                partitions.push(PartitionRecord { leader_epoch, directory: one.directory });
            }
            taken.topics += 1;
            records.push(Record::Topic { name: topic.name.clone(), id: Uuid(*id), partitions, configs });
        }
        for record in &records {
            image.apply(record).map_err(|why| MoveError::directory(&folder, why))?;
        }
        note_others(&cluster, &mut taken.notes);
        let lines: String = image.records().iter().map(Record::to_line).collect();
        let metadata = first.join(METADATA_FILE);
        let written = small_file::replace(self.io(), DirId(0), &metadata, Bytes::from(lines)).await;
        written.map_err(MoveError::io("write", &metadata))?;
        self.clear_up().await?;
        Ok(taken)
    }

    /// Where each partition's records begin, as Kafka has noted it.
    fn log_starts(&self) -> Result<Offsets, MoveError> {
        let mut starts = Offsets::new();
        for dir in &self.dirs.dirs {
            let path = dir.path.join(LOG_STARTS);
            match std::fs::read_to_string(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(MoveError::io("read", &path)(error)),
                Ok(text) => {
                    let found = offset_files::parse(&text);
                    // Without it deleted records would come back.
                    starts.extend(found.ok_or_else(|| MoveError::directory(&path, "is damaged"))?);
                }
            }
        }
        Ok(starts)
    }

    /// Finds a partition's directory and looks through it.
    async fn look(
        &self,
        topic: [u8; 16],
        name: &str,
        state: &ReplicaState,
        log_start: Option<i64>,
    ) -> Result<(Found, Survey), Words> {
        // The only copy there is, or one that has all that was acknowledged.
        let has_all = state.replicas == [self.node_id]
            || state.isr.contains(&self.node_id)
            || state.eligible.contains(&self.node_id);
        if !has_all {
            let (node, isr) = (self.node_id, &state.isr);
            return Err(Words(format!("node {node} was not in sync (in sync: {isr:?})")));
        }
        let held: Vec<&DataDir> = self.dirs.dirs.iter().filter(|dir| dir.path.join(name).is_dir()).collect();
        let dir = match held[..] {
            [dir] => dir,
            [] => return Err(Words("it lies in none of these directories".into())),
            _ => return Err(Words("it lies in several of these directories".into())),
        };
        let place = LogDir { dir: dir.dir, path: dir.path.join(name) };
        let metadata = std::fs::read(place.path.join("partition.metadata"))?;
        if topic_of(&metadata) != Some(Uuid(topic)) {
            return Err(Words("its partition.metadata names another topic".into()));
        }
        let survey = log::survey(self.io(), &place).await.map_err(|error| match error {
            open @ log::SurveyError::OpenTransaction { .. } => Words(format!(
                "{open}: start Kafka again and wait until it has, or end it with kafka-transactions.sh"
            )),
            other => Words::from(other),
        })?;
        let found = Found {
            name: name.to_owned(),
            place,
            directory: dir.id,
            log_start,
            leader_epoch: state.leader_epoch,
        };
        Ok((found, survey))
    }

    /// Opens a partition and stops it: it has a checkpoint, indexes and snapshots then. Returns its leader epoch.
    async fn settle(&self, found: &Found) -> Result<i32, Words> {
        log::take_over(self.io(), &found.place).await?;
        let config = LogConfig::default();
        let (log, _) = Log::open(&self.shard, found.place.clone(), config, &Cache::new(1 << 20)).await?;
        let marks = log.marks();
        if let Some(start) = found.log_start.map(|start| start.min(marks.log_end))
            && start > marks.log_start
        {
            log.delete_before(start).await?;
        }
        let epoch = log.latest_epoch().unwrap_or(0).max(found.leader_epoch);
        log.close().await?;
        Ok(epoch)
    }

    /// Puts Kafka's own notes out of the way: they would be wrong once ringlog has written.
    async fn clear_up(&self) -> Result<(), MoveError> {
        for dir in &self.dirs.dirs {
            let folder = dir.path.join(KRAFT_FOLDER);
            if folder.exists() {
                // As Kafka calls a partition's directory that is nobody's: it passes over this one.
                let hex = format!("{:016x}{:016x}", self.io().random(), self.io().random());
                let aside = dir.path.join(format!("{KRAFT_FOLDER}.{hex}-stray"));
                let renamed = self.io().rename(dir.dir, folder.clone(), aside).await;
                renamed.map(drop).map_err(MoveError::io("rename", &folder))?;
            }
            for name in [CLEAN_SHUTDOWN, LOG_STARTS, RECOVERY_POINTS, HIGH_WATERMARKS] {
                let path = dir.path.join(name);
                match self.io().unlink(dir.dir, path.clone()).await {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        return Err(MoveError::io("remove", &path)(error));
                    }
                    _ => {}
                }
            }
            let synced = self.io().sync_dir(dir.dir, dir.path.clone()).await;
            synced.map(drop).map_err(MoveError::io("sync", &dir.path))?;
        }
        Ok(())
    }
}

impl Taken {
    fn count(&mut self, survey: &Survey) {
        self.partitions += 1;
        self.batches += survey.batches;
        self.records += survey.records;
        self.bytes += survey.bytes;
        self.torn_bytes += survey.torn_bytes;
        self.aborted += survey.aborted;
    }
}

/// A topic's configs, those that ringlog knows.
fn configs(cluster: &Cluster, topic: &KraftTopic, notes: &mut Vec<String>) -> BTreeMap<String, String> {
    let mut configs = BTreeMap::new();
    for ((_, name), value) in cluster.topic_configs.iter().filter(|((of, _), _)| *of == topic.name) {
        match topic_key(name) {
            Some(key) if key.kind.check(value).is_ok() => {
                configs.insert(name.clone(), value.clone());
            }
            _ => notes.push(format!("config {name}={value} of topic {} is not known here", topic.name)),
        }
    }
    configs
}

/// Says which kinds of Kafka's records have no place here.
fn note_others(cluster: &Cluster, notes: &mut Vec<String>) {
    for (keys, what) in [
        (&[4][..], "configs of brokers: set them in ringlog's own config"),
        (&[14], "client quotas"),
        (&[11, 22], "SCRAM credentials"),
        (&[18, 19], "access control entries"),
        (&[10, 26], "delegation tokens"),
    ] {
        let count: usize = keys.iter().filter_map(|key| cluster.others.get(key)).sum();
        if count > 0 {
            notes.push(format!("{count} records of {what}"));
        }
    }
}

//! The controller: the one place that changes the cluster's metadata. Lives on shard 0.

use super::metadata_log::{MetadataError, MetadataLog};
use super::{
    ConfigChange, DataDirs, Image, Outcome, Record, Refusal, Request, Topic, configs, random_id, scram,
    topics,
};
use crate::config::BrokerConfig;
use ringlog_engine::io::Io;
use ringlog_engine::shard::sync::Credits;
use ringlog_wire::{ErrorCode, Uuid};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

/// Brings a new image to every shard; ends when each has applied it.
pub type Publish = Box<dyn Fn(Arc<Image>) -> Pin<Box<dyn Future<Output = ()>>>>;

/// What the shards say of the disks.
pub struct Disks {
    /// Whether new partitions may be put into the data directory with this id.
    pub usable: Box<dyn Fn(Uuid) -> bool>,
    /// Whether all partitions of the last image that was published could be opened.
    pub all_open: Box<dyn Fn() -> bool>,
}

/// Changes the metadata, one request after another.
#[derive(Clone)]
pub struct Controller(Rc<Inner>);

struct Inner {
    io: Io,
    config: Arc<BrokerConfig>,
    dirs: Arc<DataDirs>,
    /// One change at a time: each is checked against the image the one before it left.
    turn: Credits,
    log: RefCell<Option<MetadataLog>>,
    image: RefCell<Arc<Image>>,
    publish: Publish,
    disks: Disks,
}

/// Producer ids reserved at a time (Kafka's `PRODUCER_ID_BLOCK_SIZE`).
const PRODUCER_IDS: i64 = 1000;

impl Controller {
    /// Takes over the metadata log and notes that the broker has started: every leader epoch grows by one. The image is
    /// committed, but not published yet.
    pub async fn start(
        io: &Io,
        config: Arc<BrokerConfig>,
        dirs: Arc<DataDirs>,
        (mut log, mut image): (MetadataLog, Image),
        publish: Publish,
        disks: Disks,
    ) -> Result<Self, MetadataError> {
        log.compact_if_grown(&image).await?;
        let mut records = Vec::new();
        if !image.cluster_id.is_empty() && *image.cluster_id != *dirs.cluster_id {
            let (path, why) =
                (dirs.dirs[0].path.clone(), "belongs to another cluster than its cluster-metadata.log");
            return Err(MetadataError::Foreign { path: path.join("meta.properties"), why });
        }
        if image.cluster_id.is_empty() {
            records.push(Record::Cluster { cluster_id: dirs.cluster_id.clone() });
        }
        records.push(Record::Started);
        log.append(&records).await?;
        for record in &records {
            image.apply(record).expect("records that begin a run fit any image");
        }
        Ok(Self(Rc::new(Inner {
            io: io.clone(),
            config,
            dirs,
            turn: Credits::new(1),
            log: RefCell::new(Some(log)),
            image: RefCell::new(Arc::new(image)),
            publish,
            disks,
        })))
    }

    /// The committed image.
    pub fn image(&self) -> Arc<Image> {
        self.0.image.borrow().clone()
    }

    /// Carries out a request. What it says was done is durable, and known to every shard.
    pub async fn handle(&self, request: Request) -> Outcome {
        let _turn = self.0.turn.take(1).await;
        let dirs = self.usable_dirs();
        match request {
            Request::CreateTopics { topics, validate_only } => {
                let names = duplicates(topics.iter().map(|topic| topic.name.as_str()));
                let create = |image: &Image, at: usize| {
                    let new = &topics[at];
                    refuse_duplicate(&names, &new.name)?;
                    topics::create(image, &self.0.config, &dirs, new, self.new_topic_id(image))
                        .map(|record| (record, None))
                };
                self.change(topics.len(), validate_only, create).await
            }
            Request::DeleteTopics(topics) => {
                let delete = |image: &Image, at: usize| {
                    topics::delete(image, &self.0.config, &topics[at])
                        .map(|(record, topic)| (record, Some(topic)))
                };
                self.change(topics.len(), false, delete).await
            }
            Request::CreatePartitions { topics, validate_only } => {
                let names = duplicates(topics.iter().map(|topic| topic.name.as_str()));
                let grow = |image: &Image, at: usize| {
                    refuse_duplicate(&names, &topics[at].name)?;
                    topics::grow(image, &self.0.config, &dirs, &topics[at]).map(|record| (record, None))
                };
                self.change(topics.len(), validate_only, grow).await
            }
            Request::AlterConfigs { changes, validate_only } => {
                self.alter_configs(&changes, validate_only).await
            }
            Request::AlterScram(changes) => self.alter_scram(&changes).await,
            Request::ProducerIds => self.producer_ids().await,
            Request::NoteOpened => self.note_opened().await,
        }
    }

    /// Makes a record for each of `count` topics, against the image the ones before it leave, and commits them together.
    async fn change(
        &self,
        count: usize,
        validate_only: bool,
        make: impl Fn(&Image, usize) -> Result<(Record, Option<Arc<Topic>>), Refusal>,
    ) -> Outcome {
        let mut image = Image::clone(&self.image());
        let mut records = Vec::new();
        let mut outcomes = Vec::new();
        for at in 0..count {
            let outcome = make(&image, at).map(|(record, was)| {
                image.apply(&record).expect("a record made for this image fits it");
                let topic = was.unwrap_or_else(|| changed_topic(&image, &record));
                records.push(record);
                topic
            });
            outcomes.push(outcome);
        }
        if validate_only || records.is_empty() {
            return Outcome::Topics(outcomes);
        }
        match self.commit(&records, image).await {
            Ok(()) => Outcome::Topics(outcomes),
            Err(error) => failed(&error),
        }
    }

    /// Changes the configs of each thing as far as they may be, and commits the changes together.
    async fn alter_configs(&self, changes: &[ConfigChange], validate_only: bool) -> Outcome {
        let mut image = Image::clone(&self.image());
        let mut records = Vec::new();
        let mut outcomes = Vec::new();
        for change in changes {
            let made = configs::alter(&image, &self.0.config, change);
            outcomes.push(made.map(|record| {
                if let Some(record) = record {
                    image.apply(&record).expect("a record made for this image fits it");
                    records.push(record);
                }
            }));
        }
        if validate_only || records.is_empty() {
            return Outcome::Configs(outcomes);
        }
        match self.commit(&records, image).await {
            Ok(()) => Outcome::Configs(outcomes),
            Err(error) => failed(&error),
        }
    }

    /// Changes credentials of each user as far as they may be, and commits the changes together.
    async fn alter_scram(&self, changes: &[super::ScramChange]) -> Outcome {
        let mut image = Image::clone(&self.image());
        let (records, users) = scram::alter(&image, changes);
        if records.is_empty() {
            return Outcome::Scram(users);
        }
        for record in &records {
            image.apply(record).expect("a record made for this image fits it");
        }
        match self.commit(&records, image).await {
            Ok(()) => Outcome::Scram(users),
            Err(error) => failed(&error),
        }
    }

    /// A partition that could not be opened may never have had a directory: then nothing is noted.
    async fn note_opened(&self) -> Outcome {
        let mut image = Image::clone(&self.image());
        if image.all_were_opened() || !(self.0.disks.all_open)() {
            return Outcome::Topics(Vec::new());
        }
        image.apply(&Record::Opened).expect("it fits any image");
        match self.commit(&[Record::Opened], image).await {
            Ok(()) => Outcome::Topics(Vec::new()),
            Err(error) => failed(&error),
        }
    }

    async fn producer_ids(&self) -> Outcome {
        let mut image = Image::clone(&self.image());
        let first = image.next_producer_id;
        let record = Record::ProducerIds { next: first + PRODUCER_IDS };
        image.apply(&record).expect("ids can always be reserved");
        match self.commit(&[record], image).await {
            Ok(()) => Outcome::ProducerIds { first, count: PRODUCER_IDS },
            Err(error) => failed(&error),
        }
    }

    /// Makes records durable and their image known to every shard.
    async fn commit(&self, records: &[Record], image: Image) -> Result<(), MetadataError> {
        // Out of its cell while it is written; the turn keeps others away.
        let mut log = self.0.log.borrow_mut().take().expect("one change at a time");
        let appended = log.append(records).await;
        let compacted = match &appended {
            Ok(()) => log.compact_if_grown(&image).await,
            Err(_) => Ok(()),
        };
        *self.0.log.borrow_mut() = Some(log);
        appended?;
        let image = Arc::new(image);
        *self.0.image.borrow_mut() = image.clone();
        (self.0.publish)(image).await;
        compacted
    }

    fn usable_dirs(&self) -> DataDirs {
        let all = &self.0.dirs;
        let dirs = all.dirs.iter().filter(|dir| (self.0.disks.usable)(dir.id)).cloned().collect();
        DataDirs { dirs, cluster_id: all.cluster_id.clone(), not_removed: BTreeSet::new() }
    }

    fn new_topic_id(&self, image: &Image) -> Uuid {
        loop {
            let id = random_id(&self.0.io);
            if image.topic_by_id(id).is_none() {
                return id;
            }
        }
    }
}

/// The topic a record has made or changed.
fn changed_topic(image: &Image, record: &Record) -> Arc<Topic> {
    let id = match record {
        Record::Topic { id, .. } => *id,
        Record::Partitions { topic, .. } => *topic,
        other => panic!("{other:?} leaves no topic"),
    };
    image.topic_by_id(id).expect("just changed").clone()
}

fn failed(error: &MetadataError) -> Outcome {
    eprintln!("ERROR metadata: {error}");
    Outcome::Failed(ErrorCode::KafkaStorageError)
}

/// Names that are there more than once.
fn duplicates<'a>(names: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    names.filter(|name| !seen.insert(*name)).map(str::to_owned).collect()
}

fn refuse_duplicate(duplicates: &BTreeSet<String>, name: &str) -> Result<(), Refusal> {
    if duplicates.contains(name) {
        return Err(Refusal::new(
            ErrorCode::InvalidRequest,
            format!("Topic '{name}' is there more than once."),
        ));
    }
    Ok(())
}

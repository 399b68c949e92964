//! Bringing a shard in line with the image: partitions are opened, configured and removed.

use super::identity::{Before, Claimed, claim, folder};
use super::{Broker, Offline, PendingAnswer, Stage};
use crate::calls::{Answer, Call};
use crate::cluster::{DataDirs, Image, Request, Topic, sync_file_system};
use crate::config::ConnectionLimits;
use crate::group::OFFSETS_TOPIC;
use crate::partition::{Lead, Partition, PartitionId, log_config};
use crate::share::STATE_TOPIC;
use ringlog_engine::log::{Log, LogConfig, LogDir, LogId, OpenError, Recovered};
use ringlog_engine::shard::ShardId;
use ringlog_wire::Uuid;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Logs opened at the same time: recovery reads files, and the disk has a queue; and so many that neither helper threads nor the shard sleep
/// between two steps.
const OPENING_MAX: usize = 64;

/// Partitions that were made are noted to have been opened after this time.
const NOTE_OPENED_AFTER: Duration = Duration::from_secs(1);

impl Broker {
    /// Goes by a new image: returns when this shard has opened what it owns of it and let go of what is gone. Only topics that have changed
    /// are looked at: there may be ten thousand others.
    pub async fn apply(&self, image: Arc<Image>) {
        let before = std::mem::replace(&mut *self.0.image.borrow_mut(), image.clone());
        let changed = image.unlike(&before);
        let gone: Vec<Arc<Topic>> =
            before.unlike(&image).into_iter().filter(|topic| image.topic_by_id(topic.id).is_none()).collect();
        let new: Vec<PartitionId> = changed.iter().flat_map(|topic| self.own(topic)).collect();
        let new: Vec<PartitionId> = {
            let open = self.0.partitions.borrow();
            let opening = self.0.opening.borrow();
            // What is offline stays so until the broker starts again.
            let is_new =
                |id: &PartitionId| !open.contains_key(id) && !opening.contains(id) && !self.is_offline(*id);
            new.into_iter().filter(is_new).collect()
        };
        self.0.opening.borrow_mut().extend(new.iter().copied());
        self.forget_offline();
        self.configure(&image, &changed);
        for partition in gone.iter().flat_map(|topic| self.own(topic)).filter_map(|id| self.partition(id)) {
            self.0.partitions.borrow_mut().remove(&partition.id());
            partition.retire();
            self.stop_coordinating(partition.id());
            self.stop_keeping_shares(partition.id());
            self.forget_shared(
                |id, _| id == partition.id(),
                ringlog_wire::ErrorCode::UnknownTopicOrPartition,
            );
            self.0.removing.set(self.0.removing.get() + 1);
            let this = self.clone();
            self.0.shard.spawn(async move {
                this.remove(&partition).await;
                this.0.removing.set(this.0.removing.get() - 1);
                this.0.changed.notify();
            });
        }
        self.forget_offsets(&gone).await;
        self.forget_states(&gone).await;
        // A topic made anew under a former name gets the folder of that name: it must be free.
        while self.0.removing.get() > 0 {
            self.0.changed.next().await;
        }
        for id in new {
            while self.0.opening_now.get() >= OPENING_MAX {
                self.0.changed.next().await;
            }
            self.0.opening_now.set(self.0.opening_now.get() + 1);
            let this = self.clone();
            self.0.shard.spawn(async move {
                this.open(id).await;
                this.0.opening.borrow_mut().remove(&id);
                this.0.opening_now.set(this.0.opening_now.get() - 1);
                this.0.changed.notify();
            });
        }
        // Others may have been on their way before.
        let opening: Vec<PartitionId> = self.0.opening.borrow().iter().copied().collect();
        for id in opening {
            while self.0.opening.borrow().contains(&id) && image.topic_by_id(Uuid(id.topic)).is_some() {
                self.0.changed.next().await;
            }
        }
    }

    /// Tells every shard the data directories, and what journals hold of the logs in them.
    pub async fn use_directories(&self, dirs: Arc<DataDirs>) {
        let (left, unread) = self.read_journals(&dirs).await;
        for shard in 0..self.shards() {
            self.ask(ShardId(shard), Call::Directories(dirs.clone(), left.clone())).await;
        }
        for dir in unread {
            self.go_offline(Offline::Directory(dir));
        }
    }

    /// When all logs are open: makes durable what opening them has found and cut off.
    pub async fn sync_directories(&self, dirs: &DataDirs) {
        for data in &dirs.dirs {
            if let Err(error) = sync_file_system(self.0.shard.io(), data.dir, &data.path).await {
                eprintln!("ERROR sync {}: {error}", data.path.display());
                self.go_offline(Offline::Directory(data.id));
            }
        }
    }

    /// Has every shard go by a new image, and waits until they do.
    pub async fn publish(&self, image: Arc<Image>) {
        let answers: Vec<PendingAnswer> =
            (0..self.shards()).map(|shard| self.ask(ShardId(shard), Call::Apply(image.clone()))).collect();
        for answer in answers {
            let Answer::Done = answer.await else { unreachable!("an image is applied and that is all") };
        }
    }

    /// Partitions may have been made: it is noted that they were opened, of those of a while at once. Nobody waits for it.
    pub(super) fn note_opened_soon(&self) {
        if self.0.noting.replace(true) {
            return;
        }
        let this = self.clone();
        self.0.shard.spawn(async move {
            this.0.shard.sleep(NOTE_OPENED_AFTER).await;
            this.0.noting.set(false);
            if !this.is_stopping() {
                this.control(Request::NoteOpened).await;
            }
        });
    }

    /// Waits until nothing is being opened or removed.
    pub(super) async fn settle(&self) {
        while self.0.removing.get() > 0 || !self.0.opening.borrow().is_empty() {
            self.0.changed.next().await;
        }
    }

    pub(super) fn owned(&self, image: &Image) -> BTreeSet<PartitionId> {
        image.topics().flat_map(|topic| self.own(topic)).collect()
    }

    /// The partitions of a topic that are this shard's.
    fn own(&self, topic: &Topic) -> impl Iterator<Item = PartitionId> + use<'_> {
        let (id, own) = (topic.id, self.0.shard.id());
        let indexes = 0..i32::try_from(topic.partitions.len()).expect("indexes are 32 bits");
        indexes.map(move |index| PartitionId::new(id, index)).filter(move |id| self.owner(*id) == own)
    }

    /// Configs of these topics, or of the broker, may have changed.
    fn configure(&self, image: &Image, changed: &[Arc<Topic>]) {
        self.0.topic_configs.borrow_mut().clear();
        let dynamic = image.dynamic(self.0.config.node_id);
        if *self.settings().dynamic() == dynamic {
            changed.iter().for_each(|topic| self.configure_topic(topic));
        } else {
            let settings = Arc::new(self.0.config.settings.with(dynamic));
            self.0.quotas.set_limits(ConnectionLimits::new(&settings, &self.0.config.listeners));
            *self.0.settings.borrow_mut() = settings;
            image.topics().for_each(|topic| self.configure_topic(topic));
        }
    }

    fn configure_topic(&self, topic: &Topic) {
        for partition in self.own(topic).filter_map(|id| self.partition(id)) {
            let config = self.topic_config(topic);
            if *config != *partition.config() {
                partition.configure(config);
            }
        }
    }

    /// Partitions of this shard that are not there though nobody opens them any more: something is wrong with their logs.
    pub fn unopened(&self) -> usize {
        if self.stage() >= Stage::Drained {
            return 0;
        }
        self.image().topics().map(|topic| self.unopened_of(topic)).sum()
    }

    fn unopened_of(&self, topic: &Topic) -> usize {
        let open = self.0.partitions.borrow();
        let all = PartitionId::new(topic.id, 0)..=PartitionId::new(topic.id, i32::MAX);
        // Nearly always all are open, and to count them takes far less than to look for each.
        if self.own(topic).count() == open.range(all).count() {
            return 0;
        }
        let opening = self.0.opening.borrow();
        self.own(topic).filter(|id| !open.contains_key(id) && !opening.contains(id)).count()
    }

    /// Whether a partition that is not open here, though somebody thinks it is, will be: it is on its way, or this shard does not know its topic.
    /// Then one of the two shards goes by an older image, and soon both know the topic, or neither does.
    pub(super) fn is_to_come(&self, id: PartitionId) -> bool {
        self.0.opening.borrow().contains(&id) || self.image().topic_by_id(Uuid(id.topic)).is_none()
    }

    /// What opening logs has come to so far.
    pub fn recovery(&self) -> Recovery {
        Recovery { waiting: self.0.opening.borrow().len(), ..*self.0.recovery.borrow() }
    }

    async fn open(&self, id: PartitionId) {
        let image = self.image();
        let Some(topic) = image.topic_by_id(Uuid(id.topic)) else { return };
        let Some(state) = topic.partition(id.index) else { return };
        let config = self.topic_config(topic);
        let before = match image.was_opened(topic.id, id.index) {
            true => Before::Opened,
            false => Before::PerhapsNever,
        };
        let log = match self.open_log(topic, id.index, before, log_config(&config)).await {
            Ok((log, recovered)) => {
                self.0.recovery.borrow_mut().add(recovered);
                if recovered.torn || recovered.segments_removed > 0 {
                    let (name, end) = (folder(topic, id.index), log.marks().log_end);
                    eprintln!(
                        "partition {name}: what no whole batch was in has been cut off at offset {end}: {recovered:?}"
                    );
                }
                log
            }
            // The partition stays away: its clients are told that it is offline, the others go on.
            Err(why) => {
                self.log_unopened(topic, id, &why);
                return self.go_offline(Offline::Partition(id));
            }
        };
        let lead =
            Lead { name: topic.name.clone(), id, leader_epoch: state.leader_epoch, config: config.clone() };
        let partition = Partition::lead(lead, log);
        self.listen_to_log(&partition);
        // The topic may have gone, or changed, while its log was being read.
        let now = self.image();
        match now.topic_by_id(topic.id) {
            Some(now) => {
                let config = self.topic_config(now);
                if *config != *partition.config() {
                    partition.configure(config);
                }
                self.0.partitions.borrow_mut().insert(id, partition.clone());
                if *topic.name == *OFFSETS_TOPIC {
                    self.coordinate(partition);
                } else if *topic.name == *STATE_TOPIC {
                    self.keep_shares(partition);
                }
            }
            None => {
                partition.retire();
                self.remove(&partition).await;
            }
        }
    }

    async fn open_log(
        &self,
        topic: &Topic,
        index: i32,
        before: Before,
        config: LogConfig,
    ) -> Result<(Log, Recovered), Unopened> {
        let dirs = self.directories();
        let state = topic.partition(index).expect("who asks has looked");
        let dir = dirs.by_id(state.directory).ok_or(Unopened::NoDirectory)?;
        let place = LogDir { dir: dir.dir, path: dir.path.join(folder(topic, index)) };
        let is_new = state.leader_epoch == 0;
        // What is there when a topic is made anew is of one that is gone, even where the metadata has forgotten that.
        let is_gone = |found: Uuid| is_new || dirs.not_removed.contains(&found.0);
        let claimed = claim(self.0.shard.io(), &place, topic.id, before, is_gone).await;
        let claimed = claimed.map_err(Unopened::Identity)?;
        if let Claimed::Now { aside: Some(stray) } = &claimed {
            eprintln!("a directory of another topic named {} was moved to {}", topic.name, stray.display());
        }
        let (shard, cache) = (&self.0.shard, &self.0.cache);
        let journals = self.0.journals.borrow().clone();
        let id = LogId { topic: topic.id.0, index };
        let was_open = before == Before::Opened && claimed == Claimed::Before;
        let journaled = journals.of(&place, id, was_open);
        let opened = match is_new {
            true => Log::open_journaled(shard, place, config, cache, journaled).await,
            // They are opened when the broker starts, all of them.
            false => Log::open_among_many(shard, place, config, cache, journaled).await,
        };
        if opened.is_ok() {
            journals.opened(id);
        }
        opened.map_err(Unopened::Log)
    }

    async fn remove(&self, partition: &Partition) {
        if let Err(error) = partition.log().clone().remove().await {
            eprintln!("ERROR remove partition {partition:?}: {error}");
        }
    }

    fn log_unopened(&self, topic: &Topic, id: PartitionId, why: &Unopened) {
        let folder: PathBuf = folder(topic, id.index).into();
        match why {
            Unopened::Identity(error) => {
                eprintln!("ERROR partition {} is offline: {error}", folder.display());
            }
            Unopened::Log(error) => eprintln!("ERROR partition {} is offline: {error}", folder.display()),
            Unopened::NoDirectory => {
                eprintln!(
                    "ERROR partition {} is offline: its data directory is not configured, or not mounted: none has directory.id={}",
                    folder.display(),
                    topic.partition(id.index).map_or(Uuid::default(), |state| state.directory)
                );
            }
        }
    }
}

/// What a shard's logs needed to be opened.
#[derive(Debug, Clone, Copy, Default)]
pub struct Recovery {
    /// Logs that are open.
    pub opened: usize,
    /// Logs still to be opened.
    pub waiting: usize,
    /// Bytes of batches that were checked: none after a clean stop.
    pub scanned_bytes: u64,
    /// Bytes past the last whole batch that were cut off, most of them space prepared for more.
    pub cut_bytes: u64,
    /// Segments removed because they lay past a damaged one.
    pub segments_removed: usize,
}

impl Recovery {
    fn add(&mut self, log: Recovered) {
        self.opened += 1;
        self.scanned_bytes += log.scanned_bytes;
        self.cut_bytes += log.cut_bytes;
        self.segments_removed += log.segments_removed;
    }
}

enum Unopened {
    Identity(std::io::Error),
    Log(OpenError),
    NoDirectory,
}

//! The shards' journals, one for each data directory: what the last process has left in them, and this one's own.

use super::Broker;
use crate::calls::Call;
use crate::cluster::{DataDirs, Image};
use ringlog_engine::io::DirId;
use ringlog_engine::limits::BLOCK;
use ringlog_engine::log::{Journal, JournalLimits, Journaled, Left, LogDir, LogId};
use ringlog_engine::shard::ShardId;
use ringlog_wire::Uuid;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

/// A shard's journals.
#[derive(Default)]
pub(super) struct Journals {
    open: Vec<(DirId, Journal)>,
    left: Arc<Mutex<Left>>,
}

impl Journals {
    /// A log's part in its data directory's journal, and whether it was open in an earlier run.
    pub(super) fn of(&self, place: &LogDir, id: LogId, was_open: bool) -> Journaled<'_> {
        let journal = self.open.iter().find(|(dir, _)| *dir == place.dir).map(|(_, journal)| journal);
        Journaled { journal, id, left: self.left.lock().expect("no shard panics").of(id), was_open }
    }

    /// A log is open, and has what a journal had of it.
    pub(super) fn opened(&self, id: LogId) {
        self.left.lock().expect("no shard panics").forget(id);
    }

    /// Whether a journal has something of a log that this image knows and that could not be opened.
    fn is_needed(&self, image: &Image) -> bool {
        let left = self.left.lock().expect("no shard panics");
        let known = |id: LogId| {
            image.topic_by_id(Uuid(id.topic)).is_some_and(|topic| topic.partition(id.index).is_some())
        };
        left.logs().any(known)
    }

    /// Those of these data directories may be written.
    pub(super) fn begin(&self, dirs: &[DirId]) {
        self.open.iter().filter(|(dir, _)| dirs.contains(dir)).for_each(|(_, journal)| journal.begin());
    }
}

impl Broker {
    /// Reads what the last process has left in the journals of all shards. Also tells which directories hold one that cannot be read: there
    /// acknowledged records would be missing.
    pub(super) async fn read_journals(&self, dirs: &DataDirs) -> (Arc<Mutex<Left>>, Vec<Uuid>) {
        let mut left = Left::default();
        let mut unread = Vec::new();
        for data in &dirs.dirs {
            if let Err(error) = left.read(self.0.shard.io(), data.dir, &data.path).await {
                eprintln!("ERROR read the journals of {}: {error}", data.path.display());
                unread.push(data.id);
            }
        }
        left.damage().iter().for_each(|damage| self.report_damage(damage));
        (Arc::new(Mutex::new(left)), unread)
    }

    /// This shard gets journals of its own, for later.
    pub(super) fn open_journals(&self, dirs: &DataDirs, left: Arc<Mutex<Left>>) {
        let shard = &self.0.shard;
        let limits = limits(self.0.config.journal_bytes);
        let journal = |limits| {
            dirs.dirs.iter().map(move |data| (data.dir, Journal::new(shard, data.dir, &data.path, limits)))
        };
        let open = limits.into_iter().flat_map(journal).collect();
        *self.0.journals.borrow_mut() = Rc::new(Journals { open, left });
    }

    /// When all logs are open and what they hold is durable: the journals of the last process go, and then this one's begin.
    pub async fn begin_journals(&self, dirs: &DataDirs) {
        let mut begin = Vec::new();
        if self.0.journals.borrow().is_needed(&self.image()) {
            eprintln!(
                "ERROR journals stay as they are until a start that can open the partitions that are offline now"
            );
            return;
        }
        for data in &dirs.dirs {
            if self.is_directory_offline(data.id) {
                continue;
            }
            match Left::remove(self.0.shard.io(), data.dir, &data.path).await {
                Ok(()) => begin.push(data.dir),
                Err(error) => eprintln!("ERROR remove the journals of {}: {error}", data.path.display()),
            }
        }
        for shard in 0..self.shards() {
            self.ask(ShardId(shard), Call::BeginJournals(begin.clone())).await;
        }
    }

    /// When the logs are closed.
    pub(super) async fn close_journals(&self) {
        let journals = self.0.journals.take();
        let Some(journals) = Rc::into_inner(journals) else { return };
        for (_, journal) in journals.open {
            if let Err(error) = journal.close().await {
                eprintln!("ERROR close a journal: {error}");
            }
        }
    }
}

/// How a journal of this many bytes works: a small one gives its logs' files less at a time.
fn limits(bytes: u64) -> Option<JournalLimits> {
    let half_bytes = bytes / 2 / BLOCK * BLOCK;
    let gathers = usize::try_from(half_bytes / 128).expect("a length in memory");
    let file_bytes = gathers.clamp(BLOCK as usize, JournalLimits::default().file_bytes);
    (half_bytes >= JournalLimits::HALF_BYTES_MIN).then_some(JournalLimits { half_bytes, file_bytes })
}

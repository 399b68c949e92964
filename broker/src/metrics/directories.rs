//! The data directories: how large their file systems are, how much of them is free, and whether they can be used.
//!
//! Asking a file system for its size may take as long as its device likes. So nobody waits for it: each question that comes starts a look, on a
//! helper thread, and is answered with what the last one has found.

use super::Snapshot;
use super::exposition::{Text, escaped};
use crate::broker::Broker;
use ringlog_engine::io::{Capacity, DirId};
use ringlog_engine::limits::reserve;
use ringlog_engine::shard::ShardId;
use ringlog_wire::Uuid;
use std::cell::Cell;
use std::collections::HashMap;
use std::path::PathBuf;
use std::rc::Rc;

/// One data directory as it is known.
#[derive(Debug, Clone)]
pub(super) struct Directory {
    pub(super) path: String,
    /// What partitions in it know it by; `None` if it could not be opened.
    pub(super) id: Option<Uuid>,
    /// It could not be opened, or has failed.
    pub(super) offline: bool,
    /// Of its file system, where that is known; not of one that is offline.
    pub(super) capacity: Option<Capacity>,
}

/// What is known of the directories' sizes: on shard 0, for all of them.
pub(super) struct Directories(Vec<Rc<Looks>>);

struct Looks {
    dir: DirId,
    path: PathBuf,
    under_way: Cell<bool>,
    found: Cell<Option<Capacity>>,
}

impl Directories {
    /// Begins to look at those that are configured.
    pub(super) fn new(broker: &Broker) -> Self {
        if broker.shard().id() != ShardId(0) {
            return Self(Vec::new());
        }
        let looks = broker.config().data_dirs.iter().enumerate().map(|(dir, path)| {
            let dir = DirId(u16::try_from(dir).expect("directories are counted in 16 bits"));
            Rc::new(Looks { dir, path: path.clone(), under_way: Cell::new(false), found: Cell::new(None) })
        });
        let directories = Self(looks.collect());
        directories.0.iter().for_each(|looks| looks.begin(broker));
        directories
    }

    /// As of the last look, and begins the next.
    pub(super) fn known(&self, broker: &Broker) -> Vec<Directory> {
        let opened: HashMap<DirId, Uuid> = broker.opened_directories().into_iter().collect();
        let known = self.0.iter().map(|looks| {
            let id = opened.get(&looks.dir).copied();
            let offline = id.is_none_or(|id| broker.is_directory_offline(id));
            if !offline {
                looks.begin(broker);
            }
            let capacity = looks.found.get().filter(|_| !offline);
            Directory { path: looks.path.display().to_string(), id, offline, capacity }
        });
        known.collect()
    }
}

impl Looks {
    fn begin(self: &Rc<Self>, broker: &Broker) {
        if self.under_way.replace(true) {
            return;
        }
        let (looks, shard) = (self.clone(), broker.shard().clone());
        broker.shard().spawn(async move {
            looks.found.set(shard.io().capacity(looks.dir, looks.path.clone()).await.ok());
            looks.under_way.set(false);
        });
    }
}

pub(super) fn directories(out: &mut Text<'_>, shards: &[Snapshot]) {
    let Some(first) = shards.first() else { return };
    let mut logs: HashMap<Uuid, (u64, u64)> = HashMap::new();
    for partition in shards.iter().flat_map(|shard| &shard.partitions) {
        let (valid, prepared) = logs.entry(partition.directory).or_default();
        *valid += partition.valid_bytes;
        *prepared += partition.prepared_bytes;
    }
    let of_logs = |directory: &Directory| logs.get(&directory.id?).copied().or(Some((0, 0)));
    type Figure<'a> = &'a dyn Fn(&Directory) -> Option<u64>;
    let figures: [(&str, &str, Figure<'_>); 6] = [
        (
            "ringlog_data_directory_offline",
            "Whether a data directory cannot be used, or has failed: 1 if so.",
            &|directory| Some(directory.offline.into()),
        ),
        (
            "ringlog_data_directory_total_bytes",
            "Size of the file system that a data directory is on.",
            &|directory| Some(directory.capacity?.total_bytes),
        ),
        (
            "ringlog_data_directory_usable_bytes",
            "Bytes of that file system that are free for the broker.",
            &|directory| Some(directory.capacity?.usable_bytes),
        ),
        (
            "ringlog_data_directory_reserve_bytes",
            "Bytes of that file system that logs leave free: what would take of them is refused.",
            &|directory| Some(reserve(directory.capacity?.total_bytes)),
        ),
        (
            "ringlog_data_directory_valid_bytes",
            "Valid bytes of the partitions in a data directory.",
            &|directory| Some(of_logs(directory)?.0),
        ),
        (
            "ringlog_data_directory_prepared_bytes",
            "Bytes prepared for what is to come, in a data directory.",
            &|directory| Some(of_logs(directory)?.1),
        ),
    ];
    for (name, help, figure) in figures {
        out.head(name, "gauge", help);
        for directory in &first.directories {
            if let Some(value) = figure(directory) {
                out.line(format_args!("{name}{{directory=\"{}\"}} {value}", escaped(&directory.path)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::exposition::text_of;
    use super::super::lag::Ages;
    use super::*;

    #[test]
    fn a_directory_that_is_offline_has_no_size() {
        let capacity = Some(Capacity { total_bytes: 100 << 30, usable_bytes: 40 << 30 });
        let directories = vec![
            Directory { path: "/a \"b\"".into(), id: Some(Uuid([1; 16])), offline: false, capacity },
            Directory { path: "/dead".into(), id: None, offline: true, capacity: None },
        ];
        let text = text_of(vec![Snapshot { directories, ..Snapshot::default() }], Vec::new(), Ages::new());
        for line in [
            "ringlog_data_directory_offline{directory=\"/a \\\"b\\\"\"} 0",
            "ringlog_data_directory_offline{directory=\"/dead\"} 1",
            "ringlog_data_directory_total_bytes{directory=\"/a \\\"b\\\"\"} 107374182400",
            "ringlog_data_directory_usable_bytes{directory=\"/a \\\"b\\\"\"} 42949672960",
            "ringlog_data_directory_reserve_bytes{directory=\"/a \\\"b\\\"\"} 268435456",
            "ringlog_data_directory_valid_bytes{directory=\"/a \\\"b\\\"\"} 0",
        ] {
            assert!(text.lines().any(|have| have == line), "{line}\nin\n{text}");
        }
        assert!(!text.contains("bytes{directory=\"/dead\"}"), "{text}");
    }
}

//! `partition.metadata`: which topic a partition's directory belongs to, as Apache Kafka writes it.
//!
//! Topics may be deleted and made anew under the same name; a deletion may be cut short by a crash. The id in the
//! directory keeps a topic from taking over the records of its predecessor.

use crate::cluster::{DataDir, DataDirs, Topic};
use bytes::Bytes;
use ringlog_engine::io::{Io, small_file};
use ringlog_engine::log::{LogDir, is_removed, remove_directory, remove_partition};
#[cfg(ringlog_plant)]
use ringlog_engine::plant::{self, Plant};
use ringlog_wire::Uuid;
use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

const FILE: &str = "partition.metadata";
const BYTES_MAX: u64 = 4096;

/// What is known of a partition from runs before this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Before {
    /// It was open: it has a directory.
    Opened,
    /// It may have been made, and the process died before its directory was.
    PerhapsNever,
}

/// What claiming a directory has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Claimed {
    /// It was this topic's already.
    Before,
    /// It is from now on.
    Now {
        /// Where one of a topic that is gone was moved to.
        aside: Option<PathBuf>,
    },
}

/// Sees that a partition's directory is there, durably, and that it is this topic's. One of a topic that is gone is moved aside, as
/// Kafka does with stray ones. One of a topic that nobody knows to be gone is left alone: what it says may be
/// damaged, and then its records are this topic's. One that does not say becomes this topic's. A missing one is made, but not where there was
/// one: records that were acknowledged were in it, and an empty log would hide that they are gone.
pub(super) async fn claim(
    io: &Io,
    place: &LogDir,
    topic: Uuid,
    before: Before,
    is_gone: impl Fn(Uuid) -> bool,
) -> io::Result<Claimed> {
    let file = place.path.join(FILE);
    let mut aside = None;
    if let Some(bytes) = small_file::read(io, place.dir, &file, BYTES_MAX).await? {
        #[cfg(ringlog_plant)]
        if plant::is(Plant::TakeOverAnotherTopicsFolder) {
            return Ok(Claimed::Before);
        }
        match topic_of(&bytes) {
            Some(found) if found == topic => return Ok(Claimed::Before),
            Some(found) if is_gone(found) => aside = Some(move_aside(io, place, found).await?),
            Some(found) => {
                let why = format!(
                    "{} names topic {found}, this is {topic}: it is damaged, or foreign",
                    file.display()
                );
                return Err(io::Error::new(io::ErrorKind::InvalidData, why));
            }
            None => {
                let why = format!("{} is damaged at byte 0: it names no topic", file.display());
                return Err(io::Error::new(io::ErrorKind::InvalidData, why));
            }
        }
    }
    if before == Before::Opened && !is_there(io, place).await? {
        let why = format!(
            "{} is gone, with all records in it: put it back or, to go on without them, make an empty directory of that name, and start again",
            place.path.display()
        );
        return Err(io::Error::new(io::ErrorKind::NotFound, why));
    }
    io.make_dir(place.dir, place.path.clone()).await?;
    let parent = place.path.parent().expect("a partition lies in a data directory");
    io.sync_dir(place.dir, parent.into()).await?;
    let content = format!("version: 0\ntopic_id: {topic}\n");
    small_file::replace(io, place.dir, &file, Bytes::from(content)).await?;
    Ok(Claimed::Now { aside })
}

async fn is_there(io: &Io, place: &LogDir) -> io::Result<bool> {
    match io.list(place.dir, place.path.clone()).await {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes what deletions that were cut short have left: directories that were renamed for it, and those of topics which the
/// metadata says were deleted. What cannot be removed is left for the next start, and noted: topics of the same names must not meet it.
pub async fn remove_leftovers(io: &Io, dirs: &mut DataDirs, deleted: &[Arc<Topic>]) {
    for data in &dirs.dirs {
        if let Err(error) = remove_leftovers_in(io, data, deleted).await {
            let path = data.path.display();
            eprintln!("ERROR remove what deleted topics have left in {path}: {error}");
            dirs.not_removed.extend(deleted.iter().map(|topic| topic.id.0));
        }
    }
}

async fn remove_leftovers_in(io: &Io, data: &DataDir, deleted: &[Arc<Topic>]) -> io::Result<()> {
    let mut there = BTreeSet::new();
    for entry in io.list(data.dir, data.path.clone()).await? {
        let path = data.path.join(entry.name);
        if entry.is_dir && is_removed(&path) {
            remove_directory(io, &LogDir { dir: data.dir, path }).await?;
        } else {
            there.insert(path);
        }
    }
    #[cfg(ringlog_plant)]
    if plant::is(Plant::TakeOverAnotherTopicsFolder) {
        return Ok(());
    }
    for topic in deleted {
        for index in 0..i32::try_from(topic.partitions.len()).expect("indexes are 32 bits") {
            let path = data.path.join(folder(topic, index));
            if !there.contains(&path) {
                continue;
            }
            // The name may be another topic's by now.
            let file = path.join(FILE);
            let bytes = small_file::read(io, data.dir, &file, BYTES_MAX).await?;
            if bytes.is_some_and(|bytes| topic_of(&bytes) == Some(topic.id)) {
                there.remove(&path);
                remove_partition(io, &LogDir { dir: data.dir, path }).await?;
            }
        }
    }
    Ok(())
}

/// A partition's folder in its data directory, as Kafka names it.
pub(super) fn folder(topic: &Topic, index: i32) -> String {
    format!("{}-{index}", topic.name)
}

/// The new name is durable before another directory takes the old one.
async fn move_aside(io: &Io, place: &LogDir, found: Uuid) -> io::Result<PathBuf> {
    let hex: String = found.0.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut name = place.path.clone().into_os_string();
    name.push(format!(".{hex}-stray"));
    let aside = PathBuf::from(name);
    io.rename(place.dir, place.path.clone(), aside.clone()).await?;
    let parent = place.path.parent().expect("a partition lies in a data directory");
    io.sync_dir(place.dir, parent.into()).await?;
    Ok(aside)
}

/// The topic that a `partition.metadata` names.
pub fn topic_of(bytes: &[u8]) -> Option<Uuid> {
    let mut lines = std::str::from_utf8(bytes).ok()?.lines();
    (lines.next()? == "version: 0").then_some(())?;
    lines.next()?.strip_prefix("topic_id: ")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_as_kafka_writes_it() {
        let id: Uuid = "AAAAAAAAAAAAAAAAAAAABA".parse().unwrap();
        assert_eq!(topic_of(b"version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAABA"), Some(id));
        assert_eq!(topic_of(format!("version: 0\ntopic_id: {id}\n").as_bytes()), Some(id));
        for damaged in
            ["", "version: 1\ntopic_id: AAAAAAAAAAAAAAAAAAAABA", "version: 0\n", "version: 0\ntopic_id: ?"]
        {
            assert_eq!(topic_of(damaged.as_bytes()), None, "{damaged:?}");
        }
    }
}

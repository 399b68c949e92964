//! The data directories: whose they are, and which partition lies where.
//!
//! Each holds a `meta.properties` as Apache Kafka writes it: the cluster, the node and the directory's own id.

use super::metadata_log::METADATA_FILE;
use bytes::Bytes;
use ringlog_engine::io::{DirId, Io, small_file};
#[cfg(ringlog_plant)]
use ringlog_engine::plant::{self, Plant};
use ringlog_wire::Uuid;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

/// One data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataDir {
    /// Its place in the configured list.
    pub dir: DirId,
    /// Where it is.
    pub path: PathBuf,
    /// Its id, kept when the list is reordered.
    pub id: Uuid,
}

/// All data directories of this broker, and the cluster they belong to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataDirs {
    /// In the configured order.
    pub dirs: Vec<DataDir>,
    /// Kafka's cluster id.
    pub cluster_id: String,
    /// Ids of deleted topics whose folders may still lie there: when the broker started they could not be removed.
    pub not_removed: BTreeSet<[u8; 16]>,
}

/// Every data directory has one.
const META_FILE: &str = "meta.properties";

/// The largest `meta.properties` that is read.
const META_BYTES_MAX: u64 = 64 * 1024;

impl DataDirs {
    /// Reads what each directory says of itself; new ones join this node and its cluster. One that cannot be read or written is
    /// left out, and its partitions are offline; but not the first, which has the cluster's metadata.
    pub async fn open(io: &Io, paths: &[PathBuf], node_id: i32) -> Result<Self, DataDirError> {
        let mut found = Vec::new();
        for (dir, path) in paths.iter().enumerate() {
            let dir = DirId(u16::try_from(dir).expect("directories are counted in 16 bits"));
            let meta = match Meta::read(io, dir, path).await {
                Err(why @ DataDirError::Io { .. }) if dir != DirId(0) => {
                    eprintln!("ERROR data directory {} is offline: {why}", path.display());
                    continue;
                }
                meta => meta?,
            };
            if let Some(meta) = &meta {
                meta.check(path, node_id)?;
            }
            found.push((dir, path, meta));
        }
        let known = found.iter().find_map(|(_, path, meta)| Some((*path, meta.as_ref()?.cluster_id.clone())));
        let cluster_id = known.as_ref().map_or_else(|| random_id(io).to_string(), |(_, id)| id.clone());
        let mut dirs: Vec<DataDir> = Vec::new();
        for (dir, path, meta) in found {
            let meta = match meta {
                Some(meta) if meta.cluster_id != cluster_id => {
                    let (first, _) = known.expect("a cluster id was found in a directory");
                    return Err(DataDirError::Foreign {
                        path: path.clone(),
                        why: format!(
                            "belongs to cluster {}, {} to cluster {cluster_id}",
                            meta.cluster_id,
                            first.display()
                        ),
                    });
                }
                Some(meta) => meta,
                None => match Meta::create(io, dir, path, &cluster_id, node_id).await {
                    Err(why @ DataDirError::Io { .. }) if dir != DirId(0) => {
                        eprintln!("ERROR data directory {} is offline: {why}", path.display());
                        continue;
                    }
                    meta => meta?,
                },
            };
            if let Some(twin) = dirs.iter().find(|other| other.id == meta.directory_id) {
                let why = format!("is a copy of {}: they have one directory.id", twin.path.display());
                return Err(DataDirError::Foreign { path: path.clone(), why });
            }
            dirs.push(DataDir { dir, path: path.clone(), id: meta.directory_id });
        }
        Ok(Self { dirs, cluster_id, not_removed: BTreeSet::new() })
    }

    /// Which node a directory says it belongs to; `None` where it does not say.
    pub async fn node_id(io: &Io, dir: DirId, path: &Path) -> Result<Option<i32>, DataDirError> {
        Ok(Meta::read(io, dir, path).await?.map(|meta| meta.node_id))
    }

    /// The directory with this id.
    pub fn by_id(&self, id: Uuid) -> Option<&DataDir> {
        self.dirs.iter().find(|dir| dir.id == id)
    }
}

/// Refuses data directories with partitions and without the log that knows them: with a new one, the partitions would be nobody's.
pub async fn metadata_is_there(io: &Io, dirs: &DataDirs) -> Result<(), String> {
    let first = &dirs.dirs[0].path;
    for (at, data) in dirs.dirs.iter().enumerate() {
        let listing = io.list(data.dir, data.path.clone()).await;
        let entries = listing.map_err(|error| format!("list {}: {error}", data.path.display()))?;
        if entries.iter().any(|entry| entry.name == METADATA_FILE) {
            let path = data.path.display();
            let elsewhere = "is not in the first data directory: give that one first";
            return if at == 0 { Ok(()) } else { Err(format!("{path}/{METADATA_FILE} {elsewhere}")) };
        }
    }
    for data in &dirs.dirs {
        let entries = io.list(data.dir, data.path.clone()).await.unwrap_or_default();
        if let Some(partition) = entries.iter().find(|entry| entry.is_dir && is_partition(&entry.name)) {
            return Err(format!(
                "{}/{METADATA_FILE} is missing, and {}/{} is there: mount the first data directory, or restore the file",
                first.display(),
                data.path.display(),
                partition.name
            ));
        }
    }
    Ok(())
}

/// Makes all of a data directory durable. When a broker starts: what the last process left and did not live to sync, before anything is built
/// upon it; and what was cut off, before anybody is served.
pub async fn sync_file_system(io: &Io, dir: DirId, path: &Path) -> std::io::Result<()> {
    #[cfg(ringlog_plant)]
    if plant::is(Plant::BuildOnWhatWasNotSynced) {
        return io.sync_dir(dir, path.to_owned()).await.map(drop);
    }
    io.sync_file_system(dir, path.join(META_FILE)).await.map(drop)
}

/// Whether a directory is named as a partition's.
fn is_partition(name: &str) -> bool {
    let index = name.rsplit_once('-').map(|(_, index)| index);
    index.is_some_and(|index| !index.is_empty() && index.bytes().all(|byte| byte.is_ascii_digit()))
}

/// A random id that Kafka would accept too: not one of its reserved ones, no leading dash in its text.
pub fn random_id(io: &Io) -> Uuid {
    loop {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&io.random().to_be_bytes());
        bytes[8..].copy_from_slice(&io.random().to_be_bytes());
        // Version 4, variant 1, as RFC 9562 has it.
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let id = Uuid(bytes);
        if !id.to_string().starts_with('-') {
            return id;
        }
    }
}

/// What a `meta.properties` says.
pub(super) struct Meta {
    cluster_id: String,
    node_id: i32,
    directory_id: Uuid,
}

impl Meta {
    async fn read(io: &Io, dir: DirId, path: &Path) -> Result<Option<Self>, DataDirError> {
        let file = path.join(META_FILE);
        let failed = |error| DataDirError::Io { path: file.clone(), action: "read", error };
        let Some(bytes) = small_file::read(io, dir, &file, META_BYTES_MAX).await.map_err(failed)? else {
            return Ok(None);
        };
        // Made by a process that may not have lived to sync its name: lost later, the directory would get another id, and
        // every partition in it would be gone. And so with all that is in it: opening thousands of logs relies on this, and none syncs by itself.
        sync_file_system(io, dir, path).await.map_err(|error| DataDirError::Io {
            path: path.to_owned(),
            action: "sync",
            error,
        })?;
        let text = String::from_utf8_lossy(&bytes);
        Self::parse(&text).map(Some).map_err(|why| DataDirError::Foreign { path: file.clone(), why })
    }

    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let values: BTreeMap<&str, &str> = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (name.trim(), value.trim()))
            .collect();
        let value = |name: &str| values.get(name).copied().ok_or_else(|| format!("does not say {name}"));
        if value("version")? != "1" {
            return Err(format!("is of version {}, version=1 is understood", value("version")?));
        }
        let node_id = value("node.id")?.parse().map_err(|_| "has a node.id that is no number".to_owned())?;
        let directory_id =
            value("directory.id")?.parse().map_err(|_| "has a directory.id that is no id".to_owned())?;
        Ok(Self { cluster_id: value("cluster.id")?.to_owned(), node_id, directory_id })
    }

    fn check(&self, path: &Path, node_id: i32) -> Result<(), DataDirError> {
        if self.node_id == node_id {
            return Ok(());
        }
        let why = format!(
            "belongs to node {}, this is node {node_id}: set node.id={} or give another directory",
            self.node_id, self.node_id
        );
        Err(DataDirError::Foreign { path: path.to_owned(), why })
    }

    async fn create(
        io: &Io,
        dir: DirId,
        path: &Path,
        cluster_id: &str,
        node_id: i32,
    ) -> Result<Self, DataDirError> {
        let directory_id = random_id(io);
        let text =
            format!("version=1\ncluster.id={cluster_id}\nnode.id={node_id}\ndirectory.id={directory_id}\n");
        let file = path.join(META_FILE);
        io.make_dir(dir, path.to_owned()).await.map_err(|error| DataDirError::Io {
            path: path.to_owned(),
            action: "create",
            error,
        })?;
        small_file::replace(io, dir, &file, Bytes::from(text)).await.map_err(|error| DataDirError::Io {
            path: file,
            action: "write",
            error,
        })?;
        Ok(Self { cluster_id: cluster_id.to_owned(), node_id, directory_id })
    }
}

/// Why a data directory cannot be used.
#[derive(Debug)]
pub enum DataDirError {
    /// The file system refused.
    Io {
        /// What was touched.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Why not.
        error: std::io::Error,
    },
    /// It is somebody else's, or not understood.
    Foreign {
        /// Which.
        path: PathBuf,
        /// Whose.
        why: String,
    },
}

impl fmt::Display for DataDirError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { path, action, error } => write!(f, "{action} {}: {error}", path.display()),
            Self::Foreign { path, why } => write!(f, "{} {why}", path.display()),
        }
    }
}

impl std::error::Error for DataDirError {}

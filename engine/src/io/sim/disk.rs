//! One simulated data directory: a tree of files and directories, live and durable, on a device that may fail.

use super::file::{BLOCK, SimFile, Survival};
use super::random::Random;
use crate::io::file::WeakFile;
use crate::io::{Capacity, DirEntry, DirId, File, FileMode, Op, Outcome, Space};
use crate::limits::reserve;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::io;
use std::iter;
use std::path::{Component, Path, PathBuf};

/// Whether directory changes survive a power cut in the order in which they were made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryOrder {
    /// Any subset: all that POSIX promises.
    Any,
    /// A prefix, as ext4's and XFS's journals give.
    Journaled,
}

type Inode = u64;

const ROOT: Inode = 0;

pub(super) struct Disk {
    dir: DirId,
    root: PathBuf,
    nodes: BTreeMap<Inode, Node>,
    next_inode: Inode,
    /// Directory changes that no directory sync has covered yet.
    pending: Vec<EntryChange>,
    /// What each open handle stands for, by [`File::id`].
    open: BTreeMap<u64, (Inode, WeakFile)>,
    /// Changes that have taken effect so far.
    sequence: u64,
    /// Files recycled so far.
    recycled: u64,
    /// A sync has failed: this device makes nothing durable any more.
    failed: bool,
    /// Bytes that all files together may take.
    pub(super) capacity: u64,
    pub(super) entry_order: EntryOrder,
}

enum Node {
    File(SimFile),
    Dir(Dir),
}

#[derive(Default)]
struct Dir {
    live: Entries,
    durable: Entries,
}

type Entries = BTreeMap<String, Inode>;

/// One change of directory entries, atomic: what each name stands for afterwards.
struct EntryChange {
    sequence: u64,
    names: Vec<(Inode, String, Option<Inode>)>,
    /// Directories whose sync it still waits for.
    unsynced: Vec<Inode>,
}

impl Disk {
    pub(super) fn new(dir: DirId, root: &Path) -> Self {
        Self {
            dir,
            root: root.into(),
            nodes: BTreeMap::from([(ROOT, Node::Dir(Dir::default()))]),
            next_inode: ROOT + 1,
            pending: Vec::new(),
            open: BTreeMap::new(),
            sequence: 0,
            recycled: 0,
            failed: false,
            capacity: u64::MAX,
            entry_order: EntryOrder::Any,
        }
    }

    /// Changes that have taken effect: a sync submitted now covers those.
    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Files written over under another name so far.
    pub(super) fn recycled(&self) -> u64 {
        self.recycled
    }

    /// A sync fails, and with it all later ones. What it should have covered is clean in the kernel's eyes, written or not: no
    /// later sync would make it durable.
    pub(super) fn fail(&mut self, op: &Op, covered: u64, random: &mut Random) {
        self.failed = true;
        if let Op::SyncFileSystem { .. } = op {
            for node in self.nodes.values_mut() {
                if let Node::File(file) = node {
                    file.lose(covered, random);
                }
            }
        }
        let files = match op {
            Op::Sync { items } => items.iter().map(|item| item.file.clone()).collect(),
            Op::SyncFile { file } => vec![file.clone()],
            _ => Vec::new(),
        };
        for file in files {
            self.file(&file).lose(covered, random);
        }
    }

    /// Carries out an operation. `covered` is what [`Disk::sequence`] was when it was submitted, `new_file` the number
    /// of the handle it may make.
    pub(super) fn run(&mut self, op: Op, covered: u64, new_file: u64) -> Outcome {
        let none = |result: io::Result<()>| Outcome::Count(result.map(|()| 0));
        match op {
            Op::Write { file, pos, bytes, more } => {
                let mut parts = iter::once(bytes).chain(more);
                let end = parts.try_fold(pos, |pos, part| self.write(&file, pos, part).map(|len| pos + len));
                Outcome::Count(end.map(|end| end - pos))
            }
            Op::Read { file, pos, len } => Outcome::Received(self.read(&file, pos, len)),
            Op::Sync { items } => {
                for item in &items {
                    let node = self.file(&item.file);
                    match item.space {
                        Space::Allocated => node.sync_all(covered),
                        Space::Written => node.flush(covered),
                    }
                }
                none(self.healthy())
            }
            Op::SyncFile { file } => {
                self.file(&file).sync_all(covered);
                none(self.healthy())
            }
            Op::Open { path, mode, .. } => Outcome::Opened(self.open(&path, mode, new_file)),
            Op::Create { path, mode, .. } => Outcome::Opened(self.create(&path, mode, new_file)),
            Op::Blank { path, zeroed, .. } => Outcome::Opened(self.blank(&path, &zeroed, new_file)),
            Op::Recycle { from, to, .. } => Outcome::Opened(self.recycle(&from, &to, new_file)),
            Op::Prepare { file, from, to, space } => none(self.prepare(&file, from, to, space)),
            Op::Zero { file, from, to } => none(self.zero(&file, from, to)),
            Op::Truncate { file, len } => none(self.truncate(&file, len)),
            Op::Rename { from, to, .. } => none(self.rename(&from, &to)),
            Op::Unlink { path, .. } => none(self.unlink(&path)),
            Op::MakeDir { path, .. } => none(self.make_dir(&path)),
            Op::RemoveDir { path, .. } => none(self.remove_dir(&path)),
            Op::SyncDir { path, .. } => none(self.sync_dir(&path, covered)),
            Op::SyncFileSystem { .. } => none(self.sync_file_system(covered)),
            Op::List { path, .. } => Outcome::Listing(self.list(&path)),
            Op::Capacity { .. } => Outcome::Capacity(Ok(Capacity {
                total_bytes: self.capacity,
                usable_bytes: self.capacity.saturating_sub(self.used()),
            })),
            Op::Close { .. } => Outcome::Count(Ok(0)),
            other => panic!("not a file operation: {other:?}"),
        }
    }

    fn healthy(&self) -> io::Result<()> {
        #[cfg(ringlog_plant)]
        if crate::plant::is(crate::plant::Plant::RetryAFailedSync) {
            // As a kernel by itself: an error is told once.
            return Ok(());
        }
        if self.failed { Err(os_error(EIO)) } else { Ok(()) }
    }

    // ---- files ----

    fn file(&mut self, file: &File) -> &mut SimFile {
        assert_eq!(file.dir(), self.dir, "a file belongs to the disk it was opened on");
        let (inode, _) =
            *self.open.get(&file.id()).expect("a handle of before the crash is not used after it");
        self.content(inode)
    }

    fn content(&mut self, inode: Inode) -> &mut SimFile {
        match self.nodes.get_mut(&inode) {
            Some(Node::File(file)) => file,
            _ => panic!("an open handle stands for a file"),
        }
    }

    fn write(&mut self, file: &File, pos: u64, bytes: Bytes) -> io::Result<u64> {
        let len = bytes.len() as u64;
        let size = self.file(file).len();
        match file.mode() {
            FileMode::Cached | FileMode::CachedOnce => return Err(os_error(EBADF)),
            FileMode::CachedWrite => self.room_for((pos + len).saturating_sub(size))?,
            FileMode::Blocks => {
                let address = bytes.as_ptr().addr() as u64;
                if !(pos | len | address).is_multiple_of(BLOCK) {
                    return Err(invalid("a block write is aligned: position, length and address"));
                }
                if pos + len > size {
                    return Err(invalid("a block write lies within the file's size"));
                }
                assert!(
                    !self.file(file).is_cached(pos, len),
                    "{file:?}: what a reader has in the page cache is written past it"
                );
            }
        }
        self.sequence += 1;
        let sequence = self.sequence;
        self.file(file).write(sequence, pos, bytes, file.mode() == FileMode::CachedWrite);
        Ok(len)
    }

    fn read(&mut self, file: &File, pos: u64, len: usize) -> io::Result<Bytes> {
        if file.mode() == FileMode::Blocks && !(pos | len as u64).is_multiple_of(BLOCK) {
            return Err(invalid("a block read is aligned: position and length"));
        }
        Ok(match file.mode() {
            FileMode::Blocks => self.file(file).read(pos, len),
            _ => self.file(file).read_cached(pos, len),
        })
    }

    fn prepare(&mut self, file: &File, from: u64, to: u64, space: Space) -> io::Result<()> {
        if from >= to {
            return Err(invalid("some space is prepared"));
        }
        let size = self.file(file).len();
        let more = to.saturating_sub(size);
        // As on a real disk, segments leave some of it free.
        let reserve = if more > 0 && self.capacity < u64::MAX { reserve(self.capacity) } else { 0 };
        self.room_for(more + reserve)?;
        self.sequence += 1;
        let sequence = self.sequence;
        let node = self.file(file);
        match space {
            Space::Allocated if to > size => node.set_len(sequence, to),
            Space::Allocated => {}
            Space::Written => {
                let zeroes = vec![0; usize::try_from(to - from).expect("fits in memory")];
                node.write(sequence, from, zeroes.into(), false);
                node.sync_all(sequence);
                return self.healthy();
            }
        }
        Ok(())
    }

    fn zero(&mut self, file: &File, from: u64, to: u64) -> io::Result<()> {
        if from >= to || !(from | to).is_multiple_of(BLOCK) || to > self.file(file).len() {
            return Err(invalid("some blocks within the file's size are zeroed"));
        }
        self.sequence += 1;
        let sequence = self.sequence;
        self.file(file).zero(sequence, from, to);
        Ok(())
    }

    fn truncate(&mut self, file: &File, len: u64) -> io::Result<()> {
        let size = self.file(file).len();
        self.room_for(len.saturating_sub(size))?;
        self.sequence += 1;
        let sequence = self.sequence;
        self.file(file).set_len(sequence, len);
        Ok(())
    }

    pub(super) fn used(&self) -> u64 {
        self.nodes.values().map(|node| if let Node::File(file) = node { file.len() } else { 0 }).sum()
    }

    fn room_for(&self, more: u64) -> io::Result<()> {
        if more > 0 && self.used().saturating_add(more) > self.capacity {
            Err(os_error(ENOSPC))
        } else {
            Ok(())
        }
    }

    // ---- names ----

    fn open(&mut self, path: &Path, mode: FileMode, id: u64) -> io::Result<(File, u64)> {
        let inode = self.find(path)?;
        let Node::File(content) = &self.nodes[&inode] else { return Err(os_error(EISDIR)) };
        let len = content.len();
        Ok((self.handle(inode, path, mode, id), len))
    }

    fn create(&mut self, path: &Path, mode: FileMode, id: u64) -> io::Result<(File, u64)> {
        let (dir, name) = self.parent(path)?;
        if self.entries(dir)?.contains_key(&name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = self.add(Node::File(SimFile::default()));
        self.change(vec![(dir, name, Some(inode))]);
        Ok((self.handle(inode, path, mode, id), 0))
    }

    fn blank(&mut self, path: &Path, zeroed: &[u64], id: u64) -> io::Result<(File, u64)> {
        let (inode, len) = self.recyclable(path)?;
        self.sequence += 1;
        let sequence = self.sequence;
        let content = self.content(inode);
        content.set_len(sequence, len);
        for pos in zeroed.iter().filter(|pos| **pos < len) {
            content.write(sequence, *pos, Bytes::from_static(&[0; BLOCK as usize]), false);
        }
        Ok((self.handle(inode, path, FileMode::Blocks, id), len))
    }

    fn recycle(&mut self, from: &Path, to: &Path, id: u64) -> io::Result<(File, u64)> {
        let (inode, len) = self.recyclable(from)?;
        self.rename(from, to)?;
        self.recycled += 1;
        Ok((self.handle(inode, to, FileMode::Blocks, id), len))
    }

    /// A file that nobody else has and that may be written over up to here, in whole blocks.
    fn recyclable(&mut self, path: &Path) -> io::Result<(Inode, u64)> {
        let inode = self.find(path)?;
        if self.open.values().any(|(open, handle)| *open == inode && handle.is_open()) {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        let content = self.content(inode);
        let len = content.len().next_multiple_of(BLOCK);
        if !content.is_established(len) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        content.has_no_readers();
        Ok((inode, len))
    }

    fn handle(&mut self, inode: Inode, path: &Path, mode: FileMode, id: u64) -> File {
        let file = File::simulated(id, self.dir, path, mode);
        self.open.insert(id, (inode, file.downgrade()));
        file
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let inode = self.find(from)?;
        let (from_dir, from_name) = self.parent(from)?;
        let (to_dir, to_name) = self.parent(to)?;
        if (from_dir, &from_name) == (to_dir, &to_name) {
            return Ok(());
        }
        if let Some(there) = self.entries(to_dir)?.get(&to_name).copied() {
            match (&self.nodes[&inode], &self.nodes[&there]) {
                (Node::File(_), Node::File(_)) => {}
                (Node::Dir(_), Node::Dir(dir)) if dir.live.is_empty() => {}
                (Node::Dir(_), Node::Dir(_)) => return Err(io::ErrorKind::DirectoryNotEmpty.into()),
                (Node::File(_), Node::Dir(_)) => return Err(os_error(EISDIR)),
                (Node::Dir(_), Node::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
            }
        }
        self.change(vec![(from_dir, from_name, None), (to_dir, to_name, Some(inode))]);
        Ok(())
    }

    fn unlink(&mut self, path: &Path) -> io::Result<()> {
        let inode = self.find(path)?;
        if matches!(self.nodes[&inode], Node::Dir(_)) {
            return Err(os_error(EISDIR));
        }
        let (dir, name) = self.parent(path)?;
        self.change(vec![(dir, name, None)]);
        Ok(())
    }

    fn make_dir(&mut self, path: &Path) -> io::Result<()> {
        let mut dir = ROOT;
        for name in self.names(path)? {
            dir = match self.entries(dir)?.get(&name) {
                Some(inode) => *inode,
                None => {
                    let inode = self.add(Node::Dir(Dir::default()));
                    self.change(vec![(dir, name, Some(inode))]);
                    inode
                }
            };
        }
        self.entries(dir).map(|_| ())
    }

    fn remove_dir(&mut self, path: &Path) -> io::Result<()> {
        let inode = self.find(path)?;
        if !self.entries(inode)?.is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        let (dir, name) = self.parent(path)?;
        self.change(vec![(dir, name, None)]);
        Ok(())
    }

    fn sync_dir(&mut self, path: &Path, covered: u64) -> io::Result<()> {
        let dir = self.find(path)?;
        self.entries(dir)?;
        self.healthy()?;
        let mut rest = Vec::new();
        for mut change in std::mem::take(&mut self.pending) {
            if change.sequence <= covered {
                change.unsynced.retain(|unsynced| *unsynced != dir);
            }
            if change.unsynced.is_empty() {
                self.make_durable(change);
            } else {
                rest.push(change);
            }
        }
        self.pending = rest;
        Ok(())
    }

    /// All files and all names there are.
    fn sync_file_system(&mut self, covered: u64) -> io::Result<()> {
        self.healthy()?;
        for node in self.nodes.values_mut() {
            if let Node::File(file) = node {
                file.sync_all(covered);
            }
        }
        let later = self.pending.iter().position(|change| change.sequence > covered);
        let rest = self.pending.split_off(later.unwrap_or(self.pending.len()));
        for change in std::mem::replace(&mut self.pending, rest) {
            self.make_durable(change);
        }
        Ok(())
    }

    fn list(&mut self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let dir = self.find(path)?;
        let entries = self.entries(dir)?.iter().map(|(name, inode)| match &self.nodes[inode] {
            Node::File(file) => DirEntry { name: name.clone(), is_dir: false, len: file.len() },
            Node::Dir(_) => DirEntry { name: name.clone(), is_dir: true, len: 0 },
        });
        Ok(entries.collect())
    }

    fn add(&mut self, node: Node) -> Inode {
        let inode = self.next_inode;
        self.next_inode += 1;
        self.nodes.insert(inode, node);
        inode
    }

    /// Changes live entries; the durable ones follow when the directories are synced.
    fn change(&mut self, names: Vec<(Inode, String, Option<Inode>)>) {
        self.sequence += 1;
        let mut unsynced = Vec::new();
        for (dir, name, inode) in &names {
            let Some(Node::Dir(node)) = self.nodes.get_mut(dir) else { panic!("a name lies in a directory") };
            set(&mut node.live, name, *inode);
            if !unsynced.contains(dir) {
                unsynced.push(*dir);
            }
        }
        self.pending.push(EntryChange { sequence: self.sequence, names, unsynced });
    }

    fn make_durable(&mut self, change: EntryChange) {
        for (dir, name, inode) in change.names {
            if let Some(inode) = inode {
                // A file has one name: where an earlier rename of it did not survive, this one stands for both.
                for node in self.nodes.values_mut() {
                    if let Node::Dir(other) = node {
                        other.durable.retain(|_, there| *there != inode);
                    }
                }
            }
            let Some(Node::Dir(node)) = self.nodes.get_mut(&dir) else {
                panic!("a name lies in a directory")
            };
            set(&mut node.durable, &name, inode);
        }
    }

    fn entries(&self, inode: Inode) -> io::Result<&Entries> {
        match &self.nodes[&inode] {
            Node::Dir(dir) => Ok(&dir.live),
            Node::File(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn find(&self, path: &Path) -> io::Result<Inode> {
        let mut inode = ROOT;
        for name in self.names(path)? {
            inode = *self.entries(inode)?.get(&name).ok_or(io::ErrorKind::NotFound)?;
        }
        Ok(inode)
    }

    fn parent(&self, path: &Path) -> io::Result<(Inode, String)> {
        let mut names = self.names(path)?;
        let name = names.pop().ok_or_else(|| invalid("the data directory itself is not an entry"))?;
        let mut dir = ROOT;
        for name in names {
            dir = *self.entries(dir)?.get(&name).ok_or(io::ErrorKind::NotFound)?;
        }
        self.entries(dir)?;
        Ok((dir, name))
    }

    fn names(&self, path: &Path) -> io::Result<Vec<String>> {
        let inside =
            path.strip_prefix(&self.root).map_err(|_| invalid("the path lies in the data directory"))?;
        let names = inside.components().map(|component| match component {
            Component::Normal(name) => Ok(name.to_string_lossy().into_owned()),
            _ => Err(invalid("the path is plain")),
        });
        names.collect()
    }

    // ---- crashes, and a look from outside ----

    /// The power goes. All handles are gone; names and contents are what the seed lets survive.
    pub(super) fn power_cut(&mut self, random: &mut Random) {
        let survival = Survival::draw(random);
        let pending = std::mem::take(&mut self.pending);
        let kept_max = random.index(pending.len() + 1);
        for (index, change) in pending.into_iter().enumerate() {
            let survives = match (survival, self.entry_order) {
                (Survival::Some, EntryOrder::Journaled) => index < kept_max,
                _ => survival.survives(random),
            };
            if survives {
                self.make_durable(change);
            }
        }
        for node in self.nodes.values_mut() {
            match node {
                Node::Dir(dir) => dir.live = dir.durable.clone(),
                Node::File(file) => file.power_cut(survival, random),
            }
        }
        self.forget_unreachable();
        self.end_process();
    }

    /// The process ends: its handles are gone, the page cache is not. Unless a sync has failed: then the kernel may
    /// drop what it could not write.
    pub(super) fn kill(&mut self, random: &mut Random) {
        if self.failed {
            self.power_cut(random);
        }
        self.end_process();
    }

    fn end_process(&mut self) {
        self.open.clear();
        self.failed = false;
        for node in self.nodes.values_mut() {
            if let Node::File(file) = node {
                file.has_no_readers();
            }
        }
    }

    fn forget_unreachable(&mut self) {
        let mut reached = vec![ROOT];
        let mut next = 0;
        while let Some(inode) = reached.get(next) {
            if let Node::Dir(dir) = &self.nodes[inode] {
                reached.extend(dir.live.values());
            }
            next += 1;
        }
        reached.sort_unstable();
        self.nodes.retain(|inode, _| reached.binary_search(inode).is_ok());
    }

    /// A file's content as a live process sees it.
    pub(super) fn content_of(&mut self, path: &Path) -> Option<Vec<u8>> {
        let inode = self.find(path).ok()?;
        matches!(self.nodes[&inode], Node::File(_)).then(|| self.content(inode).live().to_vec())
    }

    /// The paths of all files there are.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut dirs = vec![(ROOT, self.root.clone())];
        while let Some((dir, path)) = dirs.pop() {
            let Some(Node::Dir(entries)) = self.nodes.get(&dir) else {
                panic!("only directories are put there")
            };
            for (name, inode) in &entries.live {
                match &self.nodes[inode] {
                    Node::Dir(_) => dirs.push((*inode, path.join(name))),
                    Node::File(_) => files.push(path.join(name)),
                }
            }
        }
        files
    }

    /// Puts a durable file there, with the directories above it.
    pub(super) fn put(&mut self, path: &Path, content: &[u8]) -> io::Result<()> {
        if let Some(above) = path.parent() {
            self.make_dir(above)?;
        }
        let (dir, name) = self.parent(path)?;
        let inode = self.add(Node::File(SimFile::durable(content)));
        self.change(vec![(dir, name, Some(inode))]);
        for change in std::mem::take(&mut self.pending) {
            self.make_durable(change);
        }
        Ok(())
    }

    /// Changes bytes of a file behind everybody's back.
    pub(super) fn damage(&mut self, path: &Path, pos: u64, bytes: &[u8]) -> io::Result<()> {
        let inode = self.find(path)?;
        self.content(inode).damage(pos, bytes);
        Ok(())
    }
}

fn set(entries: &mut Entries, name: &str, inode: Option<Inode>) {
    match inode {
        Some(inode) => {
            entries.insert(name.into(), inode);
        }
        None => {
            entries.remove(name);
        }
    }
}

pub(super) const EIO: i32 = 5;
pub(super) const ENOSPC: i32 = 28;
const EBADF: i32 = 9;
const EISDIR: i32 = 21;

pub(super) fn os_error(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}

fn invalid(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

//! What goes wrong in a simulated world, by chance or by script.

use super::random::Random;
use crate::io::Op;
use std::collections::BTreeMap;

/// A kind of file operation, to name it in a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each is the Op of the same name")]
pub enum OpKind {
    Write,
    Read,
    Sync,
    Open,
    Create,
    Blank,
    Recycle,
    Prepare,
    Zero,
    Truncate,
    SyncFile,
    Rename,
    Unlink,
    MakeDir,
    RemoveDir,
    SyncDir,
    SyncFileSystem,
    List,
    Close,
    SendFile,
    Capacity,
    Compute,
}

impl OpKind {
    /// `None` for operations on sockets.
    pub fn of(op: &Op) -> Option<Self> {
        Some(match op {
            Op::Write { .. } => Self::Write,
            Op::Read { .. } => Self::Read,
            Op::Sync { .. } => Self::Sync,
            Op::Open { .. } => Self::Open,
            Op::Create { .. } => Self::Create,
            Op::Blank { .. } => Self::Blank,
            Op::Recycle { .. } => Self::Recycle,
            Op::Prepare { .. } => Self::Prepare,
            Op::Zero { .. } => Self::Zero,
            Op::Truncate { .. } => Self::Truncate,
            Op::SyncFile { .. } => Self::SyncFile,
            Op::Rename { .. } => Self::Rename,
            Op::Unlink { .. } => Self::Unlink,
            Op::MakeDir { .. } => Self::MakeDir,
            Op::RemoveDir { .. } => Self::RemoveDir,
            Op::SyncDir { .. } => Self::SyncDir,
            Op::SyncFileSystem { .. } => Self::SyncFileSystem,
            Op::List { .. } => Self::List,
            Op::Close { .. } => Self::Close,
            Op::SendFile { .. } => Self::SendFile,
            Op::Capacity { .. } => Self::Capacity,
            Op::Compute { .. } => Self::Compute,
            Op::Accept { .. }
            | Op::Recv { .. }
            | Op::RecvExact { .. }
            | Op::HangUp { .. }
            | Op::Send { .. }
            | Op::CloseSocket { .. } => return None,
        })
    }

    /// A failure of these means that what was to be durable is not: final for the device.
    pub(super) fn is_sync(self) -> bool {
        matches!(self, Self::Sync | Self::SyncFile | Self::SyncDir | Self::SyncFileSystem)
    }
}

/// What fails.
#[derive(Debug, Default)]
pub(super) struct Faults {
    /// One in this many operations of a kind fails, with this error.
    chances: BTreeMap<OpKind, (u64, i32)>,
    scripted: Vec<Scripted>,
}

#[derive(Debug)]
struct Scripted {
    kind: OpKind,
    /// Operations of the kind that still pass.
    skip: u32,
    error: i32,
}

impl Faults {
    pub(super) fn by_chance(&mut self, kind: OpKind, odds: u64, error: i32) {
        self.chances.insert(kind, (odds, error));
    }

    pub(super) fn script(&mut self, kind: OpKind, skip: u32, error: i32) {
        self.scripted.push(Scripted { kind, skip, error });
    }

    pub(super) fn clear(&mut self) {
        self.chances.clear();
        self.scripted.clear();
    }

    /// Whether this operation fails, and how (an errno).
    pub(super) fn draw(&mut self, kind: OpKind, random: &mut Random) -> Option<i32> {
        let mut fails = None;
        for (index, scripted) in self.scripted.iter_mut().enumerate() {
            if scripted.kind == kind {
                if scripted.skip == 0 {
                    fails = Some(index);
                    break;
                }
                scripted.skip -= 1;
            }
        }
        if let Some(index) = fails {
            return Some(self.scripted.remove(index).error);
        }
        let (odds, error) = self.chances.get(&kind)?;
        random.one_in(*odds).then_some(*error)
    }
}

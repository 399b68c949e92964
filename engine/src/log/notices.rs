//! What a log has to say without being asked: that it has failed, that stored bytes are not what was written.

use super::Log;
use super::error::LogFailed;
use std::cell::{OnceCell, RefCell};
use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

/// Something a person should know.
#[derive(Debug, Clone)]
pub enum Notice {
    /// The log is offline.
    Failed(LogFailed),
    /// The disk is full: appends wait for room. Told again while it lasts.
    NoSpace,
    /// Stored bytes are not what was written. Each place is told once.
    Damaged(Damage),
}

/// Where stored bytes are not what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub file: PathBuf,
    /// The byte in it.
    pub pos: u64,
    /// What is wrong there, and what is done about it.
    pub what: &'static str,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is damaged at byte {}: {}", self.file.display(), self.pos, self.what)
    }
}

/// Tells a log's notices, or keeps them for who will listen.
#[derive(Default)]
pub(super) struct Notices {
    listener: OnceCell<Box<dyn Fn(Notice)>>,
    /// Most logs never have anything to tell.
    kept: RefCell<Option<Box<Kept>>>,
}

#[derive(Default)]
struct Kept {
    /// What nobody has listened to yet.
    waiting: Vec<Notice>,
    /// Damage that has been told.
    told: BTreeSet<(PathBuf, u64)>,
}

impl Log {
    /// From now on this is told everything, and first what came up before. There is one for the life of the log.
    pub fn on_notice(&self, listener: impl Fn(Notice) + 'static) {
        let notices = &self.0.notices;
        assert!(notices.listener.set(Box::new(listener)).is_ok(), "a log has one listener");
        let kept = |kept: &mut Box<Kept>| std::mem::take(&mut kept.waiting);
        let waiting = notices.kept.borrow_mut().as_mut().map(kept).unwrap_or_default();
        waiting.into_iter().for_each(|notice| notices.tell(notice));
    }

    /// Stored bytes are not what was written.
    pub(super) fn damaged(&self, file: &Path, pos: u64, what: &'static str) {
        let notices = &self.0.notices;
        let new = {
            let mut kept = notices.kept.borrow_mut();
            let told = &mut kept.get_or_insert_default().told;
            told.len() < TOLD_MAX && told.insert((file.into(), pos))
        };
        if new {
            notices.tell(Notice::Damaged(Damage { file: file.into(), pos, what }));
        }
    }
}

impl Notices {
    pub(super) fn tell(&self, notice: Notice) {
        match self.listener.get() {
            Some(listener) => listener(notice),
            // Who comes later sees for himself.
            None if matches!(notice, Notice::NoSpace) => {}
            None => self.kept.borrow_mut().get_or_insert_default().waiting.push(notice),
        }
    }
}

/// Damaged places of one log that are told, at most: a log that is all damage does not fill the memory.
const TOLD_MAX: usize = 1000;

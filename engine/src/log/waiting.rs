//! Waiting for a log's marks, and what happens to those who wait when the log fails.

use super::error::LogFailed;
use super::marks::Awaited;
use super::notices::Notice;
use super::{Inner, Log, Offset, State};
use crate::limits::UNWRITTEN_BYTES_MAX;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

impl Log {
    /// Waits until every record below this offset is written: it survives the death of this process.
    pub fn wait_written(&self, offset: Offset) -> impl Future<Output = Result<(), LogFailed>> + use<> {
        Wait::new(self.0.clone(), Awaited::Written, offset)
    }

    /// Waits until every record below this offset is on stable storage: asks for a sync, and shares it.
    pub fn wait_durable(&self, offset: Offset) -> impl Future<Output = Result<(), LogFailed>> + use<> {
        self.want_durable(&mut self.0.state.borrow_mut(), offset);
        Wait::new(self.0.clone(), Awaited::Durable, offset)
    }

    /// Waits until appends are not refused as [`super::AppendError::Busy`].
    pub async fn room(&self) {
        loop {
            let moved = self.0.moved.next();
            let busy = {
                let state = self.0.state.borrow();
                let full = state.changing || state.unwritten_bytes() >= UNWRITTEN_BYTES_MAX;
                full && state.failed.is_none()
            };
            if !busy {
                return;
            }
            moved.await;
        }
    }

    /// Takes the log offline: what came up failed, and must not be tried again as if nothing had happened.
    pub(super) fn fail(&self, doing: &'static str, path: &Path, error: io::Error) {
        let failed = LogFailed::Storage { doing, path: path.into(), error: Rc::new(error) };
        self.end(failed);
    }

    /// Ends the log: who waits is told why, once. The first reason stays.
    pub(super) fn end(&self, failed: LogFailed) {
        let mut woken = Vec::new();
        let mut storage = None;
        {
            let mut state = self.0.state.borrow_mut();
            if state.failed.is_none() {
                storage = matches!(failed, LogFailed::Storage { .. }).then(|| failed.clone());
                state.failed = Some(Box::new(failed));
            }
            state.waiters.all(&mut woken);
        }
        self.wake(woken);
        if let Some(failed) = storage {
            self.0.notices.tell(Notice::Failed(failed));
        }
    }

    /// From now on this is called whenever a mark has moved, and when the log has failed. It may look at the log and append to it. There is one for
    /// the life of the log.
    pub fn on_move(&self, follower: impl Fn() + 'static) {
        assert!(self.0.follower.set(Box::new(follower)).is_ok(), "a log has one follower");
    }

    /// Wakes tasks whose wait is over, and those who wait for any move.
    pub(super) fn wake(&self, woken: Vec<Waker>) {
        for waker in woken {
            waker.wake();
        }
        self.0.moved.notify();
        if let Some(follower) = self.0.follower.get() {
            follower();
        }
    }
}

impl State {
    fn mark(&self, awaited: Awaited) -> Offset {
        match awaited {
            Awaited::Written => self.marks.written,
            Awaited::Durable => self.marks.durable,
        }
    }
}

/// One task that waits for a mark to reach an offset.
struct Wait {
    log: Rc<Inner>,
    mark: Awaited,
    offset: Offset,
    truncations: u64,
    queued: Option<u64>,
}

impl Wait {
    fn new(log: Rc<Inner>, mark: Awaited, offset: Offset) -> Self {
        let truncations = log.state.borrow().truncations;
        Self { log, mark, offset, truncations, queued: None }
    }
}

impl Future for Wait {
    type Output = Result<(), LogFailed>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let wait = &mut *self;
        let mut state = wait.log.state.borrow_mut();
        // What was taken back may have been written over meanwhile, by other records: the mark says nothing of these.
        let over = if state.truncations != wait.truncations && state.cut_from < wait.offset {
            Some(Err(LogFailed::Truncated))
        } else if state.mark(wait.mark) >= wait.offset {
            Some(Ok(()))
        } else {
            state.failed.as_deref().cloned().map(Err)
        };
        if let Some(result) = over {
            if let Some(id) = wait.queued.take() {
                state.waiters.remove(wait.mark, id);
            }
            return Poll::Ready(result);
        }
        match wait.queued {
            Some(id) => state.waiters.renew(wait.mark, id, cx.waker()),
            None => wait.queued = Some(state.waiters.add(wait.mark, wait.offset, cx.waker())),
        }
        Poll::Pending
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        if let Some(id) = self.queued {
            self.log.state.borrow_mut().waiters.remove(self.mark, id);
        }
    }
}

//! Large writes of a shard's logs: a few at a time, the others wait their turn here.
//!
//! A device moves so many bytes a second, and needs few megabytes under way for that. What is more waits in its queue, and whatever comes
//! later waits behind: a small write, and the flush that an acknowledgement needs. So the queue of large writes is here, where small ones
//! pass it by.

use crate::io::DirId;
use crate::limits::{LARGE_WRITE_BYTES_MIN, LARGE_WRITES_BYTES};
use crate::shard::sync::{Credits, Permit};
use std::cell::RefCell;
use std::rc::Rc;

/// The bytes of large writes that may be under way, of each directory: each has a device of its own.
#[derive(Clone, Default)]
pub(super) struct LargeWrites(Rc<RefCell<Vec<(DirId, Credits)>>>);

impl LargeWrites {
    /// Waits until a write of so many bytes may begin; it ends before the permit is dropped. One that is not large may at once.
    pub(super) async fn turn(&self, dir: DirId, bytes: usize) -> Option<Permit> {
        if bytes < LARGE_WRITE_BYTES_MIN {
            return None;
        }
        let device = self.device(dir);
        Some(device.take(bytes).await)
    }

    fn device(&self, dir: DirId) -> Credits {
        let mut devices = self.0.borrow_mut();
        if let Some((_, device)) = devices.iter().find(|(known, _)| *known == dir) {
            return device.clone();
        }
        let device = Credits::new(LARGE_WRITES_BYTES);
        devices.push((dir, device.clone()));
        device
    }
}

//! The clean end of a shard's logs: all together, with two syncs of each file system in place of some for each log.

use super::{Broker, Stage};
use crate::cluster::sync_file_system;
use ringlog_engine::io::DirId;
use ringlog_engine::log::Closing;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::future::Future;
use std::rc::Rc;

/// Logs closed at the same time: so many that neither helper threads nor the shard sleep between two steps.
const CLOSING_MAX: usize = 64;

impl Broker {
    /// Closes the logs. To be called when every shard has drained.
    pub async fn close(&self) {
        self.settle().await;
        let partitions = std::mem::take(&mut *self.0.partitions.borrow_mut());
        let written: Rc<RefCell<Vec<Closing>>> = Rc::default();
        for partition in partitions.into_values() {
            let written = written.clone();
            self.close_one(async move {
                partition.retire();
                match partition.log().clone().close_among_many().await {
                    Ok(closing) => written.borrow_mut().push(closing),
                    Err(error) => eprintln!("ERROR close partition {partition:?}: {error}"),
                }
            })
            .await;
        }
        self.all_closed().await;
        let written = written.take();
        let dirs: BTreeSet<DirId> = written.iter().map(Closing::dir).collect();
        let durable = self.sync_all(&dirs).await;
        for closing in written {
            let is_durable = durable.contains(&closing.dir());
            self.close_one(async move {
                let ended = if is_durable { closing.end().await } else { closing.abandon().await };
                if let Err(error) = ended {
                    eprintln!("ERROR close a partition: {error}");
                }
            })
            .await;
        }
        self.all_closed().await;
        self.sync_all(&durable).await;
        self.close_journals().await;
        self.0.stage.set(Stage::Closed);
    }

    /// Runs a part of a log's end in a task of its own, once not too many are under way.
    async fn close_one(&self, part: impl Future<Output = ()> + 'static) {
        while self.0.closing_now.get() >= CLOSING_MAX {
            self.0.changed.next().await;
        }
        self.0.closing_now.set(self.0.closing_now.get() + 1);
        let this = self.clone();
        self.0.shard.spawn(async move {
            part.await;
            this.0.closing_now.set(this.0.closing_now.get() - 1);
            this.0.changed.notify();
        });
    }

    async fn all_closed(&self) {
        while self.0.closing_now.get() > 0 {
            self.0.changed.next().await;
        }
    }

    /// Makes durable what these data directories hold; returns those where that has succeeded.
    async fn sync_all(&self, wanted: &BTreeSet<DirId>) -> BTreeSet<DirId> {
        let mut durable = BTreeSet::new();
        let Some(dirs) = self.0.dirs.borrow().clone() else { return durable };
        for data in dirs.dirs.iter().filter(|data| wanted.contains(&data.dir)) {
            match sync_file_system(self.0.shard.io(), data.dir, &data.path).await {
                Ok(()) => {
                    durable.insert(data.dir);
                }
                Err(error) => eprintln!("ERROR sync {}: {error}", data.path.display()),
            }
        }
        durable
    }
}

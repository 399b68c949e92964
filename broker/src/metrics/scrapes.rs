//! Where whoever wants figures leaves questions for the shards, and waits for their answers.

use super::directories::Directories;
use super::exposition::Figures;
use super::lag::{self, Ages, Place, Times};
use super::{Snapshot, Vitals};
use crate::broker::Broker;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::Duration;

/// Where scrapes leave their questions for the shards.
pub struct Scrapes {
    inboxes: Vec<Mutex<Inbox>>,
    stage: AtomicU8,
}

/// How far the broker's life has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Starting,
    Ready,
    Stopping,
}

#[derive(Default)]
struct Inbox {
    asked: VecDeque<Asked>,
    waiter: Option<Waker>,
}

/// What a scrape wants of a shard, and where it waits for it.
enum Asked {
    /// Only whether it answers.
    Alive(SyncSender<()>),
    Vitals(SyncSender<Vitals>),
    Snapshot(SyncSender<Snapshot>),
    /// For how many milliseconds what lies next at each place has been there.
    Ages(Vec<Place>, Asker, SyncSender<Vec<Option<u64>>>),
}

/// Who asks for ages. What was looked up for one is remembered until he asks again, whatever the other asks for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Asker {
    Scrape,
    Page,
}

/// How long a shard may take to answer a scrape: one that takes longer is stuck.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);

impl Scrapes {
    /// For this many shards.
    pub fn new(shards: u16) -> Arc<Self> {
        let inboxes = (0..shards).map(|_| Mutex::default()).collect();
        Arc::new(Self { inboxes, stage: AtomicU8::new(Stage::Starting as u8) })
    }

    /// Starts the task that answers for a shard.
    pub fn serve(self: &Arc<Self>, broker: &Broker) {
        let (scrapes, broker) = (self.clone(), broker.clone());
        let shard = broker.shard().clone();
        shard.spawn(async move {
            let mut times = [Times::default(), Times::default()];
            let directories = Directories::new(&broker);
            // A broker that stops is alive to its end.
            loop {
                // A scrape that has given up does not read.
                let _ = match scrapes.next(broker.shard().id().0).await {
                    Asked::Alive(answer) => answer.try_send(()).ok(),
                    Asked::Vitals(answer) => answer.try_send(Vitals::of(&broker)).ok(),
                    Asked::Snapshot(answer) => {
                        answer.try_send(Snapshot::of(&broker, &directories).await).ok()
                    }
                    Asked::Ages(places, asker, answer) => {
                        let times = &mut times[asker as usize];
                        answer.try_send(times.ages(&broker, &places).await).ok()
                    }
                };
            }
        });
    }

    /// Whether clients can connect, from now on.
    pub fn set_ready(&self, ready: bool) {
        let stage = if ready { Stage::Ready } else { Stage::Stopping };
        self.stage.store(stage as u8, Ordering::Release);
    }

    /// Whether clients can connect.
    pub fn is_ready(&self) -> bool {
        self.stage() == Stage::Ready
    }

    pub(super) fn stage(&self) -> Stage {
        let now = self.stage.load(Ordering::Acquire);
        [Stage::Starting, Stage::Ready]
            .into_iter()
            .find(|stage| *stage as u8 == now)
            .unwrap_or(Stage::Stopping)
    }

    /// Whether every shard answers.
    pub fn are_alive(&self) -> bool {
        self.ask_all(vec![(); self.inboxes.len()], |(), answer| Asked::Alive(answer)).is_some()
    }

    /// Asks every shard; `None` when one does not answer.
    pub fn collect(&self) -> Option<Figures> {
        let shards = self.snapshots()?;
        let lags = lag::lags(&shards);
        let ages = self.ages(lag::places(&lags, shards.len()), Asker::Scrape)?;
        Some(Figures { shards, lags, ages })
    }

    pub(super) fn snapshots(&self) -> Option<Vec<Snapshot>> {
        self.ask_all(vec![(); self.inboxes.len()], |(), answer| Asked::Snapshot(answer))
    }

    pub(super) fn vitals(&self) -> Option<Vec<Vitals>> {
        self.ask_all(vec![(); self.inboxes.len()], |(), answer| Asked::Vitals(answer))
    }

    /// For how many milliseconds what lies at each place has been there: by shard, the places it is to look up.
    pub(super) fn ages(&self, places: Vec<Vec<Place>>, asker: Asker) -> Option<Ages> {
        let ages = self.ask_all(places.clone(), |places, answer| Asked::Ages(places, asker, answer))?;
        let known = places.into_iter().flatten().zip(ages.into_iter().flatten());
        Some(known.filter_map(|(place, age)| Some((place, age?))).collect())
    }

    /// Asks all shards at once, each its question; `None` when one does not answer.
    fn ask_all<Q, A>(&self, questions: Vec<Q>, asked: impl Fn(Q, SyncSender<A>) -> Asked) -> Option<Vec<A>> {
        let ask_one = |(inbox, question)| {
            let (sender, receiver) = sync_channel(1);
            ask(inbox, asked(question, sender));
            receiver
        };
        let answers: Vec<Receiver<A>> = self.inboxes.iter().zip(questions).map(ask_one).collect();
        answers.into_iter().map(|answer| answer.recv_timeout(ANSWER_TIME_MAX).ok()).collect()
    }

    async fn next(&self, shard: u16) -> Asked {
        std::future::poll_fn(|cx| {
            let mut inbox = lock(&self.inboxes[usize::from(shard)]);
            if let Some(asked) = inbox.asked.pop_front() {
                return Poll::Ready(asked);
            }
            inbox.waiter = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}

fn ask(inbox: &Mutex<Inbox>, asked: Asked) {
    let mut inbox = lock(inbox);
    inbox.asked.push_back(asked);
    if let Some(waiter) = inbox.waiter.take() {
        waiter.wake();
    }
}

fn lock(inbox: &Mutex<Inbox>) -> std::sync::MutexGuard<'_, Inbox> {
    inbox.lock().expect("nothing panics while it holds the inbox")
}

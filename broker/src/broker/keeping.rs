//! Keeping what has become of records in share groups: on the shard that owns a partition of `__share_group_state`, its share partitions get
//! their log; on any shard, one is asked for.

use super::{Broker, PendingAnswer};
use crate::calls::{Answer, Call};
use crate::cluster::{Outcome, Request, Topic};
use crate::group::append_failure;
use crate::partition::{Appending, Partition, PartitionId};
use crate::share::{STATE_TOPIC, StateKey, StateRecord, StateRequest, States, Stored, state_topic};
use ringlog_engine::batch::Codec;
use ringlog_engine::io::Instant;
use ringlog_engine::records::Builder;
use ringlog_wire::ErrorCode;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// The partitions of `__share_group_state` of this shard.
#[derive(Default)]
pub(super) struct Keepers(RefCell<BTreeMap<PartitionId, Rc<Keeping>>>);

/// One partition of `__share_group_state`.
struct Keeping {
    partition: Partition,
    states: RefCell<States>,
    progress: Cell<Progress>,
    /// Where the log ended when it was shortened last.
    shortened_at: Cell<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Loading,
    Serving,
    /// The partition has gone, or its log has failed: what is in memory may not be what is kept.
    Ended,
}

/// What a question to a keeper gives: what is kept, after it.
pub type StateAnswer = Result<Option<Stored>, ErrorCode>;

/// After so many records a log is shortened: what lies before is written again.
const RECORDS_BETWEEN_SHORTENINGS: i64 = 20_000;

impl Broker {
    /// Asks for, or changes, what is kept of a share partition. The question is on its way, in order, when this returns.
    pub fn share_state(
        &self,
        key: &StateKey,
        request: StateRequest,
    ) -> impl Future<Output = StateAnswer> + use<> {
        let image = self.image();
        let asked = image.topic(STATE_TOPIC).map(|topic| {
            let partition = PartitionId::new(topic.id, key.kept_in(topic.partitions.len()));
            self.ask(self.owner(partition), Call::ShareState { partition, key: key.clone(), request })
        });
        async move {
            match asked {
                None => Err(ErrorCode::CoordinatorNotAvailable),
                Some(answer) => match answer.await {
                    Answer::ShareState(answer) => answer,
                    _ => unreachable!("a keeper is asked for a state"),
                },
            }
        }
    }

    /// Sees to it that there is a topic that keeps share partitions.
    pub async fn shares_are_kept(&self) -> Result<(), ErrorCode> {
        if self.image().topic(STATE_TOPIC).is_some() {
            return Ok(());
        }
        let topics = vec![state_topic(&self.settings())];
        let outcome = self.control(Request::CreateTopics { topics, validate_only: false }).await;
        if self.image().topic(STATE_TOPIC).is_some() {
            return Ok(());
        }
        let why = match outcome {
            Outcome::Topics(topics) => {
                topics.into_iter().find_map(Result::err).map(|refusal| refusal.message)
            }
            Outcome::Failed(code) => Some(code.name().to_owned()),
            _ => None,
        };
        eprintln!("ERROR create topic {STATE_TOPIC}: {}", why.unwrap_or_default());
        Err(ErrorCode::CoordinatorNotAvailable)
    }

    /// Takes charge of the share partitions in a partition that has been opened.
    pub(super) fn keep_shares(&self, partition: Partition) {
        let keeping = Rc::new(Keeping {
            states: RefCell::default(),
            progress: Cell::new(Progress::Loading),
            shortened_at: Cell::new(partition.log_start()),
            partition,
        });
        self.0.keepers.0.borrow_mut().insert(keeping.partition.id(), keeping.clone());
        let marks = keeping.partition.log().marks();
        if marks.log_start == marks.log_end {
            keeping.progress.set(Progress::Serving);
        } else {
            self.0.shard.spawn(self.clone().load_states(keeping));
        }
    }

    /// Lets go of the share partitions of a partition that goes away.
    pub(super) fn stop_keeping_shares(&self, partition: PartitionId) {
        if let Some(gone) = self.0.keepers.0.borrow_mut().remove(&partition) {
            gone.progress.set(Progress::Ended);
        }
    }

    async fn load_states(self, keeping: Rc<Keeping>) {
        let goes_on = || keeping.progress.get() == Progress::Loading;
        let result = self
            .read_back(&keeping.partition, goes_on, |header, records| {
                if header.is_control() {
                    return Ok(());
                }
                for record in records {
                    let refuse = |why: &str| format!("the record at {}: {why}", record.offset);
                    let key = record.key.as_ref().ok_or_else(|| refuse("it has no key"))?;
                    let read = StateRecord::read(key, record.value.as_ref());
                    if let Some(read) = read.map_err(|error| refuse(&error.to_string()))? {
                        keeping.states.borrow_mut().applied(record.offset, read);
                    }
                }
                Ok(())
            })
            .await;
        match result {
            Ok(()) if goes_on() => {
                keeping.progress.set(Progress::Serving);
                // Topics may have gone whose deletion was cut short.
                let image = self.image();
                self.delete_states(&keeping, |key| {
                    image.topic_by_id(ringlog_wire::Uuid(key.topic)).is_none()
                });
            }
            Ok(()) => {}
            Err(why) => {
                if keeping.progress.replace(Progress::Ended) == Progress::Loading {
                    eprintln!(
                        "ERROR load share groups of {:?}: {why}; they are not served",
                        keeping.partition
                    );
                }
            }
        }
    }

    /// Takes in a question to a keeper of this shard's: what it changes lies in the log when this returns.
    pub(super) fn serve_state(
        &self,
        partition: PartitionId,
        key: &StateKey,
        request: &StateRequest,
    ) -> PendingAnswer {
        let answer = |answer| -> PendingAnswer { Box::pin(std::future::ready(Answer::ShareState(answer))) };
        let keeping = self.0.keepers.0.borrow().get(&partition).cloned();
        let Some(keeping) = keeping else {
            let is_to_come = self.is_to_come(partition);
            let why =
                if is_to_come { ErrorCode::CoordinatorLoadInProgress } else { ErrorCode::NotCoordinator };
            return answer(Err(why));
        };
        match keeping.progress.get() {
            Progress::Loading => return answer(Err(ErrorCode::CoordinatorLoadInProgress)),
            Progress::Ended => return answer(Err(ErrorCode::NotCoordinator)),
            Progress::Serving => {}
        }
        if keeping.states.borrow().is_fenced(key, request) {
            return answer(Err(ErrorCode::FencedStateEpoch));
        }
        let now_ms = self.0.shard.wall_time().0;
        let updates_max =
            self.settings().parse("share.coordinator.snapshot.update.records.per.snapshot").unwrap_or(0);
        let record = keeping.states.borrow().record(now_ms, key, request, updates_max);
        let appending = match record {
            Some(record) => self.keep_states(&keeping, vec![record]),
            // What is told must not be taken back, so it too waits for what lies in the log.
            None => Ok(None),
        };
        let stored = keeping.states.borrow().get(key).cloned();
        let kept = keeping.partition.all_acknowledged(self.state_deadline());
        Box::pin(async move {
            let result = match appending {
                Ok(Some(appending)) => {
                    appending.acknowledged().await.map(drop).map_err(|refusal| refusal.code)
                }
                Ok(None) => kept.await,
                Err(code) => Err(code),
            };
            if keeping.partition.log().failed().is_some()
                || matches!(result, Err(ErrorCode::NotLeaderOrFollower))
            {
                keeping.progress.set(Progress::Ended);
            }
            Answer::ShareState(result.map(|()| stored).map_err(append_failure))
        })
    }

    /// Until when an acknowledgement must be durable.
    fn state_deadline(&self) -> Instant {
        let wait = self.settings().parse("share.coordinator.write.timeout.ms").unwrap_or(5000);
        self.0.shard.now() + Duration::from_millis(wait)
    }

    /// Appends records: what they say is in force when this returns.
    fn keep_states(
        &self,
        keeping: &Rc<Keeping>,
        records: Vec<StateRecord>,
    ) -> Result<Option<Appending>, ErrorCode> {
        let mut last = None;
        for some in records.chunks(RECORDS_PER_BATCH) {
            let mut batch = Builder::new(Codec::None);
            let now = self.0.shard.wall_time().0;
            for record in some {
                batch.push(now, Some(&record.key()), record.value().as_deref(), &[]);
            }
            let at = keeping.partition.log().marks().log_end;
            last = Some(keeping.partition.append_as_coordinator(&batch.build(), self.state_deadline())?);
            let mut states = keeping.states.borrow_mut();
            for (offset, record) in (at..).zip(some) {
                states.applied(offset, record.clone());
            }
        }
        let end = keeping.partition.log().marks().log_end;
        if end - keeping.shortened_at.get() >= RECORDS_BETWEEN_SHORTENINGS {
            keeping.shortened_at.set(end);
            self.0.shard.spawn(self.clone().shorten(keeping.clone()));
        }
        Ok(last)
    }

    /// Writes anew what has lain for long, and deletes what nobody needs any more.
    async fn shorten(self, keeping: Rc<Keeping>) {
        let old = keeping.partition.log().marks().log_end - RECORDS_BETWEEN_SHORTENINGS;
        let snapshots = keeping.states.borrow().snapshots_before(old, self.0.shard.wall_time().0);
        if self.keep_states(&keeping, snapshots).is_err() {
            return;
        }
        let end = keeping.partition.log().marks().log_end;
        if keeping.partition.all_acknowledged(self.state_deadline()).await.is_ok() {
            let needed = keeping.states.borrow().needed_from().unwrap_or(end).min(end);
            // It is tried again with the next records.
            let _ = keeping.partition.delete_records(Some(needed)).await;
        }
    }

    fn delete_states(&self, keeping: &Rc<Keeping>, is_gone: impl Fn(&StateKey) -> bool) -> bool {
        let gone: Vec<StateRecord> = keeping
            .states
            .borrow()
            .keys()
            .filter(|key| is_gone(key))
            .map(|key| StateRecord::Snapshot { key: key.clone(), value: None })
            .collect();
        !gone.is_empty() && self.keep_states(keeping, gone).is_ok()
    }

    /// Topics have gone: so is what is kept of them.
    pub(super) async fn forget_states(&self, gone: &[Arc<Topic>]) {
        let ids: BTreeSet<[u8; 16]> = gone.iter().map(|topic| topic.id.0).collect();
        let keepers: Vec<Rc<Keeping>> = self.0.keepers.0.borrow().values().cloned().collect();
        let mut forgotten = Vec::new();
        for keeping in keepers {
            if keeping.progress.get() == Progress::Serving
                && self.delete_states(&keeping, |key| ids.contains(&key.topic))
            {
                forgotten.push(keeping.partition.all_acknowledged(self.state_deadline()));
            }
        }
        for kept in forgotten {
            // A log that fails has said so.
            let _ = kept.await;
        }
    }
}

/// Records of one batch, at most.
const RECORDS_PER_BATCH: usize = 500;

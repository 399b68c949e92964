//! Fetch sessions (KIP-227): the broker remembers what a consumer fetches, requests and replies carry changes only.
//!
//! The rules are Apache Kafka's `FetchSession.scala`: a request with epoch 0 or -1 carries everything and ends the
//! session it names; 0 asks for a new one. Any other epoch continues a session and must be the next in its row.
//! A cache belongs to one shard, as do connections; a consumer whose connection comes back on another shard is told
//! FETCH_SESSION_ID_NOT_FOUND and begins anew.

use ringlog_engine::io::Instant;
use ringlog_engine::shard::ShardId;
use ringlog_wire::Uuid;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// What a request asks of one partition. Kafka's sentinels have become `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The partition.
    pub key: Key,
    /// The first offset wanted.
    pub fetch_offset: i64,
    /// Bytes wanted at most.
    pub bytes_max: i32,
    /// The leader epoch the client knows.
    pub current_leader_epoch: Option<i32>,
    /// The epoch of the last record the client has.
    pub last_fetched_epoch: Option<i32>,
    /// The first offset a follower has.
    pub log_start_offset: i64,
}

/// A partition as requests name it: by the topic's name up to v12, by its id from v13 on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The topic.
    pub topic: TopicKey,
    /// The partition's index.
    pub partition: i32,
}

/// A topic as requests name it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TopicKey {
    /// By name.
    Name(Arc<str>),
    /// By id.
    Id([u8; 16]),
}

impl TopicKey {
    /// By id.
    pub fn id(id: Uuid) -> Self {
        Self::Id(id.0)
    }
}

/// What decides whether a partition's answer has to be in an incremental reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answered {
    /// Bytes of records.
    pub records: usize,
    /// The high watermark, -1 with most errors.
    pub high_watermark: i64,
    /// The log's first offset.
    pub log_start_offset: i64,
    /// Whether there is an error, a diverging epoch or a preferred replica.
    pub notable: Notable,
}

/// Whether an answer must be told whatever the numbers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notable {
    /// Only its numbers count.
    No,
    /// There is an error.
    Error,
    /// There is a diverging epoch or a preferred replica.
    Hint,
}

/// Sessions of one shard's connections.
pub struct Sessions {
    shard: ShardId,
    sessions_max: usize,
    /// Partitions of all sessions together.
    partitions: usize,
    sessions: HashMap<i32, Session>,
    last_used: BTreeSet<(Instant, i32)>,
    evictions: u64,
}

/// What the sessions of a shard come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SessionFigures {
    /// Sessions kept.
    pub sessions: usize,
    /// Partitions in all of them together.
    pub partitions: usize,
    /// Sessions that had to make room.
    pub evictions: u64,
}

struct Session {
    by_id: bool,
    privileged: bool,
    created: Instant,
    last_used: Instant,
    epoch: i32,
    partitions: BTreeMap<u64, Cached>,
    places: HashMap<Key, u64>,
    next_place: u64,
}

/// A session in the making: of a full request and its answer.
pub struct NewSession(Session, Asked);

struct Cached {
    wanted: Wanted,
    high_watermark: i64,
    log_start_offset: i64,
}

/// How a request is answered, decided when it arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Context {
    /// Everything asked is answered; there is no session.
    Sessionless,
    /// Everything asked is answered, and a session is made of it if there is room.
    Full,
    /// The session's partitions are answered where there is something to tell.
    Incremental {
        /// The session.
        id: i32,
        /// The epoch its next request has.
        next_epoch: i32,
    },
}

/// Why a request does not fit its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionError {
    /// FETCH_SESSION_ID_NOT_FOUND.
    IdNotFound,
    /// INVALID_FETCH_SESSION_EPOCH.
    InvalidEpoch,
    /// FETCH_SESSION_TOPIC_ID_ERROR.
    TopicId,
}

/// The session part of a request.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    /// The session, 0 for none.
    pub session_id: i32,
    /// The request's place in the session: 0 begins one, -1 ends one.
    pub epoch: i32,
    /// Whether topics are named by id (v13 and up).
    pub by_id: bool,
    /// Whether a follower asks.
    pub from_follower: bool,
}

/// The epoch that begins a session.
const INITIAL_EPOCH: i32 = 0;
/// The epoch that ends one.
const FINAL_EPOCH: i32 = -1;
/// Partitions that the sessions of a shard may remember, at some 300 bytes each: 30 MiB.
const PARTITIONS_MAX: usize = 100_000;
/// A session not used for this long may be evicted by any other (Kafka's MIN_INCREMENTAL_FETCH_SESSION_EVICTION_MS).
const EVICT_AFTER: Duration = Duration::from_secs(120);

impl Sessions {
    /// An empty cache with room for this many sessions.
    pub fn new(shard: ShardId, sessions_max: usize) -> Self {
        Self {
            shard,
            sessions_max,
            partitions: 0,
            sessions: HashMap::new(),
            last_used: BTreeSet::new(),
            evictions: 0,
        }
    }

    /// How much is kept, and how often something had to go.
    pub fn figures(&self) -> SessionFigures {
        SessionFigures {
            sessions: self.sessions.len(),
            partitions: self.partitions,
            evictions: self.evictions,
        }
    }

    /// Takes a request in: what it wants of each partition, in order, and how it is to be answered.
    pub fn begin(
        &mut self,
        now: Instant,
        asked: Asked,
        wanted: Vec<Wanted>,
        forgotten: &[Key],
    ) -> Result<(Context, Vec<Wanted>), SessionError> {
        if asked.epoch == INITIAL_EPOCH || asked.epoch == FINAL_EPOCH {
            self.remove(asked.session_id);
            let context = if asked.epoch == FINAL_EPOCH { Context::Sessionless } else { Context::Full };
            return Ok((context, wanted));
        }
        let session = self.sessions.get_mut(&asked.session_id).ok_or(SessionError::IdNotFound)?;
        if session.epoch != asked.epoch {
            return Err(SessionError::InvalidEpoch);
        }
        if session.by_id != asked.by_id {
            return Err(SessionError::TopicId);
        }
        let before = session.partitions.len();
        session.update(&wanted, forgotten);
        let after = session.partitions.len();
        self.partitions = self.partitions - before + after;
        // One that grows beyond the bound ends: its client begins anew, with all that it wants.
        if after == 0 || after > before && self.partitions > PARTITIONS_MAX {
            self.remove(asked.session_id);
            return Ok((Context::Sessionless, wanted));
        }
        session.epoch = next_epoch(session.epoch);
        let context = Context::Incremental { id: asked.session_id, next_epoch: session.epoch };
        self.last_used.remove(&(session.last_used, asked.session_id));
        session.last_used = now;
        self.last_used.insert((now, asked.session_id));
        Ok((context, session.partitions.values().map(|cached| cached.wanted.clone()).collect()))
    }

    /// Whether there is room for one more session, of so many partitions; others may have to go for it.
    pub fn make_room(&mut self, now: Instant, asked: Asked, partitions: usize) -> bool {
        if partitions > PARTITIONS_MAX {
            return false;
        }
        while self.sessions.len() >= self.sessions_max || self.partitions + partitions > PARTITIONS_MAX {
            if !self.evict(now, asked.from_follower, partitions) {
                return false;
            }
        }
        true
    }

    /// Keeps a session, unless others have taken its room meanwhile. Returns its id, or 0.
    pub fn add(&mut self, NewSession(session, asked): NewSession, random: u64) -> i32 {
        let now = session.created;
        if !self.make_room(now, asked, session.partitions.len()) {
            return 0;
        }
        let id = self.new_id(random);
        self.partitions += session.partitions.len();
        self.sessions.insert(id, session);
        self.last_used.insert((now, id));
        id
    }

    /// Whether the session still expects this epoch: a request that was overtaken by a duplicate must be told.
    pub fn expects(&self, id: i32, next_epoch: i32) -> bool {
        // A session evicted meanwhile still answers the request that was under way, as in Kafka.
        self.sessions.get(&id).is_none_or(|session| session.epoch == next_epoch)
    }

    /// Whether an incremental reply must carry this answer; remembers what the client then knows.
    pub fn must_tell(&mut self, id: i32, key: &Key, answered: Answered) -> bool {
        let Some(session) = self.sessions.get_mut(&id) else { return true };
        session.must_tell(key, answered)
    }

    fn remove(&mut self, id: i32) {
        if let Some(session) = self.sessions.remove(&id) {
            self.partitions -= session.partitions.len();
            self.last_used.remove(&(session.last_used, id));
        }
    }

    /// Ids of different shards never meet: a session found is a session of this shard's.
    fn new_id(&self, random: u64) -> i32 {
        let shards = i64::from(u16::MAX) + 1;
        let mut row = i64::try_from(random % (i32::MAX as u64 / shards as u64)).expect("far below 2^31");
        loop {
            let id = i32::try_from(row * shards + i64::from(self.shard.0)).expect("below 2^31");
            if id != 0 && !self.sessions.contains_key(&id) {
                return id;
            }
            row = (row + 1) % (i64::from(i32::MAX) / shards);
        }
    }

    /// Makes room: the session unused for longest if it is stale, else the smallest that is smaller than the new one
    /// and has lived long enough (a follower's session may push a younger one of a consumer out).
    fn evict(&mut self, now: Instant, privileged: bool, size: usize) -> bool {
        let Some(&(last_used, oldest)) = self.last_used.first() else { return false };
        let victim = if now.since(last_used) > EVICT_AFTER {
            Some(oldest)
        } else {
            let evictable = |session: &Session| {
                now.since(session.created) > EVICT_AFTER || (privileged && !session.privileged)
            };
            let smallest = self
                .sessions
                .iter()
                .filter(|(_, session)| evictable(session))
                .map(|(&id, session)| (session.privileged, session.partitions.len(), id))
                .min();
            smallest.filter(|&smallest| (privileged, size, 0) >= smallest).map(|(_, _, id)| id)
        };
        let Some(victim) = victim else { return false };
        self.remove(victim);
        self.evictions += 1;
        true
    }
}

impl NewSession {
    /// Without partitions yet.
    pub fn new(now: Instant, asked: Asked) -> Self {
        let session = Session {
            by_id: asked.by_id,
            privileged: asked.from_follower,
            created: now,
            last_used: now,
            epoch: next_epoch(INITIAL_EPOCH),
            partitions: BTreeMap::new(),
            places: HashMap::new(),
            next_place: 0,
        };
        Self(session, asked)
    }

    /// One more partition, and what the client is told of it.
    pub fn add(&mut self, wanted: Wanted, answered: Answered) {
        let Answered { high_watermark, log_start_offset, .. } = answered;
        self.0.insert(Cached { wanted, high_watermark, log_start_offset });
    }
}

impl Session {
    fn update(&mut self, wanted: &[Wanted], forgotten: &[Key]) {
        for wanted in wanted {
            match self.places.get(&wanted.key) {
                Some(place) => {
                    self.partitions.get_mut(place).expect("each place is taken").wanted = wanted.clone();
                }
                None => {
                    self.insert(Cached { wanted: wanted.clone(), high_watermark: -1, log_start_offset: -1 })
                }
            }
        }
        for key in forgotten {
            if let Some(place) = self.places.remove(key) {
                self.partitions.remove(&place);
            }
        }
    }

    fn insert(&mut self, cached: Cached) {
        let place = self.next_place;
        self.next_place += 1;
        self.places.insert(cached.wanted.key.clone(), place);
        self.partitions.insert(place, cached);
    }

    fn must_tell(&mut self, key: &Key, answered: Answered) -> bool {
        let Some(place) = self.places.get(key).copied() else { return true };
        let cached = self.partitions.get_mut(&place).expect("each place is taken");
        let must = answered.records > 0
            || cached.high_watermark != answered.high_watermark
            || cached.log_start_offset != answered.log_start_offset
            || answered.notable != Notable::No;
        cached.high_watermark = if answered.notable == Notable::Error { -1 } else { answered.high_watermark };
        cached.log_start_offset = answered.log_start_offset;
        if answered.records > 0 {
            // Whoever got records goes last next time, so that the others get theirs.
            let cached = self.partitions.remove(&place).expect("just seen");
            self.insert(cached);
        }
        must
    }
}

/// Epochs go 1, 2, .. 2^31-1, 1: 0 begins a session.
fn next_epoch(epoch: i32) -> i32 {
    if epoch == i32::MAX { 1 } else { epoch + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant::from_nanos(0);

    fn want(partition: i32, fetch_offset: i64) -> Wanted {
        Wanted {
            key: Key { topic: TopicKey::Name("t".into()), partition },
            fetch_offset,
            bytes_max: 100,
            current_leader_epoch: Some(partition),
            last_fetched_epoch: None,
            log_start_offset: -1,
        }
    }

    fn quiet(high_watermark: i64) -> Answered {
        Answered { records: 0, high_watermark, log_start_offset: 0, notable: Notable::No }
    }

    fn asked(session_id: i32, epoch: i32) -> Asked {
        Asked { session_id, epoch, by_id: false, from_follower: false }
    }

    impl Sessions {
        fn create(
            &mut self,
            now: Instant,
            random: u64,
            asked: Asked,
            answered: impl Iterator<Item = (Wanted, Answered)>,
        ) -> i32 {
            let mut session = NewSession::new(now, asked);
            answered.for_each(|(wanted, answered)| session.add(wanted, answered));
            self.add(session, random)
        }
    }

    fn sessions_with_one(partitions: i32) -> (Sessions, i32) {
        let mut sessions = Sessions::new(ShardId(1), 2);
        let wanted: Vec<Wanted> = (0..partitions).map(|index| want(index, 0)).collect();
        let (context, all) = sessions.begin(NOW, asked(0, 0), wanted, &[]).unwrap();
        assert_eq!(context, Context::Full);
        let id = sessions.create(NOW, 7, asked(0, 0), all.into_iter().map(|wanted| (wanted, quiet(5))));
        assert_ne!(id, 0);
        (sessions, id)
    }

    #[test]
    fn a_session_remembers_and_each_request_takes_the_next_epoch() {
        let (mut sessions, id) = sessions_with_one(2);
        let (context, wanted) = sessions.begin(NOW, asked(id, 1), vec![want(1, 9)], &[]).unwrap();
        assert_eq!(context, Context::Incremental { id, next_epoch: 2 });
        assert_eq!(wanted, [want(0, 0), want(1, 9)], "leader epochs are remembered too");
        assert_eq!(sessions.begin(NOW, asked(id, 1), vec![], &[]), Err(SessionError::InvalidEpoch));
        assert_eq!(sessions.begin(NOW, asked(id, 3), vec![], &[]), Err(SessionError::InvalidEpoch));
        assert_eq!(sessions.begin(NOW, asked(id + 1, 1), vec![], &[]), Err(SessionError::IdNotFound));
        let by_id = Asked { by_id: true, ..asked(id, 2) };
        assert_eq!(sessions.begin(NOW, by_id, vec![], &[]), Err(SessionError::TopicId));
        assert!(sessions.begin(NOW, asked(id, 2), vec![], &[]).is_ok(), "refusals change nothing");
    }

    #[test]
    fn forgetting_the_last_partition_ends_the_session() {
        let (mut sessions, id) = sessions_with_one(1);
        let (context, wanted) = sessions.begin(NOW, asked(id, 1), vec![], &[want(0, 0).key]).unwrap();
        assert_eq!((context, wanted), (Context::Sessionless, vec![]));
        assert_eq!(sessions.figures(), SessionFigures::default());
    }

    #[test]
    fn a_full_request_ends_the_session_it_names() {
        for (epoch, context) in [(0, Context::Full), (-1, Context::Sessionless)] {
            let (mut sessions, id) = sessions_with_one(1);
            let (got, _) = sessions.begin(NOW, asked(id, epoch), vec![want(0, 0)], &[]).unwrap();
            assert_eq!(got, context);
            assert_eq!(sessions.figures(), SessionFigures::default());
        }
    }

    #[test]
    fn only_news_is_told_and_who_got_records_goes_last() {
        let (mut sessions, id) = sessions_with_one(2);
        let key = |partition| want(partition, 0).key;
        assert!(!sessions.must_tell(id, &key(0), quiet(5)));
        assert!(sessions.must_tell(id, &key(0), quiet(6)), "the high watermark moved");
        assert!(!sessions.must_tell(id, &key(0), quiet(6)));
        assert!(sessions.must_tell(id, &key(0), Answered { log_start_offset: 3, ..quiet(6) }));
        let error = Answered { notable: Notable::Error, log_start_offset: 3, ..quiet(6) };
        assert!(sessions.must_tell(id, &key(0), error));
        let healed = Answered { log_start_offset: 3, ..quiet(6) };
        assert!(sessions.must_tell(id, &key(0), healed), "after an error the next answer is told");
        assert!(sessions.must_tell(id, &key(0), Answered { records: 10, ..healed }));
        let (_, wanted) = sessions.begin(NOW, asked(id, 1), vec![], &[]).unwrap();
        assert_eq!(wanted.iter().map(|wanted| wanted.key.partition).collect::<Vec<_>>(), [1, 0]);
    }

    #[test]
    fn a_full_cache_refuses_young_neighbours_and_evicts_stale_ones() {
        let (mut sessions, first) = sessions_with_one(1);
        let create = |sessions: &mut Sessions, at, size: i32| {
            let parts = (0..size).map(|index| (want(index, 0), quiet(0)));
            sessions.create(at, 7, asked(0, 0), parts)
        };
        assert_ne!(create(&mut sessions, NOW, 1), 0);
        assert_eq!(create(&mut sessions, NOW, 9), 0, "both are young");
        let later = NOW + EVICT_AFTER + Duration::from_secs(1);
        assert_ne!(create(&mut sessions, later, 1), 0, "a stale one goes");
        assert_eq!(sessions.figures(), SessionFigures { sessions: 2, partitions: 2, evictions: 1 });
        assert_eq!(sessions.last_used.len(), 2);
        let _ = first;
    }

    #[test]
    fn all_sessions_together_remember_a_bounded_number_of_partitions() {
        let mut sessions = Sessions::new(ShardId(0), 1000);
        let most = i32::try_from(PARTITIONS_MAX).unwrap();
        let create = |sessions: &mut Sessions, partitions: std::ops::Range<i32>| {
            sessions.create(NOW, 7, asked(0, 0), partitions.map(|index| (want(index, 0), quiet(0))))
        };
        let first = create(&mut sessions, 0..most - 2);
        assert_eq!(create(&mut sessions, 0..3), 0);
        let small = create(&mut sessions, 0..2);
        assert!(first != 0 && small != 0 && sessions.partitions == PARTITIONS_MAX);
        let grown = sessions.begin(NOW, asked(small, 1), vec![want(2, 0)], &[]).unwrap();
        assert_eq!(grown, (Context::Sessionless, vec![want(2, 0)]), "it ends, and its client begins anew");
        let (_, all) = sessions.begin(NOW, asked(first, 1), vec![], &[want(0, 0).key]).unwrap();
        assert_eq!((all.len(), sessions.partitions), (PARTITIONS_MAX - 3, PARTITIONS_MAX - 3));
        assert_eq!(create(&mut sessions, 0..most + 1), 0);
        assert_ne!(create(&mut sessions, 0..3), 0);
    }

    #[test]
    fn epochs_skip_zero_when_they_wrap() {
        assert_eq!(next_epoch(i32::MAX), 1);
    }
}

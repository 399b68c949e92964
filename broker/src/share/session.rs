//! Share sessions: what a member reads, and the number of its next request. One shard's, of the connections it serves.
//!
//! A session lives as long as its connection: a member that comes back over another one begins anew, as in Apache Kafka
//! (`ShareSessionCache`).

use ringlog_wire::ErrorCode;
use std::collections::BTreeMap;

/// A partition: its topic's id, and its index.
pub type Place = ([u8; 16], i32);

/// Why a request does not fit its session: Kafka's code.
pub type SessionError = ErrorCode;

/// The sessions of one shard.
#[derive(Debug)]
pub struct Sessions {
    max: usize,
    sessions: BTreeMap<(String, String), Session>,
}

#[derive(Debug)]
struct Session {
    /// The connection it lives with.
    socket: u64,
    /// What its next request has to say.
    epoch: i32,
    /// What it reads, in the order it was added.
    places: Vec<Place>,
}

/// A request of a session.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The group.
    pub group: &'a str,
    /// The member.
    pub member: &'a str,
    /// The request's number: 0 opens a session, -1 ends it.
    pub epoch: i32,
    /// The connection.
    pub socket: u64,
}

/// What a request of a session reads, or lets go of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// It reads these.
    Reads(Vec<Place>),
    /// It was the last: what the member has of these is free.
    Ended(Vec<Place>),
}

/// The number that opens a session.
const OPENS: i32 = 0;
/// The number that ends it.
const ENDS: i32 = -1;

impl Sessions {
    /// None, and room for so many.
    pub fn new(max: usize) -> Self {
        Self { max, sessions: BTreeMap::new() }
    }

    /// A fetch, which may add and drop partitions.
    pub fn fetch(
        &mut self,
        asked: Asked<'_>,
        added: &[Place],
        dropped: &[Place],
        acknowledges: bool,
    ) -> Result<Opened, SessionError> {
        let key = (asked.group.to_owned(), asked.member.to_owned());
        if asked.epoch == ENDS {
            return self.end(&key);
        }
        if asked.epoch == OPENS {
            // Nothing can have been acquired yet.
            if acknowledges {
                return Err(ErrorCode::InvalidRequest);
            }
            self.sessions.remove(&key);
            if self.sessions.len() >= self.max {
                return Err(ErrorCode::ShareSessionLimitReached);
            }
            let session = Session { socket: asked.socket, epoch: 1, places: Vec::new() };
            self.sessions.insert(key.clone(), session);
        } else {
            self.proceed(&key, asked.epoch)?;
        }
        let session = self.sessions.get_mut(&key).expect("just seen");
        session.places.retain(|place| !dropped.contains(place));
        for place in added {
            if !session.places.contains(place) {
                session.places.push(*place);
            }
        }
        Ok(Opened::Reads(session.places.clone()))
    }

    /// An acknowledgement.
    pub fn acknowledge(&mut self, asked: Asked<'_>) -> Result<Opened, SessionError> {
        let key = (asked.group.to_owned(), asked.member.to_owned());
        match asked.epoch {
            OPENS => Err(ErrorCode::InvalidShareSessionEpoch),
            ENDS => self.end(&key),
            epoch => self.proceed(&key, epoch).map(|()| Opened::Reads(Vec::new())),
        }
    }

    fn end(&mut self, key: &(String, String)) -> Result<Opened, SessionError> {
        let session = self.sessions.remove(key).ok_or(ErrorCode::ShareSessionNotFound)?;
        Ok(Opened::Ended(session.places))
    }

    fn proceed(&mut self, key: &(String, String), epoch: i32) -> Result<(), SessionError> {
        let session = self.sessions.get_mut(key).ok_or(ErrorCode::ShareSessionNotFound)?;
        if session.epoch != epoch {
            return Err(ErrorCode::InvalidShareSessionEpoch);
        }
        // After the largest number comes 1: 0 opens.
        session.epoch = epoch.checked_add(1).unwrap_or(1);
        Ok(())
    }

    /// A connection has gone: groups, members, and what they read.
    pub fn disconnected(&mut self, socket: u64) -> Vec<(String, String, Vec<Place>)> {
        let gone = self.sessions.extract_if(.., |_, session| session.socket == socket);
        gone.map(|((group, member), session)| (group, member, session.places)).collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Place = ([1; 16], 0);
    const B: Place = ([1; 16], 1);

    fn asked(member: &str, epoch: i32) -> Asked<'_> {
        Asked { group: "g", member, epoch, socket: 7 }
    }

    #[test]
    fn a_session_counts_its_requests_and_knows_what_it_reads() {
        let mut sessions = Sessions::new(10);
        let mut fetch = |epoch, added: &[Place], dropped: &[Place], acknowledges| {
            sessions.fetch(asked("m", epoch), added, dropped, acknowledges)
        };
        let reads = |places: &[Place]| Ok(Opened::Reads(places.to_vec()));
        assert_eq!(fetch(1, &[], &[], false), Err(ErrorCode::ShareSessionNotFound));
        assert_eq!(fetch(0, &[A], &[], true), Err(ErrorCode::InvalidRequest));
        assert_eq!(fetch(0, &[A], &[], false), reads(&[A]));
        assert_eq!(fetch(1, &[A, B], &[], true), reads(&[A, B]));
        assert_eq!(fetch(1, &[], &[], false), Err(ErrorCode::InvalidShareSessionEpoch));
        assert_eq!(fetch(2, &[], &[A], false), reads(&[B]));
        assert_eq!(sessions.acknowledge(asked("m", 0)), Err(ErrorCode::InvalidShareSessionEpoch));
        assert_eq!(sessions.acknowledge(asked("m", 3)), reads(&[]));
        assert_eq!(sessions.acknowledge(asked("m", -1)), Ok(Opened::Ended(vec![B])));
        assert_eq!(sessions.acknowledge(asked("m", 4)), Err(ErrorCode::ShareSessionNotFound));
    }

    #[test]
    fn sessions_are_bounded_and_go_with_their_connection() {
        let mut sessions = Sessions::new(2);
        for member in ["a", "b"] {
            assert!(sessions.fetch(asked(member, 0), &[A], &[], false).is_ok());
        }
        assert_eq!(sessions.fetch(asked("c", 0), &[A], &[], false), Err(ErrorCode::ShareSessionLimitReached));
        assert!(sessions.fetch(asked("a", 0), &[B], &[], false).is_ok(), "in place of its own");
        assert!(sessions.disconnected(8).is_empty());
        let gone = sessions.disconnected(7);
        assert_eq!(gone[0], ("g".into(), "a".into(), vec![B]));
        assert!(sessions.is_empty());
    }
}

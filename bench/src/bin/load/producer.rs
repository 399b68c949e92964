//! A connection that produces.

use crate::connection::Connection;
use crate::plan::Plan;
use crate::request::Request;
use ringlog_wire::produce::ProduceResponse;
use ringlog_wire::{ApiKey, ErrorCode, Message, Reader, ResponseHeader};
use std::collections::VecDeque;
use std::io;

pub(crate) struct Producer {
    pub(crate) connection: Connection,
    /// The requests it makes, each for other partitions, in turn.
    requests: Vec<Request>,
    next: usize,
    correlation: i32,
    /// What is not answered: when each request was due.
    in_flight: VecDeque<u64>,
    /// What is due and could not be sent yet.
    waiting: VecDeque<u64>,
}

/// That a request is done.
pub(crate) struct Answered {
    /// When it was due.
    pub(crate) due: u64,
    /// How many batches it had.
    pub(crate) batches: u64,
}

const VERSION: i16 = 9;

impl Producer {
    pub(crate) fn new(connection: Connection, requests: Vec<Request>) -> Self {
        Self {
            connection,
            requests,
            next: 0,
            correlation: 0,
            in_flight: VecDeque::new(),
            waiting: VecDeque::new(),
        }
    }

    /// Whether another request may be sent at once.
    pub(crate) fn has_room(&self, plan: &Plan) -> bool {
        self.in_flight.len() < plan.in_flight && !self.connection.is_sending()
    }

    /// Makes a request that is due.
    pub(crate) fn due(&mut self, due: u64) {
        self.waiting.push_back(due);
    }

    /// Since when the oldest request waits to be sent.
    pub(crate) fn waits_since(&self) -> Option<u64> {
        self.waiting.front().copied()
    }

    /// Sends what is due, as far as it may.
    pub(crate) fn send_due(&mut self, plan: &Plan, now_ms: i64) -> io::Result<()> {
        while self.has_room(plan)
            && let Some(due) = self.waiting.pop_front()
        {
            self.send(plan, due, now_ms)?;
        }
        Ok(())
    }

    /// Sends the next request.
    pub(crate) fn send(&mut self, plan: &Plan, due: u64, now_ms: i64) -> io::Result<()> {
        let count = self.requests.len();
        let request = &mut self.requests[self.next];
        self.next = (self.next + 1) % count;
        let frame = request.next(plan, self.correlation, due, now_ms);
        self.correlation = self.correlation.wrapping_add(1);
        self.in_flight.push_back(due);
        self.connection.send(frame)
    }

    /// Takes the next answer in.
    pub(crate) fn answered(&mut self, now: u64) -> io::Result<Option<Answered>> {
        let Some(frame) = self.connection.frame() else { return Ok(None) };
        let due = self.in_flight.pop_front().ok_or_else(|| io::Error::other("an answer to nothing"))?;
        let expected = self.correlation.wrapping_sub(1 + i32::try_from(self.in_flight.len()).unwrap_or(0));
        let mut reader = Reader::new(&frame);
        let header = ResponseHeader::read(&mut reader, ApiKey::Produce, VERSION).map_err(io::Error::other)?;
        if header.correlation_id != expected {
            return Err(io::Error::other(format!("{} is answered before {expected}", header.correlation_id)));
        }
        let response = ProduceResponse::decode(&mut reader, VERSION).map_err(io::Error::other)?;
        let answers = || response.responses.iter().flat_map(|topic| &topic.partition_responses);
        match answers().find(|answer| answer.error_code != ErrorCode::None) {
            None => Ok(Some(Answered { due, batches: answers().count() as u64 })),
            Some(refused) => {
                let (millis, said) = (now.saturating_sub(due) / 1_000_000, refused.error_message.as_deref());
                let said = said.map_or(String::new(), |said| format!(", {said}"));
                Err(io::Error::other(format!(
                    "a request to partition {} is answered {millis} ms after it was due with {:?}{said}",
                    refused.index, refused.error_code
                )))
            }
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// What was sent to each partition, in records.
    pub(crate) fn sent(&self, plan: &Plan) -> impl Iterator<Item = (i32, u64)> {
        self.requests.iter().flat_map(|request| request.sent(plan))
    }
}

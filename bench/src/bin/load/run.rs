//! One thread that does it all.

use crate::clock::{Clock, NANOS_PER_SECOND, cpu, nanos};
use crate::connection::Connection;
use crate::consumer::{Consumer, Place};
use crate::histograms::Latencies;
use crate::plan::Plan;
use crate::producer::{Answered, Producer};
use crate::request::{Request, Sender};
use crate::setup::{EARLIEST, LATEST, offsets, producer_id, wait_for_leaders};
use rustix::event::{Timespec, epoll};
use rustix::fd::OwnedFd;
use std::collections::BTreeMap;
use std::io;
use std::num::NonZeroU64;
use std::time::Duration;

/// What is counted from the window's begin to its end.
#[derive(Default, Clone, Copy)]
struct Counts {
    requests: u64,
    batches: u64,
    fetches: u64,
    fetched_records: u64,
    fetched_bytes: u64,
}

struct Run<'a> {
    plan: &'a Plan,
    clock: Clock,
    epoll: OwnedFd,
    producers: Vec<Producer>,
    consumers: Vec<Consumer>,
    counts: Counts,
    /// From when a request was due until its answer.
    produced: Latencies,
    fetched: Latencies,
    /// From when a record's request was due until a consumer had it.
    end_to_end: Latencies,
    /// Within the window.
    measures: bool,
    /// The load is over: nothing more is produced.
    is_over: bool,
    /// The longest that a due request had to wait before it was sent.
    backlog: u64,
}

/// Requests that wait longer than this to be sent do not keep up.
const BACKLOG_MAX: Duration = Duration::from_secs(1);
/// After the window, answers may take so long.
const DRAIN: Duration = Duration::from_secs(60);
/// No timer is that exact: what is due sooner is waited for awake.
const AWAKE: u64 = 60_000;

pub(crate) fn run(plan: &Plan) -> io::Result<()> {
    rustix::thread::set_current_timer_slack(NonZeroU64::new(1))?;
    let mut run = Run::new(plan)?;
    run.warm_up_and_measure()
}

impl<'a> Run<'a> {
    fn new(plan: &'a Plan) -> io::Result<Self> {
        let mut first = Connection::open(plan.broker)?;
        wait_for_leaders(plan, &mut first)?;
        let mut producers = Vec::new();
        for number in 0..plan.producers {
            let mut connection = Connection::open(plan.broker)?;
            let (producer_id, producer_epoch) =
                if plan.idempotent { producer_id(&mut connection)? } else { (-1, -1) };
            let sender = Sender { number: plan.first_sender + number, producer_id, producer_epoch };
            let groups = partitions_of(plan, number);
            let requests = groups.into_iter().map(|group| Request::new(plan, sender, group)).collect();
            producers.push(Producer::new(connection, requests));
        }
        let mut consumers = Vec::new();
        for number in (0..plan.fan_out).flat_map(|_| 0..plan.consumers) {
            let mut own = places(plan, &mut first)?;
            own.retain(|place| place.partition.cast_unsigned() % plan.consumers == number);
            consumers.push(Consumer::new(Connection::open(plan.broker)?, own));
        }
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let connections = producers.iter().map(|one| &one.connection);
        for (number, connection) in connections.chain(consumers.iter().map(|one| &one.connection)).enumerate()
        {
            connection.begin()?;
            let data = epoll::EventData::new_u64(number as u64);
            epoll::add(&epoll, &connection.socket, data, epoll::EventFlags::IN)?;
        }
        Ok(Self {
            plan,
            clock: Clock::start(),
            epoll,
            producers,
            consumers,
            counts: Counts::default(),
            produced: Latencies::new(),
            fetched: Latencies::new(),
            end_to_end: Latencies::new(),
            measures: false,
            is_over: false,
            backlog: 0,
        })
    }

    fn warm_up_and_measure(&mut self) -> io::Result<()> {
        let plan = self.plan;
        for consumer in &mut self.consumers {
            consumer.ask(plan, self.clock.now())?;
        }
        if plan.rate.is_none() {
            for number in 0..self.producers.len() {
                self.fill(number)?;
            }
        }
        let began = self.clock.now();
        let window_begins = began + nanos(plan.warm_up());
        let window_ends = window_begins + nanos(plan.window());
        let (mut second_ends, mut second) = (began + NANOS_PER_SECOND, 0);
        let (mut due_count, mut next_due) = (0_u64, began);
        let mut before = (Counts::default(), 0, Duration::ZERO);
        let mut seen = Counts::default();
        let bytes_per_batch = u64::from(plan.records * plan.size);
        loop {
            let now = self.clock.now();
            if now >= second_ends {
                second_ends += NANOS_PER_SECOND;
                for latencies in [&mut self.produced, &mut self.fetched, &mut self.end_to_end] {
                    latencies.end_second();
                }
                let (requests, fetches) =
                    (self.counts.requests - seen.requests, self.counts.fetches - seen.fetches);
                seen = self.counts;
                second += 1;
                if plan.every.is_some_and(|every| second % every == 0) {
                    println!(
                        "{{\"until_second\": {second}, \"requests\": {}, \"backlog_ms\": {:.1}, \"produce_us\": {}, \"end_to_end_us\": {}}}",
                        self.counts.requests,
                        self.backlog as f64 / 1e6,
                        self.produced.interval_json(),
                        self.end_to_end.interval_json(),
                    );
                }
                eprintln!("load: {requests} requests, {fetches} fetches in a second");
            }
            if !self.measures && now >= window_begins {
                self.measures = true;
                before = (self.counts, now, cpu());
                println!("{{\"window\": \"begins\"}}");
            }
            let megabytes = (self.counts.batches - before.0.batches) * bytes_per_batch / 1_000_000;
            let enough = plan.megabytes.is_some_and(|most| self.measures && megabytes as f64 >= most);
            let caught_up = plan.catch_up && self.consumers.iter().all(Consumer::is_done);
            if now >= window_ends || enough || caught_up {
                break;
            }
            if let Some(rate) = plan.rate {
                while next_due <= now {
                    let number = usize::try_from(due_count).expect("a count") % self.producers.len();
                    self.producers[number].due(next_due);
                    self.producers[number].send_due(plan, self.clock.wall_ms())?;
                    self.watch(number)?;
                    due_count += 1;
                    next_due = began + (due_count as f64 / rate * 1e9) as u64;
                }
            }
            let next = next_due.min(second_ends).min(window_ends);
            let next = if plan.rate.is_some() { next } else { second_ends.min(window_ends) };
            self.turn(next)?;
        }
        let now = self.clock.now();
        println!("{{\"window\": \"ends\"}}");
        let waits = self.producers.iter().filter_map(Producer::waits_since).min();
        self.backlog = self.backlog.max(waits.map_or(0, |since| now - since));
        self.measures = false;
        let (counts_before, at, cpu_before) = before;
        let (counts, span, busy) = (self.counts, now - at, cpu() - cpu_before);
        self.drain()?;
        self.print(counts_before, counts, Duration::from_nanos(span), busy);
        Ok(())
    }

    /// Waits for events, at most until the instant, and does what they allow.
    fn turn(&mut self, until: u64) -> io::Result<()> {
        let mut events =
            [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }; 64];
        let span = until.saturating_sub(self.clock.now());
        let span = if span < AWAKE { 0 } else { span - AWAKE / 2 };
        let timeout = Timespec {
            tv_sec: (span / NANOS_PER_SECOND).cast_signed(),
            tv_nsec: (span % NANOS_PER_SECOND).cast_signed(),
        };
        let count = match epoll::wait(&self.epoll, &mut events, Some(&timeout)) {
            Ok(count) => count,
            Err(rustix::io::Errno::INTR) => 0,
            Err(error) => return Err(error.into()),
        };
        for event in &events[..count] {
            let number = usize::try_from(event.data.u64()).expect("a number of ours");
            if number < self.producers.len() {
                self.produce(number, event.flags)?;
            } else {
                self.consume(number - self.producers.len())?;
            }
        }
        Ok(())
    }

    fn produce(&mut self, number: usize, flags: epoll::EventFlags) -> io::Result<()> {
        let producer = &mut self.producers[number];
        if flags.contains(epoll::EventFlags::OUT) {
            producer.connection.flush()?;
        }
        if flags.intersects(epoll::EventFlags::IN | epoll::EventFlags::HUP | epoll::EventFlags::ERR) {
            producer.connection.receive()?;
            while let Some(Answered { due, batches }) = producer.answered(self.clock.now())? {
                self.counts.requests += 1;
                self.counts.batches += batches;
                if self.measures {
                    self.produced.note(self.clock.now().saturating_sub(due));
                }
            }
        }
        if self.plan.rate.is_some() {
            let now = self.clock.now();
            self.backlog = self.backlog.max(producer.waits_since().map_or(0, |since| now - since));
            if !self.is_over {
                producer.send_due(self.plan, self.clock.wall_ms())?;
            }
            self.watch(number)
        } else {
            self.fill(number)
        }
    }

    /// Sends as many requests as may be in flight.
    fn fill(&mut self, number: usize) -> io::Result<()> {
        let producer = &mut self.producers[number];
        while !self.is_over && producer.has_room(self.plan) {
            producer.send(self.plan, self.clock.now(), self.clock.wall_ms())?;
        }
        self.watch(number)
    }

    /// Waits for the socket to take more, while something is unsent.
    fn watch(&mut self, number: usize) -> io::Result<()> {
        let connection = &mut self.producers[number].connection;
        let sending = connection.is_sending();
        if std::mem::replace(&mut connection.watched, sending) != sending {
            let mut flags = epoll::EventFlags::IN;
            flags.set(epoll::EventFlags::OUT, sending);
            let data = epoll::EventData::new_u64(number as u64);
            epoll::modify(&self.epoll, &connection.socket, data, flags)?;
        }
        Ok(())
    }

    fn consume(&mut self, number: usize) -> io::Result<()> {
        let consumer = &mut self.consumers[number];
        consumer.connection.receive()?;
        let clock = &self.clock;
        let latencies = self.measures.then_some(&mut self.end_to_end);
        if let Some(fetched) = consumer.fetched(self.plan, || clock.now(), latencies)? {
            let now = self.clock.now();
            if self.measures && fetched.records > 0 {
                self.fetched.note(now - fetched.asked);
            }
            self.counts.fetches += 1;
            self.counts.fetched_records += fetched.records;
            self.counts.fetched_bytes += fetched.bytes;
            consumer.ask(self.plan, now)?;
        }
        Ok(())
    }

    /// Sends nothing more and waits for what is on its way: answers, and everything produced at those who consume it as it comes.
    fn drain(&mut self) -> io::Result<()> {
        self.is_over = true;
        let deadline = self.clock.now() + nanos(DRAIN);
        let produced: u64 = self.sent().values().flat_map(BTreeMap::values).sum();
        let tails =
            !self.consumers.is_empty() && self.plan.again_at.is_none() && !self.plan.catch_up && produced > 0;
        let wanted = if tails { produced * u64::from(self.plan.fan_out) } else { 0 };
        loop {
            let read: u64 = self.consumers.iter().map(|consumer| consumer.records).sum();
            if self.producers.iter().all(Producer::is_idle) && read >= wanted {
                return Ok(());
            }
            let now = self.clock.now();
            if now > deadline {
                return Err(io::Error::other(format!("{read} of {wanted} records came, or answers did not")));
            }
            self.turn(deadline.min(now + NANOS_PER_SECOND))?;
        }
    }

    /// By partition: how many records each producer has sent to it.
    fn sent(&self) -> BTreeMap<i32, BTreeMap<usize, u64>> {
        let mut sent: BTreeMap<i32, BTreeMap<usize, u64>> = BTreeMap::new();
        for (number, producer) in self.producers.iter().enumerate() {
            for (partition, records) in producer.sent(self.plan).filter(|(_, records)| *records > 0) {
                *sent.entry(partition).or_default().entry(number).or_default() += records;
            }
        }
        sent
    }

    fn print(&mut self, before: Counts, after: Counts, span: Duration, busy: Duration) {
        let plan = self.plan;
        let requests = after.requests - before.requests;
        let records = (after.batches - before.batches) * u64::from(plan.records);
        let sent = self.sent();
        let sent_records: u64 = sent.values().flat_map(BTreeMap::values).sum();
        println!(
            "{{\"seconds\": {:.6}, \"requests\": {requests}, \"records\": {records}, \"bytes\": {}, \
             \"fetches\": {}, \"fetched_records\": {}, \"fetched_bytes\": {}, \"generator_busy\": {:.3}, \
             \"generator_cpu\": {:.4}, \"backlog_ms\": {:.1}, \"sustained\": {}, \"sent_records\": {sent_records}, \
             \"read_records\": {}, \"deleted_records\": {}, \
             \"produce_us\": {}, \"fetch_us\": {}, \"end_to_end_us\": {}}}",
            span.as_secs_f64(),
            records * u64::from(plan.size),
            after.fetches - before.fetches,
            after.fetched_records - before.fetched_records,
            after.fetched_bytes - before.fetched_bytes,
            busy.as_secs_f64() / span.as_secs_f64(),
            busy.as_secs_f64(),
            self.backlog as f64 / 1e6,
            self.backlog < nanos(BACKLOG_MAX),
            self.consumers.iter().map(|consumer| consumer.records).sum::<u64>(),
            self.consumers.iter().map(|consumer| consumer.deleted).sum::<u64>(),
            self.produced.json(),
            self.fetched.json(),
            self.end_to_end.json(),
        );
    }
}

/// Where consumers begin, in each partition, and end.
fn places(plan: &Plan, connection: &mut Connection) -> io::Result<Vec<Place>> {
    let at = |partition, next, end| Place { partition, next, end };
    if !plan.catch_up && !plan.from_end {
        return Ok((0..plan.partitions).map(|partition| at(partition, 0, None)).collect());
    }
    let unserved = || io::Error::other("a partition is not served");
    let latest = offsets(plan, connection, LATEST)?.ok_or_else(unserved)?;
    if plan.from_end {
        return Ok((0..).zip(latest).map(|(partition, next)| at(partition, next, None)).collect());
    }
    let earliest = offsets(plan, connection, EARLIEST)?.ok_or_else(unserved)?;
    let bounds = earliest.into_iter().zip(latest);
    Ok((0..).zip(bounds).map(|(partition, (first, end))| at(partition, first, Some(end))).collect())
}

/// The partitions of each request that a producer makes in turn. All producers together go through all partitions alike; where there are more
/// partitions than producers, each has its own.
fn partitions_of(plan: &Plan, number: u32) -> Vec<Vec<i32>> {
    let partitions = plan.partitions.cast_unsigned();
    let own: Vec<i32> = if plan.producers <= partitions {
        (number..partitions).step_by(plan.producers as usize).map(u32::cast_signed).collect()
    } else {
        vec![(number % partitions).cast_signed()]
    };
    own.chunks((plan.batches as usize).min(own.len())).map(<[i32]>::to_vec).collect()
}

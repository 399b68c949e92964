//! One scenario as text: what is drawn from a seed, and what shrinking makes of it.

use ringlog_engine::io::sim::Random;
use std::fmt;
use std::str::FromStr;

/// All that decides how a scenario goes. Equal plans go alike, to the last step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The seed of the world: when operations end, what a cut leaves, what producers do.
    pub(crate) seed: u64,
    /// Replicas, each on a machine of its own.
    pub(crate) machines: usize,
    /// `durability=fsync`; otherwise `replicated`.
    pub(crate) fsync: bool,
    pub(crate) segment_bytes: u32,
    /// Producers: idempotent ones that wait for the high watermark, and plain ones that wait for nothing.
    pub(crate) idempotent: usize,
    pub(crate) plain: usize,
    /// Batches are missing in what leaders send, as after compaction.
    pub(crate) gaps: bool,
    /// Leaders delete records.
    pub(crate) deletes: Deletes,
    /// Producers are slow to find every other leader: some lead without an append.
    pub(crate) idle: bool,
    /// Answers come late, twice, or not at all.
    pub(crate) disorder: bool,
    pub(crate) acts: Vec<Act>,
}

/// What happens after so many steps of the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Act {
    pub(crate) steps: u64,
    pub(crate) what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// A machine loses its power, and stays off.
    Cut(usize),
    /// The same, while the log's files are being made or removed.
    CutAtRoll(usize),
    /// A process is killed, and not started again yet.
    Kill(usize),
    /// The process that leads is killed, whichever it is.
    Depose,
    /// All machines lose their power at once.
    CutAll,
    /// A machine comes back, if it was off.
    Up(usize),
    /// This replica becomes leader, if it may, though the old one lives.
    Elect(usize),
    /// This replica is taken for too slow to be in sync.
    Lag(usize),
}

/// How often leaders delete records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deletes {
    Never,
    Seldom,
    /// All that is committed, again and again.
    Often,
}

/// Replicas that all must be in sync with their leader for anything to be committed.
pub(crate) const MIN_INSYNC: usize = 2;

impl Plan {
    /// The scenario of a seed.
    pub(crate) fn of(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x666f_6c6c_6f77);
        let gaps = random.one_in(3);
        // A replica finds gaps where it was away while others committed.
        let machines = if gaps { 4 } else { 2 + random.index(2) };
        let idle = random.one_in(3);
        let deletes = [Deletes::Never, Deletes::Never, Deletes::Seldom, Deletes::Often][random.index(4)];
        let mut acts = Vec::new();
        for _ in 0..random.within(3, 14) {
            let act = Act::draw(&mut random, machines);
            acts.push(act);
            if let (What::Elect(machine), true) = (act.what, idle) {
                // Before anybody has found it.
                let next = (machine + 1 + random.index(machines - 1)) % machines;
                acts.push(Act { steps: random.below(500), what: What::Elect(next) });
            }
            if gaps && random.one_in(4) {
                acts.extend(Act::absence(&mut random, machines));
            }
        }
        Self {
            seed,
            machines,
            fsync: !random.one_in(3),
            segment_bytes: [32_000, 60_000, 1 << 20][random.index(if gaps { 2 } else { 3 })],
            // What they may send again is not deleted.
            idempotent: if deletes == Deletes::Often { 0 } else { random.index(3) },
            plain: 1 + random.index(2),
            gaps,
            deletes,
            idle,
            disorder: random.one_in(2),
            acts,
        }
    }

    /// Plans that are a little smaller than this one, the most promising first.
    pub(crate) fn smaller(&self) -> Vec<Self> {
        let mut plans = Vec::new();
        let mut with = |change: &dyn Fn(&mut Self)| {
            let mut plan = self.clone();
            change(&mut plan);
            if plan != *self {
                plans.push(plan);
            }
        };
        for at in 0..self.acts.len() {
            with(&|plan| {
                let _ = plan.acts.remove(at);
            });
        }
        with(&|plan| plan.disorder = false);
        with(&|plan| plan.deletes = Deletes::Never);
        with(&|plan| plan.idle = false);
        with(&|plan| plan.gaps = false);
        with(&|plan| plan.idempotent = plan.idempotent.saturating_sub(1));
        with(&|plan| plan.plain = plan.plain.saturating_sub(1));
        with(&|plan| plan.segment_bytes = 1 << 20);
        for at in 0..self.acts.len() {
            for (times, of) in [(1, 2), (9, 10), (99, 100)] {
                with(&|plan| plan.acts[at].steps = plan.acts[at].steps * times / of);
            }
        }
        plans
    }

    /// Steps before all is left alone.
    pub(crate) fn steps(&self) -> u64 {
        self.acts.iter().map(|act| act.steps).sum()
    }
}

impl Act {
    /// A replica is away while the leader dies over something that is not committed, another leads, and what it commits is
    /// compacted; then it comes back, leads, and so does the old leader.
    fn absence(random: &mut Random, machines: usize) -> Vec<Self> {
        let away = random.index(machines);
        let mut acts = Vec::new();
        let mut then = |most: u64, what| acts.push(Self { steps: random.below(most), what });
        then(500, What::Kill(away));
        then(500, What::Depose);
        then(6000, What::Up(away));
        then(6000, What::Elect(away));
        for machine in 0..machines {
            then(500, What::Up(machine));
        }
        acts
    }

    fn draw(random: &mut Random, machines: usize) -> Self {
        let machine = random.index(machines);
        let what = match random.index(12) {
            0 => What::Cut(machine),
            1 => What::CutAtRoll(machine),
            2 => What::Kill(machine),
            3 => What::CutAll,
            4..=6 => What::Up(machine),
            7..=9 => What::Elect(machine),
            _ => What::Lag(machine),
        };
        let most = [30, 100, 1000, 4000][random.index(4)];
        Self { steps: random.below(most), what }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flag = u8::from;
        let Self { seed, machines, segment_bytes, idempotent, plain, .. } = self;
        write!(f, "seed={seed} machines={machines} fsync={} segment={segment_bytes} ", flag(self.fsync))?;
        write!(f, "idempotent={idempotent} plain={plain} gaps={} ", flag(self.gaps))?;
        write!(f, "deletes={} disorder={} ", self.deletes as u8, flag(self.disorder))?;
        write!(f, "idle={} acts=", flag(self.idle))?;
        for (at, Act { steps, what }) in self.acts.iter().enumerate() {
            let (letter, machine) = match *what {
                What::Cut(machine) => ('c', machine),
                What::CutAtRoll(machine) => ('r', machine),
                What::Kill(machine) => ('k', machine),
                What::Depose => ('d', 0),
                What::CutAll => ('a', 0),
                What::Up(machine) => ('u', machine),
                What::Elect(machine) => ('e', machine),
                What::Lag(machine) => ('l', machine),
            };
            write!(f, "{}{steps}{letter}{machine}", if at > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}

impl FromStr for Plan {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let value = |name: &str| {
            let mut words = text.split_whitespace().filter_map(|word| word.split_once('='));
            let found = words.find(|(there, _)| *there == name);
            found.map(|(_, value)| value).ok_or_else(|| format!("a plan says {name}=…"))
        };
        fn number<T: FromStr>(text: &str) -> Result<T, String> {
            text.parse().map_err(|_| format!("{text:?} is no number"))
        }
        let act = |text: &str| {
            let at = text.find(char::is_alphabetic).ok_or("an act is steps, a letter, a machine")?;
            let machine = number(&text[at + 1..])?;
            let what = match &text[at..at + 1] {
                "c" => What::Cut(machine),
                "r" => What::CutAtRoll(machine),
                "k" => What::Kill(machine),
                "d" => What::Depose,
                "a" => What::CutAll,
                "u" => What::Up(machine),
                "e" => What::Elect(machine),
                "l" => What::Lag(machine),
                other => return Err(format!("no act is called {other}")),
            };
            Ok(Act { steps: number(&text[..at])?, what })
        };
        let acts = value("acts")?.split(',').filter(|act| !act.is_empty());
        Ok(Self {
            seed: number(value("seed")?)?,
            machines: number(value("machines")?)?,
            fsync: value("fsync")? == "1",
            segment_bytes: number(value("segment")?)?,
            idempotent: number(value("idempotent")?)?,
            plain: number(value("plain")?)?,
            gaps: value("gaps")? == "1",
            deletes: match value("deletes")? {
                "0" => Deletes::Never,
                "1" => Deletes::Seldom,
                "2" => Deletes::Often,
                other => return Err(format!("records are deleted 0, 1 or 2: {other}")),
            },
            disorder: value("disorder")? == "1",
            // Older plans do not say.
            idle: value("idle") == Ok("1"),
            acts: acts.map(act).collect::<Result<_, _>>()?,
        })
    }
}

#[test]
fn plans_are_read_back() {
    for seed in 0..100 {
        let plan = Plan::of(seed);
        assert_eq!(plan.to_string().parse::<Plan>(), Ok(plan));
    }
}

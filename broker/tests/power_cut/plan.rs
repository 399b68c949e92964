//! One scenario as text: what is drawn from a seed, and what shrinking makes of it.

use ringlog_engine::io::sim::Random;
use std::fmt;
use std::str::FromStr;

/// All that decides how a scenario goes. Equal plans go alike, to the last step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The seed of the world: when operations end, what a cut leaves, what clients do.
    pub(crate) seed: u64,
    pub(crate) shards: u16,
    /// Data directories.
    pub(crate) dirs: u16,
    /// Names under which topics are created, and deleted, and created again.
    pub(crate) topics: usize,
    /// Of each topic, at most.
    pub(crate) partitions: i32,
    /// Producers: idempotent ones with acks=all, and plain ones.
    pub(crate) idempotent: usize,
    pub(crate) plain: usize,
    pub(crate) consumers: usize,
    /// Consumers that commit offsets; every other one as a member of its group.
    pub(crate) groups: usize,
    /// Topics are deleted and made anew.
    pub(crate) admin: bool,
    /// Records are deleted from the front of partitions.
    pub(crate) deletes: bool,
    /// Some topics let go of their oldest segments by themselves.
    pub(crate) retains: bool,
    /// There is a compacted topic, whose configs change.
    pub(crate) compacts: bool,
    /// Bytes of each journal; 0: none.
    pub(crate) journal: u64,
    /// One in this many pieces on the network resets its connection; 0: none.
    pub(crate) resets: u64,
    pub(crate) lives: Vec<Life>,
}

/// One process of the broker, from its start to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Life {
    /// Steps of the world until it ends: it may still be recovering then.
    pub(crate) steps: u64,
    pub(crate) end: End,
    /// It goes on until a client has been told something more, and ends at once then.
    pub(crate) told: bool,
    /// Its disks are full now and then.
    pub(crate) full: bool,
    /// An operation of this kind fails after so many others of it.
    pub(crate) fault: Option<(usize, u32)>,
}

/// How a process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The machine loses its power.
    Power,
    /// The process is killed.
    Kill,
    /// It is told to stop, does so if it gets to the end of it, and then the power goes.
    Stop,
}

/// Kinds of operations that [`Life::fault`] chooses from.
pub(crate) const FAULTS: usize = 9;

impl Plan {
    /// The scenario of a seed.
    pub(crate) fn of(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x706c_616e);
        let count = |random: &mut Random, least: u64, most: u64| random.within(least, most);
        let mut lives: Vec<Life> = (0..count(&mut random, 2, 5)).map(|_| Life::draw(&mut random)).collect();
        // Of its own, so that the seeds of former plans stay what they were.
        let mut fullness = Random::new(seed ^ 0x6675_6c6c);
        let mut upkeep = Random::new(seed ^ 0x7570_6b65);
        let mut journals = Random::new(seed ^ 0x6a6f_7572);
        for life in &mut lives {
            life.full = life.fault.is_none() && fullness.one_in(8);
        }
        Self {
            seed,
            shards: u16::try_from(count(&mut random, 1, 2)).unwrap(),
            dirs: u16::try_from(count(&mut random, 1, 2)).unwrap(),
            topics: usize::try_from(count(&mut random, 1, 3)).unwrap(),
            partitions: i32::try_from(count(&mut random, 1, 2)).unwrap(),
            idempotent: usize::try_from(count(&mut random, 1, 2)).unwrap(),
            plain: usize::try_from(count(&mut random, 0, 2)).unwrap(),
            consumers: usize::try_from(count(&mut random, 0, 2)).unwrap(),
            admin: random.one_in(2),
            deletes: random.one_in(3),
            retains: upkeep.one_in(4),
            compacts: upkeep.one_in(4),
            journal: [0, 48 << 10, 128 << 10, 1 << 20][journals.index(4)],
            resets: if random.one_in(3) { 200 } else { 0 },
            groups: usize::try_from(count(&mut random, 0, 2)).unwrap(),
            lives,
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
        for at in 0..self.lives.len() {
            with(&|plan| {
                let _ = plan.lives.remove(at);
            });
        }
        with(&|plan| plan.admin = false);
        with(&|plan| plan.deletes = false);
        with(&|plan| plan.retains = false);
        with(&|plan| plan.compacts = false);
        with(&|plan| plan.journal = 0);
        with(&|plan| plan.resets = 0);
        with(&|plan| plan.consumers = 0);
        with(&|plan| plan.groups = 0);
        with(&|plan| plan.groups = 1.min(plan.groups));
        with(&|plan| plan.plain = 0);
        with(&|plan| plan.idempotent = 0);
        with(&|plan| plan.idempotent = 1.min(plan.idempotent));
        with(&|plan| plan.plain = 1.min(plan.plain));
        with(&|plan| plan.topics = 1);
        with(&|plan| plan.partitions = 1);
        with(&|plan| plan.shards = 1);
        with(&|plan| plan.dirs = 1);
        for at in 0..self.lives.len() {
            with(&|plan| plan.lives[at].fault = None);
            with(&|plan| plan.lives[at].told = false);
            with(&|plan| plan.lives[at].full = false);
            for (times, of) in [(1, 2), (9, 10), (99, 100)] {
                with(&|plan| plan.lives[at].steps = plan.lives[at].steps * times / of);
            }
        }
        plans
    }

    /// Steps of all lives.
    pub(crate) fn steps(&self) -> u64 {
        self.lives.iter().map(|life| life.steps).sum()
    }
}

impl Life {
    fn draw(random: &mut Random) -> Self {
        // Mostly in the middle of its work, often enough while it still recovers.
        let most = [400, 2000, 6000, 12_000][random.index(4)];
        let fault = random.one_in(8).then(|| {
            let skip = [3, 30, 200][random.index(3)];
            (random.index(FAULTS), u32::try_from(random.below(skip)).unwrap())
        });
        let end = match random.index(6) {
            0 => End::Stop,
            1 | 2 if fault.is_none() => End::Kill,
            _ => End::Power,
        };
        Self { steps: random.below(most), end, told: random.one_in(2), full: false, fault }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            seed,
            shards,
            dirs,
            topics,
            partitions,
            idempotent,
            plain,
            consumers,
            groups,
            journal,
            resets,
            ..
        } = self;
        write!(f, "seed={seed} shards={shards} dirs={dirs} topics={topics} partitions={partitions} ")?;
        write!(f, "idempotent={idempotent} plain={plain} consumers={consumers} groups={groups} ")?;
        let flag = u8::from;
        write!(f, "admin={} deletes={} ", flag(self.admin), flag(self.deletes))?;
        write!(
            f,
            "retains={} compacts={} journal={journal} resets={resets} lives=",
            flag(self.retains),
            flag(self.compacts)
        )?;
        for (at, life) in self.lives.iter().enumerate() {
            let end = match life.end {
                End::Power => 'p',
                End::Kill => 'k',
                End::Stop => 's',
            };
            let told = if life.told { "t" } else { "" };
            let told = if life.full { format!("{told}d") } else { told.to_owned() };
            write!(f, "{}{end}{told}{}", if at > 0 { "," } else { "" }, life.steps)?;
            if let Some((kind, skip)) = life.fault {
                write!(f, "f{kind}.{skip}")?;
            }
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
        let lives = value("lives")?.split(',').filter(|life| !life.is_empty());
        let life = |text: &str| {
            let end = match text.chars().next() {
                Some('p') => End::Power,
                Some('k') => End::Kill,
                Some('s') => End::Stop,
                _ => return Err(format!("a life ends by p, k or s: {text:?}")),
            };
            let rest = &text[1..];
            let (told, rest) = rest.strip_prefix('t').map_or((false, rest), |rest| (true, rest));
            let (full, rest) = rest.strip_prefix('d').map_or((false, rest), |rest| (true, rest));
            let (steps, fault) =
                rest.split_once('f').map_or((rest, None), |(steps, fault)| (steps, Some(fault)));
            let fault = match fault {
                Some(fault) => {
                    let (kind, skip) = fault.split_once('.').ok_or("a fault is kind.skip")?;
                    Some((number(kind)?, number(skip)?))
                }
                None => None,
            };
            Ok(Life { steps: number(steps)?, end, told, full, fault })
        };
        Ok(Self {
            seed: number(value("seed")?)?,
            shards: number(value("shards")?)?,
            dirs: number(value("dirs")?)?,
            topics: number(value("topics")?)?,
            partitions: number(value("partitions")?)?,
            idempotent: number(value("idempotent")?)?,
            plain: number(value("plain")?)?,
            consumers: number(value("consumers")?)?,
            // Older plans have none.
            groups: value("groups").map_or(Ok(0), number)?,
            admin: value("admin")? == "1",
            deletes: value("deletes")? == "1",
            retains: value("retains").is_ok_and(|value| value == "1"),
            compacts: value("compacts").is_ok_and(|value| value == "1"),
            journal: value("journal").map_or(Ok(0), number)?,
            resets: number(value("resets")?)?,
            lives: lives.map(life).collect::<Result<_, _>>()?,
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

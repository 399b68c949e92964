//! What is found when a machine is looked at, and what would be changed.

use crate::error::TuneError;
use crate::knobs::KNOBS;
use crate::machine::Machine;
use crate::place::Place;
use crate::want::{Want, selected};
use crate::{Knob, Seen};

/// Which knobs are meant: all, unless some are named.
#[derive(Debug, Default)]
pub struct Choice {
    only: Vec<String>,
    skip: Vec<String>,
}

impl Choice {
    /// Those named in `only` (all, if none is) but for those named in `skip`.
    pub fn new(only: &[String], skip: &[String]) -> Result<Self, TuneError> {
        for name in only.iter().chain(skip) {
            if KNOBS.iter().all(|knob| knob.name != *name) {
                let near = |knob: &&Knob| knob.name.contains(name.as_str()) || name.contains(knob.name);
                let nearest = KNOBS.iter().find(near).map(|knob| knob.name);
                return Err(TuneError::Unknown { name: name.clone(), nearest });
            }
        }
        Ok(Self { only: only.to_vec(), skip: skip.to_vec() })
    }

    /// Whether the knob of this name is meant.
    pub fn has(&self, name: &str) -> bool {
        let named = |names: &[String]| names.iter().any(|other| other == name);
        (self.only.is_empty() || named(&self.only)) && !named(&self.skip)
    }

    /// Whether all are meant.
    pub fn is_all(&self) -> bool {
        self.only.is_empty() && self.skip.is_empty()
    }

    /// The options that make this choice again.
    pub(crate) fn options(&self) -> Vec<String> {
        let only = self.only.iter().flat_map(|name| ["--only".to_owned(), name.clone()]);
        only.chain(self.skip.iter().flat_map(|name| ["--skip".to_owned(), name.clone()])).collect()
    }
}

/// How it stands with one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is as it should be.
    Fit,
    /// It would be changed to this.
    Change(String),
    /// It would be better otherwise, and nothing here changes it: the finding's hint says what does.
    Advice,
    /// The machine has no such thing.
    Absent,
}

/// One line of the table.
pub struct Finding {
    /// Which knob.
    pub knob: &'static Knob,
    /// The place, by the name people call it.
    pub what: String,
    /// What is there.
    pub now: String,
    /// What is wanted, in words.
    pub wanted: String,
    /// How it stands.
    pub verdict: Verdict,
    /// What to do or to know; may be empty.
    pub hint: String,
    pub(crate) setting: Option<(Place, Want)>,
    pub(crate) along: Vec<Place>,
}

impl Finding {
    /// What would be written, on one line; empty if nothing would be.
    pub fn target(&self) -> String {
        match &self.verdict {
            Verdict::Change(to) if to.contains('\n') => "a file".into(),
            Verdict::Change(to) => to.replace('\t', " "),
            _ => String::new(),
        }
    }
}

/// Looks at a machine. Nothing is changed.
pub fn look(machine: &Machine, choice: &Choice) -> Vec<Finding> {
    let chosen = KNOBS.iter().filter(|knob| choice.has(knob.name));
    chosen.flat_map(|knob| (knob.seen)(machine).into_iter().map(|seen| find(machine, knob, seen))).collect()
}

fn find(machine: &Machine, knob: &'static Knob, seen: Seen) -> Finding {
    let blank = |what: String, verdict| Finding {
        knob,
        what,
        now: String::new(),
        wanted: String::new(),
        verdict,
        hint: String::new(),
        setting: None,
        along: Vec::new(),
    };
    match seen {
        Seen::Absent(why) => Finding { hint: why.into(), ..blank(String::new(), Verdict::Absent) },
        Seen::Fact { what, now, well, hint } => {
            let verdict = if well { Verdict::Fit } else { Verdict::Advice };
            Finding { now, hint, ..blank(what, verdict) }
        }
        Seen::Setting { place, want, along } => {
            let what = place.name();
            let now = match place.read(machine) {
                Ok(Some(now)) => now,
                Ok(None) if matches!(place, Place::Own(_)) => String::new(),
                Ok(None) => {
                    return Finding {
                        hint: "this kernel does not have it".into(),
                        ..blank(what, Verdict::Absent)
                    };
                }
                Err(error) => {
                    let hint = format!("it cannot be read: {error}");
                    return Finding { hint, ..blank(what, Verdict::Absent) };
                }
            };
            let (verdict, hint) = match (want.fits(&now), want.target(&now)) {
                (true, _) => (Verdict::Fit, String::new()),
                (false, Some(to)) => (Verdict::Change(to), String::new()),
                (false, None) => (Verdict::Advice, "this kernel does not offer it".to_owned()),
            };
            let shown = match &place {
                Place::Own(_) if now.is_empty() => "no file".to_owned(),
                Place::Own(_) => "a file".to_owned(),
                _ => selected(&now).split_whitespace().collect::<Vec<_>>().join(" "),
            };
            Finding {
                now: shown,
                wanted: want.words(),
                hint,
                setting: Some((place, want)),
                along,
                ..blank(what, verdict)
            }
        }
    }
}

//! The machine under a broker: each knob with why it matters to this broker, how it is checked, what is recommended, and the way back.
//!
//! - [`KNOBS`]: the table; `knobs/` has one file for each topic.
//! - [`Machine`]: what is looked at: the running machine, or a folder made to look like one.
//! - [`look`]: findings: what is fit, what would be changed, what can only be told.
//! - [`apply`], [`revert`]: change, look again, and back to what was there, which is kept in a file before anything is changed.
//! - `document`: docs/TUNING.md.
//!
//! Nothing here is on a broker's data path, and nothing is changed but by [`apply`] and [`revert`].
#![forbid(unsafe_code)]

mod apply;
mod boot;
mod cpus;
mod document;
mod error;
mod ethtool;
mod finding;
mod knobs;
mod machine;
mod mounts;
mod place;
mod state;
mod want;

pub use apply::{Ended, Step, apply, revert, to_revert};
pub use boot::Boot;
pub use document::document;
pub use error::TuneError;
pub use finding::{Choice, Finding, Verdict, look};
pub use knobs::KNOBS;
pub use machine::{Machine, Profile};
pub use place::Place;
pub use state::{STATE_FILE, State};
pub use want::selected;

/// What a knob is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic {
    /// What the kernel lets one process have.
    Limits,
    /// Memory and write-back.
    Memory,
    /// Cores, their clocks and interrupts.
    Processor,
    /// Sockets and network cards.
    Network,
    /// Block devices and file systems.
    Disk,
}

impl Topic {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Limits => "limits",
            Self::Memory => "memory",
            Self::Processor => "processor",
            Self::Network => "network",
            Self::Disk => "disk",
        }
    }
}

/// Where a recommendation comes from.
#[derive(Debug, Clone, Copy)]
pub enum Evidence {
    /// It was measured with this broker: what came out. The raw output is in `bench/results/2026-11-21-two-cores/tuning.md`.
    Measured(&'static str),
    /// It was not measured here, and this page says it.
    Source(&'static str),
}

/// One thing about a machine that a broker feels: one name for all the files and switches that belong to it.
pub struct Knob {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is about.
    pub topic: Topic,
    /// Why it matters to this broker.
    pub why: &'static str,
    /// What is read to find out.
    pub checked: &'static str,
    /// What is recommended on bare metal, in a cloud VM, on a laptop.
    pub recommended: [&'static str; 3],
    /// How it is changed, or why it is not.
    pub applied: &'static str,
    /// Where that comes from.
    pub evidence: &'static [Evidence],
    /// What there is of it on a machine.
    seen: fn(&Machine) -> Vec<Seen>,
}

impl Knob {
    /// The evidence as lines of a name and a text.
    pub fn evidence_lines(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        // A source beside a measurement is further reading; alone it is all there is.
        let measured = self.evidence.iter().any(|evidence| matches!(evidence, Evidence::Measured(_)));
        let source = if measured { "Source" } else { "Not measured here; source" };
        self.evidence.iter().map(move |evidence| match evidence {
            Evidence::Measured(what) => ("Measured", *what),
            Evidence::Source(url) => (source, *url),
        })
    }
}

/// One place that a knob looks at.
enum Seen {
    /// It can be changed.
    Setting {
        place: Place,
        want: want::Want,
        /// What the kernel changes along with it, so that this too is put back.
        along: Vec<Place>,
    },
    /// It can only be told.
    Fact { what: String, now: String, well: bool, hint: String },
    /// The machine has no such thing.
    Absent(&'static str),
}

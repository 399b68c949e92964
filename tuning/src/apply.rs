//! Changing a machine, looking again, and putting back what was there.

use crate::boot::{Boot, reload_systemd};
use crate::error::TuneError;
use crate::finding::{Choice, Finding, Verdict};
use crate::machine::Machine;
use crate::place::Place;
use crate::state::{Original, State};
use crate::want::Want;

/// What became of one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// It holds what was wanted: it was looked at again.
    Done,
    /// It was only asked what would be done.
    Planned,
    /// It was put back, though somebody had changed it since to what is told here.
    DoneOver(String),
    /// The kernel refused it, or it holds something else now: why.
    Failed(String),
    /// The place is gone: a disk or a card that was taken out.
    Gone,
}

/// One place that was to be changed or put back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The knob's name; `boot` for what applies settings when the machine starts.
    pub knob: String,
    /// The place, by the name people call it.
    pub what: String,
    /// What was there; `None` if nothing.
    pub from: Option<String>,
    /// What was written; `None` if it was removed.
    pub to: Option<String>,
    /// What became of it.
    pub ended: Ended,
}

/// Changes what the findings say, and makes it last if a way to is given. The originals are durable before the first change, so whatever
/// happens in between, [`revert`] leads back. One place that refuses does not keep the others from being changed.
pub fn apply(
    machine: &Machine,
    findings: &[Finding],
    boot: Option<&Boot>,
    state: &mut State,
) -> Result<Vec<Step>, TuneError> {
    let mut changes: Vec<Change> = findings.iter().filter_map(Change::of).collect();
    changes.extend(boot.into_iter().flat_map(Boot::changes));
    note(machine, &changes, state)?;
    let steps = changes.iter().map(|change| change.make(machine)).collect();
    if boot.is_some() {
        reload_systemd(machine);
    }
    state.settle(machine);
    state.save()?;
    Ok(steps)
}

/// What [`revert`] would put back. Nothing is changed.
pub fn to_revert(machine: &Machine, choice: &Choice, state: &State) -> Vec<Step> {
    let changed = |original: &&Original| !original.place.holds(machine, original.was.as_deref());
    let step = |original: &Original| Step {
        knob: original.knob.clone(),
        what: original.place.name(),
        from: original.place.read(machine).ok().flatten(),
        to: original.was.clone(),
        ended: Ended::Planned,
    };
    state
        .originals()
        .iter()
        .filter(|original| is_chosen(choice, original))
        .filter(changed)
        .map(step)
        .collect()
}

/// The unit belongs to all knobs together: it goes when all are put back.
fn is_chosen(choice: &Choice, original: &Original) -> bool {
    if original.knob == Boot::KNOB { choice.is_all() } else { choice.has(&original.knob) }
}

/// Puts back what was there before the first change, and forgets it. What cannot be put back stays in the record.
pub fn revert(machine: &Machine, choice: &Choice, state: &mut State) -> Result<Vec<Step>, TuneError> {
    let originals: Vec<Original> =
        state.originals().iter().filter(|original| is_chosen(choice, original)).cloned().collect();
    let before: Vec<Option<String>> =
        originals.iter().map(|original| original.place.read(machine).ok().flatten()).collect();
    let mut errors: Vec<Option<String>> = vec![None; originals.len()];
    // One after another as they were changed, and once more: some settings change others along with them.
    for _ in 0..2 {
        for (original, error) in originals.iter().zip(&mut errors) {
            if !original.place.holds(machine, original.was.as_deref()) {
                let written = original.place.write(machine, original.was.as_deref());
                *error = written.err().map(|error| error.to_string());
            }
        }
    }
    let mut steps = Vec::new();
    for ((original, before), error) in originals.iter().zip(before).zip(errors) {
        let ended = if original.place.holds(machine, original.was.as_deref()) {
            match (&original.written, &before) {
                (Some(written), Some(before))
                    if written != before && original.was.as_ref() != Some(before) =>
                {
                    Ended::DoneOver(before.trim().to_owned())
                }
                _ => Ended::Done,
            }
        } else if before.is_none() && !original.place.lasts() {
            Ended::Gone
        } else {
            Ended::Failed(error.unwrap_or_else(|| "it holds something else again".into()))
        };
        if !matches!(ended, Ended::Failed(_)) {
            state.retain(|kept| kept.place != original.place);
        }
        if before != original.was || ended != Ended::Done {
            steps.push(Step {
                knob: original.knob.clone(),
                what: original.place.name(),
                from: before,
                to: original.was.clone(),
                ended,
            });
        }
    }
    if steps.iter().any(|step| step.knob == Boot::KNOB) {
        reload_systemd(machine);
    }
    state.save()?;
    Ok(steps)
}

/// One place and what is to be in it.
pub(crate) struct Change {
    pub(crate) knob: &'static str,
    pub(crate) place: Place,
    pub(crate) along: Vec<Place>,
    pub(crate) want: Want,
    pub(crate) to: String,
}

impl Change {
    fn of(finding: &Finding) -> Option<Self> {
        let Verdict::Change(to) = &finding.verdict else { return None };
        let (place, want) = finding.setting.clone()?;
        Some(Self { knob: finding.knob.name, place, along: finding.along.clone(), want, to: to.clone() })
    }

    /// Writes it and looks again.
    fn make(&self, machine: &Machine) -> Step {
        let from = self.place.read(machine).ok().flatten();
        let ended = match self.place.write(machine, Some(&self.to)) {
            Err(error) => Ended::Failed(error.to_string()),
            Ok(()) => match self.place.read(machine) {
                Ok(Some(now)) if self.want.fits(&now) => Ended::Done,
                Ok(now) => Ended::Failed(format!("it holds {} all the same", now.unwrap_or_default().trim())),
                Err(error) => Ended::Failed(error.to_string()),
            },
        };
        let knob = self.knob.to_owned();
        Step { knob, what: self.place.name(), from, to: Some(self.to.clone()), ended }
    }
}

/// Keeps what is there, durably.
fn note(machine: &Machine, changes: &[Change], state: &mut State) -> Result<(), TuneError> {
    for change in changes {
        let along = change.along.iter().map(|place| (place, None));
        for (place, written) in std::iter::once((&change.place, Some(change.to.clone()))).chain(along) {
            let knob = change.knob.to_owned();
            // What cannot be read cannot be put back, and is not changed by being written to in vain.
            if let Ok(was) = place.read(machine)
                && (was.is_some() || place.lasts())
            {
                state.note(Original { knob, place: place.clone(), was, written });
            }
        }
    }
    state.save()
}

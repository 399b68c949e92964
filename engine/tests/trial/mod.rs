//! Runs one plan, catches what fails, and makes a failing plan smaller. Shared by the simulations of logs that follow each other and of
//! the whole broker, each of which has its own `Plan`, `World` and `Tally`.

#[cfg(ringlog_plant)]
mod planted;

use crate::Tally;
use crate::plan::Plan;
use crate::world::World;
#[cfg(ringlog_plant)]
use ringlog_engine::plant::Plant;
use std::cell::RefCell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    /// What the first panic of this thread's trial said; `None` while no trial runs.
    static SAID: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs a plan to its end; the error says which promise was broken, and where.
pub(crate) fn run(plan: &Plan) -> Result<Tally, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = take_hook();
        set_hook(Box::new(move |info| {
            let text = info.payload_as_str().unwrap_or("a panic without words");
            let place = info.location().map_or_else(String::new, |place| format!(" ({place})"));
            let in_trial = SAID.with_borrow_mut(|said| {
                if let Some(said) = said.as_mut().filter(|said| said.is_empty()) {
                    *said = format!("{text}{place}");
                }
                said.is_some()
            });
            if !in_trial {
                usual(info);
            }
        }));
    });
    SAID.set(Some(String::new()));
    let result = catch_unwind(AssertUnwindSafe(|| World::new(plan).run()));
    let said = SAID.take().unwrap_or_default();
    result.map_err(|_| said)
}

/// A plan that fails, as small as it was found.
pub(crate) struct Failure {
    seed: u64,
    why: String,
    plan: Plan,
    now: String,
    tries: u32,
}

/// Plans tried while one is made smaller.
const TRIES_MAX: u32 = 400;

impl Failure {
    /// Makes a failing plan smaller while it still fails, however it does.
    pub(crate) fn shrunk(plan: Plan, why: String) -> Self {
        let mut failure = Self { seed: plan.seed, why: why.clone(), plan, now: why, tries: 0 };
        while failure.shrink() {}
        failure
    }

    fn shrink(&mut self) -> bool {
        for plan in self.plan.smaller() {
            if self.tries == TRIES_MAX {
                return false;
            }
            self.tries += 1;
            if let Err(why) = run(&plan) {
                (self.plan, self.now) = (plan, why);
                return true;
            }
        }
        false
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, why, plan, now, tries } = self;
        writeln!(f, "seed {seed}: {why}")?;
        writeln!(f, "  {} steps are enough, after {tries} tries: {now}", plan.steps())?;
        write!(f, "  RINGLOG_PLAN='{plan}'")
    }
}

/// Plants each bug, and demands that it is found within so many seeds.
#[cfg(ringlog_plant)]
pub(crate) fn every_planted_bug_is_found(bugs: &[(Plant, u64)]) {
    planted::every_bug_is_found(bugs, |seed| {
        if let Err(why) = run(&Plan::of(seed)) {
            std::panic::resume_unwind(Box::new(why));
        }
    });
}

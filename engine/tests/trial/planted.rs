//! Plants bugs and demands that they are found. Shared by all simulations.

use ringlog_engine::plant::{Plant, plant};
use std::panic::catch_unwind;

/// Plants each bug, or the one that `RINGLOG_BUG` names, and demands that it is found within so many seeds, `RINGLOG_START` the first.
/// A seed finds it by panicking.
pub(crate) fn every_bug_is_found(planted: &[(Plant, u64)], run: impl Fn(u64) + std::panic::RefUnwindSafe) {
    let start = std::env::var("RINGLOG_START").map_or(0, |start| start.parse().expect("a number"));
    let only = std::env::var("RINGLOG_BUG").ok();
    let mut missed = Vec::new();
    for (bug, within) in planted {
        if only.as_ref().is_some_and(|only| *only != format!("{bug:?}")) {
            continue;
        }
        plant(Some(*bug));
        let found = (0..*within).find_map(|tries| {
            let panicked = catch_unwind(|| run(start + tries)).err()?;
            let said = panicked.downcast::<String>().map_or_else(|_| String::new(), |said| *said);
            Some((tries + 1, said))
        });
        plant(None);
        match found {
            Some((tries, why)) => println!("{bug:?}: found by seed {tries} of {within}: {why}"),
            None => missed.push(bug),
        }
    }
    assert!(missed.is_empty(), "a hole in the simulator or in the checker: {missed:?} found by no seed");
}

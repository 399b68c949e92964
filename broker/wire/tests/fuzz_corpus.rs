//! What fuzzers have found holds: all inputs kept for the codec's fuzz targets.

#[macro_use]
mod support;

#[path = "../../fuzz/replay.rs"]
mod replay;

use replay::replay;
use support::fuzz;

#[test]
fn what_fuzzers_have_found_holds() {
    replay("message", fuzz::message);
    replay("frames", fuzz::frames);
}

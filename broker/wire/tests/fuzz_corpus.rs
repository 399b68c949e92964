//! What fuzzers have found holds: all inputs kept for the codec's fuzz targets.

#[macro_use]
mod support;

use std::path::PathBuf;

use support::fuzz;

fn replay(name: &str, target: fn(&[u8])) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(name);
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).expect("a corpus") {
        let path = entry.expect("an input").path();
        println!("{}", path.display());
        target(&std::fs::read(&path).expect("an input"));
        count += 1;
    }
    assert!(count > 0, "{} is empty", folder.display());
}

#[test]
fn what_fuzzers_have_found_holds() {
    replay("message", fuzz::message);
    replay("frames", fuzz::frames);
}

//! What this machine's kernel, file system and disk cost at best: the floors that decisions about the write path stand on.
//!
//! `floor DIR [writes|syncs|space|reads]…` measures in DIR and prints Markdown tables. Every variant of a table runs in each of
//! several rounds, one after another, so that a machine whose speed drifts drifts for all; a cell is the median of the rounds and
//! their range. CPU is that of the whole machine, kernel threads included.

mod meter;
mod reads;
mod ring;
mod space;
mod syncs;
mod writes;

use std::path::PathBuf;

/// A group of tables, by name.
type Case = (&'static str, fn(&std::path::Path));

fn main() {
    let mut arguments = std::env::args().skip(1);
    let Some(dir) = arguments.next().map(PathBuf::from) else {
        eprintln!("usage: floor DIR [writes|syncs|space|reads]...");
        std::process::exit(2);
    };
    let dir = dir.join(format!("floor-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("make a directory to measure in");
    meter::pin();
    let wanted: Vec<String> = arguments.collect();
    let all = wanted.is_empty();
    let cases: [Case; 4] =
        [("writes", writes::run), ("syncs", syncs::run), ("space", space::run), ("reads", reads::run)];
    for (name, run) in cases {
        if all || wanted.iter().any(|word| word == name) {
            run(&dir);
        }
    }
    std::fs::remove_dir_all(&dir).expect("remove what was measured with");
}

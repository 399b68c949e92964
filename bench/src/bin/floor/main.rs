//! What this machine's kernel, file system and disk cost at best: the floors that decisions about the write path stand on.
//!
//! `floor DIR [TABLE]…` measures in DIR and prints Markdown tables: all of them, or those named (`space-16k`, or `space` for all
//! of that kind). Every way of doing the same work runs in each of several rounds, one after another, so that a machine whose
//! speed drifts drifts for all, and each round begins with another way. A cell is the median of the rounds and their quartiles.
//! CPU is that of the whole machine, kernel threads included; what the measuring thread itself paid stands beside it.

mod blocks;
mod exchanges;
mod meter;
mod reads;
mod ring;
mod small;
mod space;
mod syncs;
mod writes;

use std::path::{Path, PathBuf};

/// A table by its name, and what prints it.
type Table = (String, Box<dyn Fn(&Path)>);

fn main() {
    let mut arguments = std::env::args().skip(1);
    let all = [
        writes::tables(),
        syncs::tables(),
        space::tables(),
        reads::tables(),
        small::tables(),
        exchanges::tables(),
    ];
    let tables: Vec<Table> = all.into_iter().flatten().collect();
    let Some(dir) = arguments.next().map(PathBuf::from) else {
        let names: Vec<&str> = tables.iter().map(|(name, _)| name.as_str()).collect();
        eprintln!("usage: floor DIR [TABLE]...\ntables: {}", names.join(" "));
        std::process::exit(2);
    };
    let dir = dir.join(format!("floor-{}", std::process::id()));
    let wanted: Vec<String> = arguments.collect();
    meter::pin(0);
    for (name, run) in tables {
        let is_named = |word: &String| *word == name || name.starts_with(&format!("{word}-"));
        if wanted.is_empty() || wanted.iter().any(is_named) {
            std::fs::create_dir_all(&dir).expect("make a directory to measure in");
            run(&dir);
            std::fs::remove_dir_all(&dir).expect("remove what was measured with");
        }
    }
}

//! Gives a fuzz target all inputs that are kept for it: for the tests of the crate whose code it fuzzes.

use std::path::Path;

/// Runs a target over its part of the corpus.
pub(crate) fn replay(name: &str, target: fn(&[u8])) {
    let above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let corpus = above.map(|folder| folder.join("broker/fuzz/corpus")).find(|folder| folder.is_dir());
    let folder = corpus.expect("the repository has a corpus").join(name);
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).expect("a corpus") {
        let path = entry.expect("an input").path();
        println!("{}", path.display());
        target(&std::fs::read(&path).expect("an input"));
        count += 1;
    }
    assert!(count > 0, "{} is empty", folder.display());
}

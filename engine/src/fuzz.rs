//! What fuzzers give bytes to: each function takes any bytes, and panics where something that must hold does not.
//!
//! `broker/fuzz` makes a fuzz target of each; the inputs found by them are replayed here as ordinary tests.

mod formats;
mod recovery;

pub use formats::{batch, checkpoint, epochs, offset_index, producers, time_index, transaction_index};
pub use recovery::recovery;

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    /// Gives a target all inputs that are kept for it.
    fn replay(name: &str, target: fn(&[u8])) {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../broker/fuzz/corpus").join(name);
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
        replay("batch", super::batch);
        replay("offset_index", super::offset_index);
        replay("time_index", super::time_index);
        replay("checkpoint", super::checkpoint);
        replay("producers", super::producers);
        replay("epochs", super::epochs);
        replay("transaction_index", super::transaction_index);
    }

    #[test]
    fn what_fuzzers_have_found_is_recovered_from() {
        replay("recovery", super::recovery);
    }
}

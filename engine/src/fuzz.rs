//! What fuzzers give bytes to: each function takes any bytes, and panics where something that must hold does not.
//!
//! `broker/fuzz` makes a fuzz target of each; the inputs found by them are replayed here as ordinary tests.

mod formats;
mod recovery;

pub use formats::{
    batch, checkpoint, epochs, journal, offset_index, producers, time_index, transaction_index,
};
pub use recovery::recovery;

#[cfg(test)]
#[path = "../../broker/fuzz/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    use super::replay::replay;

    #[test]
    fn what_fuzzers_have_found_holds() {
        replay("batch", super::batch);
        replay("journal", super::journal);
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

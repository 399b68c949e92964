//! Kafka's offset checkpoints: a file of a data directory with an offset for each partition.
//!
//! ```text
//!   0                     version
//!   2                     how many lines follow
//!   orders 0 4711         topic, partition, offset
//!   orders 1 0
//! ```

use std::collections::BTreeMap;
use std::fmt::Write;

/// An offset for each partition, by topic and index.
pub(super) type Offsets = BTreeMap<(String, i32), i64>;

/// From a file; `None` if it is not one.
pub(super) fn parse(text: &str) -> Option<Offsets> {
    let mut lines = text.lines();
    (lines.next()?.trim() == "0").then_some(())?;
    let count: usize = lines.next()?.trim().parse().ok()?;
    let mut offsets = Offsets::new();
    for line in lines {
        let mut words = line.split_whitespace();
        let key = (words.next()?.to_owned(), words.next()?.parse().ok()?);
        offsets.insert(key, words.next()?.parse().ok()?);
        if words.next().is_some() {
            return None;
        }
    }
    (offsets.len() == count).then_some(offsets)
}

/// As in the file.
pub(super) fn text(offsets: &Offsets) -> String {
    let mut text = format!("0\n{}\n", offsets.len());
    for ((topic, partition), offset) in offsets {
        writeln!(text, "{topic} {partition} {offset}").expect("writing to a string succeeds");
    }
    text
}

/// For `crate::fuzz`: what is read is written as it was read.
#[cfg(any(test, fuzzing))]
pub(crate) fn fuzzed(bytes: &str) {
    if let Some(offsets) = parse(bytes) {
        assert_eq!(parse(&text(&offsets)), Some(offsets));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_back_and_nonsense_is_not() {
        let offsets = Offsets::from([(("a".into(), 0), 4711), (("a".into(), 10), 0), (("b".into(), 0), 1)]);
        assert_eq!(text(&offsets), "0\n3\na 0 4711\na 10 0\nb 0 1\n");
        assert_eq!(parse(&text(&offsets)), Some(offsets));
        assert_eq!(parse("0\n0\n"), Some(Offsets::new()));
        for nonsense in
            ["", "1\n0\n", "0\n", "0\n2\na 0 1\n", "0\n1\na 0\n", "0\n1\na 0 1 2\n", "0\n1\na x 1\n"]
        {
            assert_eq!(parse(nonsense), None, "{nonsense:?}");
        }
    }
}

//! The topics that a member of a group of type `consumer` subscribes to, and what it was assigned. All else that members say is opaque.
//!
//! Read with version 0 of the format, which begins every version: a version, an array of topics, user data. What cannot be
//! read so is no error (other kinds of groups, and clients that write it wrongly): then the group's topics are not known.

use bytes::{Buf, Bytes};
use std::collections::BTreeSet;

/// The topics in one member's metadata; `None` if it cannot be read.
pub(super) fn topics(metadata: &Bytes) -> Option<BTreeSet<String>> {
    let mut rest = metadata.clone();
    let version = rest.try_get_i16().ok()?;
    if version < 0 {
        return None;
    }
    let count = usize::try_from(rest.try_get_i32().ok()?).ok()?;
    let mut topics = BTreeSet::new();
    for _ in 0..count {
        let len = usize::try_from(rest.try_get_i16().ok()?).ok()?;
        if len > rest.len() {
            return None;
        }
        topics.insert(String::from_utf8(rest.split_to(len).to_vec()).ok()?);
    }
    Some(topics)
}

/// The partitions that a member of such a group was assigned; `None` if it cannot be read.
pub fn assigned_partitions(assignment: &Bytes) -> Option<Vec<(String, Vec<i32>)>> {
    let mut rest = assignment.clone();
    rest.try_get_i16().ok()?;
    let count = usize::try_from(rest.try_get_i32().ok()?).ok()?;
    let mut topics = Vec::new();
    for _ in 0..count {
        let len = usize::try_from(rest.try_get_i16().ok()?).ok()?;
        if len > rest.len() {
            return None;
        }
        let topic = String::from_utf8(rest.split_to(len).to_vec()).ok()?;
        let count = rest.try_get_i32().ok()?;
        let partitions: Option<Vec<i32>> = (0..count).map(|_| rest.try_get_i32().ok()).collect();
        topics.push((topic, partitions?));
    }
    Some(topics)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assignments_are_read() {
        let assignment =
            Bytes::from_static(b"\0\x01\0\0\0\x01\0\x01t\0\0\0\x02\0\0\0\x03\0\0\0\x05\xff\xff\xff\xff");
        assert_eq!(assigned_partitions(&assignment), Some(vec![("t".to_owned(), vec![3, 5])]));
        assert_eq!(assigned_partitions(&Bytes::from_static(b"\0\0\0\0\0\0")), Some(vec![]));
        for opaque in [&b""[..], b"anything", b"\0\0\0\0\0\x01\0\x01t\x7f\xff\xff\xff\0"] {
            assert_eq!(assigned_partitions(&Bytes::from_static(opaque)), None, "{opaque:?}");
        }
    }

    #[test]
    fn topics_are_read_and_what_is_no_subscription_has_none() {
        let check = |bytes: &'static [u8], expected: Option<&[&str]>| {
            let expected = expected.map(|topics| topics.iter().map(|topic| (*topic).to_owned()).collect());
            assert_eq!(topics(&Bytes::from_static(bytes)), expected, "{bytes:?}");
        };
        check(b"\0\0\0\0\0\x02\0\x01a\0\x02bc\xff\xff\xff\xff", Some(&["a", "bc"]));
        check(b"\0\x03\0\0\0\x01\0\x01a\xff\xff\xff\xff\0\0\0\0more", Some(&["a"]));
        check(b"\0\0\0\0\0\0", Some(&[]));
        check(b"", None);
        check(b"\xff\xff\0\0\0\0", None);
        check(b"\0\0\x7f\xff\xff\xff\0\x01a", None);
        check(b"\0\0\0\0\0\x01\0\x09a", None);
        check(b"\0\0\0\0\0\x01\0\x01\xff", None);
    }
}

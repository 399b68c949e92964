//! Types of config values: how each is read, checked and named in DescribeConfigs.

use super::connections::address_and_count;
use std::fmt;

/// The type of a config, with the range of its values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// `true` or `false`.
    Boolean,
    /// A whole number of 16 bits within these bounds.
    Short(i64, i64),
    /// A whole number of 32 bits within these bounds.
    Int(i64, i64),
    /// A whole number of 64 bits within these bounds.
    Long(i64, i64),
    /// A number within these bounds.
    Double(f64, f64),
    /// Any text.
    Text,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// Words between commas; if any are named here, only those.
    List(&'static [&'static str]),
    /// Addresses, each with a number: `127.0.0.1:200,::1:100`.
    CountByAddress,
    /// Text that is not shown.
    Password,
    /// The name of a Java class, which ringlog cannot load: kept, shown, not used.
    Class,
}

/// From -1 (no limit) up.
pub(super) const LONG_FROM_MINUS_ONE: Kind = Kind::Long(-1, i64::MAX);
/// From 0 up.
pub(super) const LONG_FROM_ZERO: Kind = Kind::Long(0, i64::MAX);
/// From 1 up.
pub(super) const LONG_FROM_ONE: Kind = Kind::Long(1, i64::MAX);
/// Any 64-bit number.
pub(super) const LONG: Kind = Kind::Long(i64::MIN, i64::MAX);
/// From 0 up.
pub(super) const INT_FROM_ZERO: Kind = Kind::Int(0, i32::MAX as i64);
/// From 1 up.
pub(super) const INT_FROM_ONE: Kind = Kind::Int(1, i32::MAX as i64);
/// Any 32-bit number.
pub(super) const INT: Kind = Kind::Int(i32::MIN as i64, i32::MAX as i64);

impl Kind {
    /// Checks a value as it is written. The error says what would do.
    pub fn check(self, value: &str) -> Result<(), Refusal> {
        let refuse = |wanted: String| Err(Refusal { wanted });
        match self {
            Self::Boolean => match value.trim().to_ascii_lowercase().as_str() {
                "true" | "false" => Ok(()),
                _ => refuse("true or false".into()),
            },
            Self::Short(low, high) | Self::Int(low, high) | Self::Long(low, high) => {
                match value.trim().parse::<i64>() {
                    Ok(number) if (low..=high).contains(&number) => Ok(()),
                    _ => refuse(format!("a whole number from {low} to {high}")),
                }
            }
            Self::Double(low, high) => match value.trim().parse::<f64>() {
                Ok(number) if (low..=high).contains(&number) => Ok(()),
                _ => refuse(format!("a number from {low} to {high}")),
            },
            Self::OneOf(words) if !words.contains(&value.trim()) => {
                refuse(format!("one of {}", words.join(", ")))
            }
            Self::List(words) if !words.is_empty() => {
                if list(value).all(|word| words.contains(&word)) {
                    Ok(())
                } else {
                    refuse(format!("a list out of {}", words.join(", ")))
                }
            }
            Self::CountByAddress if !list(value).all(|entry| address_and_count(entry).is_some()) => {
                refuse("a list of ADDRESS:COUNT, the addresses as numbers".into())
            }
            Self::Text
            | Self::OneOf(_)
            | Self::List(_)
            | Self::CountByAddress
            | Self::Password
            | Self::Class => Ok(()),
        }
    }

    /// The type's number in DescribeConfigs (`ConfigDef.Type` as the protocol maps it).
    pub const fn wire_type(self) -> i8 {
        match self {
            Self::Boolean => 1,
            Self::Text | Self::OneOf(_) | Self::CountByAddress => 2,
            Self::Int(..) => 3,
            Self::Short(..) => 4,
            Self::Long(..) => 5,
            Self::Double(..) => 6,
            Self::List(_) => 7,
            Self::Class => 8,
            Self::Password => 9,
        }
    }
}

/// The words of a list value.
pub fn list(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|word| !word.is_empty())
}

/// Why a value is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What would have done: `true or false`.
    pub wanted: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {}", self.wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_checked_against_their_kind() {
        let check = |kind: Kind, good: &[&str], bad: &[&str]| {
            for value in good {
                assert_eq!(kind.check(value), Ok(()), "{kind:?} {value}");
            }
            for value in bad {
                assert!(kind.check(value).is_err(), "{kind:?} {value}");
            }
        };
        check(Kind::Boolean, &["true", "FALSE", " true "], &["yes", "", "1"]);
        check(INT_FROM_ONE, &["1", "2147483647"], &["0", "-1", "2147483648", "x", "", "1.0"]);
        check(LONG_FROM_MINUS_ONE, &["-1", "9223372036854775807"], &["-2", "9223372036854775808"]);
        check(Kind::Double(0.0, 1.0), &["0", "0.5", "1"], &["1.1", "-0.1", "NaN", "half"]);
        check(Kind::OneOf(&["a", "b"]), &["a", " b"], &["c", "", "A"]);
        check(
            Kind::List(&["compact", "delete"]),
            &["delete", "compact, delete", ""],
            &["keep", "compact,keep"],
        );
        check(Kind::Text, &["", "anything"], &[]);
        check(
            Kind::CountByAddress,
            &["", "127.0.0.1:200", "::1:0, 10.0.0.1:2147483647", "[::1]:5,"],
            &["127.0.0.1", "127.0.0.1:", "127.0.0.1:-1", "localhost:5", ":5", "10.0.0.1:2147483648"],
        );
    }
}

//! What a message looks like, as data: versions, fields, types, defaults. The codec macro writes it; tests compare it with Kafka's own schemas.

use std::fmt;

/// An inclusive range of API versions; empty when `min > max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VersionRange {
    /// The first version in the range.
    pub min: i16,
    /// The last version in the range; `i16::MAX` for "and all later".
    pub max: i16,
}

impl VersionRange {
    /// The range that holds no version.
    pub const NONE: VersionRange = VersionRange { min: 0, max: -1 };

    /// Whether `version` lies in the range.
    pub const fn contains(self, version: i16) -> bool {
        self.min <= version && version <= self.max
    }

    /// Whether no version lies in the range.
    pub const fn is_empty(self) -> bool {
        self.min > self.max
    }

    /// Every version in the range, lowest first.
    pub fn iter(self) -> impl Iterator<Item = i16> {
        self.min..=self.max
    }
}

impl fmt::Display for VersionRange {
    /// Kafka's notation: `3+`, `0-12`, `4`, `none`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            range if range.is_empty() => f.write_str("none"),
            VersionRange { min, max: i16::MAX } => write!(f, "{min}+"),
            VersionRange { min, max } if min == max => write!(f, "{min}"),
            VersionRange { min, max } => write!(f, "{min}-{max}"),
        }
    }
}

/// One request or response: its versions and its fields.
#[derive(Debug)]
pub struct MessageSchema {
    /// The versions the codec reads and writes.
    pub versions: VersionRange,
    /// The versions in Kafka's flexible encoding: compact lengths and tagged fields (KIP-482).
    pub flexible: VersionRange,
    /// The message's name and fields.
    pub body: &'static StructSchema,
}

/// The fields of a message, or of a structure inside one, in wire order.
#[derive(Debug)]
pub struct StructSchema {
    /// Kafka's name for it.
    pub name: &'static str,
    /// Its fields, in wire order; tagged ones in tag order.
    pub fields: &'static [FieldSchema],
}

/// One field.
#[derive(Debug)]
pub struct FieldSchema {
    /// The Rust field name: Kafka's, in snake case.
    pub name: &'static str,
    /// Its wire type.
    pub kind: Kind,
    /// The versions that carry it.
    pub versions: VersionRange,
    /// The versions that may carry null in it.
    pub nullable: VersionRange,
    /// Its number among the tagged fields; `None` for a field with a fixed place.
    pub tag: Option<u32>,
    /// What it is in a version that does not carry it, and in `Default`.
    pub default: fn() -> Value,
}

/// A wire type.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// One byte, 0 or 1.
    Bool,
    /// One byte.
    Int8,
    /// Two bytes, big-endian, as all integers here.
    Int16,
    /// Four bytes.
    Int32,
    /// Eight bytes.
    Int64,
    /// Sixteen bytes.
    Uuid,
    /// UTF-8 with a length.
    String,
    /// Bytes with a length.
    Bytes,
    /// Record batches with a length.
    Records,
    /// A count and that many elements.
    Array(&'static Kind),
    /// The fields of a structure, one after the other.
    Struct(&'static StructSchema),
}

/// A field's value, as far as a default needs one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Null.
    Null,
    /// A boolean.
    Bool(bool),
    /// An integer of any width.
    Int(i64),
    /// A UUID's bytes.
    Uuid([u8; 16]),
    /// A string.
    String(String),
    /// Bytes, records or an array, by its length.
    Length(usize),
    /// A structure: its fields by name.
    Struct(Vec<(&'static str, Value)>),
}

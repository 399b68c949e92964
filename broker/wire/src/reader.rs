//! Reads a frame from front to back: every length is checked against what is left before anything is taken or reserved.

use std::fmt;

use bytes::Bytes;

/// Arrays beyond this many elements are refused, as Kafka does from 4.4.
pub const ARRAY_ELEMENTS_MAX: usize = 1_000_000;
/// Tagged fields beyond this many in one structure are refused, as Kafka does from 4.4.
pub const TAGGED_FIELDS_MAX: usize = 10_000;
/// Kafka's longest string, in every encoding.
pub const STRING_BYTES_MAX: usize = i16::MAX as usize;

/// A position in one frame (without its length prefix), and the version the bytes are in.
///
/// It never panics on any input and never reads past the frame. Strings and records come out as slices that share the frame's
/// memory and keep all of it alive: copy what outlives the request.
///
/// It is as lenient as Apache Kafka 4.3 is: bytes left after a whole message are not looked at, a string that is not UTF-8 reads with
/// replacement characters, any negative length is null, any byte but 0 is true.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    frame: &'a Bytes,
    at: usize,
    end: usize,
    pub(crate) version: i16,
    pub(crate) flexible: bool,
    /// The field being read, for errors.
    pub(crate) field: &'static str,
}

impl<'a> Reader<'a> {
    /// At the start of `frame`.
    pub fn new(frame: &'a Bytes) -> Reader<'a> {
        Reader { frame, at: 0, end: frame.len(), version: 0, flexible: false, field: "frame" }
    }

    /// Bytes read so far.
    pub fn position(&self) -> usize {
        self.at
    }

    /// Bytes not read yet.
    pub fn remaining(&self) -> usize {
        self.end - self.at
    }

    pub(crate) fn fail(&self, kind: DecodeErrorKind) -> DecodeError {
        DecodeError { kind, field: self.field, offset: self.at }
    }

    /// The next `N` bytes, for a number.
    pub(crate) fn take<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let Some(bytes) = self.frame[self.at..self.end].first_chunk::<N>() else {
            return Err(self.truncated(N));
        };
        self.at += N;
        Ok(*bytes)
    }

    /// The next `len` bytes, shared with the frame.
    pub(crate) fn slice(&mut self, len: usize) -> Result<Bytes, DecodeError> {
        if len > self.remaining() {
            return Err(self.truncated(len));
        }
        let bytes = self.frame.slice(self.at..self.at + len);
        self.at += len;
        Ok(bytes)
    }

    /// What was read from `start` to here.
    pub(crate) fn read_since(&self, start: usize) -> &[u8] {
        &self.frame[start..self.at]
    }

    fn truncated(&self, needed: usize) -> DecodeError {
        self.fail(DecodeErrorKind::Truncated { needed, remaining: self.remaining() })
    }

    /// An unsigned number in groups of seven bits, lowest first; five bytes at most.
    pub(crate) fn uvarint(&mut self) -> Result<u32, DecodeError> {
        let mut value: u32 = 0;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.take()?;
            let bits = u32::from(byte & 0x7f);
            if shift == 28 && bits > 0xf {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.fail(DecodeErrorKind::VarintTooLong))
    }

    /// The length before a string: two bytes, or compact. `None` is null; as in Kafka, every negative length is.
    pub(crate) fn string_length(&mut self) -> Result<Option<usize>, DecodeError> {
        if self.flexible {
            return Ok(self.uvarint()?.checked_sub(1).map(|len| len as usize));
        }
        Ok(usize::try_from(i16::from_be_bytes(self.take()?)).ok())
    }

    /// The length before an array or records: four bytes, or compact. `None` is null.
    pub(crate) fn length(&mut self) -> Result<Option<usize>, DecodeError> {
        if self.flexible {
            return Ok(self.uvarint()?.checked_sub(1).map(|len| len as usize));
        }
        Ok(usize::try_from(i32::from_be_bytes(self.take()?)).ok())
    }

    /// The length before an array whose elements take at least `element_min` bytes each: never more than what is left can hold.
    pub(crate) fn array_length(&mut self, element_min: usize) -> Result<Option<usize>, DecodeError> {
        let Some(count) = self.length()? else { return Ok(None) };
        if count > ARRAY_ELEMENTS_MAX {
            return Err(self.fail(DecodeErrorKind::ArrayTooLong { count }));
        }
        let needed = count * element_min.max(1);
        if needed > self.remaining() {
            return Err(self.truncated(needed));
        }
        Ok(Some(count))
    }

    /// Reads the tagged fields that end a structure: `known` reads those it knows by their tag.
    ///
    /// It sees only the field's own bytes; what it leaves of them is skipped, so a longer form of a field can be sent one day.
    pub(crate) fn tagged_fields(
        &mut self,
        mut known: impl FnMut(&mut Self, u32) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        self.field = "tagged fields";
        let count = self.uvarint()? as usize;
        if count > TAGGED_FIELDS_MAX {
            return Err(self.fail(DecodeErrorKind::TooManyTaggedFields { count }));
        }
        for _ in 0..count {
            self.field = "tagged fields";
            let tag = self.uvarint()?;
            let size = self.uvarint()? as usize;
            if size > self.remaining() {
                return Err(self.truncated(size));
            }
            let outer_end = std::mem::replace(&mut self.end, self.at + size);
            known(self, tag)?;
            self.at = self.end;
            self.end = outer_end;
        }
        Ok(())
    }
}

/// Why bytes are not the message they should be, in which field, and how far into the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeError {
    /// What is wrong.
    pub kind: DecodeErrorKind,
    /// The field being read.
    pub field: &'static str,
    /// Bytes from the start of the frame, its length prefix not counted.
    pub offset: usize,
}

/// What is wrong with the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecodeErrorKind {
    /// The frame (or the tagged field) ends before the value does.
    Truncated {
        /// Bytes the value needs, at the least.
        needed: usize,
        /// Bytes there are.
        remaining: usize,
    },
    /// A variable-length number does not fit 32 bits.
    VarintTooLong,
    /// Null where this version does not allow it.
    UnexpectedNull,
    /// A string is longer than Kafka allows.
    StringTooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// An array has more elements than are accepted.
    ArrayTooLong {
        /// Its count.
        count: usize,
    },
    /// A structure has more tagged fields than are accepted.
    TooManyTaggedFields {
        /// Their count.
        count: usize,
    },
    /// The message has no such version.
    UnsupportedVersion {
        /// The version asked for.
        version: i16,
    },
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            DecodeErrorKind::Truncated { needed, remaining } => {
                write!(f, "needs {needed} bytes where {remaining} are left")
            }
            DecodeErrorKind::VarintTooLong => f.write_str("variable-length number over 32 bits"),
            DecodeErrorKind::UnexpectedNull => f.write_str("null is not allowed in this version"),
            DecodeErrorKind::StringTooLong { len } => {
                write!(f, "string of {len} bytes, at most {STRING_BYTES_MAX} are allowed")
            }
            DecodeErrorKind::ArrayTooLong { count } => {
                write!(f, "array of {count} elements, at most {ARRAY_ELEMENTS_MAX} are allowed")
            }
            DecodeErrorKind::TooManyTaggedFields { count } => {
                write!(f, "{count} tagged fields, at most {TAGGED_FIELDS_MAX} are allowed")
            }
            DecodeErrorKind::UnsupportedVersion { version } => write!(f, "no version {version}"),
        }?;
        write!(f, " (field {}, byte {})", self.field, self.offset)
    }
}

impl std::error::Error for DecodeError {}

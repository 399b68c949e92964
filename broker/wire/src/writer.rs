//! Writes a frame: fields into one buffer, records beside it, so that nothing large is copied.

use std::fmt;

use bytes::{BufMut, BytesMut};
use smallvec::smallvec;

use crate::error::ErrorCode;
use crate::reader::STRING_BYTES_MAX;
use crate::records::{Part, Parts, Records};

/// A frame being encoded. Callers give whole messages to `encode_request` and `encode_response` instead.
#[derive(Debug)]
pub struct Writer {
    buf: BytesMut,
    /// Records, each with the position in `buf` before which it goes on the wire; positions never fall.
    spliced: Vec<(usize, Part)>,
    spliced_len: usize,
    /// Error codes written that are errors.
    pub(crate) errors: Vec<ErrorCode>,
    pub(crate) version: i16,
    pub(crate) flexible: bool,
    /// The field being written, for errors.
    pub(crate) field: &'static str,
}

impl Writer {
    /// An empty frame: room for the length prefix, nothing more.
    pub(crate) fn new() -> Writer {
        let mut buf = BytesMut::with_capacity(256);
        buf.put_i32(0);
        Writer {
            buf,
            spliced: Vec::new(),
            spliced_len: 0,
            errors: Vec::new(),
            version: 0,
            flexible: false,
            field: "frame",
        }
    }

    /// Sets the length prefix and gives the frame's parts, in order.
    pub(crate) fn finish(mut self) -> Result<Parts, EncodeError> {
        let len = self.buf.len() - 4 + self.spliced_len;
        let prefix = i32::try_from(len).map_err(|_| EncodeError::FrameTooLong { len })?;
        self.buf[..4].copy_from_slice(&prefix.to_be_bytes());
        let mut rest = self.buf.freeze();
        if self.spliced.is_empty() {
            return Ok(smallvec![Part::Bytes(rest)]);
        }
        let mut parts = Parts::with_capacity(2 * self.spliced.len() + 1);
        let mut sent = 0;
        for (at, part) in self.spliced {
            if at > sent {
                parts.push(Part::Bytes(rest.split_to(at - sent)));
                sent = at;
            }
            parts.push(part);
        }
        if !rest.is_empty() {
            parts.push(Part::Bytes(rest));
        }
        Ok(parts)
    }

    pub(crate) fn put(&mut self, bytes: &[u8]) {
        self.buf.put_slice(bytes);
    }

    pub(crate) fn put_uvarint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.buf.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.buf.put_u8(value as u8);
    }

    pub(crate) fn put_string(&mut self, text: Option<&str>) -> Result<(), EncodeError> {
        let len = text.map_or(0, str::len);
        if len > STRING_BYTES_MAX {
            return Err(EncodeError::TooLong { field: self.field, len });
        }
        match (self.flexible, text) {
            (true, None) => self.put_uvarint(0),
            (true, Some(_)) => self.put_uvarint(len as u32 + 1),
            (false, None) => self.buf.put_i16(-1),
            (false, Some(_)) => self.buf.put_i16(len as i16),
        }
        self.put(text.unwrap_or_default().as_bytes());
        Ok(())
    }

    /// The length before an array or records; `None` is null.
    pub(crate) fn put_length(&mut self, len: Option<usize>) -> Result<(), EncodeError> {
        let Some(len) = len else {
            if self.flexible {
                self.put_uvarint(0);
            } else {
                self.buf.put_i32(-1);
            }
            return Ok(());
        };
        let checked = i32::try_from(len).map_err(|_| EncodeError::TooLong { field: self.field, len })?;
        if self.flexible {
            self.put_uvarint(checked as u32 + 1);
        } else {
            self.buf.put_i32(checked);
        }
        Ok(())
    }

    /// The length goes into the buffer, the records beside it.
    pub(crate) fn put_records(&mut self, records: &Records) -> Result<(), EncodeError> {
        self.put_length((!records.is_null()).then(|| records.len()))?;
        match records {
            Records::Null => {}
            Records::Bytes(bytes) => self.splice(Part::Bytes(bytes.clone())),
            Records::Chain(parts) => parts.iter().for_each(|part| self.splice(part.clone())),
        }
        Ok(())
    }

    fn splice(&mut self, part: Part) {
        if !part.is_empty() {
            self.spliced_len += part.len();
            self.spliced.push((self.buf.len(), part));
        }
    }

    /// One tagged field: its tag, its size, and what `value` writes.
    pub(crate) fn put_tagged(
        &mut self,
        tag: u32,
        value: impl FnOnce(&mut Self) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        self.put_uvarint(tag);
        let start = self.buf.len();
        let spliced = self.spliced.len();
        value(self)?;
        assert_eq!(spliced, self.spliced.len(), "no message has records in a tagged field");
        // The size is known only now, and its own length varies: append it, then turn it to the front.
        let end = self.buf.len();
        self.put_uvarint((end - start) as u32);
        let size_len = self.buf.len() - end;
        self.buf[start..].rotate_right(size_len);
        Ok(())
    }
}

/// Why a message cannot be written: the caller asked for what the wire cannot say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EncodeError {
    /// The message has no such version.
    UnsupportedVersion {
        /// The message.
        message: &'static str,
        /// The version asked for.
        version: i16,
    },
    /// Null where this version does not allow it.
    UnexpectedNull {
        /// The field.
        field: &'static str,
        /// The version asked for.
        version: i16,
    },
    /// A string, an array or records longer than the wire can say.
    TooLong {
        /// The field.
        field: &'static str,
        /// Its length.
        len: usize,
    },
    /// The frame is longer than its prefix can say.
    FrameTooLong {
        /// Its length.
        len: usize,
    },
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            EncodeError::UnsupportedVersion { message, version } => {
                write!(f, "{message} has no version {version}")
            }
            EncodeError::UnexpectedNull { field, version } => {
                write!(f, "field {field} cannot be null in version {version}")
            }
            EncodeError::TooLong { field, len } => write!(f, "field {field} is too long: {len}"),
            EncodeError::FrameTooLong { len } => write!(f, "frame is too long: {len} bytes"),
        }
    }
}

impl std::error::Error for EncodeError {}

//! Frames: the length prefix before every message, and whole frames out.

use std::fmt;

use bytes::{Buf, Bytes, BytesMut};
use bytestring::ByteString;

use crate::error::ErrorCode;
use crate::header::{RequestHeader, ResponseHeader};
use crate::message::{Message, Request};
use crate::records::Parts;
use crate::writer::{EncodeError, Writer};

/// Bytes of the length prefix.
pub const PREFIX_LEN: usize = 4;

/// No request is shorter: api key, version, correlation id, client id.
pub const REQUEST_LEN_MIN: usize = 10;

/// No response is shorter: correlation id.
pub const RESPONSE_LEN_MIN: usize = 4;

/// The length of the frame behind `prefix`, if that lies within `min` and `max` (Kafka's `socket.request.max.bytes`).
pub fn frame_len(prefix: [u8; PREFIX_LEN], min: usize, max: usize) -> Result<usize, FrameError> {
    let claimed = i32::from_be_bytes(prefix);
    let len = usize::try_from(claimed).map_err(|_| FrameError::Negative { len: claimed })?;
    if len < min {
        return Err(FrameError::TooShort { len, min });
    }
    if len > max {
        return Err(FrameError::TooLong { len, max });
    }
    Ok(len)
}

/// Takes the first whole frame off `received`, without its prefix; `None` until all of it is there.
pub fn split_frame(received: &mut BytesMut, min: usize, max: usize) -> Result<Option<Bytes>, FrameError> {
    let Some(prefix) = received.first_chunk::<PREFIX_LEN>() else { return Ok(None) };
    let len = frame_len(*prefix, min, max)?;
    if received.len() - PREFIX_LEN < len {
        return Ok(None);
    }
    received.advance(PREFIX_LEN);
    Ok(Some(received.split_to(len).freeze()))
}

/// A whole request: length prefix, header and body, in parts to be sent in order.
pub fn encode_request<R: Request>(
    version: i16,
    correlation_id: i32,
    client_id: Option<&str>,
    request: &R,
) -> Result<Parts, EncodeError> {
    let mut writer = Writer::new();
    let header = RequestHeader {
        api_key: R::API.code(),
        api_version: version,
        correlation_id,
        client_id: client_id.map(ByteString::from),
    };
    header.write(&mut writer, R::API.request_header_version(version))?;
    request.write_body(&mut writer, version)?;
    writer.finish()
}

/// A whole response.
#[derive(Debug, Clone)]
pub struct Encoded {
    /// Length prefix, header and body, in parts to be sent in order.
    pub parts: Parts,
    /// The errors that it tells, for those who count them.
    pub errors: Vec<ErrorCode>,
}

/// Encodes a whole response.
///
/// `version` is the request's, but 0 for the answer to an ApiVersions request in a version that is not known.
pub fn encode_response<M: Message>(
    version: i16,
    correlation_id: i32,
    response: &M,
) -> Result<Encoded, EncodeError> {
    let mut writer = Writer::new();
    ResponseHeader { correlation_id }.write(&mut writer, M::API.response_header_version(version));
    response.write_body(&mut writer, version)?;
    let errors = std::mem::take(&mut writer.errors);
    Ok(Encoded { parts: writer.finish()?, errors })
}

/// Why a length prefix is refused. There is no way to find the next frame after one, so the connection must be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameError {
    /// Below zero.
    Negative {
        /// The length claimed.
        len: i32,
    },
    /// Too short to hold a header.
    TooShort {
        /// The length claimed.
        len: usize,
        /// The shortest that is accepted.
        min: usize,
    },
    /// Longer than is accepted.
    TooLong {
        /// The length claimed.
        len: usize,
        /// The longest that is accepted.
        max: usize,
    },
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            FrameError::Negative { len } => write!(f, "frame of {len} bytes: not the Kafka protocol"),
            FrameError::TooShort { len, min } => write!(f, "frame of {len} bytes, at least {min} are needed"),
            FrameError::TooLong { len, max } => write!(f, "frame of {len} bytes, at most {max} are accepted"),
        }
    }
}

impl std::error::Error for FrameError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_outside_the_bounds_are_refused() {
        for (prefix, expect) in [
            (10, Ok(10)),
            (100, Ok(100)),
            (-1, Err(FrameError::Negative { len: -1 })),
            (i32::MIN, Err(FrameError::Negative { len: i32::MIN })),
            (0, Err(FrameError::TooShort { len: 0, min: 10 })),
            (9, Err(FrameError::TooShort { len: 9, min: 10 })),
            (101, Err(FrameError::TooLong { len: 101, max: 100 })),
            (i32::MAX, Err(FrameError::TooLong { len: i32::MAX as usize, max: 100 })),
        ] {
            assert_eq!(frame_len(i32::to_be_bytes(prefix), 10, 100), expect);
        }
    }

    #[test]
    fn a_frame_comes_out_once_it_is_whole() {
        let bytes = b"\0\0\0\x05hello\0\0\0\x04next\0\0";
        let mut received = BytesMut::new();
        let mut frames = Vec::new();
        for byte in bytes {
            received.extend_from_slice(&[*byte]);
            frames.extend(split_frame(&mut received, RESPONSE_LEN_MIN, 100).unwrap());
        }
        assert_eq!(frames, [&b"hello"[..], &b"next"[..]]);
        assert_eq!(&received[..], b"\0\0");
    }
}

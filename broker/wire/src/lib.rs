//! The Kafka protocol: bytes to types and back. No I/O, no clock, no storage.
//!
//! A frame is a length prefix, a header and a body. The broker cuts frames with [`frame_len`] or [`split_frame`], reads the header, and
//! then the body as the message and version that the header names:
//!
//! ```
//! use ringlog_wire::metadata::{MetadataRequest, MetadataResponse, MetadataResponseTopic};
//! use ringlog_wire::{ApiKey, ErrorCode, Message, Part, Reader, RequestHeader, ResponseHeader, encode_request, encode_response};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // A client asks for one topic.
//! let request = MetadataRequest { topics: Some(vec![Default::default()]), ..Default::default() };
//! let parts = encode_request(12, 1, Some("example"), &request)?;
//! let [Part::Bytes(sent)] = &parts[..] else { panic!("only records make more parts than one") };
//!
//! // The broker has taken the length prefix off and reads the rest. Strings and records are slices of the frame.
//! let frame = sent.slice(4..);
//! let mut reader = Reader::new(&frame);
//! let header = RequestHeader::read(&mut reader)?;
//! assert_eq!(header.api(), Some(ApiKey::Metadata));
//! let request = MetadataRequest::decode(&mut reader, header.api_version)?;
//!
//! // It answers in the version of the request.
//! let topics = request.topics.into_iter().flatten().map(|topic| MetadataResponseTopic {
//!     error_code: ErrorCode::UnknownTopicOrPartition,
//!     name: topic.name,
//!     ..Default::default()
//! });
//! let response = MetadataResponse { topics: topics.collect(), ..Default::default() };
//! let parts = encode_response(header.api_version, header.correlation_id, &response)?.parts;
//!
//! // The client reads it with the version it asked in.
//! let [Part::Bytes(received)] = &parts[..] else { panic!("only records make more parts than one") };
//! let frame = received.slice(4..);
//! let mut reader = Reader::new(&frame);
//! assert_eq!(ResponseHeader::read(&mut reader, ApiKey::Metadata, 12)?.correlation_id, 1);
//! assert_eq!(MetadataResponse::decode(&mut reader, 12)?, response);
//! # Ok(())
//! # }
//! ```
//!
//! # What always holds
//!
//! - Decoding takes any bytes: it never panics, never reads past the frame, and reserves no more than the rest of the frame could fill. The
//!   error names the field and the offset.
//! - Records are never copied and never looked into. Encoding gives a list of [`Part`]s: headers in memory, records as they were
//!   handed in, and places where the sender puts bytes of its own, such as `sendfile` of a segment ([`Part::External`]).
//! - Decoded strings, bytes and records share the frame's memory. Who keeps one keeps the whole frame: copy what outlives the request.
//! - Each message is declared once (see `message.rs`); its schema is data ([`Message::SCHEMA`]), and a test compares that with the schemas
//!   in Apache Kafka's own clients jar.

#![forbid(unsafe_code)]

mod api;
mod error;
mod field;
mod frame;
mod header;
mod message;
mod messages;
pub mod metadata_records;
mod reader;
mod records;
pub mod schema;
mod uuid;
mod writer;

pub use api::{ApiKey, ApiSpec};
pub use bytestring::ByteString;
pub use error::ErrorCode;
pub use frame::{
    Encoded, FrameError, PREFIX_LEN, REQUEST_LEN_MIN, RESPONSE_LEN_MIN, encode_request, encode_response,
    frame_len, split_frame,
};
pub use header::{RequestHeader, ResponseHeader};
pub use message::{Message, Request};
pub use messages::*;
pub use reader::{
    ARRAY_ELEMENTS_MAX, DecodeError, DecodeErrorKind, Reader, STRING_BYTES_MAX, TAGGED_FIELDS_MAX,
};
pub use records::{Part, Parts, Records};
pub use uuid::{InvalidUuid, Uuid};
pub use writer::{EncodeError, Writer};

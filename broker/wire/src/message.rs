//! The codec macro: a message is declared once, as a struct whose fields carry their versions, and everything else follows from that.
//!
//! ```text
//! messages! {
//!     /// What the message is for.
//!     pub message ProduceResponse: Produce [3-13], flexible [9+] {
//!         /// Each field: type, [versions that carry it], and where they apply: null [versions that allow null], tag N, = default.
//!         responses: Vec<TopicProduceResponse> [0+],
//!         throttle_time_ms: i32 [1+],
//!         node_endpoints: Vec<NodeEndpoint> [10+] tag 0,
//!     }
//!     /// A structure inside a message has the message's versions.
//!     pub struct NodeEndpoint {
//!         rack: Option<ByteString> [10+] null [10+] = None,
//!         …
//!     }
//! }
//! ```
//!
//! Version ranges are written as in Kafka's schemas: `[3+]`, `[0-12]`, `[none]`. A field that may be null is an `Option` (records have a null
//! of their own). Without `= default` a field starts as its type's `Default`; note that Kafka's default for a nullable string or array
//! is the empty one unless its schema says `null`, hence some `= Some(…)`.
//!
//! From the declaration come the struct with public fields, `Default`, reading, writing, and the schema as data. Reading leaves
//! a field that the version does not carry at its default. Writing drops what the version cannot carry, without a word: who fills in a field must
//! know what the version can say. Unknown tagged fields are skipped. A tagged field at its default is not written.

use crate::api::ApiKey;
use crate::field::Field;
use crate::reader::{DecodeError, DecodeErrorKind, Reader};
use crate::schema::{MessageSchema, VersionRange};
use crate::writer::{EncodeError, Writer};

/// A request or a response.
pub trait Message: Sized + Default + Clone + PartialEq + std::fmt::Debug {
    /// The API it belongs to.
    const API: ApiKey;
    /// What it looks like, as data.
    const SCHEMA: &'static MessageSchema;

    /// Reads it in `version`, from behind the header.
    fn decode(reader: &mut Reader<'_>, version: i16) -> Result<Self, DecodeError>;

    #[doc(hidden)]
    fn write_body(&self, writer: &mut Writer, version: i16) -> Result<(), EncodeError>;
}

/// A request, and what answers it.
pub trait Request: Message {
    /// The response to this request, in the same version.
    type Response: Message;
}

/// A version range in Kafka's notation: `3+`, `0-12`, `none`.
macro_rules! versions {
    () => {
        $crate::schema::VersionRange::NONE
    };
    (none) => {
        $crate::schema::VersionRange::NONE
    };
    ($min:literal +) => {
        $crate::schema::VersionRange { min: $min, max: i16::MAX }
    };
    ($min:literal - $max:literal) => {
        $crate::schema::VersionRange { min: $min, max: $max }
    };
}
pub(crate) use versions;

/// A field's default: what is written after `=`, or the type's own.
macro_rules! default_of {
    () => {
        Default::default()
    };
    ($default:expr) => {
        $default
    };
}
pub(crate) use default_of;

/// A field's tag, or none.
macro_rules! tag_of {
    () => {
        None::<u32>
    };
    ($tag:literal) => {
        Some($tag as u32)
    };
}
pub(crate) use tag_of;

/// Declares messages and the structures in them; see the module's documentation.
macro_rules! messages {
    () => {};

    // A message is a structure, and the versions that it and the structures in it come in.
    (
        $(#[$meta:meta])*
        pub message $name:ident : $api:ident [$($versions:tt)*], flexible [$($flexible:tt)*] { $($fields:tt)* }
        $($rest:tt)*
    ) => {
        $crate::message::messages! { $(#[$meta])* pub struct $name { $($fields)* } }

        impl $crate::message::Message for $name {
            const API: $crate::api::ApiKey = $crate::api::ApiKey::$api;

            const SCHEMA: &'static $crate::schema::MessageSchema = &$crate::schema::MessageSchema {
                versions: $crate::message::versions!($($versions)*),
                flexible: $crate::message::versions!($($flexible)*),
                body: Self::FIELDS,
            };

            fn decode(
                reader: &mut $crate::reader::Reader<'_>,
                version: i16,
            ) -> Result<Self, $crate::reader::DecodeError> {
                if !Self::SCHEMA.versions.contains(version) {
                    reader.field = stringify!($name);
                    return Err(reader.fail($crate::reader::DecodeErrorKind::UnsupportedVersion { version }));
                }
                reader.version = version;
                reader.flexible = Self::SCHEMA.flexible.contains(version);
                $crate::field::Field::read(reader)
            }

            fn write_body(
                &self,
                writer: &mut $crate::writer::Writer,
                version: i16,
            ) -> Result<(), $crate::writer::EncodeError> {
                if !Self::SCHEMA.versions.contains(version) {
                    return Err($crate::writer::EncodeError::UnsupportedVersion { message: stringify!($name), version });
                }
                writer.version = version;
                writer.flexible = Self::SCHEMA.flexible.contains(version);
                $crate::field::Field::write(self, writer)
            }
        }

        $crate::message::messages! { $($rest)* }
    };

    // A record of Kafka's metadata log has a key of its own where a message has an API.
    (
        $(#[$meta:meta])*
        pub record $name:ident = $key:literal [$($versions:tt)*], flexible [$($flexible:tt)*] { $($fields:tt)* }
        $($rest:tt)*
    ) => {
        $crate::message::messages! { $(#[$meta])* pub struct $name { $($fields)* } }

        impl $crate::metadata_records::MetadataRecord for $name {
            const KEY: i16 = $key;

            const SCHEMA: &'static $crate::schema::MessageSchema = &$crate::schema::MessageSchema {
                versions: $crate::message::versions!($($versions)*),
                flexible: $crate::message::versions!($($flexible)*),
                body: Self::FIELDS,
            };

            fn read_fields(
                reader: &mut $crate::reader::Reader<'_>,
            ) -> Result<Self, $crate::reader::DecodeError> {
                $crate::field::Field::read(reader)
            }

            fn write_fields(
                &self,
                writer: &mut $crate::writer::Writer,
            ) -> Result<(), $crate::writer::EncodeError> {
                $crate::field::Field::write(self, writer)
            }
        }

        $crate::message::messages! { $($rest)* }
    };

    // A structure is its fields one after the other, and in a flexible version a block of tagged fields behind them.
    (
        $(#[$meta:meta])*
        pub struct $name:ident {
            $(
                $(#[$field_meta:meta])*
                $field:ident : $ty:ty [$($versions:tt)*] $(null [$($nullable:tt)*])? $(tag $tag:literal)? $(= $default:expr)?
            ),* $(,)?
        }
        $($rest:tt)*
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name {
            $( $(#[$field_meta])* pub $field: $ty, )*
        }

        impl Default for $name {
            fn default() -> Self {
                $name { $( $field: $crate::message::default_of!($($default)?), )* }
            }
        }

        impl $name {
            const FIELDS: &'static $crate::schema::StructSchema = &$crate::schema::StructSchema {
                name: stringify!($name),
                fields: &[
                    $( $crate::schema::FieldSchema {
                        name: stringify!($field),
                        kind: <$ty as $crate::field::Field>::KIND,
                        versions: $crate::message::versions!($($versions)*),
                        nullable: $crate::message::versions!($($($nullable)*)?),
                        tag: $crate::message::tag_of!($($tag)?),
                        default: || $crate::field::Field::value(&$name::default().$field),
                    }, )*
                ],
            };
        }

        impl $crate::field::Field for $name {
            const KIND: $crate::schema::Kind = $crate::schema::Kind::Struct(Self::FIELDS);

            fn read(reader: &mut $crate::reader::Reader<'_>) -> Result<Self, $crate::reader::DecodeError> {
                let version = reader.version;
                let mut message = $name::default();
                $(
                    if $crate::message::tag_of!($($tag)?).is_none() && $crate::message::versions!($($versions)*).contains(version) {
                        reader.field = stringify!($field);
                        message.$field = $crate::message::read_field(
                            reader,
                            $crate::message::versions!($($($nullable)*)?),
                        )?;
                    }
                )*
                if reader.flexible {
                    reader.tagged_fields(|reader, tag| {
                        $(
                            if $crate::message::tag_of!($($tag)?) == Some(tag) && $crate::message::versions!($($versions)*).contains(version) {
                                reader.field = stringify!($field);
                                message.$field = $crate::message::read_field(
                                    reader,
                                    $crate::message::versions!($($($nullable)*)?),
                                )?;
                            }
                        )*
                        Ok(())
                    })?;
                }
                Ok(message)
            }

            fn write(&self, writer: &mut $crate::writer::Writer) -> Result<(), $crate::writer::EncodeError> {
                let version = writer.version;
                $(
                    if $crate::message::tag_of!($($tag)?).is_none() && $crate::message::versions!($($versions)*).contains(version) {
                        writer.field = stringify!($field);
                        $crate::message::write_field(
                            writer,
                            &self.$field,
                            $crate::message::versions!($($($nullable)*)?),
                        )?;
                    }
                )*
                if writer.flexible {
                    let default = $name::default();
                    let mut tagged_count = 0;
                    $(
                        let $field = $crate::message::tag_of!($($tag)?)
                            .filter(|_| $crate::message::versions!($($versions)*).contains(version) && self.$field != default.$field);
                        tagged_count += u32::from($field.is_some());
                    )*
                    writer.put_uvarint(tagged_count);
                    $(
                        if let Some(tag) = $field {
                            writer.field = stringify!($field);
                            writer.put_tagged(tag, |writer| $crate::message::write_field(
                                writer,
                                &self.$field,
                                $crate::message::versions!($($($nullable)*)?),
                            ))?;
                        }
                    )*
                }
                Ok(())
            }

            fn wire_min(version: i16, flexible: bool) -> usize {
                let mut min = usize::from(flexible);
                $(
                    if $crate::message::tag_of!($($tag)?).is_none() && $crate::message::versions!($($versions)*).contains(version) {
                        min += <$ty as $crate::field::Field>::wire_min(version, flexible);
                    }
                )*
                min
            }

            fn value(&self) -> $crate::schema::Value {
                $crate::schema::Value::Struct(vec![
                    $( (stringify!($field), $crate::field::Field::value(&self.$field)), )*
                ])
            }
        }

        $crate::message::messages! { $($rest)* }
    };
}
pub(crate) use messages;

/// Reads a field and refuses null in a version that does not allow it.
pub(crate) fn read_field<T: Field>(
    reader: &mut Reader<'_>,
    nullable: VersionRange,
) -> Result<T, DecodeError> {
    let value = T::read(reader)?;
    if value.is_null() && !nullable.contains(reader.version) {
        return Err(reader.fail(DecodeErrorKind::UnexpectedNull));
    }
    Ok(value)
}

/// Writes a field and refuses null in a version that does not allow it.
pub(crate) fn write_field<T: Field>(
    writer: &mut Writer,
    value: &T,
    nullable: VersionRange,
) -> Result<(), EncodeError> {
    if value.is_null() && !nullable.contains(writer.version) {
        return Err(EncodeError::UnexpectedNull { field: writer.field, version: writer.version });
    }
    value.write(writer)
}

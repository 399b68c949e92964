//! How each wire type is read and written: numbers, strings, arrays, records.

use bytes::Bytes;
use bytestring::ByteString;

use crate::error::ErrorCode;
use crate::reader::{DecodeError, DecodeErrorKind, Reader, STRING_BYTES_MAX};
use crate::records::Records;
use crate::schema::{Kind, Value};
use crate::uuid::Uuid;
use crate::writer::{EncodeError, Writer};

/// A type that a message field can have. The reader and the writer know the version and whether it is flexible.
pub(crate) trait Field: Sized {
    /// The wire type.
    const KIND: Kind;

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError>;

    fn write(&self, writer: &mut Writer) -> Result<(), EncodeError>;

    /// The fewest bytes a value can take in this version.
    fn wire_min(version: i16, flexible: bool) -> usize;

    /// Whether this is null; the macro checks it against the field's nullable versions.
    fn is_null(&self) -> bool {
        false
    }

    /// The value as data, for the schema's defaults.
    fn value(&self) -> Value;
}

macro_rules! integers {
    ($($ty:ty => $kind:ident),*) => {$(
        impl Field for $ty {
            const KIND: Kind = Kind::$kind;

            fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
                Ok(<$ty>::from_be_bytes(reader.take()?))
            }

            fn write(&self, writer: &mut Writer) -> Result<(), EncodeError> {
                writer.put(&self.to_be_bytes());
                Ok(())
            }

            fn wire_min(_: i16, _: bool) -> usize {
                size_of::<$ty>()
            }

            fn value(&self) -> Value {
                Value::Int(i64::from(*self))
            }
        }
    )*};
}

integers!(i8 => Int8, i16 => Int16, i32 => Int32, i64 => Int64);

impl Field for bool {
    const KIND: Kind = Kind::Bool;

    /// Any byte but 0 is true, as in Kafka.
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(reader.take()? != [0])
    }

    fn write(&self, writer: &mut Writer) -> Result<(), EncodeError> {
        writer.put(&[u8::from(*self)]);
        Ok(())
    }

    fn wire_min(_: i16, _: bool) -> usize {
        1
    }

    fn value(&self) -> Value {
        Value::Bool(*self)
    }
}

impl Field for ErrorCode {
    const KIND: Kind = Kind::Int16;

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(ErrorCode::from_code(i16::read(reader)?))
    }

    fn write(&self, writer: &mut Writer) -> Result<(), EncodeError> {
        if *self != ErrorCode::None {
            writer.errors.push(*self);
        }
        self.code().write(writer)
    }

    fn wire_min(_: i16, _: bool) -> usize {
        2
    }

    fn value(&self) -> Value {
        self.code().value()
    }
}

impl Field for Uuid {
    const KIND: Kind = Kind::Uuid;

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Uuid(reader.take()?))
    }

    fn write(&self, writer: &mut Writer) -> Result<(), EncodeError> {
        writer.put(&self.0);
        Ok(())
    }

    fn wire_min(_: i16, _: bool) -> usize {
        16
    }

    fn value(&self) -> Value {
        Value::Uuid(self.0)
    }
}

impl Field for ByteString {
    const KIND: Kind = Kind::String;

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        not_null(reader, Option::<ByteString>::read)
    }

    fn write(&self, writer: &mut Writer) -> Result<(), EncodeError> {
        writer.put_string(Some(self))
    }

    fn wire_min(_: i16, flexible: bool) -> usize {
        if flexible { 1 } else { 2 }
    }

    fn value(&self) -> Value {
        Value::String(self.to_string())
    }
}

impl Field for Option<ByteString> {
    const KIND: Kind = Kind::String;

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let Some(len) = reader.string_length()? else { return Ok(None) };
        if len > STRING_BYTES_MAX {
            return Err(reader.fail(DecodeErrorKind::StringTooLong { len }));
        }
        let start = reader.position();
        let bytes = reader.slice(len)?;
        // Kafka takes any bytes and reads what is not UTF-8 as replacement characters; a topic so named is refused later, for its name.
        let text = ByteString::try_from(bytes)
            .unwrap_or_else(|_| String::from_utf8_lossy(reader.read_since(start)).into_owned().into());
        Ok(Some(text))
    }

    fn write(&self, writer: &mut Writer) -> Result<(), EncodeError> {
        writer.put_string(self.as_deref())
    }

    fn wire_min(version: i16, flexible: bool) -> usize {
        ByteString::wire_min(version, flexible)
    }

    fn is_null(&self) -> bool {
        self.is_none()
    }

    fn value(&self) -> Value {
        self.as_ref().map_or(Value::Null, Field::value)
    }
}

impl<T: Field> Field for Vec<T> {
    const KIND: Kind = Kind::Array(&T::KIND);

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        not_null(reader, Option::<Vec<T>>::read)
    }

    fn write(&self, writer: &mut Writer) -> Result<(), EncodeError> {
        writer.put_length(Some(self.len()))?;
        self.iter().try_for_each(|element| element.write(writer))
    }

    fn wire_min(_: i16, flexible: bool) -> usize {
        if flexible { 1 } else { 4 }
    }

    fn value(&self) -> Value {
        Value::Length(self.len())
    }
}

impl<T: Field> Field for Option<Vec<T>> {
    const KIND: Kind = Kind::Array(&T::KIND);

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let element_min = T::wire_min(reader.version, reader.flexible);
        let Some(count) = reader.array_length(element_min)? else { return Ok(None) };
        let mut elements = Vec::with_capacity(count);
        for _ in 0..count {
            elements.push(T::read(reader)?);
        }
        Ok(Some(elements))
    }

    fn write(&self, writer: &mut Writer) -> Result<(), EncodeError> {
        match self {
            Some(elements) => elements.write(writer),
            None => writer.put_length(None),
        }
    }

    fn wire_min(version: i16, flexible: bool) -> usize {
        Vec::<T>::wire_min(version, flexible)
    }

    fn is_null(&self) -> bool {
        self.is_none()
    }

    fn value(&self) -> Value {
        self.as_ref().map_or(Value::Null, Field::value)
    }
}

impl Field for Bytes {
    const KIND: Kind = Kind::Bytes;

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match reader.length()? {
            Some(len) => reader.slice(len),
            None => Err(reader.fail(DecodeErrorKind::UnexpectedNull)),
        }
    }

    fn write(&self, writer: &mut Writer) -> Result<(), EncodeError> {
        writer.put_length(Some(self.len()))?;
        writer.put(self);
        Ok(())
    }

    fn wire_min(_: i16, flexible: bool) -> usize {
        if flexible { 1 } else { 4 }
    }

    fn value(&self) -> Value {
        Value::Length(self.len())
    }
}

impl Field for Records {
    const KIND: Kind = Kind::Records;

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match reader.length()? {
            Some(len) => Ok(Records::Bytes(reader.slice(len)?)),
            None => Ok(Records::Null),
        }
    }

    fn write(&self, writer: &mut Writer) -> Result<(), EncodeError> {
        writer.put_records(self)
    }

    fn wire_min(_: i16, flexible: bool) -> usize {
        if flexible { 1 } else { 4 }
    }

    fn is_null(&self) -> bool {
        Records::is_null(self)
    }

    fn value(&self) -> Value {
        if Records::is_null(self) { Value::Null } else { Value::Length(self.len()) }
    }
}

/// Lets a structure's field be null: a byte before it says whether it is there.
macro_rules! nullable_structure {
    ($name:ident) => {
        impl $crate::field::Field for Option<$name> {
            const KIND: $crate::schema::Kind = <$name as $crate::field::Field>::KIND;

            fn read(reader: &mut $crate::reader::Reader<'_>) -> Result<Self, $crate::reader::DecodeError> {
                match i8::read(reader)? {
                    ..0 => Ok(None),
                    0.. => $crate::field::Field::read(reader).map(Some),
                }
            }

            fn write(&self, writer: &mut $crate::writer::Writer) -> Result<(), $crate::writer::EncodeError> {
                let present: i8 = if self.is_some() { 1 } else { -1 };
                present.write(writer)?;
                self.as_ref().map_or(Ok(()), |structure| structure.write(writer))
            }

            fn wire_min(_: i16, _: bool) -> usize {
                1
            }

            fn is_null(&self) -> bool {
                self.is_none()
            }

            fn value(&self) -> $crate::schema::Value {
                self.as_ref().map_or($crate::schema::Value::Null, $crate::field::Field::value)
            }
        }
    };
}
pub(crate) use nullable_structure;

fn not_null<T>(
    reader: &mut Reader<'_>,
    read: impl FnOnce(&mut Reader<'_>) -> Result<Option<T>, DecodeError>,
) -> Result<T, DecodeError> {
    match read(reader)? {
        Some(value) => Ok(value),
        None => Err(reader.fail(DecodeErrorKind::UnexpectedNull)),
    }
}

//! Fields as Kafka's coordinators write them: keys with plain lengths, values in the flexible encoding.

use crate::group::record::Malformed;
use bytes::{Buf, BufMut, Bytes};

/// Writes the fields of a key: strings behind two bytes of length.
pub(super) fn put_key_string(out: &mut Vec<u8>, text: &str) {
    out.put_i16(i16::try_from(text.len()).expect("strings on the wire are this short"));
    out.put_slice(text.as_bytes());
}

/// Writes a length plus one, as the flexible encoding has it; 0 is null.
pub(super) fn put_length(out: &mut Vec<u8>, len: usize) {
    put_uvarint(out, u32::try_from(len + 1).expect("lengths of 32 bits"));
}

/// Writes an unsigned number in groups of seven bits.
pub(super) fn put_uvarint(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// Writes a string of a value.
pub(super) fn put_string(out: &mut Vec<u8>, text: &str) {
    put_length(out, text.len());
    out.put_slice(text.as_bytes());
}

/// Ends a structure that has no tagged fields.
pub(super) fn put_no_tags(out: &mut Vec<u8>) {
    out.put_u8(0);
}

/// Reads fields one after the other.
pub(super) struct Fields(Bytes);

impl Fields {
    /// The fields behind a version, and the version.
    pub(super) fn versioned(bytes: &Bytes) -> Result<(i16, Self), Malformed> {
        let mut rest = bytes.clone();
        let version = rest.try_get_i16().map_err(|_| Malformed)?;
        Ok((version, Self(rest)))
    }

    /// The fields of a value, of which there is only version 0.
    pub(super) fn of_value(bytes: &Bytes) -> Result<Self, Malformed> {
        match Self::versioned(bytes)? {
            (0, fields) => Ok(fields),
            _ => Err(Malformed),
        }
    }

    pub(super) fn byte(&mut self) -> Result<i8, Malformed> {
        self.0.try_get_i8().map_err(|_| Malformed)
    }

    pub(super) fn short(&mut self) -> Result<i16, Malformed> {
        self.0.try_get_i16().map_err(|_| Malformed)
    }

    pub(super) fn int(&mut self) -> Result<i32, Malformed> {
        self.0.try_get_i32().map_err(|_| Malformed)
    }

    pub(super) fn long(&mut self) -> Result<i64, Malformed> {
        self.0.try_get_i64().map_err(|_| Malformed)
    }

    pub(super) fn uuid(&mut self) -> Result<[u8; 16], Malformed> {
        self.cut(16)?.as_ref().try_into().map_err(|_| Malformed)
    }

    pub(super) fn uvarint(&mut self) -> Result<u32, Malformed> {
        let mut value = 0_u32;
        for shift in (0..32).step_by(7) {
            let byte = self.0.try_get_u8().map_err(|_| Malformed)?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    fn cut(&mut self, len: usize) -> Result<Bytes, Malformed> {
        if len <= self.0.len() { Ok(self.0.split_to(len)) } else { Err(Malformed) }
    }

    pub(super) fn key_string(&mut self) -> Result<String, Malformed> {
        let len = usize::try_from(self.short()?).map_err(|_| Malformed)?;
        String::from_utf8(self.cut(len)?.to_vec()).map_err(|_| Malformed)
    }

    pub(super) fn nullable(&mut self) -> Result<Option<String>, Malformed> {
        match self.uvarint()? {
            0 => Ok(None),
            len => String::from_utf8(self.cut(len as usize - 1)?.to_vec()).map(Some).map_err(|_| Malformed),
        }
    }

    pub(super) fn string(&mut self) -> Result<String, Malformed> {
        self.nullable()?.ok_or(Malformed)
    }

    /// Reads an array.
    pub(super) fn array<T>(
        &mut self,
        mut element: impl FnMut(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        let count = self.uvarint()?.checked_sub(1).ok_or(Malformed)?;
        let mut elements = Vec::new();
        for _ in 0..count {
            elements.push(element(self)?);
        }
        Ok(elements)
    }

    /// Passes over tagged fields, but for those that `known` reads.
    pub(super) fn tagged(
        &mut self,
        mut known: impl FnMut(u32, &mut Self) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        for _ in 0..self.uvarint()? {
            let tag = self.uvarint()?;
            let len = self.uvarint()?;
            let mut field = Self(self.cut(len as usize)?);
            known(tag, &mut field)?;
        }
        Ok(())
    }

    pub(super) fn no_tags(&mut self) -> Result<(), Malformed> {
        self.tagged(|_, _| Ok(()))
    }
}

//! A 16-byte identifier, written as Kafka writes topic ids.

use std::fmt;
use std::str::FromStr;

/// A UUID, such as a topic id. Its text form is Kafka's: 22 characters of unpadded URL-safe base64.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Uuid(pub [u8; 16]);

impl Uuid {
    /// All zeroes: "no id" on the wire.
    pub const ZERO: Uuid = Uuid([0; 16]);

    /// Whether this is the id that means "no id".
    pub const fn is_zero(self) -> bool {
        u128::from_be_bytes(self.0) == 0
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // 16 bytes are 128 bits: 21 characters of 6 bits, and one that carries the last 2.
        let bits = u128::from_be_bytes(self.0);
        let text = std::array::from_fn(|i| {
            let six = if i < 21 { bits >> (122 - 6 * i) } else { bits << 4 } & 0x3f;
            ALPHABET[six as usize]
        });
        let text: [u8; TEXT_LEN] = text;
        text.iter().try_for_each(|&c| fmt::Write::write_char(f, char::from(c)))
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Uuid {
    type Err = InvalidUuid;

    fn from_str(text: &str) -> Result<Uuid, InvalidUuid> {
        let text: &[u8; TEXT_LEN] = text.as_bytes().try_into().map_err(|_| InvalidUuid)?;
        let mut bits: u128 = 0;
        for (i, c) in text.iter().enumerate() {
            let six = ALPHABET.iter().position(|a| a == c).ok_or(InvalidUuid)? as u128;
            if i < 21 {
                bits = bits << 6 | six;
            } else if six & 0xf == 0 {
                bits = bits << 2 | six >> 4;
            } else {
                // Bits past the 128th: another text would mean the same id.
                return Err(InvalidUuid);
            }
        }
        Ok(Uuid(bits.to_be_bytes()))
    }
}

/// The text is not 22 characters of URL-safe base64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidUuid;

impl fmt::Display for InvalidUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a topic id: want 22 characters of URL-safe base64")
    }
}

impl std::error::Error for InvalidUuid {}

const TEXT_LEN: usize = 22;
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_kafkas_and_reads_back() {
        // The second is what Java prints for `new Uuid(0x0123456789abcdefL, 0xfedcba9876543210L)`.
        for (bytes, text) in [
            ([0; 16], "AAAAAAAAAAAAAAAAAAAAAA"),
            (0x0123_4567_89ab_cdef_fedc_ba98_7654_3210_u128.to_be_bytes(), "ASNFZ4mrze_-3LqYdlQyEA"),
            ([0xff; 16], "_____________________w"),
        ] {
            assert_eq!(Uuid(bytes).to_string(), text);
            assert_eq!(text.parse(), Ok(Uuid(bytes)));
        }
    }

    #[test]
    fn other_text_is_refused() {
        for text in
            ["", "AAAA", "AAAAAAAAAAAAAAAAAAAAAB", "AAAAAAAAAAAAAAAAAAAA==", "AAAAAAAAAAAAAAAAAAAAAAA", "Ă"]
        {
            assert_eq!(text.parse::<Uuid>(), Err(InvalidUuid), "{text}");
        }
    }
}

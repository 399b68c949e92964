//! Records inside a message: an opaque range of bytes that the codec never copies and never looks into.

use bytes::Bytes;
use smallvec::SmallVec;

/// The records of one partition in a Produce request or a Fetch response.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Records {
    /// Kafka's null. A broker that has nothing to send should answer [`Records::empty`], as Kafka does.
    #[default]
    Null,
    /// One range of memory. Decoding always gives this: a slice of the frame, which it keeps alive.
    Bytes(Bytes),
    /// Several pieces that form one range on the wire, some of them perhaps not in memory.
    Chain(Vec<Part>),
}

impl Records {
    /// No records, but not null.
    pub fn empty() -> Records {
        Records::Bytes(Bytes::new())
    }

    /// Bytes on the wire, without the length before them.
    pub fn len(&self) -> usize {
        match self {
            Records::Null => 0,
            Records::Bytes(bytes) => bytes.len(),
            Records::Chain(parts) => parts.iter().map(Part::len).sum(),
        }
    }

    /// Whether there is not one byte of records.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether this is Kafka's null.
    pub fn is_null(&self) -> bool {
        matches!(self, Records::Null)
    }

    /// The one range of memory that decoding gives; `None` for null and for a chain.
    pub fn bytes(&self) -> Option<&Bytes> {
        match self {
            Records::Bytes(bytes) => Some(bytes),
            Records::Null | Records::Chain(_) => None,
        }
    }
}

impl From<Bytes> for Records {
    fn from(bytes: Bytes) -> Records {
        Records::Bytes(bytes)
    }
}

/// An encoded frame, in pieces to be sent in order; without records it is one.
pub type Parts = SmallVec<[Part; 1]>;

/// A piece of an encoded frame, to be sent in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Bytes in memory.
    Bytes(Bytes),
    /// `len` bytes that the sender puts here itself, such as a range of a file for `sendfile`.
    External {
        /// How many bytes the sender must put here, exactly.
        len: usize,
        /// The sender's own name for the range; the codec hands it through.
        id: u32,
    },
}

impl Part {
    /// Bytes on the wire.
    pub fn len(&self) -> usize {
        match self {
            Part::Bytes(bytes) => bytes.len(),
            Part::External { len, .. } => *len,
        }
    }

    /// Whether this puts nothing on the wire.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

//! Record batch v2: its header, its check on entry, and what a broker stamps into it.
//!
//! ```text
//!    0 base offset i64           27 base timestamp i64
//!    8 length i32 (from 12 on)   35 max timestamp i64
//!   12 leader epoch i32          43 producer id i64
//!   16 magic i8 = 2              51 producer epoch i16
//!   17 CRC-32C u32 (from 21 on)  53 base sequence i32
//!   21 attributes i16            57 records i32
//!   23 last offset delta i32     61 records, perhaps compressed
//! ```
//!
//! Base offset and leader epoch lie outside the CRC: a broker stamps them and keeps the rest as it came.

/// Bytes before the records.
pub const HEADER_LEN: usize = 61;

/// Bytes before those the length counts.
const LENGTH_END: usize = 12;
pub(crate) const MAGIC_AT: usize = 16;
const CRC_AT: usize = 17;
/// Where what the CRC covers begins.
pub(crate) const CRC_END: usize = 21;
const ATTRIBUTES_AT: usize = CRC_END;
const MAX_TIMESTAMP_AT: usize = 35;

/// Bits of the attributes.
const CODEC: i16 = 0x07;
pub(crate) const LOG_APPEND_TIME: i16 = 0x08;
pub(crate) const TRANSACTIONAL: i16 = 0x10;
pub(crate) const CONTROL: i16 = 0x20;
pub(crate) const DELETE_HORIZON: i16 = 0x40;

/// What is wrong with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchError {
    /// Another format than v2.
    Magic,
    /// Shorter than it says, or its CRC does not match.
    Corrupt,
    /// Its fields contradict each other.
    Invalid(&'static str),
}

/// A batch's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The first record's offset; from a client 0.
    pub base_offset: i64,
    /// Bytes after the length field.
    pub length: i32,
    /// The epoch of the leader that took it; -1 from a client.
    pub leader_epoch: i32,
    /// CRC-32C of everything from the attributes on.
    pub crc: u32,
    /// Codec, kind of timestamp, whether transactional, whether control.
    pub attributes: i16,
    /// The last record's offset less the first's.
    pub last_offset_delta: i32,
    /// The first record's timestamp.
    pub base_timestamp: i64,
    /// The largest timestamp, or the broker's with LogAppendTime; -1: none.
    pub max_timestamp: i64,
    /// The idempotent producer, or -1.
    pub producer_id: i64,
    /// Its epoch, or -1.
    pub producer_epoch: i16,
    /// The first record's sequence, or -1.
    pub base_sequence: i32,
    /// Records in it.
    pub record_count: i32,
}

/// How a batch's records are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// They are not.
    None,
    /// gzip.
    Gzip,
    /// Snappy, in the framing of xerial.
    Snappy,
    /// LZ4 frames.
    Lz4,
    /// Zstandard.
    Zstd,
}

impl Header {
    /// A batch without producer, timestamps and records.
    #[cfg(test)]
    pub(crate) const EMPTY: Self = Self {
        base_offset: 0,
        length: (HEADER_LEN - LENGTH_END) as i32,
        leader_epoch: -1,
        crc: 0,
        attributes: 0,
        last_offset_delta: 0,
        base_timestamp: -1,
        max_timestamp: -1,
        producer_id: -1,
        producer_epoch: -1,
        base_sequence: -1,
        record_count: 0,
    };

    /// Reads the header at the front of `bytes`. What it says makes sense by itself; the CRC is not looked at, nor whether the
    /// records are there.
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        let Some(bytes) = bytes.first_chunk::<HEADER_LEN>() else { return Err(BatchError::Corrupt) };
        if bytes[MAGIC_AT] != 2 {
            return Err(BatchError::Magic);
        }
        let header = Self {
            base_offset: i64::from_be_bytes(field(bytes, 0)),
            length: i32::from_be_bytes(field(bytes, 8)),
            leader_epoch: i32::from_be_bytes(field(bytes, LENGTH_END)),
            crc: u32::from_be_bytes(field(bytes, CRC_AT)),
            attributes: i16::from_be_bytes(field(bytes, ATTRIBUTES_AT)),
            last_offset_delta: i32::from_be_bytes(field(bytes, 23)),
            base_timestamp: i64::from_be_bytes(field(bytes, 27)),
            max_timestamp: i64::from_be_bytes(field(bytes, MAX_TIMESTAMP_AT)),
            producer_id: i64::from_be_bytes(field(bytes, 43)),
            producer_epoch: i16::from_be_bytes(field(bytes, 51)),
            base_sequence: i32::from_be_bytes(field(bytes, 53)),
            record_count: i32::from_be_bytes(field(bytes, 57)),
        };
        let long_enough = header.length >= (HEADER_LEN - LENGTH_END) as i32;
        let in_range = header.base_offset >= 0
            && header.last_offset_delta >= 0
            && header.base_offset.checked_add(i64::from(header.last_offset_delta) + 1).is_some();
        if long_enough && in_range { Ok(header) } else { Err(BatchError::Corrupt) }
    }

    /// Bytes of the whole batch.
    pub fn total_len(&self) -> usize {
        LENGTH_END + usize::try_from(self.length).expect("checked when parsed")
    }

    /// The last record's offset.
    pub fn last_offset(&self) -> i64 {
        self.base_offset + i64::from(self.last_offset_delta)
    }

    /// The offset after the last record.
    pub fn next_offset(&self) -> i64 {
        self.last_offset() + 1
    }

    /// Whether an idempotent producer wrote it.
    pub fn has_producer_id(&self) -> bool {
        self.producer_id >= 0
    }

    /// Whether it holds transaction markers and not records.
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    /// Whether it is part of a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    /// Whether its largest timestamp, the broker's, is that of all its records.
    pub fn is_log_append_time(&self) -> bool {
        self.attributes & LOG_APPEND_TIME != 0
    }

    /// When marks of deletion in it may go (KIP-534), in wall-clock milliseconds; `None` before a cleaner has set it.
    pub fn delete_horizon(&self) -> Option<i64> {
        (self.attributes & DELETE_HORIZON != 0).then_some(self.base_timestamp)
    }

    /// The time of its first record, in wall-clock milliseconds, if it carries one. Where it would be, compaction keeps until when marks of
    /// deletion stay: then the time of its newest record.
    pub fn first_time(&self) -> Option<i64> {
        let is_kept = !self.is_log_append_time() && self.delete_horizon().is_none();
        let time = if is_kept { self.base_timestamp } else { self.max_timestamp };
        (time >= 0).then_some(time)
    }

    /// Whether it holds no records any more: only its header was kept when the log was cleaned.
    pub fn is_emptied(&self) -> bool {
        self.record_count == 0
    }

    /// How its records are compressed; `None` if no codec has this number.
    pub fn codec(&self) -> Option<Codec> {
        match self.attributes & CODEC {
            0 => Some(Codec::None),
            1 => Some(Codec::Gzip),
            2 => Some(Codec::Snappy),
            3 => Some(Codec::Lz4),
            4 => Some(Codec::Zstd),
            _ => None,
        }
    }
}

/// The length of the batch at the front of `bytes`, if all of it is there.
pub fn whole_len(bytes: &[u8]) -> Option<usize> {
    let head = bytes.first_chunk::<HEADER_LEN>()?;
    let len = LENGTH_END + usize::try_from(i32::from_be_bytes(field(head, 8))).ok()?;
    (HEADER_LEN..=bytes.len()).contains(&len).then_some(len)
}

/// Whether these bytes begin a batch or message of another format than v2.
pub fn is_other_magic(bytes: &[u8]) -> bool {
    bytes.get(MAGIC_AT).is_some_and(|magic| *magic != 2)
}

/// Checks a whole batch: CRC, and that counts and offsets agree (Kafka's `LogValidator`). Records are not looked at.
pub fn verify(batch: &[u8]) -> Result<Header, BatchError> {
    let header = Header::parse(batch)?;
    if batch.len() != header.total_len() || crc_fast::crc32_iscsi(&batch[ATTRIBUTES_AT..]) != header.crc {
        return Err(BatchError::Corrupt);
    }
    if header.codec().is_none() {
        return Err(BatchError::Invalid("unknown compression codec"));
    }
    Ok(header)
}

/// Checks what holds for a batch as a client sends it, but not in a log that has been compacted.
pub fn verify_counts(header: &Header) -> Result<(), BatchError> {
    if header.record_count <= 0 {
        return Err(BatchError::Invalid("a batch without records"));
    }
    if header.last_offset_delta != header.record_count - 1 {
        return Err(BatchError::Invalid("the offsets do not fit the number of records"));
    }
    Ok(())
}

/// A whole batch of this header, whose length and CRC are made anew, and these records, compressed as it says.
pub fn assemble(header: &Header, records: &[u8]) -> Vec<u8> {
    let length = i32::try_from(HEADER_LEN - LENGTH_END + records.len()).expect("a batch is below 2 GiB");
    let mut batch = Vec::with_capacity(HEADER_LEN + records.len());
    batch.extend(header.base_offset.to_be_bytes());
    batch.extend(length.to_be_bytes());
    batch.extend(header.leader_epoch.to_be_bytes());
    batch.push(2);
    batch.extend([0; 4]);
    batch.extend(header.attributes.to_be_bytes());
    batch.extend(header.last_offset_delta.to_be_bytes());
    batch.extend(header.base_timestamp.to_be_bytes());
    batch.extend(header.max_timestamp.to_be_bytes());
    batch.extend(header.producer_id.to_be_bytes());
    batch.extend(header.producer_epoch.to_be_bytes());
    batch.extend(header.base_sequence.to_be_bytes());
    batch.extend(header.record_count.to_be_bytes());
    batch.extend(records);
    let crc = crc_fast::crc32_iscsi(&batch[ATTRIBUTES_AT..]);
    batch[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
    batch
}

/// Whether the first bytes of a batch could begin with these, as far as they go before the CRC.
pub(crate) fn looks_begun(bytes: &[u8]) -> bool {
    let Some(bytes) = bytes.first_chunk::<CRC_AT>() else { return false };
    let offset = i64::from_be_bytes(field(bytes, 0));
    let length = i32::from_be_bytes(field(bytes, 8));
    bytes[MAGIC_AT] == 2 && (0..OFFSETS_MAX).contains(&offset) && length >= (HEADER_LEN - LENGTH_END) as i32
}

/// More records than any log will ever have.
const OFFSETS_MAX: i64 = 1 << 48;

/// Stamps what a leader gives a batch. Both lie outside the CRC.
pub fn stamp(batch: &mut [u8], base_offset: i64, leader_epoch: i32) {
    batch[..8].copy_from_slice(&base_offset.to_be_bytes());
    batch[LENGTH_END..MAGIC_AT].copy_from_slice(&leader_epoch.to_be_bytes());
}

/// Stamps the broker's time as that of all records, and the CRC anew.
pub fn stamp_log_append_time(batch: &mut [u8], now_ms: i64) {
    let attributes = i16::from_be_bytes([batch[ATTRIBUTES_AT], batch[ATTRIBUTES_AT + 1]]) | LOG_APPEND_TIME;
    batch[ATTRIBUTES_AT..ATTRIBUTES_AT + 2].copy_from_slice(&attributes.to_be_bytes());
    batch[MAX_TIMESTAMP_AT..MAX_TIMESTAMP_AT + 8].copy_from_slice(&now_ms.to_be_bytes());
    let crc = crc_fast::crc32_iscsi(&batch[ATTRIBUTES_AT..]);
    batch[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
}

fn field<const N: usize, const M: usize>(bytes: &[u8; M], at: usize) -> [u8; N] {
    *bytes[at..].first_chunk().expect("every field lies in the header")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One record, key "k", value "v", at 1,700,000,000,000 ms, as the Java client encodes it.
    const JAVA: &[u8] = &[
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 58, 255, 255, 255, 255, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
        139, 207, 229, 104, 0, 0, 0, 1, 139, 207, 229, 104, 0, 255, 255, 255, 255, 255, 255, 255, 255, 255,
        255, 255, 255, 255, 255, 0, 0, 0, 1, 16, 0, 0, 0, 2, 107, 2, 118, 0,
    ];

    fn sample() -> Vec<u8> {
        let mut batch = JAVA.to_vec();
        let crc = crc32c::crc32c(&batch[ATTRIBUTES_AT..]);
        batch[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
        batch
    }

    #[test]
    fn fields_are_where_kafka_has_them() {
        let batch = sample();
        let header = verify(&batch).unwrap();
        assert_eq!(header.total_len(), batch.len());
        assert_eq!(whole_len(&batch), Some(batch.len()));
        assert_eq!(whole_len(&batch[..batch.len() - 1]), None);
        assert_eq!((header.base_timestamp, header.max_timestamp), (1_700_000_000_000, 1_700_000_000_000));
        assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (-1, -1, -1));
        assert_eq!((header.record_count, header.last_offset_delta, header.leader_epoch), (1, 0, -1));
        assert_eq!(header.codec(), Some(Codec::None));
        assert_eq!(verify_counts(&header), Ok(()));
    }

    #[test]
    fn a_batch_is_assembled_as_it_was() {
        let batch = sample();
        let header = verify(&batch).unwrap();
        assert_eq!(assemble(&header, &batch[HEADER_LEN..]), batch);
    }

    #[test]
    fn stamping_leaves_the_crc_right() {
        let mut batch = sample();
        stamp(&mut batch, 4711, 3);
        let header = verify(&batch).unwrap();
        assert_eq!((header.base_offset, header.leader_epoch, header.next_offset()), (4711, 3, 4712));
        stamp_log_append_time(&mut batch, 1_800_000_000_000);
        let header = verify(&batch).unwrap();
        assert!(header.is_log_append_time());
        assert_eq!(header.max_timestamp, 1_800_000_000_000);
    }

    #[test]
    fn every_changed_byte_is_found_but_those_a_broker_stamps() {
        let batch = sample();
        for at in 0..batch.len() {
            let mut damaged = batch.clone();
            damaged[at] ^= 0x40;
            let stamped = at < 8 || (12..16).contains(&at);
            assert_eq!(verify(&damaged).is_err(), !stamped, "byte {at}");
            assert!(verify(&batch[..at]).is_err(), "cut to {at} bytes");
        }
    }

    #[test]
    fn counts_that_contradict_are_refused() {
        for (records, delta, fits) in
            [(1, 0, true), (0, 0, false), (-1, 0, false), (2, 0, false), (2, 1, true)]
        {
            let header = Header { record_count: records, last_offset_delta: delta, ..Header::EMPTY };
            assert_eq!(verify_counts(&header).is_ok(), fits, "{records} records, delta {delta}");
        }
    }
}

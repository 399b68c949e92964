//! The records inside a batch: read one by one, and made into a batch. Off the produce path, where a batch stays as it came.
//!
//! A record (KIP-98) is length, attributes, timestamp delta, offset delta, key, value, headers; integers are zigzag
//! varints. All records of a batch are compressed together.

use crate::batch::{CONTROL, Codec, HEADER_LEN, Header, TRANSACTIONAL};
use bytes::{Buf, Bytes};
use std::fmt;
use std::io::{Read, Write};

/// One record.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    /// Its offset.
    pub offset: i64,
    /// Milliseconds since the Unix epoch, or -1.
    pub timestamp: i64,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value; none marks a deletion in a compacted topic.
    pub value: Option<Bytes>,
    /// Its headers, in order.
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

/// Reads the records of one whole batch. `bytes_max` bounds what a compressed batch may grow to.
pub fn decode(batch: &Bytes, bytes_max: usize) -> Result<Vec<Record>, RecordsError> {
    let header = Header::parse(batch).map_err(|_| RecordsError::Malformed)?;
    if batch.len() < header.total_len() {
        return Err(RecordsError::Malformed);
    }
    let codec = header.codec().ok_or(RecordsError::UnknownCodec)?;
    let mut body = decompress(codec, &batch.slice(HEADER_LEN..header.total_len()), bytes_max)?;
    let count = usize::try_from(header.record_count).map_err(|_| RecordsError::Malformed)?;
    // The shortest record takes seven bytes: no more is reserved than there can be.
    let mut records = Vec::with_capacity(count.min(body.len() / RECORD_BYTES_MIN + 1));
    for _ in 0..count {
        records.push(read_record(&mut body, &header)?);
    }
    if body.is_empty() { Ok(records) } else { Err(RecordsError::Malformed) }
}

/// The first record of a batch that is not compressed, without a look at the others; `None` if there is none.
pub fn first(batch: &Bytes) -> Option<Record> {
    let header = Header::parse(batch).ok()?;
    if header.codec() != Some(Codec::None) || batch.len() < header.total_len() {
        return None;
    }
    read_record(&mut batch.slice(HEADER_LEN..header.total_len()), &header).ok()
}

/// Why records cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordsError {
    /// Lengths or counts do not fit what is there.
    Malformed,
    /// The codec is none of Kafka's.
    UnknownCodec,
    /// The compressed bytes are damaged.
    Compression,
    /// They grow beyond the bound.
    TooLarge,
}

impl fmt::Display for RecordsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "the records do not fit their batch",
            Self::UnknownCodec => "the codec is unknown",
            Self::Compression => "the compressed records are damaged",
            Self::TooLarge => "the records grow beyond what is allowed",
        })
    }
}

impl std::error::Error for RecordsError {}

const RECORD_BYTES_MIN: usize = 7;

fn read_record(body: &mut Bytes, batch: &Header) -> Result<Record, RecordsError> {
    let len = length(body)?;
    if len > body.len() {
        return Err(RecordsError::Malformed);
    }
    let mut record = body.split_to(len);
    if record.is_empty() {
        return Err(RecordsError::Malformed);
    }
    record.advance(1);
    let timestamp_delta = varint(&mut record)?;
    let offset_delta = varint(&mut record)?;
    let key = nullable(&mut record)?;
    let value = nullable(&mut record)?;
    let count = length(&mut record)?;
    let mut headers = Vec::with_capacity(count.min(record.len() / 2 + 1));
    for _ in 0..count {
        let name = nullable(&mut record)?.ok_or(RecordsError::Malformed)?;
        headers.push((name, nullable(&mut record)?));
    }
    if !record.is_empty() {
        return Err(RecordsError::Malformed);
    }
    let timestamp = match batch.is_log_append_time() {
        true => batch.max_timestamp,
        false => batch.base_timestamp.wrapping_add(timestamp_delta),
    };
    Ok(Record { offset: batch.base_offset.wrapping_add(offset_delta), timestamp, key, value, headers })
}

pub(crate) fn nullable(bytes: &mut Bytes) -> Result<Option<Bytes>, RecordsError> {
    let len = varint(bytes)?;
    if len == -1 {
        return Ok(None);
    }
    match usize::try_from(len) {
        Ok(len) if len <= bytes.len() => Ok(Some(bytes.split_to(len))),
        _ => Err(RecordsError::Malformed),
    }
}

pub(crate) fn length(bytes: &mut Bytes) -> Result<usize, RecordsError> {
    usize::try_from(varint(bytes)?).map_err(|_| RecordsError::Malformed)
}

pub(crate) fn varint(bytes: &mut Bytes) -> Result<i64, RecordsError> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = bytes.try_get_u8().map_err(|_| RecordsError::Malformed)?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
        }
    }
    Err(RecordsError::Malformed)
}

pub(crate) fn put_varint(out: &mut Vec<u8>, value: i64) {
    let mut value = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).expect("seven bits") | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).expect("seven bits"));
}

fn put_nullable(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => put_varint(out, -1),
        Some(bytes) => {
            put_varint(out, i64::try_from(bytes.len()).expect("lengths fit"));
            out.extend_from_slice(bytes);
        }
    }
}

pub(crate) fn decompress(codec: Codec, body: &Bytes, bytes_max: usize) -> Result<Bytes, RecordsError> {
    match codec {
        Codec::None => Ok(body.clone()),
        Codec::Gzip => read_bounded(flate2::read::MultiGzDecoder::new(&body[..]), bytes_max),
        Codec::Lz4 => read_bounded(lz4_flex::frame::FrameDecoder::new(&body[..]), bytes_max),
        Codec::Zstd => {
            let decoder =
                zstd::stream::read::Decoder::with_buffer(&body[..]).map_err(|_| RecordsError::Compression)?;
            read_bounded(decoder, bytes_max)
        }
        Codec::Snappy => decompress_snappy(body, bytes_max),
    }
}

fn read_bounded(reader: impl Read, bytes_max: usize) -> Result<Bytes, RecordsError> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(bytes_max).expect("sizes fit") + 1;
    reader.take(limit).read_to_end(&mut bytes).map_err(|_| RecordsError::Compression)?;
    if bytes.len() > bytes_max { Err(RecordsError::TooLarge) } else { Ok(bytes.into()) }
}

/// What begins the framing that the Java clients put around snappy blocks: a magic, a version, the lowest compatible one.
const XERIAL_MAGIC: &[u8] = b"\x82SNAPPY\0";
const XERIAL_HEADER_LEN: usize = 16;

/// Blocks in xerial's framing (length, block) or, as librdkafka sends them, one block without any.
fn decompress_snappy(body: &Bytes, bytes_max: usize) -> Result<Bytes, RecordsError> {
    let mut decoder = snap::raw::Decoder::new();
    let mut block = |block: &[u8], room: usize| {
        let len = snap::raw::decompress_len(block).map_err(|_| RecordsError::Compression)?;
        if len > room {
            return Err(RecordsError::TooLarge);
        }
        decoder.decompress_vec(block).map_err(|_| RecordsError::Compression)
    };
    if !body.starts_with(XERIAL_MAGIC) {
        return block(body, bytes_max).map(Bytes::from);
    }
    let mut rest = body.get(XERIAL_HEADER_LEN..).ok_or(RecordsError::Compression)?;
    let mut bytes = Vec::new();
    while !rest.is_empty() {
        let (len, after) = rest.split_first_chunk().ok_or(RecordsError::Compression)?;
        let len = usize::try_from(u32::from_be_bytes(*len)).expect("sizes fit");
        let compressed = after.get(..len).ok_or(RecordsError::Compression)?;
        bytes.extend(block(compressed, bytes_max - bytes.len())?);
        rest = &after[len..];
    }
    Ok(bytes.into())
}

pub(crate) fn compress(codec: Codec, body: Vec<u8>) -> Vec<u8> {
    let done = "compressing to memory does not fail";
    match codec {
        Codec::None => body,
        Codec::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(&body).expect(done);
            encoder.finish().expect(done)
        }
        Codec::Lz4 => {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
            encoder.write_all(&body).expect(done);
            encoder.finish().expect(done)
        }
        Codec::Zstd => zstd::stream::encode_all(&body[..], 0).expect(done),
        Codec::Snappy => {
            let block = snap::raw::Encoder::new().compress_vec(&body).expect(done);
            let mut out = XERIAL_MAGIC.to_vec();
            out.extend_from_slice(&1_u32.to_be_bytes());
            out.extend_from_slice(&1_u32.to_be_bytes());
            out.extend_from_slice(&u32::try_from(block.len()).expect("a batch is small").to_be_bytes());
            out.extend(block);
            out
        }
    }
}

/// Makes one batch of records, for clients of ringlog's own and for tests.
#[derive(Debug, Clone)]
pub struct Builder {
    codec: Codec,
    /// Bits of the attributes beside the codec's.
    kind: i16,
    producer: (i64, i16, i32),
    base_timestamp: i64,
    max_timestamp: i64,
    count: i32,
    body: Vec<u8>,
}

impl Builder {
    /// An empty batch.
    pub fn new(codec: Codec) -> Self {
        Self {
            codec,
            kind: 0,
            producer: (-1, -1, -1),
            base_timestamp: -1,
            max_timestamp: -1,
            count: 0,
            body: Vec::new(),
        }
    }

    /// The idempotent producer it comes from: id, epoch, and the sequence of its first record.
    #[must_use]
    pub fn producer(mut self, id: i64, epoch: i16, base_sequence: i32) -> Self {
        self.producer = (id, epoch, base_sequence);
        self
    }

    /// Makes it part of its producer's transaction.
    #[must_use]
    pub fn transactional(mut self) -> Self {
        self.kind |= TRANSACTIONAL;
        self
    }

    /// Makes it a control batch: its records are the broker's own, such as transaction markers.
    #[must_use]
    pub fn control(mut self) -> Self {
        self.kind |= CONTROL;
        self
    }

    /// Adds a record. Its offset is its place in the batch.
    pub fn push(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&[u8], Option<&[u8]>)],
    ) {
        if self.count == 0 {
            self.base_timestamp = timestamp;
        }
        self.max_timestamp = self.max_timestamp.max(timestamp);
        let mut record = vec![0];
        put_varint(&mut record, timestamp - self.base_timestamp);
        put_varint(&mut record, i64::from(self.count));
        put_nullable(&mut record, key);
        put_nullable(&mut record, value);
        put_varint(&mut record, i64::try_from(headers.len()).expect("lengths fit"));
        for (name, value) in headers {
            put_nullable(&mut record, Some(name));
            put_nullable(&mut record, *value);
        }
        put_varint(&mut self.body, i64::try_from(record.len()).expect("lengths fit"));
        self.body.extend(record);
        self.count += 1;
    }

    /// Records so far.
    pub fn count(&self) -> i32 {
        self.count
    }

    /// Bytes of the records so far, before compression.
    pub fn len(&self) -> usize {
        self.body.len()
    }

    /// Whether there is no record yet.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The batch, with base offset 0 and no leader epoch, as producers send it.
    pub fn build(self) -> Bytes {
        assert!(self.count > 0, "a batch has records");
        let attributes: i16 = match self.codec {
            Codec::None => 0,
            Codec::Gzip => 1,
            Codec::Snappy => 2,
            Codec::Lz4 => 3,
            Codec::Zstd => 4,
        };
        let (producer_id, producer_epoch, base_sequence) = self.producer;
        let body = compress(self.codec, self.body);
        let mut checked = Vec::with_capacity(body.len() + HEADER_LEN);
        checked.extend((attributes | self.kind).to_be_bytes());
        checked.extend((self.count - 1).to_be_bytes());
        checked.extend(self.base_timestamp.to_be_bytes());
        checked.extend(self.max_timestamp.to_be_bytes());
        checked.extend(producer_id.to_be_bytes());
        checked.extend(producer_epoch.to_be_bytes());
        checked.extend(base_sequence.to_be_bytes());
        checked.extend(self.count.to_be_bytes());
        checked.extend(body);
        let length = i32::try_from(checked.len() + 9).expect("a batch is below 2 GiB");
        let mut batch = Vec::with_capacity(checked.len() + 21);
        batch.extend(0_i64.to_be_bytes());
        batch.extend(length.to_be_bytes());
        batch.extend((-1_i32).to_be_bytes());
        batch.push(2);
        batch.extend(crc_fast::crc32_iscsi(&checked).to_be_bytes());
        batch.extend(checked);
        batch.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CODECS: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

    fn batch(codec: Codec) -> Bytes {
        let mut builder = Builder::new(codec).producer(7, 1, 5);
        builder.push(1000, Some(b"key"), Some(b"value"), &[(b"h", None), (b"i", Some(b"j"))]);
        builder.push(999, None, Some(&[b'x'; 10_000]), &[]);
        builder.push(2000, Some(b""), None, &[]);
        builder.build()
    }

    #[test]
    fn the_first_record_is_that_of_the_whole_batch() {
        for codec in [Codec::None, Codec::Zstd] {
            let mut builder = Builder::new(codec);
            builder.push(5, Some(b"key"), Some(b"first"), &[]);
            builder.push(6, None, Some(b"second"), &[]);
            let batch = builder.build();
            let whole = decode(&batch, 1 << 20).unwrap().swap_remove(0);
            let expected = (codec == Codec::None).then_some(whole);
            assert_eq!(first(&batch), expected, "{codec:?}");
            assert_eq!(first(&batch.slice(..batch.len() - 1)), None, "cut short");
        }
    }

    #[test]
    fn what_was_put_in_comes_out_in_every_codec() {
        for codec in CODECS {
            let batch = batch(codec);
            let header = crate::batch::verify(&batch).expect("a batch that was built is valid");
            assert_eq!((header.max_timestamp, header.record_count, header.base_sequence), (2000, 3, 5));
            let records = decode(&batch, 1 << 20).expect("whole");
            assert_eq!(records.iter().map(|r| r.timestamp).collect::<Vec<_>>(), [1000, 999, 2000]);
            assert_eq!(records[0].headers.len(), 2);
            assert_eq!(records[1].value.as_ref().map(Bytes::len), Some(10_000));
            assert_eq!((records[2].key.as_deref(), records[2].value.as_deref()), (Some(&b""[..]), None));
            assert_eq!(records[2].offset, 2);
            let bound = decode(&batch, 5_000);
            if codec == Codec::None {
                assert!(bound.is_ok())
            } else {
                assert_eq!(bound, Err(RecordsError::TooLarge))
            }
        }
    }

    #[test]
    fn snappy_without_framing_is_read_too() {
        let plain = batch(Codec::None);
        let block = snap::raw::Encoder::new().compress_vec(&plain[HEADER_LEN..]).expect("compresses");
        assert_eq!(decompress(Codec::Snappy, &block.into(), 1 << 20), Ok(plain.slice(HEADER_LEN..)));
    }

    proptest! {
        #[test]
        fn hostile_bytes_are_refused_without_a_panic(
            codec in 0_usize..5,
            changes in prop::collection::vec((21_usize..200, any::<u8>()), 1..8),
            cut in 0_usize..300,
        ) {
            let mut bytes = batch(CODECS[codec]).to_vec();
            for (at, to) in changes {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = to;
                }
            }
            bytes.truncate(bytes.len() - cut.min(bytes.len()));
            let _ = decode(&bytes.into(), 1 << 16);
        }
    }
}

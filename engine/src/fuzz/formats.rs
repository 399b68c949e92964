//! Formats: batches, and the small files beside them. What is read is written again as it was; what cannot be read is refused.

use crate::batch::{self, HEADER_LEN};
use crate::log::fuzzed;
use crate::records::{self, Builder};
use bytes::Bytes;

/// What records may grow to.
const BYTES_MAX: usize = 1 << 16;

/// A batch, as it is and with its length, magic and CRC mended, so that what they protect is reached too.
pub fn batch(data: &[u8]) {
    one_batch(data);
    let mut mended = data.to_vec();
    if mend(&mut mended) {
        one_batch(&mended);
    }
}

fn mend(batch: &mut [u8]) -> bool {
    let Ok(length) = i32::try_from(batch.len().wrapping_sub(12)) else { return false };
    if batch.len() < HEADER_LEN {
        return false;
    }
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    batch[16] = 2;
    let crc = crc_fast::crc32_iscsi(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    true
}

fn one_batch(data: &[u8]) {
    if let Some(len) = batch::whole_len(data) {
        assert!((HEADER_LEN..=data.len()).contains(&len));
    }
    let Ok(header) = batch::verify(data) else { return };
    assert_eq!((batch::whole_len(data), header.total_len()), (Some(data.len()), data.len()));
    assert!(header.next_offset() > header.base_offset && header.base_offset >= 0);
    let mut stamped = data.to_vec();
    batch::stamp(&mut stamped, 5, 7);
    if let Ok(stamped) = batch::verify(&stamped) {
        assert_eq!((stamped.base_offset, stamped.leader_epoch, stamped.crc), (5, 7, header.crc));
    }
    batch::stamp_log_append_time(&mut stamped, 9);
    if let Ok(stamped) = batch::verify(&stamped) {
        assert!(stamped.is_log_append_time() && stamped.max_timestamp == 9);
    }
    let Ok(found) = records::decode(&Bytes::copy_from_slice(data), BYTES_MAX) else { return };
    assert_eq!(found.len(), usize::try_from(header.record_count).expect("it was read"));
    let size = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
    let bytes: usize = found.iter().map(|record| size(&record.key) + size(&record.value)).sum();
    assert!(bytes <= BYTES_MAX.max(data.len()), "{bytes} bytes of keys and values");
    write_again(&found, header.codec().expect("verified"));
}

/// What was read and is written by us reads the same.
fn write_again(found: &[records::Record], codec: batch::Codec) {
    // Offsets of our own batches follow each other, and their times are of this epoch.
    let plain = |record: &records::Record| (-1..1 << 48).contains(&record.timestamp);
    if found.is_empty() || !found.iter().all(plain) {
        return;
    }
    let mut builder = Builder::new(codec);
    for record in found {
        let headers: Vec<_> =
            record.headers.iter().map(|(name, value)| (&name[..], value.as_deref())).collect();
        builder.push(record.timestamp, record.key.as_deref(), record.value.as_deref(), &headers);
    }
    let again = builder.build();
    assert!(batch::verify(&again).is_ok_and(|header| batch::verify_counts(&header).is_ok()));
    let again = records::decode(&again, 4 * BYTES_MAX).expect("a batch that was built");
    for ((offset, one), again) in (0..).zip(found).zip(&again) {
        assert_eq!(&records::Record { offset, ..one.clone() }, again);
    }
}

/// The first bytes are the base offset of the segment.
fn with_base(data: &[u8]) -> Option<(i64, &[u8])> {
    let (base, rest) = data.split_first_chunk()?;
    Some((i64::from_be_bytes(*base) & (i64::MAX >> 1), rest))
}

/// An offset index: look-ups end at its entries, and it is written as it was read.
pub fn offset_index(data: &[u8]) {
    let Some((base, data)) = with_base(data) else { return };
    fuzzed::offset_index(base, data);
}

/// A time index.
pub fn time_index(data: &[u8]) {
    let Some((base, data)) = with_base(data) else { return };
    fuzzed::time_index(base, data);
}

/// A checkpoint, as it is and as the body of one.
pub fn checkpoint(data: &[u8]) {
    fuzzed::checkpoint(data);
    let mut file = b"ringlogC\0\0\0\x01".to_vec();
    file.extend((data.len() as u32).to_be_bytes());
    file.extend(crc_fast::crc32_iscsi(data).to_be_bytes());
    file.extend(data);
    fuzzed::checkpoint(&file);
}

/// A shard's journal, as it is and as the entries of a frame.
pub fn journal(data: &[u8]) {
    fuzzed::journal(data);
    let mut frame = b"RJL1\0\0\0\0".to_vec();
    frame.extend([0; 20]);
    frame.extend((32 + data.len() as u32).to_be_bytes());
    frame.extend(data);
    let crc = crc_fast::crc32_iscsi(&frame[8..]);
    frame[4..8].copy_from_slice(&crc.to_be_bytes());
    // The first of two halves.
    frame.resize(2 * frame.len(), 0);
    fuzzed::journal(&frame);
}

/// A snapshot of producers, as it is and as the body of one; the first bytes make a batch that is checked against it.
pub fn producers(data: &[u8]) {
    let Some((header, rest)) = data.split_first_chunk::<HEADER_LEN>() else { return };
    let mut header = *header;
    mend(&mut header);
    let header = batch::Header::parse(&header);
    fuzzed::producers(rest, header.ok());
    let mut file = 1_i16.to_be_bytes().to_vec();
    file.extend(crc_fast::crc32_iscsi(rest).to_be_bytes());
    file.extend(rest);
    fuzzed::producers(&file, header.ok());
}

/// A file of leader epochs; the first bytes are an epoch and an offset that it is asked about and cut at.
pub fn epochs(data: &[u8]) {
    let Some((epoch, rest)) = data.split_first_chunk() else { return };
    let Some((offset, text)) = rest.split_first_chunk() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    fuzzed::epochs(i32::from_be_bytes(*epoch), i64::from_be_bytes(*offset), text);
}

/// An index of aborted transactions.
pub fn transaction_index(data: &[u8]) {
    fuzzed::transaction_index(data);
}

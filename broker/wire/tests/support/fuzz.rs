//! What fuzzers give bytes to; `broker/fuzz` makes a target of each, `fuzz_corpus.rs` replays what they have found.

use bytes::{Bytes, BytesMut};
use ringlog_wire::{FrameError, PREFIX_LEN, Reader, RequestHeader, frame_len, split_frame};

use super::codecs;

/// Every message in every version: the first bytes choose one, the rest is its body. What is read is written, and reads the same. What
/// reading takes is no more than the body could fill.
pub(crate) fn message(data: &[u8]) {
    let Some(([message, version], body)) = data.split_first_chunk() else { return };
    let codecs = codecs();
    let codec = &codecs[usize::from(*message) % codecs.len()];
    let versions = codec.schema.versions;
    let version = versions.min + i16::from(*version) % (versions.max - versions.min + 1);
    let body = Bytes::copy_from_slice(body);
    let mut fits = false;
    let memory = allocation_counter::measure(|| fits = (codec.decode)(&body, version).is_ok());
    let most = MEMORY_BASE + MEMORY_PER_BYTE * body.len() as u64;
    assert!(memory.bytes_max <= most, "{} bytes of memory for {} of frame", memory.bytes_max, body.len());
    if !fits || body.len() > BODY_BYTES_MAX {
        return;
    }
    let first = (codec.again)(&body, version).expect("it was read before");
    let second = (codec.again)(&first.body, version).expect("what was written can be read");
    assert_eq!((first.debug, &first.body), (second.debug, &second.body), "{} {version}", codec.name());
    assert_eq!(second.read, second.body.len(), "nothing is written that is not read");
}

/// As in `hostile.rs`.
const MEMORY_BASE: u64 = 4096;
const MEMORY_PER_BYTE: u64 = 64;

/// Larger ones only take time.
const BODY_BYTES_MAX: usize = 1 << 14;

/// Frames cut from a stream, which comes in pieces: no byte is lost, none is taken twice, and each frame's header is read.
pub(crate) fn frames(data: &[u8]) {
    let Some(([pieces], stream)) = data.split_first_chunk() else { return };
    let (min, max) = (10, 300);
    let mut received = BytesMut::new();
    let mut taken = 0;
    for piece in stream.chunks(usize::from(*pieces) + 1) {
        received.extend_from_slice(piece);
        loop {
            match split_frame(&mut received, min, max) {
                Ok(Some(frame)) => {
                    assert!((min..=max).contains(&frame.len()));
                    let at = taken + PREFIX_LEN;
                    assert_eq!(frame[..], stream[at..at + frame.len()]);
                    taken = at + frame.len();
                    let mut reader = Reader::new(&frame);
                    if RequestHeader::read(&mut reader).is_ok() {
                        assert!(reader.position() <= frame.len());
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    let prefix = received.first_chunk().expect("a refused frame has a prefix");
                    assert_eq!(frame_len(*prefix, min, max), Err::<usize, FrameError>(error));
                    return;
                }
            }
        }
    }
    assert_eq!(received[..], stream[taken..]);
}

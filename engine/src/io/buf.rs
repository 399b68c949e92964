//! Memory for blocks: buffers whose address fits direct I/O.

use bytes::{Buf, BytesMut};

/// The unit of [`super::FileMode::Blocks`] files: positions, lengths and addresses are multiples of it.
pub const BLOCK: usize = 4096;

/// An empty buffer with room for at least `capacity` bytes, whose first byte lies at a multiple of [`BLOCK`].
/// Filling it up to `capacity` does not move it.
pub fn aligned(capacity: usize) -> BytesMut {
    aligned_past(capacity, 0)
}

/// As [`aligned`], but the first byte lies this many bytes past a multiple of [`BLOCK`].
pub fn aligned_past(capacity: usize, past: usize) -> BytesMut {
    // `advance` moves over filled bytes only, hence the first block's zeroes.
    let mut buffer = BytesMut::with_capacity(capacity + BLOCK);
    buffer.resize(BLOCK, 0);
    let lies = buffer.as_ptr().addr() % BLOCK;
    buffer.advance((BLOCK + past % BLOCK - lies) % BLOCK);
    buffer.clear();
    buffer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_and_stay_where_they_are() {
        for capacity in [0, 1, BLOCK, 3 * BLOCK + 5, 1 << 20] {
            let mut buffer = aligned(capacity);
            let at = buffer.as_ptr();
            assert_eq!(at.addr() % BLOCK, 0);
            assert!(buffer.is_empty());
            buffer.resize(capacity, 7);
            assert_eq!(buffer.as_ptr(), at, "{capacity} bytes fit");
            for past in [1, 100, BLOCK - 1] {
                let mut buffer = aligned_past(capacity, past);
                let at = buffer.as_ptr();
                assert_eq!(at.addr() % BLOCK, past);
                buffer.resize(capacity, 7);
                assert_eq!(buffer.as_ptr(), at, "{capacity} bytes fit");
            }
        }
    }
}

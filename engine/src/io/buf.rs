//! Memory for blocks: buffers whose address fits direct I/O.

use bytes::BytesMut;
use rustix::mm::{Advice, madvise};
use std::mem::MaybeUninit;

/// The unit of [`super::FileMode::Blocks`] files: positions, lengths and addresses are multiples of it.
pub const BLOCK: usize = 4096;

/// What the kernel maps in one piece where it can. A direct write takes such memory in one step instead of 4 KiB by 4 KiB.
pub const HUGE_PAGE: usize = 2 << 20;

/// An empty buffer with room for at least `capacity` bytes, whose first byte lies at a multiple of [`BLOCK`], and of [`HUGE_PAGE`]
/// if it is as large as that. Filling it up to `capacity` does not move it.
pub fn aligned(capacity: usize) -> BytesMut {
    aligned_past(capacity, 0)
}

/// As [`aligned`], but the first byte lies this many bytes past such a multiple.
pub fn aligned_past(capacity: usize, past: usize) -> BytesMut {
    let unit = if capacity < HUGE_PAGE { BLOCK } else { HUGE_PAGE };
    let past = past % BLOCK;
    let mut buffer = BytesMut::with_capacity(capacity + past + unit);
    let lies = buffer.as_ptr().addr() % unit;
    let mut buffer = buffer.split_off((unit - lies) % unit + past);
    if unit == HUGE_PAGE {
        ask_for_huge_pages(&mut buffer.spare_capacity_mut()[..capacity]);
    }
    buffer
}

/// Has `read` fill the front of what is free of a buffer, at most so many bytes, without zeroing it first. Returns how many there are more.
#[expect(unsafe_code, reason = "memory that the kernel fills has no values before")]
pub fn fill<E>(
    buffer: &mut BytesMut,
    bytes_max: usize,
    read: impl for<'a> FnOnce(&'a mut [MaybeUninit<u8>]) -> Result<&'a mut [u8], E>,
) -> Result<usize, E> {
    let free = buffer.spare_capacity_mut();
    let room = free.len().min(bytes_max);
    let begins = free.as_ptr().addr();
    let filled = read(&mut free[..room])?;
    let count = filled.len();
    assert!(count == 0 || (count <= room && filled.as_ptr().addr() == begins), "the front is filled");
    let len = buffer.len() + count;
    // SAFETY: `read` has given these bytes back as such that have values, and they lie behind those of the buffer.
    unsafe { buffer.set_len(len) };
    Ok(count)
}

/// Asks that this memory be mapped by huge pages when it is first touched. Without them all goes on as well, a little slower.
#[expect(unsafe_code, reason = "advice on memory by its address")]
fn ask_for_huge_pages(memory: &mut [MaybeUninit<u8>]) {
    let before = memory.as_ptr().addr().wrapping_neg() % HUGE_PAGE;
    let Some(whole) = memory.get_mut(before..) else { return };
    let len = whole.len() - whole.len() % HUGE_PAGE;
    // SAFETY: the range is memory of the buffer's, and how it is mapped changes nothing of what it holds.
    let _ = unsafe { madvise(whole.as_mut_ptr().cast(), len, Advice::LinuxHugepage) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_free_is_filled_from_the_front() {
        let mut buffer = BytesMut::with_capacity(10);
        let mut write = |bytes: &'static [u8], bytes_max| {
            fill(&mut buffer, bytes_max, |free| {
                let len = bytes.len().min(free.len());
                Ok::<_, ()>(free[..len].write_copy_of_slice(&bytes[..len]))
            })
        };
        assert_eq!(write(b"abc", 9), Ok(3));
        assert_eq!(write(b"", 9), Ok(0));
        assert_eq!(write(b"defg", 2), Ok(2));
        assert_eq!(write(b"fghijklmnop", 100).map(|count| count >= 5), Ok(true));
        assert!(buffer.starts_with(b"abcdefghij"));
        assert_eq!(fill(&mut buffer, 1, |_| Err(())), Err(()));
    }

    #[test]
    fn buffers_are_aligned_and_stay_where_they_are() {
        for capacity in [0, 1, BLOCK, 3 * BLOCK + 5, 1 << 20, HUGE_PAGE, 5 << 20] {
            let mut buffer = aligned(capacity);
            let at = buffer.as_ptr();
            let unit = if capacity < HUGE_PAGE { BLOCK } else { HUGE_PAGE };
            assert_eq!(at.addr() % unit, 0);
            assert!(buffer.is_empty());
            buffer.resize(capacity, 7);
            assert_eq!(buffer.as_ptr(), at, "{capacity} bytes fit");
            for past in [1, 100, BLOCK - 1] {
                let mut buffer = aligned_past(capacity, past);
                let at = buffer.as_ptr();
                assert_eq!(at.addr() % unit, past);
                buffer.resize(capacity, 7);
                assert_eq!(buffer.as_ptr(), at, "{capacity} bytes fit");
            }
        }
    }
}

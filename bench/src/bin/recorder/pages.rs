//! What a disk holds: pages of 4 KiB, of which only those that were written exist. A copy shares all pages until one side writes.

use std::collections::HashMap;
use std::rc::Rc;

const PAGE: usize = 4096;

/// The contents of a disk; what was never written reads as zeroes.
#[derive(Clone, Default)]
pub(crate) struct Pages(HashMap<u64, Rc<[u8; PAGE]>>);

impl Pages {
    /// Fills `into` with what lies at byte `at` and behind it.
    pub(crate) fn read(&self, at: u64, into: &mut [u8]) {
        let mut done = 0;
        for (page, within) in pieces(at, into.len()) {
            let part = &mut into[done..done + within.len()];
            match self.0.get(&page) {
                Some(bytes) => part.copy_from_slice(&bytes[within.clone()]),
                None => part.fill(0),
            }
            done += within.len();
        }
    }

    /// Puts `bytes` at byte `at`.
    pub(crate) fn write(&mut self, at: u64, bytes: &[u8]) {
        let mut done = 0;
        for (page, within) in pieces(at, bytes.len()) {
            let page = self.0.entry(page).or_insert_with(|| Rc::new([0; PAGE]));
            Rc::make_mut(page)[within.clone()].copy_from_slice(&bytes[done..done + within.len()]);
            done += within.len();
        }
    }

    /// Puts `len` zeroes at byte `at`.
    pub(crate) fn zero(&mut self, at: u64, len: usize) {
        for (page, within) in pieces(at, len) {
            if within.len() == PAGE {
                self.0.remove(&page);
            } else if let Some(bytes) = self.0.get_mut(&page) {
                Rc::make_mut(bytes)[within].fill(0);
            }
        }
    }
}

/// The pages that a range of bytes touches, and what it touches of each.
fn pieces(at: u64, len: usize) -> impl Iterator<Item = (u64, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let here = at + done as u64;
        let from = (here % PAGE as u64) as usize;
        let size = (PAGE - from).min(len - done);
        done += size;
        (size > 0).then_some((here / PAGE as u64, from..from + size))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pages: &Pages, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![9; len];
        pages.read(at, &mut bytes);
        bytes
    }

    #[test]
    fn what_was_written_is_read_and_copies_keep_what_they_had() {
        let mut pages = Pages::default();
        pages.write(4090, &[1; 5000]);
        let copy = pages.clone();
        pages.zero(4092, 4500);
        assert_eq!(read(&copy, 4088, 5004), [&[0; 2][..], &[1; 5000], &[0; 2]].concat());
        assert_eq!(read(&pages, 4088, 5004), [&[0; 2][..], &[1; 2], &[0; 4500], &[1; 498], &[0; 2]].concat());
    }
}

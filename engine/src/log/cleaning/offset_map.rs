//! Where the last record of each key lies: what decides, while a log is cleaned, which records go.
//!
//! ```text
//!   slot: hash of the key u128 | offset + 1 u64 (0: empty)       24 bytes, in a table of fixed size, probed one after the other
//! ```
//!
//! Keys are told apart by a keyed 128-bit hash alone: among 2^32 keys two are taken for one with a chance of 2^-65, and nobody who
//! does not know the key of this round can look for two such.

use crate::log::Offset;
use siphasher::sip128::{Hasher128, SipHasher24};
use std::hash::Hasher;

/// The last offset of each key, of a bounded number of keys.
pub(super) struct OffsetMap {
    slots: Vec<[u64; 3]>,
    keys: (u64, u64),
    len: usize,
    len_max: usize,
    /// The last offset that has been looked at; -1 before.
    latest: Offset,
}

/// Bytes of one key.
pub(super) const SLOT_BYTES: usize = 24;

impl OffsetMap {
    /// An empty map of so many slots, filled no further than this share of them.
    pub(super) fn new(slots: usize, load_factor: f64, keys: (u64, u64)) -> Self {
        let slots = slots.max(2);
        // One is always empty: there a search ends.
        let len_max = ((slots as f64 * load_factor) as usize).clamp(1, slots - 1);
        // Zeroes come from the kernel when they are first touched.
        Self { slots: vec![[0; 3]; slots], keys, len: 0, len_max, latest: -1 }
    }

    /// Notes a record. False if there is no room for its key: nothing has changed then.
    #[must_use]
    pub(super) fn put(&mut self, key: &[u8], offset: Offset) -> bool {
        let at = self.slot(key);
        let [high, low, known] = &mut self.slots[at.index];
        if *known == 0 {
            if self.len >= self.len_max {
                return false;
            }
            (*high, *low) = at.hash;
            self.len += 1;
        }
        *known = offset.cast_unsigned() + 1;
        self.latest = offset;
        true
    }

    /// The last offset of a key; `None` if it has not been seen.
    pub(super) fn get(&self, key: &[u8]) -> Option<Offset> {
        self.slots[self.slot(key).index][2].checked_sub(1).map(u64::cast_signed)
    }

    /// Everything up to this offset has been looked at.
    pub(super) fn looked_at(&mut self, offset: Offset) {
        self.latest = self.latest.max(offset);
    }

    /// The last offset that has been looked at.
    pub(super) fn latest(&self) -> Offset {
        self.latest
    }

    /// How full it is, of what it may hold.
    pub(super) fn utilization(&self) -> f64 {
        self.len as f64 / self.len_max as f64
    }

    /// The slot of a key, or the empty one where it belongs. There is always an empty one.
    fn slot(&self, key: &[u8]) -> Slot {
        let mut hasher = SipHasher24::new_with_keys(self.keys.0, self.keys.1);
        hasher.write(key);
        let hash = hasher.finish128();
        let hash = (hash.h1, hash.h2);
        let slots = self.slots.len();
        let mut index = ((u128::from(hash.0) * slots as u128) >> 64) as usize;
        loop {
            let [high, low, known] = self.slots[index];
            if known == 0 || (high, low) == hash {
                return Slot { index, hash };
            }
            index = if index + 1 == slots { 0 } else { index + 1 };
        }
    }
}

struct Slot {
    index: usize,
    hash: (u64, u64),
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        #[test]
        fn it_knows_what_a_map_of_the_keys_themselves_knows(
            keys in prop::collection::vec((0_u16..300, 0_usize..3), 1..600),
            slots in 8_usize..400,
        ) {
            let mut map = OffsetMap::new(slots, 0.9, (1, 2));
            let mut model: HashMap<Vec<u8>, Offset> = HashMap::new();
            let room = ((slots as f64 * 0.9) as usize).max(1);
            for (offset, (key, more)) in keys.into_iter().enumerate() {
                let key = [&key.to_be_bytes()[..], &b"longer"[..more]].concat();
                let fits = model.len() < room || model.contains_key(&key);
                prop_assert_eq!(map.put(&key, offset as Offset), fits);
                if !fits {
                    break;
                }
                model.insert(key, offset as Offset);
                prop_assert_eq!(map.latest(), offset as Offset);
            }
            for (key, offset) in &model {
                prop_assert_eq!(map.get(key), Some(*offset));
            }
            prop_assert_eq!(map.get(b"another key"), None);
            prop_assert!(map.utilization() <= 1.0);
        }
    }

    #[test]
    fn the_empty_key_is_a_key() {
        let mut map = OffsetMap::new(4, 1.0, (0, 0));
        assert_eq!(map.get(b""), None);
        assert!(map.put(b"", 0) && map.put(b"", 7));
        assert_eq!((map.get(b""), map.latest()), (Some(7), 7));
        map.looked_at(9);
        map.looked_at(8);
        assert_eq!(map.latest(), 9);
    }
}

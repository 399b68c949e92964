//! The segments of one log, by base offset. Most logs have one: a tree's node would have room for eleven, and a row of one needs no memory of its own.

use super::Offset;
use super::segment::Segment;
use smallvec::SmallVec;
use std::ops::{Bound, Index, RangeBounds};

/// Segments in the order of their base offsets.
#[derive(Default)]
pub(super) struct Segments(SmallVec<[(Offset, Box<Segment>); 1]>);

impl Segments {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Where the segment of this base offset is, or would be. Mostly the last is looked for.
    fn place(&self, base: Offset) -> Result<usize, usize> {
        match self.0.last() {
            Some((last, _)) if *last == base => Ok(self.0.len() - 1),
            Some((last, _)) if *last < base => Err(self.0.len()),
            _ => self.0.binary_search_by_key(&base, |(base, _)| *base),
        }
    }

    pub(super) fn contains_key(&self, base: &Offset) -> bool {
        self.place(*base).is_ok()
    }

    pub(super) fn get(&self, base: &Offset) -> Option<&Segment> {
        self.place(*base).ok().map(|at| &*self.0[at].1)
    }

    pub(super) fn get_mut(&mut self, base: &Offset) -> Option<&mut Segment> {
        self.place(*base).ok().map(|at| &mut *self.0[at].1)
    }

    /// Puts a segment in the place of that of the same base offset, if there is one.
    pub(super) fn insert(&mut self, base: Offset, segment: Box<Segment>) {
        match self.place(base) {
            Ok(at) => self.0[at].1 = segment,
            Err(at) => self.0.insert(at, (base, segment)),
        }
    }

    pub(super) fn remove(&mut self, base: &Offset) -> Option<Box<Segment>> {
        self.place(*base).ok().map(|at| self.0.remove(at).1)
    }

    pub(super) fn first_key_value(&self) -> Option<(&Offset, &Segment)> {
        self.0.first().map(|(base, segment)| (base, &**segment))
    }

    pub(super) fn last_key_value(&self) -> Option<(&Offset, &Segment)> {
        self.0.last().map(|(base, segment)| (base, &**segment))
    }

    pub(super) fn last_mut(&mut self) -> Option<&mut Segment> {
        self.0.last_mut().map(|(_, segment)| &mut **segment)
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = (&Offset, &Segment)> {
        self.range(..)
    }

    pub(super) fn keys(&self) -> impl DoubleEndedIterator<Item = &Offset> {
        self.0.iter().map(|(base, _)| base)
    }

    pub(super) fn values(&self) -> impl DoubleEndedIterator<Item = &Segment> {
        self.0.iter().map(|(_, segment)| &**segment)
    }

    pub(super) fn values_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut Segment> {
        self.0.iter_mut().map(|(_, segment)| &mut **segment)
    }

    /// Those whose base offsets lie in a range; none where it ends before it begins.
    pub(super) fn range(
        &self,
        bases: impl RangeBounds<Offset>,
    ) -> impl DoubleEndedIterator<Item = (&Offset, &Segment)> {
        let from = match bases.start_bound() {
            Bound::Included(from) => self.0.partition_point(|(base, _)| base < from),
            Bound::Excluded(from) => self.0.partition_point(|(base, _)| base <= from),
            Bound::Unbounded => 0,
        };
        let to = match bases.end_bound() {
            Bound::Included(to) => self.0.partition_point(|(base, _)| base <= to),
            Bound::Excluded(to) => self.0.partition_point(|(base, _)| base < to),
            Bound::Unbounded => self.0.len(),
        };
        self.0[from.min(to)..to].iter().map(|(base, segment)| (base, &**segment))
    }
}

impl Index<&Offset> for Segments {
    type Output = Segment;

    fn index(&self, base: &Offset) -> &Segment {
        self.get(base).expect("the segment is there")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Those in a range, by their base offsets, and the same of a tree.
    #[track_caller]
    fn check(segments: &Segments, known: &BTreeSet<Offset>, range: impl RangeBounds<Offset> + Clone) {
        let found: Vec<Offset> = segments.range(range.clone()).map(|(base, _)| *base).collect();
        assert_eq!(found, known.range(range).copied().collect::<Vec<_>>());
    }

    #[test]
    fn they_are_found_as_in_a_tree() {
        let (mut segments, mut known) = (Segments::default(), BTreeSet::new());
        for step in 0..200 {
            let base = (step * 7919) % 101;
            if step % 3 == 2 {
                assert_eq!(segments.remove(&base).is_some(), known.remove(&base));
            } else {
                segments.insert(base, Segment::new(base, step));
                known.insert(base);
                assert_eq!(segments[&base].created, step);
            }
            assert_eq!(segments.len(), known.len());
            assert!(segments.keys().eq(&known) && segments.values().map(|one| &one.base).eq(&known));
            assert_eq!(segments.first_key_value().map(|(base, _)| base), known.first());
            assert_eq!(segments.last_key_value().map(|(base, _)| base), known.last());
            assert_eq!(segments.last_mut().map(|last| last.base), known.last().copied());
            for at in [-1, 0, base - 1, base, base + 1, 50, 101] {
                assert_eq!(segments.contains_key(&at), known.contains(&at));
                assert_eq!(segments.get_mut(&at).map(|one| one.base), known.get(&at).copied());
                check(&segments, &known, ..=at);
                check(&segments, &known, at + 1..);
                check(&segments, &known, 20.min(at)..at);
            }
        }
        let (late, early) = (50, 20);
        assert_eq!(segments.range(late..early).count(), 0, "a range that ends before it begins");
    }
}

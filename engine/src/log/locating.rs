//! Finding the batch that holds an offset in a segment: by the index, which is not trusted further than its batches bear it out.

use super::error::ReadError;
use super::scan::{Scan, Source};
use super::{Gaps, Log, Offset};
use crate::batch::Header;

/// A batch found in a segment, and the scan that stands before it.
pub(super) struct Located {
    pub(super) scan: Scan,
    pub(super) header: Header,
    pub(super) source: Source,
    /// Where the segment's written bytes end.
    pub(super) size: u64,
}

/// What a look into a segment has met.
enum Look {
    Found(Located),
    /// The segment ends before the offset.
    Past(u64),
    /// No batch is where the index says: one of the two is damaged.
    IndexOrBatch(u64),
    /// No batch is where the one before it ends.
    Batch(u64),
    /// Meanwhile the indexes of other segments have taken the place of this one's.
    NotLoaded,
}

impl Log {
    /// The first batch of a segment that ends at or past this offset; `None` if the segment is gone, or has a gap there to its end.
    pub(super) async fn locate(&self, base: Offset, from: Offset) -> Result<Option<Located>, ReadError> {
        let corrupt = |pos: u64| ReadError::Corrupt { file: self.log_path(base), pos, offset: from };
        self.load_indexes(base).await?;
        let mut replaced = false;
        loop {
            let Some(look) = self.look(base, from).await? else { return Ok(None) };
            match look {
                Look::Found(located) => return Ok(Some(located)),
                Look::Past(_) if self.0.state.borrow().gaps != Gaps::None => return Ok(None),
                Look::Past(size) => return Err(corrupt(size)),
                Look::Batch(pos) => return Err(corrupt(pos)),
                Look::IndexOrBatch(pos) if replaced || !self.replace_indexes(base).await? => {
                    return Err(corrupt(pos));
                }
                Look::IndexOrBatch(_) => replaced = true,
                Look::NotLoaded => self.load_indexes(base).await?,
            }
        }
    }

    async fn look(&self, base: Offset, from: Offset) -> Result<Option<Look>, ReadError> {
        let io_error = |error| ReadError::Io { file: self.log_path(base), error };
        self.filed_from(from).await;
        let Some(source) = self.source(base).await.map_err(io_error)? else { return Ok(None) };
        let (entry, size) = {
            let state = self.0.state.borrow();
            let Some(segment) = state.segments.get(&base) else { return Ok(None) };
            let Some(indexes) = segment.indexes.as_ref() else { return Ok(Some(Look::NotLoaded)) };
            (indexes.offsets.entry_before(from), segment.written_size)
        };
        let start = entry.map_or(0, |(_, pos)| pos);
        let mut expected = if entry.is_none() { Some(base) } else { None };
        let mut scan = Scan::near(self.0.shard.io(), source.clone(), start, size);
        loop {
            let pos = scan.pos();
            if pos >= size {
                return Ok(Some(Look::Past(size)));
            }
            let by_index = entry.filter(|_| expected.is_none());
            let header = scan.peek().await.map_err(io_error)?.filter(|header| {
                by_index.is_none_or(|(entry, _)| self.is_entrys(header, entry))
                    && self.is_in_place(header, expected)
            });
            let Some(header) = header else {
                return Ok(Some(if by_index.is_some() { Look::IndexOrBatch(pos) } else { Look::Batch(pos) }));
            };
            if header.last_offset() >= from {
                return Ok(Some(Look::Found(Located { scan, header, source, size })));
            }
            expected = Some(header.next_offset());
            scan.skip(&header);
        }
    }
}

//! All that a disk was told, in order, in a file: writes, zeroed ranges, flushes.
//!
//! ```text
//! entry   kind u64 | at u64 | len u64 | covered u64 | bytes of a write       (little-endian)
//! ```
//!
//! The length of the file is the disk's clock: a program that looks at it knows which entries were there at that moment.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

const HEADER: usize = 32;
const WRITE: u64 = 1;
const ZERO: u64 = 2;
const FLUSH: u64 = 3;

/// One thing a disk was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// To write bytes, which lie in the record at `bytes_at`.
    Write { at: u64, len: usize, bytes_at: u64 },
    /// To make a range zero, or to forget it.
    Zero { at: u64, len: usize },
    /// To keep what it was told before: all entries that end at or before `covered` had been answered when the flush was asked for.
    Flush { covered: u64 },
}

/// What was told, and where its entry ends in the record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) told: Told,
    pub(crate) end: u64,
}

/// The record of one disk.
pub(crate) struct Record {
    file: File,
    pub(crate) entries: Vec<Entry>,
}

impl Record {
    /// An empty record in a new file.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
        Ok(Self { file, entries: Vec::new() })
    }

    /// The record that a file holds.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let mut record =
            Self { file: File::options().read(true).write(true).open(path)?, entries: Vec::new() };
        let len = record.file.metadata()?.len();
        while record.end() < len {
            let mut header = [0; HEADER];
            record.file.read_exact_at(&mut header, record.end())?;
            let [kind, at, size, covered] = std::array::from_fn(|field| {
                u64::from_le_bytes(header[field * 8..field * 8 + 8].try_into().expect("eight bytes"))
            });
            let bytes_at = record.end() + HEADER as u64;
            let told = match kind {
                WRITE => Told::Write { at, len: size as usize, bytes_at },
                ZERO => Told::Zero { at, len: size as usize },
                FLUSH => Told::Flush { covered },
                _ => return Err(io::Error::other(format!("{kind} is no kind of entry"))),
            };
            let end = bytes_at + if kind == WRITE { size } else { 0 };
            record.entries.push(Entry { told, end });
        }
        Ok(record)
    }

    /// Where the last entry ends.
    pub(crate) fn end(&self) -> u64 {
        self.entries.last().map_or(0, |entry| entry.end)
    }

    pub(crate) fn write(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let told = Told::Write { at, len: bytes.len(), bytes_at: self.end() + HEADER as u64 };
        self.push(told, [WRITE, at, bytes.len() as u64, 0], bytes)
    }

    pub(crate) fn zero(&mut self, at: u64, len: usize) -> io::Result<()> {
        self.push(Told::Zero { at, len }, [ZERO, at, len as u64, 0], &[])
    }

    pub(crate) fn flush(&mut self, covered: u64) -> io::Result<()> {
        self.push(Told::Flush { covered }, [FLUSH, 0, 0, covered], &[])
    }

    /// The bytes of a write.
    pub(crate) fn bytes(&self, len: usize, bytes_at: u64) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, bytes_at)?;
        Ok(bytes)
    }

    fn push(&mut self, told: Told, header: [u64; 4], bytes: &[u8]) -> io::Result<()> {
        // One write, so that who looks at the length of the file sees whole entries.
        let entry = [&header.map(u64::to_le_bytes).concat(), bytes].concat();
        self.file.write_all_at(&entry, self.end())?;
        self.entries.push(Entry { told, end: self.end() + entry.len() as u64 });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_back_as_it_was_made() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("record");
        let mut made = Record::create(&path).unwrap();
        made.write(512, b"some bytes").unwrap();
        made.flush(made.end()).unwrap();
        made.zero(0, 4096).unwrap();
        let read = Record::open(&path).unwrap();
        let told =
            |record: &Record| record.entries.iter().map(|entry| (entry.told, entry.end)).collect::<Vec<_>>();
        assert_eq!(told(&read), told(&made));
        assert_eq!(read.end(), path.metadata().unwrap().len());
        let Told::Write { len, bytes_at, .. } = read.entries[0].told else {
            panic!("the first entry is the write")
        };
        assert_eq!(read.bytes(len, bytes_at).unwrap(), b"some bytes");
    }
}

//! Whole small files: read at once, replaced at once. For checkpoints and properties, off the data path.

use super::{DirId, FileMode, Io};
use bytes::Bytes;
use std::io;
use std::path::{Path, PathBuf};

/// A whole file; `None` when there is none. `bytes_max` bounds what is read: a larger file is an error.
pub async fn read(io: &Io, dir: DirId, path: &Path, bytes_max: u64) -> io::Result<Option<Bytes>> {
    let (file, len) = match io.open(dir, path.to_owned(), FileMode::Cached).await {
        Ok(opened) => opened,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if len > bytes_max {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("{len} bytes, at most {bytes_max} expected"),
        ));
    }
    let len = usize::try_from(len).expect("bounded above");
    let bytes = io.read(file.clone(), 0, len).await;
    io.close(file).await?;
    let bytes = bytes?;
    if bytes.len() != len {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("{} of {len} bytes", bytes.len())));
    }
    Ok(Some(bytes))
}

/// Replaces a file so that after a crash at any instant either the old content or the new is there, whole.
/// Durable when it returns.
pub async fn replace(io: &Io, dir: DirId, path: &Path, content: Bytes) -> io::Result<()> {
    let beside = beside(path);
    match io.unlink(dir, beside.clone()).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = io.create(dir, beside.clone(), FileMode::CachedWrite).await?;
    io.write(file.clone(), 0, content).await?;
    io.sync_file(file.clone()).await?;
    io.rename(dir, beside, path.to_owned()).await?;
    io.close(file).await?;
    io.sync_dir(dir, path.parent().expect("a file lies in a directory").to_owned()).await?;
    Ok(())
}

/// Where the new content is written before it takes the old one's place.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().expect("a file has a name").to_owned();
    name.push(".tmp");
    path.with_file_name(name)
}

//! Why a machine could not be tuned, or put back, and what to do about it.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why it could not be done. Nothing has been changed, but where it says otherwise.
#[derive(Debug)]
pub enum TuneError {
    /// No knob has this name.
    Unknown {
        /// What was asked for.
        name: String,
        /// The nearest name, if one is near.
        nearest: Option<&'static str>,
    },
    /// The file in which the originals are kept cannot be read or written.
    State {
        /// The file.
        path: PathBuf,
        /// What was tried.
        verb: &'static str,
        /// Why not.
        error: io::Error,
    },
    /// What the file says is no record of originals.
    Garbled {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Another `ringlog tune` is changing this machine.
    Locked(PathBuf),
}

impl fmt::Display for TuneError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { name, nearest: Some(nearest) } => {
                write!(f, "there is no knob `{name}`; did you mean `{nearest}`?")
            }
            Self::Unknown { name, nearest: None } => {
                write!(f, "there is no knob `{name}`; `ringlog tune` lists them")
            }
            Self::State { path, verb, error } => {
                let hint = match error.kind() {
                    io::ErrorKind::PermissionDenied => "; run it as root",
                    io::ErrorKind::ReadOnlyFilesystem => "; name another file with --state",
                    _ => "",
                };
                write!(f, "{verb} {}, where the originals are kept: {error}{hint}", path.display())
            }
            Self::Garbled { path, why } => write!(
                f,
                "{} is no record of originals ({why}); move it away if none is needed any more",
                path.display()
            ),
            Self::Locked(path) => write!(
                f,
                "another `ringlog tune` is at work ({} is locked); wait for it to end",
                path.display()
            ),
        }
    }
}

impl std::error::Error for TuneError {}

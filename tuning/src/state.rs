//! What was there before: a file that is written and synced before anything is changed.

use crate::error::TuneError;
use crate::machine::Machine;
use crate::place::{Place, sync_directory, write_own};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Where originals are kept unless told otherwise. Only root may write there: a revert writes what this file says.
pub const STATE_FILE: &str = "/var/lib/ringlog-tune/originals.json";

/// The originals of a machine, locked as long as this lives.
pub struct State {
    path: PathBuf,
    record: Record,
    expired: usize,
    _lock: fs::File,
}

#[derive(Serialize, Deserialize)]
struct Record {
    version: u32,
    /// Which start of the machine the settings belong to that do not outlive it.
    boot: String,
    originals: Vec<Original>,
}

/// What one place held before it was changed for the first time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Original {
    pub(crate) knob: String,
    pub(crate) place: Place,
    /// Nothing if there was nothing.
    pub(crate) was: Option<String>,
    /// What it held after it was written to last; nothing where the kernel changes it along with something else.
    pub(crate) written: Option<String>,
}

const VERSION: u32 = 1;

impl State {
    /// Opens the record and keeps others off it. Settings of an earlier start of the machine are gone with it, and so are their originals.
    pub fn open(machine: &Machine, path: &Path) -> Result<Self, TuneError> {
        let failed = |verb, error| TuneError::State { path: path.to_owned(), verb, error };
        let directory = path.parent().unwrap_or(Path::new("/"));
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.map_err(|error| failed("make the directory of", error))?;
        let lock = fs::File::create(path.with_extension("lock")).map_err(|error| failed("lock", error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(TuneError::Locked(path.with_extension("lock"))),
            Err(fs::TryLockError::Error(error)) => return Err(failed("lock", error)),
        }
        let boot = machine.word("/proc/sys/kernel/random/boot_id");
        let mut record = match fs::read_to_string(path) {
            Ok(text) => read(&text).map_err(|why| TuneError::Garbled { path: path.to_owned(), why })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Record { version: VERSION, boot: boot.clone(), originals: Vec::new() }
            }
            Err(error) => return Err(failed("read", error)),
        };
        let before = record.originals.len();
        if record.boot != boot {
            record.originals.retain(|original| original.place.lasts());
            record.boot = boot;
        }
        let expired = before - record.originals.len();
        Ok(Self { path: path.to_owned(), record, expired, _lock: lock })
    }

    /// How many originals were let go of because the machine has started anew since.
    pub fn expired(&self) -> usize {
        self.expired
    }

    /// Whether there is nothing to put back.
    pub fn is_empty(&self) -> bool {
        self.record.originals.is_empty()
    }

    pub(crate) fn originals(&self) -> &[Original] {
        &self.record.originals
    }

    /// Notes what is about to be changed. What is noted already keeps its first original.
    pub(crate) fn note(&mut self, original: Original) {
        match self.record.originals.iter_mut().find(|noted| noted.place == original.place) {
            Some(noted) => noted.written = original.written.or(noted.written.take()),
            None => self.record.originals.push(original),
        }
    }

    /// Keeps those of which this holds.
    pub(crate) fn retain(&mut self, keep: impl FnMut(&Original) -> bool) {
        self.record.originals.retain(keep);
    }

    /// After changes: notes what places hold now, and lets go of knobs all of whose places are as they were.
    pub(crate) fn settle(&mut self, machine: &Machine) {
        let holds = |original: &Original| original.place.holds(machine, original.was.as_deref());
        let changed: Vec<String> = self
            .record
            .originals
            .iter()
            .filter(|original| !holds(original))
            .map(|original| original.knob.clone())
            .collect();
        self.record.originals.retain(|original| changed.contains(&original.knob));
        for original in self.record.originals.iter_mut().filter(|original| original.written.is_some()) {
            original.written = original.place.read(machine).ok().flatten();
        }
    }

    /// Makes the record durable; an empty one is removed.
    pub(crate) fn save(&self) -> Result<(), TuneError> {
        let failed = |verb, error| TuneError::State { path: self.path.clone(), verb, error };
        if self.is_empty() {
            return match fs::remove_file(&self.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", error)),
                _ => sync_directory(&self.path).map_err(|error| failed("remove", error)),
            };
        }
        let text = serde_json::to_string_pretty(&self.record)
            .map_err(|error| failed("write", io::Error::other(error)))?;
        write_own(&self.path, &(text + "\n")).map_err(|error| failed("write", error))?;
        let private = fs::Permissions::from_mode(0o600);
        fs::set_permissions(&self.path, private).map_err(|error| failed("write", error))
    }
}

fn read(text: &str) -> Result<Record, String> {
    let record: Record = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if record.version != VERSION {
        return Err(format!("version {}, expected {VERSION}", record.version));
    }
    match record.originals.iter().find(|original| !original.place.is_known()) {
        Some(stranger) => Err(format!("{} is no place that a knob changes", stranger.place.name())),
        None => Ok(record),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn swappiness(was: &str, written: &str) -> Original {
        Original {
            knob: "swappiness".into(),
            place: Place::File("/proc/sys/vm/swappiness".into()),
            was: Some(was.into()),
            written: Some(written.into()),
        }
    }

    #[test]
    fn the_first_original_is_kept_and_outlives_the_process() {
        let root = tempfile::tempdir().unwrap();
        let machine = Machine::new(root.path(), &[], None);
        let path = root.path().join("deep/state.json");
        let mut state = State::open(&machine, &path).unwrap();
        state.note(swappiness("60\n", "1"));
        state.note(swappiness("1\n", "10"));
        state.save().unwrap();
        assert!(matches!(State::open(&machine, &path), Err(TuneError::Locked(_))));
        drop(state);
        let state = State::open(&machine, &path).unwrap();
        assert_eq!(state.originals(), [swappiness("60\n", "10")]);
    }

    #[test]
    fn a_start_of_the_machine_ends_what_does_not_outlive_it() {
        let root = tempfile::tempdir().unwrap();
        let boot = root.path().join("proc/sys/kernel/random/boot_id");
        fs::create_dir_all(boot.parent().unwrap()).unwrap();
        fs::write(&boot, "first\n").unwrap();
        let machine = Machine::new(root.path(), &[], None);
        let path = root.path().join("state.json");
        let mut state = State::open(&machine, &path).unwrap();
        state.note(swappiness("60\n", "1"));
        let own = Place::Own("/etc/systemd/system/ringlog-tune.service".into());
        state.note(Original {
            knob: "boot".into(),
            place: own.clone(),
            was: None,
            written: Some("x".into()),
        });
        state.save().unwrap();
        drop(state);
        fs::write(&boot, "second\n").unwrap();
        let state = State::open(&machine, &path).unwrap();
        assert_eq!(state.expired(), 1);
        assert_eq!(state.originals().iter().map(|original| &original.place).collect::<Vec<_>>(), [&own]);
    }

    #[test]
    fn a_record_that_names_other_places_is_refused() {
        for path in ["/etc/shadow", "/proc/sys/../../etc/shadow", "/sys/../etc/shadow"] {
            let original = Original { place: Place::File(path.into()), ..swappiness("60", "1") };
            let record = Record { version: VERSION, boot: String::new(), originals: vec![original] };
            assert!(read(&serde_json::to_string(&record).unwrap()).is_err(), "{path}");
        }
        assert!(read("{}").is_err());
        assert!(read("not json").is_err());
    }
}

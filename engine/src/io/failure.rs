//! Which errors tell of a device that is not well, and not of one file or of this process.

use std::fmt;
use std::io;
use std::sync::Arc;

/// A sync has failed on a device: every later one is refused with this.
#[derive(Debug, Clone)]
pub(super) struct DeviceOffline(pub(super) Arc<str>);

impl fmt::Display for DeviceOffline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for DeviceOffline {}

/// Whether an error says that the device, or the file system on it, cannot be relied on: what it holds, and what it is given from now on.
/// A missing file, a full disk or too many open files say no such thing.
pub fn is_of_device(error: &io::Error) -> bool {
    let offline = error.get_ref().is_some_and(|inner| inner.is::<DeviceOffline>());
    offline || error.raw_os_error().is_some_and(|errno| DEVICE_ERRORS.contains(&errno))
}

/// Whether an error says that the disk is full, or its quota used up.
pub fn is_no_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// EIO, ENXIO, ENODEV, EROFS, EBADMSG (ext4: a checksum of its own), EUCLEAN (the file system is damaged), ESHUTDOWN.
const DEVICE_ERRORS: [i32; 7] = [5, 6, 19, 30, 74, 117, 108];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_judged_by_what_its_errors_say() {
        let check = |errno, device, full| {
            let error = io::Error::from_raw_os_error(errno);
            assert_eq!((is_of_device(&error), is_no_space(&error)), (device, full), "{error}");
        };
        check(5, true, false);
        check(30, true, false);
        check(28, false, true);
        check(122, false, true);
        for harmless in [2, 13, 22, 24] {
            check(harmless, false, false);
        }
        assert!(is_of_device(&io::Error::other(DeviceOffline("sync of x failed".into()))));
    }
}

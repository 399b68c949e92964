//! Names of hosts: how a binary without shared libraries finds their addresses.

/// From now on hosts are looked up in `/etc/hosts` and by DNS, whatever `/etc/nsswitch.conf` names besides, if this binary is a
/// static one: the libraries it names belong to the C library of the machine, and crash one that carries its own.
pub fn look_up_hosts_without_plugins() {
    #[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
    fixed::look_up_hosts_in_files_and_dns();
}

#[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
#[expect(unsafe_code, reason = "a call of the C library that no crate offers")]
mod fixed {
    use std::ffi::{CStr, c_char, c_int};

    // Of glibc's <nss.h>. Both ways are part of libc.a since glibc 2.34.
    unsafe extern "C" {
        fn __nss_configure_lookup(database: *const c_char, services: *const c_char) -> c_int;
    }

    pub(super) fn look_up_hosts_in_files_and_dns() {
        let (database, services): (&CStr, &CStr) = (c"hosts", c"files dns");
        // SAFETY: both are texts that end with a zero and live for ever; glibc copies what it keeps.
        let result = unsafe { __nss_configure_lookup(database.as_ptr(), services.as_ptr()) };
        assert_eq!(result, 0, "glibc knows hosts, files and dns");
    }
}

//! Who has started the process and waits to hear that it serves: systemd, or whoever else speaks `sd_notify(3)`.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Where to tell it (`NOTIFY_SOCKET`), if anybody wants to know.
#[derive(Debug)]
pub struct Supervisor(Option<SocketAddr>);

impl Supervisor {
    /// The one that the environment names. An address that is none is an error: nobody would ever hear that the broker is ready.
    pub fn of_environment() -> io::Result<Self> {
        std::env::var_os("NOTIFY_SOCKET").map(|name| address(&name)).transpose().map(Self)
    }

    /// Clients are served from now on.
    pub fn ready(&self) {
        self.tell("READY=1\n");
    }

    /// The broker was asked to stop, and will end by itself.
    pub fn stopping(&self) {
        self.tell("STOPPING=1\n");
    }

    fn tell(&self, state: &str) {
        let Some(address) = &self.0 else { return };
        let told = UnixDatagram::unbound().and_then(|socket| socket.send_to_addr(state.as_bytes(), address));
        if let Err(error) = told {
            eprintln!("tell the service manager {}: {error}", state.trim());
        }
    }
}

/// A path, or behind an `@` a name in the abstract namespace.
fn address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &OsStr, listener: &UnixDatagram) {
        let supervisor = Supervisor(Some(address(name).expect("an address")));
        supervisor.ready();
        supervisor.stopping();
        let mut told = [0; 64];
        for state in ["READY=1\n", "STOPPING=1\n"] {
            let len = listener.recv(&mut told).unwrap();
            assert_eq!(&told[..len], state.as_bytes());
        }
    }

    #[test]
    fn is_told_by_a_path_and_by_an_abstract_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        check(path.as_os_str(), &UnixDatagram::bind(&path).unwrap());
        let mut name = path.into_os_string().into_encoded_bytes();
        let listener = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        name.insert(0, b'@');
        check(OsStr::from_bytes(&name), &listener);
    }
}

//! What a network card is asked and told through ethtool's netlink interface: sizes of its rings, and when it interrupts.
//!
//! A message: a header of 16 bytes (length, type, flags, number, sender), one of 4 (command, version), attributes (length, type, value, filled up
//! to 4 bytes). Numbers are in the machine's byte order. <https://docs.kernel.org/networking/ethtool-netlink.html>

use rustix::fd::OwnedFd;
use rustix::net::netlink::{GENERIC, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use serde::{Deserialize, Serialize};
use std::io;

/// A number that a card holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CardSetting {
    /// Packets that may wait to be taken.
    ReceiveRing,
    /// Packets that may wait to be sent.
    SendRing,
    /// Whether the card itself chooses how long it gathers packets before it interrupts: 0 or 1.
    AdaptiveReceive,
    /// Packets it gathers before it interrupts.
    ReceiveFrames,
}

impl CardSetting {
    /// The word people know it by from `ethtool`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ReceiveRing => "rx ring",
            Self::SendRing => "tx ring",
            Self::AdaptiveReceive => "adaptive-rx",
            Self::ReceiveFrames => "rx-frames",
        }
    }

    /// The command that asks, the one that sets, the attribute.
    fn numbers(self) -> (u8, u8, u16) {
        match self {
            Self::ReceiveRing => (RINGS_GET, RINGS_SET, 6),
            Self::SendRing => (RINGS_GET, RINGS_SET, 9),
            Self::AdaptiveReceive => (COALESCE_GET, COALESCE_SET, 11),
            Self::ReceiveFrames => (COALESCE_GET, COALESCE_SET, 3),
        }
    }

    fn value(self, number: u32) -> Vec<u8> {
        match self {
            Self::AdaptiveReceive => vec![u8::from(number != 0)],
            _ => number.to_ne_bytes().to_vec(),
        }
    }
}

const RINGS_GET: u8 = 15;
const RINGS_SET: u8 = 16;
const COALESCE_GET: u8 = 19;
const COALESCE_SET: u8 = 20;
/// The attribute that names the card, in every message; the name in it.
const HEADER: u16 = 1;
const HEADER_NAME: u16 = 2;
const NESTED: u16 = 0x8000;

/// What a card holds; `None` if it has no such setting.
pub(crate) fn get(card: &str, setting: CardSetting) -> io::Result<Option<u32>> {
    let (ask, _, attribute) = setting.numbers();
    read(card, ask, attribute)
}

/// The most a ring can be made.
pub(crate) fn ring_max(card: &str, setting: CardSetting) -> io::Result<Option<u32>> {
    match setting {
        CardSetting::ReceiveRing => read(card, RINGS_GET, 2),
        CardSetting::SendRing => read(card, RINGS_GET, 5),
        CardSetting::AdaptiveReceive | CardSetting::ReceiveFrames => Ok(None),
    }
}

/// Changes one number; all others stay as they are.
pub(crate) fn set(card: &str, setting: CardSetting, number: u32) -> io::Result<()> {
    let (_, command, attribute) = setting.numbers();
    let mut attributes = name_of(card);
    put(&mut attributes, attribute, &setting.value(number));
    let kernel = Kernel::open()?;
    kernel.ask(kernel.family()?, command, &attributes).map(|_| ())
}

fn read(card: &str, command: u8, attribute: u16) -> io::Result<Option<u32>> {
    let kernel = Kernel::open()?;
    match kernel.ask(kernel.family()?, command, &name_of(card)) {
        Ok(answer) => Ok(find(&answer, attribute).and_then(number)),
        Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(None),
        Err(error) => Err(error),
    }
}

fn name_of(card: &str) -> Vec<u8> {
    let mut name = Vec::new();
    put(&mut name, HEADER_NAME, format!("{card}\0").as_bytes());
    let mut attributes = Vec::new();
    put(&mut attributes, HEADER | NESTED, &name);
    attributes
}

/// A socket to the kernel's generic netlink.
struct Kernel(OwnedFd);

impl Kernel {
    fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        Ok(Self(rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(GENERIC))?))
    }

    /// The number under which this kernel has ethtool.
    fn family(&self) -> io::Result<u16> {
        const CONTROL: u16 = 16;
        const GET_FAMILY: u8 = 3;
        let mut attributes = Vec::new();
        put(&mut attributes, 2, b"ethtool\0");
        let answer = self.ask(CONTROL, GET_FAMILY, &attributes)?;
        let id = find(&answer, 1).and_then(number).and_then(|id| u16::try_from(id).ok());
        id.ok_or_else(|| io::ErrorKind::Unsupported.into())
    }

    /// Asks, and returns the attributes of the answer; none where the answer is that it is done.
    fn ask(&self, family: u16, command: u8, attributes: &[u8]) -> io::Result<Vec<u8>> {
        let message = message(family, command, attributes);
        rustix::net::sendto(&self.0, &message, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
        let mut buffer = vec![0; ANSWER_BYTES_MAX];
        let mut answer = Vec::new();
        // First the answer, if there is one, then that it is done, or why not.
        loop {
            let (count, _) = rustix::net::recv(&self.0, &mut buffer[..], RecvFlags::empty())?;
            if read_answer(&buffer[..count], &mut answer)? {
                return Ok(answer);
            }
        }
    }
}

/// More than the kernel sends at once.
const ANSWER_BYTES_MAX: usize = 32 << 10;
const HEADERS_BYTES: usize = 20;

fn message(family: u16, command: u8, attributes: &[u8]) -> Vec<u8> {
    // A request, and the kernel is to tell when it is done.
    const REQUEST_AND_ACK: u16 = 1 | 4;
    let mut bytes = Vec::with_capacity(HEADERS_BYTES + attributes.len());
    let len = u32::try_from(HEADERS_BYTES + attributes.len()).unwrap_or(u32::MAX);
    bytes.extend(len.to_ne_bytes());
    bytes.extend(family.to_ne_bytes());
    bytes.extend(REQUEST_AND_ACK.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend([command, 1, 0, 0]);
    bytes.extend(attributes);
    bytes
}

/// Takes what messages say; true when the last of them says that it is done.
fn read_answer(mut bytes: &[u8], answer: &mut Vec<u8>) -> io::Result<bool> {
    const ERROR: u16 = 2;
    let cut_short = || io::Error::new(io::ErrorKind::InvalidData, "the kernel's answer is cut short");
    while !bytes.is_empty() {
        let len = bytes.get(..4).and_then(number).ok_or_else(cut_short)? as usize;
        let kind = bytes.get(4..6).and_then(number).ok_or_else(cut_short)?;
        let body = bytes.get(16..len).ok_or_else(cut_short)?;
        if kind == u32::from(ERROR) {
            let errno = body.first_chunk::<4>().map(|raw| i32::from_ne_bytes(*raw)).ok_or_else(cut_short)?;
            return if errno == 0 { Ok(true) } else { Err(io::Error::from_raw_os_error(-errno)) };
        }
        answer.extend(body.get(4..).ok_or_else(cut_short)?);
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

fn put(attributes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let len = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    attributes.extend(len.to_ne_bytes());
    attributes.extend(kind.to_ne_bytes());
    attributes.extend(value);
    attributes.resize(attributes.len().next_multiple_of(4), 0);
}

/// The value of the first attribute of this kind.
fn find(mut attributes: &[u8], kind: u16) -> Option<&[u8]> {
    loop {
        let len = number(attributes.get(..2)?)? as usize;
        let found = number(attributes.get(2..4)?)?;
        let value = attributes.get(4..len)?;
        if found & 0x3fff == u32::from(kind) {
            return Some(value);
        }
        attributes = attributes.get(len.next_multiple_of(4)..)?;
    }
}

/// A number of one, two or four bytes.
fn number(value: &[u8]) -> Option<u32> {
    match *value {
        [byte] => Some(u32::from(byte)),
        [a, b] => Some(u32::from(u16::from_ne_bytes([a, b]))),
        [a, b, c, d] => Some(u32::from_ne_bytes([a, b, c, d])),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_found_again_and_garbage_is_not_read_past() {
        let mut attributes = name_of("eth0");
        put(&mut attributes, 6, &2048_u32.to_ne_bytes());
        put(&mut attributes, 11, &[1]);
        put(&mut attributes, 9, &512_u32.to_ne_bytes());
        assert_eq!(find(&attributes, 6).and_then(number), Some(2048));
        assert_eq!(find(&attributes, 11).and_then(number), Some(1));
        assert_eq!(find(&attributes, 9).and_then(number), Some(512));
        assert_eq!(find(&attributes, 7), None);
        for cut in 0..attributes.len() {
            assert_eq!(find(&attributes[..cut], 9), None, "{cut}");
        }
        assert_eq!(find(&[0; 64], 9), None, "an attribute without a length leads nowhere");
    }

    #[test]
    fn an_answer_is_taken_and_a_refusal_is_an_error() {
        let mut attributes = Vec::new();
        put(&mut attributes, 6, &256_u32.to_ne_bytes());
        let mut answer = Vec::new();
        let done = read_answer(&message(21, RINGS_GET, &attributes), &mut answer);
        assert!(!done.expect("an answer"));
        assert_eq!(answer, attributes);
        let verdict = |errno: i32| {
            let mut bytes = message(2, 0, &[]);
            bytes[16..20].copy_from_slice(&errno.to_ne_bytes());
            read_answer(&bytes, &mut Vec::new())
        };
        assert!(verdict(0).expect("done"));
        assert_eq!(verdict(-95).expect_err("refused").kind(), io::ErrorKind::Unsupported);
        for cut in 1..20 {
            let bytes = message(21, RINGS_GET, &attributes);
            assert!(read_answer(&bytes[..cut], &mut Vec::new()).is_err(), "{cut}");
        }
    }

    #[test]
    fn the_running_kernel_answers() {
        // Loopback has no rings; a card that is not there is an error. A kernel without ethtool's netlink says so of both.
        assert_eq!(get("lo", CardSetting::ReceiveRing).ok().flatten(), None);
        assert!(get("no-such-card", CardSetting::ReceiveRing).ok().flatten().is_none());
    }
}

//! SCRAM credentials of users: kept in the metadata, for a day when clients log in by them. Rules and words are those of Apache Kafka's
//! `ScramControlManager`.
//!
//! A client sends the salted password; what is kept of it (RFC 5802's stored key and server key) is enough to know the client by, not to
//! be taken for it. None of it is ever printed.

use super::{Image, Record, Refusal};
use hmac::{Hmac, Mac};
use ringlog_wire::ErrorCode;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256, Sha512};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// How a password is hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Mechanism {
    /// SCRAM-SHA-256.
    Sha256,
    /// SCRAM-SHA-512.
    Sha512,
}

impl Mechanism {
    /// Kafka's number for it.
    pub fn code(self) -> i8 {
        match self {
            Self::Sha256 => 1,
            Self::Sha512 => 2,
        }
    }

    /// The one with this number.
    pub fn from_code(code: i8) -> Option<Self> {
        match code {
            1 => Some(Self::Sha256),
            2 => Some(Self::Sha512),
            _ => None,
        }
    }

    fn keys(self, salted_password: &[u8]) -> (Secret, Secret) {
        let hmac = |word: &[u8]| match self {
            Self::Sha256 => {
                let mut mac = Hmac::<Sha256>::new_from_slice(salted_password).expect("any length will do");
                mac.update(word);
                mac.finalize().into_bytes().to_vec()
            }
            Self::Sha512 => {
                let mut mac = Hmac::<Sha512>::new_from_slice(salted_password).expect("any length will do");
                mac.update(word);
                mac.finalize().into_bytes().to_vec()
            }
        };
        let client_key = hmac(b"Client Key");
        let stored_key = match self {
            Self::Sha256 => Sha256::digest(client_key).to_vec(),
            Self::Sha512 => Sha512::digest(client_key).to_vec(),
        };
        (Secret(stored_key), Secret(hmac(b"Server Key")))
    }
}

/// Bytes that are not printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret(#[serde(with = "hexadecimal")] pub Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(not shown)")
    }
}

mod hexadecimal {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        serializer.serialize_str(&text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        // What was there is not said: it may be secret.
        let refuse = || D::Error::custom("not pairs of hexadecimal digits");
        if !text.is_ascii() || !text.len().is_multiple_of(2) {
            return Err(refuse());
        }
        let digits = (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16));
        digits.collect::<Result<_, _>>().map_err(|_| refuse())
    }
}

/// What is kept of a user's password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScramCredential {
    /// The client's salt.
    pub salt: Secret,
    /// What the client is known by.
    pub stored_key: Secret,
    /// What the server is known by.
    pub server_key: Secret,
    /// How often the password was hashed.
    pub iterations: i32,
}

/// What becomes of one credential.
#[derive(Debug, Clone)]
pub struct ScramChange {
    /// The user.
    pub user: String,
    /// Kafka's number of the mechanism.
    pub mechanism: i8,
    /// The new credential; `None` to delete it.
    pub set: Option<NewCredential>,
}

/// A credential as a client sends it.
#[derive(Debug, Clone)]
pub struct NewCredential {
    /// How often the password was hashed.
    pub iterations: i32,
    /// The salt.
    pub salt: Secret,
    /// The password, salted and hashed.
    pub salted_password: Secret,
}

/// A user, and what came of the changes.
pub type ToldUser = (String, Result<(), Refusal>);

/// Fewer than these are refused (Kafka's `ScramMechanism.minIterations`).
const ITERATIONS_MIN: i32 = 4096;
/// More than these are refused (Kafka's `ScramControlManager.MAX_ITERATIONS`).
const ITERATIONS_MAX: i32 = 16384;

/// The records that make changes, and of each user what came of them: all of a user's or none. Users come in the order they are named.
pub(super) fn alter(image: &Image, changes: &[ScramChange]) -> (Vec<Record>, Vec<ToldUser>) {
    let mut users: Vec<ToldUser> = Vec::new();
    let mut records: BTreeMap<&str, Vec<Record>> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for change in changes {
        let made = match seen.insert((&change.user, change.mechanism)) {
            true => record(image, change),
            false => {
                let why = "A user credential cannot be altered twice in the same request";
                Err(Refusal::new(ErrorCode::DuplicateResource, why))
            }
        };
        let made = made.map(|record| records.entry(&change.user).or_default().push(record));
        match users.iter_mut().find(|(user, _)| *user == change.user) {
            Some((_, told)) => *told = told.clone().and(made),
            None => users.push((change.user.clone(), made)),
        }
    }
    let good = users.iter().filter(|(_, told)| told.is_ok());
    let records = good.flat_map(|(user, _)| records.remove(user.as_str()).unwrap_or_default()).collect();
    (records, users)
}

fn record(image: &Image, change: &ScramChange) -> Result<Record, Refusal> {
    let refuse = |code, why: &str| Err(Refusal::new(code, why));
    if change.user.is_empty() {
        return refuse(ErrorCode::UnacceptableCredential, "Username must not be empty.");
    }
    let Some(mechanism) = Mechanism::from_code(change.mechanism) else {
        return refuse(ErrorCode::UnsupportedSaslMechanism, "Unknown SCRAM mechanism.");
    };
    let Some(new) = &change.set else {
        if image.scram_credentials(&change.user).is_none_or(|known| !known.contains_key(&mechanism)) {
            let why = "Attempt to delete a user credential that does not exist";
            return refuse(ErrorCode::ResourceNotFound, why);
        }
        return Ok(Record::Scram { user: change.user.clone(), mechanism, credential: None });
    };
    if new.iterations < ITERATIONS_MIN {
        return refuse(ErrorCode::UnacceptableCredential, "Too few iterations");
    }
    if new.iterations > ITERATIONS_MAX {
        return refuse(ErrorCode::UnacceptableCredential, "Too many iterations");
    }
    let (stored_key, server_key) = mechanism.keys(&new.salted_password.0);
    let credential =
        ScramCredential { salt: new.salt.clone(), stored_key, server_key, iterations: new.iterations };
    Ok(Record::Scram { user: change.user.clone(), mechanism, credential: Some(credential) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(user: &str, mechanism: i8, iterations: i32) -> ScramChange {
        let secret = || Secret(b"secret".to_vec());
        let set = Some(NewCredential { iterations, salt: secret(), salted_password: secret() });
        ScramChange { user: user.into(), mechanism, set }
    }

    fn delete(user: &str, mechanism: i8) -> ScramChange {
        ScramChange { user: user.into(), mechanism, set: None }
    }

    #[test]
    fn credentials_are_set_and_deleted_or_refused_as_kafka_does() {
        let check = |changes: &[ScramChange], expected: &[(&str, Option<ErrorCode>)], count: usize| {
            let mut image = Image::default();
            let (records, _) = alter(&image, &[set("known", 1, 5000)]);
            records.iter().for_each(|record| image.apply(record).expect("it fits"));
            let (records, told) = alter(&image, changes);
            let told: Vec<_> = told
                .iter()
                .map(|(user, result)| (user.as_str(), result.as_ref().err().map(|refusal| refusal.code)))
                .collect();
            assert_eq!((&told[..], records.len()), (expected, count), "{changes:?}");
        };
        use ErrorCode as E;
        check(&[set("a", 1, 4096), set("b", 2, 16384)], &[("a", None), ("b", None)], 2);
        check(&[set("a", 1, 4096), set("a", 2, 4096)], &[("a", None)], 2);
        check(&[set("a", 1, 4095)], &[("a", Some(E::UnacceptableCredential))], 0);
        check(&[set("a", 1, 16385)], &[("a", Some(E::UnacceptableCredential))], 0);
        check(&[set("", 1, 5000)], &[("", Some(E::UnacceptableCredential))], 0);
        check(
            &[set("a", 3, 5000), set("b", 1, 5000)],
            &[("a", Some(E::UnsupportedSaslMechanism)), ("b", None)],
            1,
        );
        check(&[delete("known", 1), delete("known", 1)], &[("known", Some(E::DuplicateResource))], 0);
        check(&[delete("known", 1)], &[("known", None)], 1);
        check(&[delete("known", 2)], &[("known", Some(E::ResourceNotFound))], 0);
        check(&[delete("no", 1)], &[("no", Some(E::ResourceNotFound))], 0);
    }

    #[test]
    fn keys_are_those_of_the_rfc_and_are_not_printed() {
        // RFC 7677's example: user "user", password "pencil", 4096 iterations.
        let salted = [
            0xc4, 0xa4, 0x95, 0x10, 0x32, 0x3a, 0xb4, 0xf9, 0x52, 0xca, 0xc1, 0xfa, 0x99, 0x44, 0x19, 0x39,
            0xe7, 0x8e, 0xa7, 0x4d, 0x6b, 0xe8, 0x1d, 0xdf, 0x70, 0x96, 0xe8, 0x75, 0x13, 0xdc, 0x61, 0x5d,
        ];
        let (stored, server) = Mechanism::Sha256.keys(&salted);
        assert_eq!((stored.0.len(), server.0.len()), (32, 32));
        assert_ne!(stored, server);
        let (stored, server) = Mechanism::Sha512.keys(&salted);
        assert_eq!((stored.0.len(), server.0.len()), (64, 64));
        let record = record(&Image::default(), &set("a", 1, 5000)).expect("right");
        assert!(!format!("{record:?}").contains("115"), "{record:?}");
        let line = record.to_line();
        assert_eq!(Record::from_line(line.trim_end()), Ok(record));
    }
}

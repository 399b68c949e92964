//! Our codec against the `kafka-protocol` crate's, in both directions, every version that both have.
//!
//! That crate trusts lengths and aborts on hostile ones, so it only ever sees bytes that were checked before.

#[macro_use]
mod support;

use std::cell::Cell;
use std::iter::Peekable;
use std::str::Chars;

use bytes::{Bytes, BytesMut};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages as theirs;
use kafka_protocol::protocol::{Decodable, Encodable, Message, VersionRange};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use ringlog_wire::schema::{FieldSchema, Kind, StructSchema};
use ringlog_wire::{ErrorCode, Uuid};

use support::{BodyWriter, Choices, Codec, codecs};

/// The other crate's codec of one message, with the type taken away.
struct Other {
    name: &'static str,
    versions: VersionRange,
    /// Reads a body to its end and writes it again: the message in debug notation, and the new body.
    again: fn(&Bytes, i16) -> (String, Bytes),
}

macro_rules! others {
    ($($module:ident: $request:ident => $response:ident,)*) => {
        fn others() -> Vec<Other> {
            vec![$(
                Other {
                    name: stringify!($request),
                    versions: theirs::$request::VERSIONS,
                    again: other_again::<theirs::$request>,
                },
                Other {
                    name: stringify!($response),
                    versions: theirs::$response::VERSIONS,
                    again: other_again::<theirs::$response>,
                },
            )*]
        }
    };
}
for_each_api!(others);

fn other_again<M: Decodable + Encodable + std::fmt::Debug>(body: &Bytes, version: i16) -> (String, Bytes) {
    let mut rest = body.clone();
    let message = M::decode(&mut rest, version).expect("the other crate reads it");
    assert!(rest.is_empty(), "the other crate reads all of it");
    let mut out = BytesMut::new();
    message.encode(&mut out, version).expect("the other crate writes it");
    (format!("{message:?}"), out.freeze())
}

/// Both read the same bytes, find the same values, and write the same bytes; gives how many values they were.
fn check(codec: &Codec, other: &Other, version: i16, choices: Choices<'_>) -> usize {
    let at = format!("{} version {version}", codec.name());
    // Written from the schema, read here, written here: what the other crate gets comes from our encoder.
    let body = BodyWriter::new(codec.schema, version, choices).body(codec.schema);
    let ours = (codec.again)(&body, version).unwrap_or_else(|error| panic!("{at}: {error}"));
    let (their_debug, their_body) = (other.again)(&ours.body, version);
    // Written there, read here.
    let back = (codec.again)(&their_body, version).unwrap_or_else(|error| panic!("{at}: {error}"));
    assert_eq!(back.read, their_body.len(), "{at}: what the other crate writes is read to its end");
    assert_eq!(back.debug, ours.debug, "{at}: what the other crate writes reads the same");

    let mut our_values = Vec::new();
    values(codec.schema.body, version, codec.name(), &parse(&ours.debug), &mut our_values);
    let mut their_values = Vec::new();
    values(codec.schema.body, version, codec.name(), &parse(&their_debug), &mut their_values);
    assert_eq!(our_values, their_values, "{at}: the same values in the same fields");
    our_values.len()
}

#[test]
fn both_crates_agree_on_every_field_of_every_version() {
    let others = others();
    let (mut messages, mut versions, mut fields) = (0, 0, 0);
    for (codec, other) in codecs().iter().zip(&others) {
        assert_eq!(codec.name(), other.name);
        messages += 1;
        for version in shared(codec, other) {
            versions += 1;
            fields += check(codec, other, version, Choices::filled());
        }
    }
    println!("{messages} messages, {versions} versions, {fields} values");
    assert!(messages >= 72 && versions >= 375 && fields >= 7_700, "fewer than there were");
}

#[test]
fn both_crates_agree_on_any_message() {
    let others = others();
    let config = ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() };
    let (checked, fields) = (Cell::new(0), Cell::new(0));
    TestRunner::new(config)
        .run(&proptest::collection::vec(any::<u8>(), 0..600), |bytes| {
            for (codec, other) in codecs().iter().zip(&others) {
                for version in shared(codec, other) {
                    fields.set(fields.get() + check(codec, other, version, Choices::from_bytes(&bytes)));
                    checked.set(checked.get() + 1);
                }
            }
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
    println!("{} messages, {} values", checked.get(), fields.get());
    assert!(checked.get() >= 37_000 && fields.get() >= 400_000, "fewer than there were");
}

fn shared(codec: &Codec, other: &Other) -> impl Iterator<Item = i16> {
    let versions = codec.schema.versions;
    versions.min.max(other.versions.min)..=versions.max.min(other.versions.max)
}

#[test]
fn both_crates_agree_on_error_codes() {
    let mut known = 0;
    let mut differences = Vec::new();
    for &ours in ErrorCode::ALL {
        let Some(theirs) = ResponseError::try_from_code(ours.code()) else {
            assert_eq!(ours, ErrorCode::None, "the other crate says nothing for no error");
            continue;
        };
        if matches!(theirs, ResponseError::Unknown(_)) {
            continue;
        }
        known += 1;
        assert_eq!(ours.name().replace('_', "").to_lowercase(), format!("{theirs:?}").to_lowercase());
        if ours.is_retriable() != theirs.is_retriable() {
            differences.push(ours.name());
        }
    }
    println!("{known} error codes");
    // Kafka's Java client retries this one since its release 4.0; the other crate's table is older there.
    assert_eq!(differences, ["CONCURRENT_TRANSACTIONS"], "the same errors are to be retried");
    assert!(known >= 134, "fewer than there were");
}

/// Rust's debug notation, read back: a message's values without its types.
#[derive(Debug, Clone, PartialEq)]
enum Debugged {
    /// A number, a name, a UUID, or quoted text as it stands.
    Word(String),
    /// `[…]`
    List(Vec<Debugged>),
    /// `Name { field: … }`
    Fields(Vec<(String, Debugged)>),
}

fn parse(debug: &str) -> Debugged {
    let mut chars = debug.chars().peekable();
    let value = parse_value(&mut chars);
    assert_eq!(chars.next(), None, "all of {debug}");
    value
}

fn parse_value(chars: &mut Peekable<Chars<'_>>) -> Debugged {
    match *chars.peek().expect("a value") {
        '[' => {
            chars.next();
            Debugged::List(parse_until(']', chars, parse_value))
        }
        '{' => {
            chars.next();
            Debugged::Fields(parse_until('}', chars, parse_field))
        }
        '"' => Debugged::Word(parse_quoted(chars)),
        _ => {
            let mut word = String::new();
            while let Some(c) = chars.next_if(|c| c.is_ascii_alphanumeric() || *c == '_' || *c == '-') {
                word.push(c);
            }
            assert!(!word.is_empty(), "a word before {:?}", chars.peek());
            match chars.peek().copied() {
                // b"…"
                Some('"') => Debugged::Word(parse_quoted(chars)),
                // Some(…) and other wrappers are what they hold.
                Some('(') => {
                    chars.next();
                    let mut held = parse_until(')', chars, parse_value);
                    assert_eq!(held.len(), 1, "{word} holds one value");
                    held.remove(0)
                }
                Some(' ') if chars.clone().nth(1) == Some('{') => {
                    chars.nth(1);
                    Debugged::Fields(parse_until('}', chars, parse_field))
                }
                _ => Debugged::Word(word),
            }
        }
    }
}

fn parse_field(chars: &mut Peekable<Chars<'_>>) -> (String, Debugged) {
    let mut name = String::new();
    while let Some(c) = chars.next_if(|c| *c != ':') {
        name.push(c);
    }
    assert_eq!((chars.next(), chars.next()), (Some(':'), Some(' ')), "after {name}");
    (name, parse_value(chars))
}

fn parse_until<T>(
    end: char,
    chars: &mut Peekable<Chars<'_>>,
    each: fn(&mut Peekable<Chars<'_>>) -> T,
) -> Vec<T> {
    let mut found = Vec::new();
    loop {
        while chars.next_if(|c| matches!(c, ' ' | ',')).is_some() {}
        if chars.next_if(|c| *c == end).is_some() {
            return found;
        }
        found.push(each(chars));
    }
}

fn parse_quoted(chars: &mut Peekable<Chars<'_>>) -> String {
    let mut text = String::from(chars.next().expect("a quote"));
    loop {
        let c = chars.next().expect("a closing quote");
        text.push(c);
        match c {
            '"' => return text,
            '\\' => text.push(chars.next().expect("an escaped character")),
            _ => {}
        }
    }
}

/// Every value that `version` carries, with its path, in one notation for both crates.
fn values(
    schema: &StructSchema,
    version: i16,
    path: &str,
    value: &Debugged,
    out: &mut Vec<(String, String)>,
) {
    let Debugged::Fields(fields) = value else { panic!("{path} is a structure, not {value:?}") };
    let fields: Vec<_> = fields.iter().filter(|(name, _)| name != "unknown_tagged_fields").collect();
    // The other crate knows no field that came in a later version than it does.
    let in_both = |field: &&FieldSchema| {
        field.versions.contains(version) || fields.iter().any(|(name, _)| same_name(name, field.name))
    };
    let schema_fields: Vec<_> = schema.fields.iter().filter(in_both).collect();
    assert_eq!(fields.len(), schema_fields.len(), "{path} has as many fields in both crates");
    for (field, (name, value)) in schema_fields.into_iter().zip(fields) {
        assert!(same_name(field.name, name), "{path}: {} and {name} are the same field", field.name);
        if field.versions.contains(version) {
            value_of(field.kind, version, format!("{path}.{}", field.name), value, out);
        }
    }
}

fn same_name(a: &str, b: &str) -> bool {
    a.replace('_', "") == b.replace('_', "")
}

fn value_of(kind: Kind, version: i16, path: String, value: &Debugged, out: &mut Vec<(String, String)>) {
    match (kind, value) {
        (Kind::Array(element), Debugged::List(list)) => {
            out.push((path.clone(), format!("{} elements", list.len())));
            for (index, value) in list.iter().enumerate() {
                value_of(*element, version, format!("{path}[{index}]"), value, out);
            }
        }
        (Kind::Struct(_), Debugged::Word(word)) if word == "None" => out.push((path, "null".into())),
        (Kind::Struct(schema), value) => values(schema, version, &path, value, out),
        (kind, Debugged::Word(word)) => out.push((path, plain(kind, word))),
        other => panic!("{path}: {other:?}"),
    }
}

/// One notation for what the two crates write differently: error codes, UUIDs and null.
fn plain(kind: Kind, word: &str) -> String {
    let error = ErrorCode::ALL.iter().find(|code| format!("{code:?}") == word);
    match (kind, word, error) {
        (Kind::Int16, _, Some(code)) => code.code().to_string(),
        (Kind::Uuid, ..) if word.len() == 36 => {
            let hex = word.replace('-', "");
            Uuid(u128::from_str_radix(&hex, 16).expect("a UUID").to_be_bytes()).to_string()
        }
        (_, "None" | "Null", _) => "null".into(),
        _ => word.into(),
    }
}

//! Bytes that want to break the decoder: cut short, changed at random, with lengths that lie. It answers with an error and takes little memory.

mod support;

use std::cell::Cell;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use ringlog_wire::{DecodeError, DecodeErrorKind, Reader, RequestHeader};

use support::{BodyWriter, Choices, Codec, Lie, codecs};

/// The most a decode may allocate for each byte of its frame. The worst honest case is an array of empty strings: one byte each on the
/// wire, four words each in memory. Arrays within arrays can each claim the rest of the frame, three deep at most.
const MEMORY_PER_BYTE: u64 = 64;

/// What a decode may allocate whatever the frame: the frame's own reference count.
const MEMORY_BASE: u64 = 256;

thread_local! {
    /// The most memory for each byte of a frame that a decode took so far, in a test of its own thread.
    static WORST: Cell<u64> = const { Cell::new(0) };
}

/// Decodes, and fails if that took more memory than a frame of this length may cost.
fn decode(codec: &Codec, version: i16, body: &Bytes) -> Result<(), DecodeError> {
    let mut result = Ok(());
    let memory = allocation_counter::measure(|| result = (codec.decode)(body, version));
    let most = MEMORY_BASE + MEMORY_PER_BYTE * body.len() as u64;
    assert!(
        memory.bytes_max <= most,
        "{} version {version}: {} bytes of memory for a frame of {}: {body:?}",
        codec.name(),
        memory.bytes_max,
        body.len(),
    );
    if !body.is_empty() {
        WORST.set(WORST.get().max(memory.bytes_max / body.len() as u64));
    }
    if let Err(error) = result {
        assert!(error.offset <= body.len() && !error.field.is_empty(), "{error}");
    }
    result
}

#[test]
fn cut_at_any_byte_it_is_an_error() {
    let mut cuts = 0;
    for codec in codecs() {
        for version in codec.schema.versions.iter() {
            let body = BodyWriter::new(codec.schema, version, Choices::filled()).body(codec.schema);
            decode(&codec, version, &body).expect("whole, it is read");
            for len in 0..body.len() {
                // A copy, so that what lies past the end belongs to somebody else.
                let cut = Bytes::copy_from_slice(&body[..len]);
                let error = decode(&codec, version, &cut).expect_err("cut short, it is refused");
                assert!(
                    matches!(error.kind, DecodeErrorKind::Truncated { .. }),
                    "{} version {version}: {error}",
                    codec.name()
                );
                cuts += 1;
            }
        }
    }
    println!("{cuts} cuts");
    assert!(cuts >= 43_000, "fewer than there were");
}

#[test]
fn a_length_that_lies_is_an_error_and_costs_nothing() {
    let mut lies = 0;
    for codec in codecs() {
        for version in codec.schema.versions.iter() {
            let mut honest = BodyWriter::new(codec.schema, version, Choices::filled());
            honest.body(codec.schema);
            for at in 0..honest.lengths {
                for lie in [Lie::Most, Lie::OverLimit, Lie::Negative, Lie::Endless] {
                    let mut writer = BodyWriter::new(codec.schema, version, Choices::filled());
                    writer.lie = Some((at, lie));
                    let body = writer.body(codec.schema);
                    let result = decode(&codec, version, &body);
                    // Null may be allowed, and lengths of fixed size always end.
                    let may_pass = lie == Lie::Negative
                        || lie == Lie::Endless && !codec.schema.flexible.contains(version);
                    assert!(
                        result.is_err() || may_pass,
                        "{} version {version} length {at}: {lie:?}",
                        codec.name()
                    );
                    lies += 1;
                }
            }
        }
    }
    println!("{lies} lies");
    assert!(lies >= 12_400, "fewer than there were");
}

#[test]
fn any_change_is_survived() {
    let config = ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() };
    let changes = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12);
    let choices = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..300));
    let (decodes, refused) = (Cell::new(0), Cell::new(0));
    TestRunner::new(config)
        .run(&(choices, changes), |(choices, changes)| {
            for codec in codecs() {
                for version in codec.schema.versions.iter() {
                    let choices =
                        choices.as_ref().map_or(Choices::filled(), |bytes| Choices::from_bytes(bytes));
                    let mut body =
                        BodyWriter::new(codec.schema, version, choices).body(codec.schema).to_vec();
                    if body.is_empty() {
                        continue;
                    }
                    for (at, byte) in &changes {
                        *at.get_mut(&mut body) = *byte;
                    }
                    let result = decode(&codec, version, &Bytes::from(body));
                    decodes.set(decodes.get() + 1);
                    refused.set(refused.get() + usize::from(result.is_err()));
                }
            }
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
    println!("{} changed bodies, {} refused", decodes.get(), refused.get());
    assert!(decodes.get() >= 150_000 && refused.get() >= 90_000, "fewer than there were");
}

#[test]
fn any_bytes_are_survived() {
    let config = ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() };
    // Every byte value, or the ones that make lengths.
    let lengths = prop::sample::select(vec![0, 1, 2, 3, 0x7f, 0x80, 0xff]);
    let bytes = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..200),
        proptest::collection::vec(lengths, 0..200),
    ];
    let decodes = Cell::new(0);
    TestRunner::new(config)
        .run(&bytes, |bytes| {
            let body = Bytes::from(bytes);
            let _ = RequestHeader::read(&mut Reader::new(&body));
            for codec in codecs() {
                for version in codec.schema.versions.iter() {
                    let _ = decode(&codec, version, &body);
                    decodes.set(decodes.get() + 1);
                }
            }
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
    println!("{} bodies, {} bytes of memory for a byte at the worst", decodes.get(), WORST.get());
    assert!(decodes.get() >= 760_000, "fewer than there were");
    assert!(WORST.get() >= 8, "memory is counted");
}

#[test]
fn too_many_of_anything_is_refused() {
    let check = |module: &str, version: i16, body: Vec<u8>, expect: DecodeErrorKind| {
        let codecs = codecs();
        let codec = codecs.iter().find(|codec| codec.name() == module).expect("a message");
        let error = decode(codec, version, &Bytes::from(body)).expect_err("refused");
        assert_eq!(error.kind, expect, "{error}");
    };
    // A million and one empty names would fit the frame; the count is refused all the same.
    let names = [&1_000_001_i32.to_be_bytes()[..], &vec![0; 2_000_010]].concat();
    check("DeleteTopicsRequest", 3, names, DecodeErrorKind::ArrayTooLong { count: 1_000_001 });
    // 10,001 tagged fields, all there: varint 0x91 0x4e, then tag and size of each.
    let tagged = [&[1, 1, 0x91, 0x4e][..], &vec![0; 20_010]].concat();
    check("ApiVersionsRequest", 3, tagged, DecodeErrorKind::TooManyTaggedFields { count: 10_001 });
    // A tagged field that claims more than there is, and one whose value is longer than the field.
    check(
        "ApiVersionsRequest",
        3,
        vec![1, 1, 1, 5, 9, 0],
        DecodeErrorKind::Truncated { needed: 9, remaining: 1 },
    );
    let cluster_id =
        [&[0; 4][..], &[0; 4], &[0; 4], &[0], &[0; 8], &[1, 1, 1], &[1, 0, 2, 9, 65, 65, 65]].concat();
    check("FetchRequest", 15, cluster_id, DecodeErrorKind::Truncated { needed: 8, remaining: 1 });
    // A string that is there but too long for Kafka.
    let long = [&[0x81, 0x80, 2][..], &vec![b'x'; 40_000]].concat();
    check("ApiVersionsRequest", 3, long, DecodeErrorKind::StringTooLong { len: 32_768 });
    // Null where it is not allowed, and a number past 32 bits.
    check("ApiVersionsRequest", 3, vec![0, 1, 0], DecodeErrorKind::UnexpectedNull);
    check("ApiVersionsRequest", 3, vec![0xff, 0xff, 0xff, 0xff, 0x1f, 0], DecodeErrorKind::VarintTooLong);
}

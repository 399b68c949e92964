//! Every message in every version: read and written again it is the same bytes, whatever its fields hold.

#[macro_use]
mod support;

use std::cell::Cell;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use ringlog_wire::fetch::{FetchResponse, FetchableTopicResponse, PartitionData};
use ringlog_wire::metadata::{MetadataRequest, MetadataRequestTopic};
use ringlog_wire::{
    ApiKey, EncodeError, Message, Part, Reader, Records, ResponseHeader, Uuid, encode_request,
    encode_response,
};

use support::{BodyWriter, Choices, Codec, codecs};

/// Reads what the schema's own writer wrote, and wants the same bytes back; gives how many fields there were.
fn check<'a>(codec: &Codec, version: i16, choices: impl Fn() -> Choices<'a>) -> usize {
    let name = codec.name();
    let mut writer = BodyWriter::new(codec.schema, version, choices());
    let body = writer.body(codec.schema);
    let fields = writer.fields;
    let again =
        (codec.again)(&body, version).unwrap_or_else(|error| panic!("{name} version {version}: {error}"));
    assert_eq!(again.read, body.len(), "{name} version {version} is read to its end");
    assert_eq!(again.body, body, "{name} version {version} is written as it was read: {}", again.debug);

    let mut writer = BodyWriter::new(codec.schema, version, choices());
    writer.unknown_tags = true;
    let extended = writer.body(codec.schema);
    let lenient =
        (codec.again)(&extended, version).unwrap_or_else(|error| panic!("{name} version {version}: {error}"));
    assert_eq!(lenient.debug, again.debug, "{name} version {version}: unknown tagged fields change nothing");
    assert_eq!(lenient.read, extended.len());

    let trailed = Bytes::from([&body[..], b"more"].concat());
    let lenient =
        (codec.again)(&trailed, version).unwrap_or_else(|error| panic!("{name} version {version}: {error}"));
    assert_eq!(
        (lenient.debug, lenient.read),
        (again.debug, body.len()),
        "{name} version {version}: the rest is not looked at"
    );
    fields
}

#[test]
fn every_field_of_every_version_is_carried() {
    let (mut messages, mut versions, mut fields) = (0, 0, 0);
    for codec in codecs() {
        messages += 1;
        for version in codec.schema.versions.iter() {
            versions += 1;
            fields += check(&codec, version, Choices::filled);
        }
    }
    println!("{messages} messages, {versions} versions, {fields} fields");
    assert!(messages >= 72 && versions >= 382 && fields >= 7_300, "fewer than there were");
}

#[test]
fn any_message_reads_back() {
    // A failure is told by its bytes, shrunk; there is no need for a file of seeds.
    let config = ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() };
    let (checked, fields) = (Cell::new(0), Cell::new(0));
    TestRunner::new(config)
        .run(&proptest::collection::vec(any::<u8>(), 0..600), |bytes| {
            for codec in codecs() {
                for version in codec.schema.versions.iter() {
                    fields.set(fields.get() + check(&codec, version, || Choices::from_bytes(&bytes)));
                    checked.set(checked.get() + 1);
                }
            }
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
    println!("{} messages with {} fields", checked.get(), fields.get());
    assert!(checked.get() >= 76_000 && fields.get() >= 800_000, "fewer than there were");
}

#[test]
fn versions_outside_the_range_are_refused_both_ways() {
    for codec in codecs() {
        let versions = codec.schema.versions;
        for version in [versions.min - 1, versions.max + 1, i16::MIN, i16::MAX] {
            let error = (codec.decode)(&Bytes::from_static(&[0; 64]), version).unwrap_err();
            assert_eq!(error.kind, ringlog_wire::DecodeErrorKind::UnsupportedVersion { version });
        }
    }
    let refused = encode_request(14, 1, None, &MetadataRequest::default()).unwrap_err();
    assert_eq!(refused, EncodeError::UnsupportedVersion { message: "MetadataRequest", version: 14 });
}

#[test]
fn what_the_wire_cannot_say_is_refused() {
    let all = MetadataRequest { topics: None, ..Default::default() };
    assert_eq!(
        encode_request(0, 1, None, &all),
        Err(EncodeError::UnexpectedNull { field: "topics", version: 0 })
    );
    assert!(encode_request(1, 1, None, &all).is_ok());
    let long = MetadataRequestTopic { name: Some("x".repeat(32_768).into()), topic_id: Uuid::ZERO };
    for version in [1, 13] {
        let request = MetadataRequest { topics: Some(vec![long.clone()]), ..Default::default() };
        assert_eq!(
            encode_request(version, 1, None, &request),
            Err(EncodeError::TooLong { field: "name", len: 32_768 })
        );
    }
}

#[test]
fn a_string_that_is_not_utf8_reads_with_replacement_characters() {
    // As Kafka answers to the same request: the name comes back as two U+FFFD.
    let body = Bytes::from_static(b"\0\0\0\x01\0\x02\xff\xfe");
    let request = MetadataRequest::decode(&mut Reader::new(&body), 1).unwrap();
    let names: Vec<_> = request.topics.iter().flatten().filter_map(|topic| topic.name.as_deref()).collect();
    assert_eq!(names, ["\u{fffd}\u{fffd}"]);
}

/// A Fetch response with these records, a partition each.
fn fetch_response(records: Vec<Records>) -> FetchResponse {
    let partitions = records.into_iter().enumerate().map(|(index, records)| PartitionData {
        partition_index: index as i32,
        records,
        ..Default::default()
    });
    let topic = FetchableTopicResponse { partitions: partitions.collect(), ..Default::default() };
    FetchResponse { responses: vec![topic], ..Default::default() }
}

#[test]
fn records_are_shared_not_copied_and_gaps_are_left_for_the_sender() {
    let memory = Bytes::from(vec![7; 1000]);
    let file = Part::External { len: 5000, id: 42 };
    let chain =
        Records::Chain(vec![file.clone(), Part::Bytes(memory.slice(..10)), Part::Bytes(Bytes::new())]);
    for version in FetchResponse::SCHEMA.versions.iter() {
        let response = fetch_response(vec![
            Records::Bytes(memory.clone()),
            Records::Null,
            chain.clone(),
            Records::empty(),
        ]);
        let parts = encode_response(version, 9, &response).unwrap().parts;

        // Header, records, header, file, records, header: empty pieces make no part.
        let [Part::Bytes(first), Part::Bytes(whole), Part::Bytes(_), gap, Part::Bytes(slice), Part::Bytes(_)] =
            &parts[..]
        else {
            panic!("version {version}: {parts:?}");
        };
        assert_eq!(*gap, file);
        assert_eq!(whole.as_ptr(), memory.as_ptr());
        assert_eq!(slice.as_ptr(), memory.as_ptr());
        let sent: usize = parts.iter().map(Part::len).sum();
        assert_eq!(i32::from_be_bytes(*first.first_chunk().unwrap()) as usize, sent - 4);

        // The sender fills the gap; the client sees one range.
        let frame: Vec<u8> = parts
            .iter()
            .flat_map(|part| match part {
                Part::Bytes(bytes) => bytes.to_vec(),
                Part::External { len, .. } => vec![9; *len],
            })
            .collect();
        let frame = Bytes::from(frame).slice(4..);
        let mut reader = Reader::new(&frame);
        assert_eq!(ResponseHeader::read(&mut reader, ApiKey::Fetch, version).unwrap().correlation_id, 9);
        let received = FetchResponse::decode(&mut reader, version).unwrap();
        assert_eq!(reader.remaining(), 0);
        let joined = Records::Bytes(Bytes::from([&[9; 5000][..], &memory[..10]].concat()));
        let partitions = &received.responses[0].partitions;
        let records: Vec<_> = partitions.iter().map(|partition| &partition.records).collect();
        assert_eq!(records, [&Records::Bytes(memory.clone()), &Records::Null, &joined, &Records::empty()]);
        let Records::Bytes(bytes) = records[0] else { unreachable!("compared above") };
        assert!(frame.as_ptr_range().contains(&bytes.as_ptr()), "decoded records are a slice of the frame");
    }
}

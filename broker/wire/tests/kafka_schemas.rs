//! Our messages against the schemas that Apache Kafka's own clients jar carries: names, types, versions, nullability, tags, defaults.

#[macro_use]
mod support;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::process::Command;

use ringlog_wire::ApiKey;
use ringlog_wire::metadata_records::*;
use ringlog_wire::schema::{Kind, MessageSchema, StructSchema, Value, VersionRange};
use serde_json::Value as Json;

use support::codecs;

/// Every message schema in the clients' jar.
fn kafka_schemas() -> BTreeMap<String, Json> {
    schemas_of("kafka-clients", "common/message/")
}

/// Every schema in a folder of a jar, by file name without `.json`. Fetches the jar if it is not there yet.
fn schemas_of(jar: &str, folder: &str) -> BTreeMap<String, Json> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let status = Command::new(root.join("scripts/kafka-jars")).status().expect("run scripts/kafka-jars");
    assert!(status.success(), "scripts/kafka-jars must fetch Apache Kafka's jars; it needs Maven");
    let jar = File::open(root.join(format!("target/kafka/{jar}-4.3.1.jar"))).expect("open a jar");
    let mut jar = zip::ZipArchive::new(jar).expect("read a jar");
    let mut schemas = BTreeMap::new();
    for index in 0..jar.len() {
        let mut file = jar.by_index(index).expect("read a jar");
        let path = file.name().expect("a file name").into_owned();
        let name = path.strip_prefix(folder).and_then(|name| name.strip_suffix(".json"));
        let Some(name) = name else { continue };
        let mut text = String::new();
        file.read_to_string(&mut text).expect("read a schema");
        // They are JSON but for comments, each on a line of its own.
        let text: Vec<_> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        schemas.insert(name.to_owned(), serde_json::from_str(&text.join("\n")).expect("parse a schema"));
    }
    schemas
}

fn text<'j>(json: &'j Json, key: &str) -> Option<&'j str> {
    json.get(key).map(|value| value.as_str().unwrap_or_else(|| panic!("{key} is text in {json}")))
}

/// `3+`, `0-12`, `4`, `none`.
fn range(text: &str) -> VersionRange {
    let number = |text: &str| text.parse().unwrap_or_else(|_| panic!("a version range: {text}"));
    match (text, text.strip_suffix('+'), text.split_once('-')) {
        ("none", ..) => VersionRange::NONE,
        (_, Some(min), _) => VersionRange { min: number(min), max: i16::MAX },
        (_, _, Some((min, max))) => VersionRange { min: number(min), max: number(max) },
        (only, ..) => VersionRange { min: number(only), max: number(only) },
    }
}

fn plain(name: &str) -> String {
    name.replace('_', "").to_lowercase()
}

/// Kafka's notation for a wire type, such as `[]int32`.
fn type_name(kind: Kind) -> String {
    match kind {
        Kind::Bool => "bool".into(),
        Kind::Int8 => "int8".into(),
        Kind::Int16 => "int16".into(),
        Kind::Int32 => "int32".into(),
        Kind::Int64 => "int64".into(),
        Kind::Uuid => "uuid".into(),
        Kind::String => "string".into(),
        Kind::Bytes => "bytes".into(),
        Kind::Records => "records".into(),
        Kind::Array(element) => format!("[]{}", type_name(*element)),
        Kind::Struct(schema) => schema.name.into(),
    }
}

/// What Kafka's generator makes of a field's `default`: without one, zero, false, empty, and null for records alone.
fn default(root: &Json, json: &Json, kind: Kind) -> Value {
    let given = match json.get("default") {
        Some(Json::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    };
    match (kind, given.as_str()) {
        (Kind::Records, "") | (_, "null") => Value::Null,
        (Kind::Bool, text) => Value::Bool(text == "true"),
        (Kind::String, text) => Value::String(text.into()),
        (Kind::Uuid, "") => Value::Uuid([0; 16]),
        (Kind::Array(_) | Kind::Bytes, "") => Value::Length(0),
        (Kind::Struct(schema), "") => {
            let values = schema
                .fields
                .iter()
                .zip(fields_of(root, json))
                .map(|(ours, theirs)| (ours.name, default(root, theirs, ours.kind)));
            Value::Struct(values.collect())
        }
        (_, "") => Value::Int(0),
        (_, text) => Value::Int(match text.strip_prefix("0x") {
            Some(hex) => i64::from_str_radix(hex, 16).expect("a hexadecimal default"),
            None => text.parse().unwrap_or_else(|_| panic!("a default of {json}")),
        }),
    }
}

/// The fields of a structure: its own, or those of the common structure of the message that its type names.
fn fields_of<'j>(root: &'j Json, json: &'j Json) -> &'j [Json] {
    let common = || {
        let name = text(json, "type").expect("type").trim_start_matches("[]");
        let mut structures = root["commonStructs"].as_array().expect("common structures").iter();
        &structures.find(|one| text(one, "name") == Some(name)).expect("a common structure")["fields"]
    };
    json.get("fields").unwrap_or_else(common).as_array().expect("fields")
}

/// Compares a structure and everything in it; gives how many fields there were.
fn check_structure(
    path: &str,
    ours: &StructSchema,
    root: &Json,
    theirs: &Json,
    differences: &mut Vec<String>,
) -> usize {
    let fields = fields_of(root, theirs);
    let mut differ = |what: String| differences.push(format!("{path}: {what}"));
    let names = |names: Vec<String>| names.join(" ");
    let our_names = names(ours.fields.iter().map(|field| plain(field.name)).collect());
    let their_names = names(fields.iter().map(|field| plain(text(field, "name").expect("name"))).collect());
    if our_names != their_names {
        differ(format!("fields\n  ours:  {our_names}\n  Kafka: {their_names}"));
        return 0;
    }
    let mut count = fields.len();
    for (ours, theirs) in ours.fields.iter().zip(fields) {
        let path = format!("{path}.{}", ours.name);
        let mut compare = |what: &str, ours: String, theirs: String| {
            if ours != theirs {
                differences.push(format!("{path}: {what}: ours {ours}, Kafka's {theirs}"));
            }
        };
        let versions = range(text(theirs, "versions").expect("versions"));
        let tagged = text(theirs, "taggedVersions").map_or(VersionRange::NONE, range);
        compare("type", type_name(ours.kind), text(theirs, "type").expect("type").into());
        compare("versions", ours.versions.to_string(), versions.to_string());
        compare("null", ours.nullable.to_string(), text(theirs, "nullableVersions").unwrap_or("none").into());
        compare("tag", format!("{:?}", ours.tag), format!("{:?}", theirs.get("tag").and_then(Json::as_u64)));
        // Ours is tagged in all its versions or in none.
        compare(
            "tagged",
            ours.tag.map_or(VersionRange::NONE, |_| ours.versions).to_string(),
            tagged.to_string(),
        );
        compare(
            "default",
            format!("{:?}", (ours.default)()),
            format!("{:?}", default(root, theirs, ours.kind)),
        );
        compare("flexible", "none".into(), text(theirs, "flexibleVersions").unwrap_or("none").into());
        let element = match ours.kind {
            Kind::Array(element) => *element,
            kind => kind,
        };
        if let Kind::Struct(schema) = element {
            count += check_structure(&path, schema, root, theirs, differences);
        }
    }
    count
}

#[test]
fn our_messages_are_kafkas() {
    let schemas = kafka_schemas();
    let mut differences = Vec::new();
    let (mut messages, mut fields) = (0, 0);
    for codec in codecs() {
        let theirs = &schemas[codec.name()];
        let mut compare = |what: &str, ours: String, theirs: &str| {
            if ours != theirs {
                differences.push(format!("{}: {what}: ours {ours}, Kafka's {theirs}", codec.name()));
            }
        };
        compare(
            "versions",
            codec.schema.versions.to_string(),
            text(theirs, "validVersions").expect("validVersions"),
        );
        compare(
            "flexible",
            codec.schema.flexible.to_string(),
            text(theirs, "flexibleVersions").expect("flexibleVersions"),
        );
        compare(
            "type",
            if codec.is_request { "request" } else { "response" }.into(),
            text(theirs, "type").expect("type"),
        );
        compare("key", codec.api.code().to_string(), &theirs["apiKey"].to_string());
        fields += check_structure(codec.name(), codec.schema.body, theirs, theirs, &mut differences);
        messages += 1;
    }
    println!("{messages} messages, {fields} fields, {} differences", differences.len());
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    assert!(messages >= 90 && fields >= 800, "fewer than there were");
}

#[test]
fn our_table_of_apis_is_kafkas() {
    let schemas = kafka_schemas();
    let mut differences = Vec::new();
    let requests: Vec<_> = schemas.values().filter(|json| text(json, "type") == Some("request")).collect();
    for json in &requests {
        let name =
            text(json, "name").and_then(|name| name.strip_suffix("Request")).expect("a request's name");
        let code = json["apiKey"].as_i64().expect("apiKey") as i16;
        let Some(api) = ApiKey::from_code(code) else {
            differences.push(format!("{name} ({code}) is missing"));
            continue;
        };
        let spec = api.spec();
        let mut versions = range(text(json, "validVersions").expect("validVersions"));
        // Kafka does not offer a version it may still change.
        if json["latestVersionUnstable"] == Json::Bool(true) {
            versions.max -= 1;
        }
        let flexible = text(json, "flexibleVersions").map_or(VersionRange::NONE, range);
        let flexible_from = if flexible.is_empty() { i16::MAX } else { flexible.min };
        if (spec.name, spec.versions(), spec.flexible_from) != (name, versions, flexible_from) {
            differences
                .push(format!("{name}: ours {spec:?}, Kafka's versions {versions}, flexible {flexible}"));
        }
    }
    for codec in codecs() {
        let spec = codec.api.spec();
        let offered = spec.min >= codec.schema.versions.min && spec.max <= codec.schema.versions.max;
        let flexible = codec.schema.flexible;
        let flexible_from = if flexible.is_empty() { i16::MAX } else { flexible.min };
        if !spec.served || !offered || flexible_from != spec.flexible_from {
            differences.push(format!("{}: the table offers {spec:?}", codec.name()));
        }
    }
    println!("{} APIs, {} differences", requests.len(), differences.len());
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    assert!(requests.len() >= 93 && requests.len() == ApiKey::ALL.len(), "fewer than there were");
}

#[test]
fn our_metadata_records_are_kafkas() {
    let schemas = schemas_of("kafka-metadata", "common/metadata/");
    let mut differences = Vec::new();
    let mut fields = 0;
    let ours: [(i16, &MessageSchema); 7] = [
        (TopicRecord::KEY, TopicRecord::SCHEMA),
        (PartitionRecord::KEY, PartitionRecord::SCHEMA),
        (ConfigRecord::KEY, ConfigRecord::SCHEMA),
        (PartitionChangeRecord::KEY, PartitionChangeRecord::SCHEMA),
        (RemoveTopicRecord::KEY, RemoveTopicRecord::SCHEMA),
        (FeatureLevelRecord::KEY, FeatureLevelRecord::SCHEMA),
        (ProducerIdsRecord::KEY, ProducerIdsRecord::SCHEMA),
    ];
    for (key, schema) in ours {
        let name = schema.body.name;
        let theirs = &schemas[name];
        let our_head =
            [schema.versions.to_string(), schema.flexible.to_string(), key.to_string(), "metadata".into()];
        let their_head = [
            text(theirs, "validVersions").expect("validVersions").to_owned(),
            text(theirs, "flexibleVersions").expect("flexibleVersions").to_owned(),
            theirs["apiKey"].to_string(),
            text(theirs, "type").expect("type").to_owned(),
        ];
        if our_head != their_head {
            differences.push(format!("{name}: ours {our_head:?}, Kafka's {their_head:?}"));
        }
        fields += check_structure(name, schema.body, theirs, theirs, &mut differences);
    }
    for (key, name) in [
        (BEGIN_TRANSACTION, "BeginTransactionRecord"),
        (END_TRANSACTION, "EndTransactionRecord"),
        (ABORT_TRANSACTION, "AbortTransactionRecord"),
    ] {
        assert_eq!(schemas[name]["apiKey"].as_i64(), Some(i64::from(key)), "{name}");
    }
    println!("{} records, {fields} fields, {} differences", ours.len(), differences.len());
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    assert!(fields >= 36, "fewer than there were: {fields}");
}

#[test]
fn our_headers_are_kafkas() {
    // The headers are written by hand; this is what `header.rs` reads and writes.
    let expect = [
        (
            "RequestHeader",
            "1-2",
            "2+",
            "RequestApiKey int16 0+, RequestApiVersion int16 0+, CorrelationId int32 0+, ClientId string 1+",
        ),
        ("ResponseHeader", "0-1", "1+", "CorrelationId int32 0+"),
    ];
    let schemas = kafka_schemas();
    for (name, valid, flexible, fields) in expect {
        let json = &schemas[name];
        let theirs: Vec<_> = json["fields"]
            .as_array()
            .expect("fields")
            .iter()
            .map(|field| {
                ["name", "type", "versions"].map(|key| text(field, key).expect("a header's field")).join(" ")
            })
            .collect();
        let versions = (text(json, "validVersions"), text(json, "flexibleVersions"));
        assert_eq!((versions, theirs.join(", ").as_str()), ((Some(valid), Some(flexible)), fields), "{name}");
    }
    // The client id alone keeps its two-byte length in the flexible header.
    let client_id = &schemas["RequestHeader"]["fields"][3];
    assert_eq!(
        (text(client_id, "flexibleVersions"), text(client_id, "nullableVersions")),
        (Some("none"), Some("1+"))
    );
}

//! Documents that are written from tables, and kept the same as they are:
//! `RINGLOG_WRITE_DOCS=1 cargo test -p ringlog --test docs` writes them anew.

use ringlog::api::APIS;
use ringlog::config::{BROKER_KEYS, Changeable, Kind, TOPIC_KEYS, changeable};
use ringlog_wire::ApiKey;
use std::fmt::Write;
use std::path::{Path, PathBuf};

fn path(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(file)
}

fn check(file: &str, text: &str) {
    let path = path(file);
    if std::env::var_os("RINGLOG_WRITE_DOCS").is_some() {
        std::fs::write(&path, text).expect("the document can be written");
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == text, "docs/{file} is not what the tables say: RINGLOG_WRITE_DOCS=1 writes it anew");
}

#[test]
fn the_protocol_document_lists_what_is_served() {
    let mut table = String::from("| key | API | versions | flexible from |\n|---|---|---|---|\n");
    for api in APIS {
        let spec = api.key.spec();
        let note = match api.key {
            ApiKey::Produce => " (listed from 0)",
            _ => "",
        };
        let (key, flexible) = (spec.key.code(), spec.flexible_from);
        let flexible = if flexible == i16::MAX { "none".to_owned() } else { flexible.to_string() };
        writeln!(table, "| {key} | {} | {} to {}{note} | {flexible} |", spec.name, api.min, api.max)
            .expect("writing to a string does not fail");
    }
    let written = std::fs::read_to_string(path("PROTOCOL.md")).expect("the document is there");
    let (before, rest) = written.split_once(TABLE_BEGINS).expect("the table begins");
    let (_, after) = rest.split_once(TABLE_ENDS).expect("the table ends");
    check("PROTOCOL.md", &format!("{before}{TABLE_BEGINS}{table}{TABLE_ENDS}{after}"));
}

const TABLE_BEGINS: &str = "<!-- the table in broker/src/api/mod.rs -->\n";
const TABLE_ENDS: &str = "<!-- end of the table -->\n";

#[test]
fn the_config_document_lists_every_config_with_an_effect() {
    let mut text = String::from(
        "# Configs\n\n\
         Set them in a file (`--config`: TOML, or Java properties like Kafka's `server.properties`), in the environment\n\
         (`RINGLOG_SET_NUM_PARTITIONS` sets `num.partitions`) or with `--set KEY=VALUE`; the later goes before the earlier.\n\
         An unknown name is refused, with the nearest one. Configs of Apache Kafka 4.3 that have no effect here are\n\
         accepted and named in one line at start. This page is written from the tables in `broker/src/config/`; a test\n\
         keeps them the same.\n\n## Broker\n\n\
         Those marked with * can be changed while the broker runs, for this broker or for all (`ringlog config set`, `kafka-configs`, any\n\
         admin client): a change counts on every topic without a config of its own from its answer on, goes before what the broker was started\n\
         with, and is kept in the metadata. Kafka's other dynamic configs have no effect here; they are kept and shown, but for those that\n\
         hold keys or passwords. A name that Kafka does not have is refused.\n\n\
         | name | type | default | what it does |\n|---|---|---|---|\n",
    );
    for key in BROKER_KEYS {
        let mark = if changeable(key.name) == Changeable::Not { "" } else { " *" };
        row(&mut text, key.name, mark, key.kind, key.default, key.doc);
    }
    text.push_str(
        "\n## Topic\n\nAll can be changed at any time (`ringlog config set --topic`), and count from the answer on.\n\n\
         | name | type | default | what it does |\n|---|---|---|---|\n",
    );
    for key in TOPIC_KEYS {
        row(&mut text, key.name, "", key.kind, key.default, key.doc);
    }
    check("CONFIGS.md", &text);
}

fn row(text: &mut String, name: &str, mark: &str, kind: Kind, default: &str, doc: &str) {
    let default = if default.is_empty() { "none".to_owned() } else { format!("`{default}`") };
    writeln!(text, "| `{name}`{mark} | {} | {default} | {doc} |", kind_name(kind))
        .expect("writing to a string does not fail");
}

fn kind_name(kind: Kind) -> String {
    let range =
        |name: &str, (low, least): (i64, i64), (high, most): (i64, i64)| match (low == least, high == most) {
            (true, true) => name.to_owned(),
            (false, true) => format!("{name}, from {low}"),
            (true, false) => format!("{name}, up to {high}"),
            (false, false) => format!("{name}, {low} to {high}"),
        };
    match kind {
        Kind::Boolean => "boolean".into(),
        Kind::Short(low, high) => range("short", (low, i16::MIN.into()), (high, i16::MAX.into())),
        Kind::Int(low, high) => range("int", (low, i32::MIN.into()), (high, i32::MAX.into())),
        Kind::Long(low, high) => range("long", (low, i64::MIN), (high, i64::MAX)),
        Kind::Double(low, f64::MAX) => format!("double, from {low}"),
        Kind::Double(low, high) => format!("double, {low} to {high}"),
        Kind::Text | Kind::Class => "text".into(),
        Kind::OneOf(words) => words.join(" or "),
        Kind::List([]) => "list".into(),
        Kind::List(words) => format!("list of {}", words.join(", ")),
        Kind::CountByAddress => "list of address:count".into(),
        Kind::Password => "password".into(),
    }
}

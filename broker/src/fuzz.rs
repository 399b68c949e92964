//! What fuzzers give bytes to: each function takes any bytes, and panics where something that must hold does not.
//!
//! `broker/fuzz` makes a fuzz target of each; the inputs found by them are replayed here as ordinary tests.

use crate::broker::topic_of;
use crate::cluster::fuzzed;
use crate::config::{BrokerConfig, Settings, TopicConfig};
use crate::group::record::GroupRecord;
use crate::kafka::{Cluster, fuzz_offset_file};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::path::Path;

/// The metadata log: as it is, and its lines with their checksums mended.
pub fn metadata_log(data: &[u8]) {
    fuzzed::metadata_log(data);
    let mut mended = Vec::new();
    for line in data.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        mended.extend(format!("{:08x} ", crc_fast::crc32_iscsi(line)).bytes());
        mended.extend(line);
        mended.push(b'\n');
    }
    fuzzed::metadata_log(&mended);
}

/// `meta.properties`, `partition.metadata` and Kafka's offset checkpoints.
pub fn small_files(data: &[u8]) {
    let _ = topic_of(data);
    if let Ok(text) = std::str::from_utf8(data) {
        fuzzed::meta_properties(text);
        fuzz_offset_file(text);
    }
}

/// Config files, TOML (first byte even) or properties: what is taken can be used, or is refused in words.
pub fn config(data: &[u8]) {
    let Some((kind, text)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let name = if kind % 2 == 0 { "ringlog.toml" } else { "server.properties" };
    let mut settings = Settings::default();
    let taken = settings.read_file(Path::new(name), text);
    if let Err(error) = taken {
        assert!(!error.to_string().is_empty());
        return;
    }
    TopicConfig::resolve(&settings, &BTreeMap::new());
    if let Err(error) = BrokerConfig::new(settings) {
        assert!(!error.to_string().is_empty());
    }
}

/// Kafka's metadata log: as it is, and as the value of one record.
pub fn kraft(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    let mut cluster = Cluster::default();
    let _ = cluster.replay(Path::new("input"), &bytes, 0);
    let _ = cluster.apply(&bytes);
    let mut values = Cluster::default();
    for value in data.split(|byte| *byte == 0xff) {
        let _ = values.apply(&Bytes::copy_from_slice(value));
    }
    let written =
        values.snapshot(|_, _| ringlog_wire::Uuid([1; 16]), 1).expect("what was read can be written");
    let mut again = Cluster::default();
    again.replay(Path::new("snapshot"), &written, 0).expect("what was written can be read");
    assert_eq!(again.topics.len(), values.topics.len());
    assert_eq!(again.topic_configs, values.topic_configs);
    assert_eq!(again.next_producer_id, values.next_producer_id);
}

/// Records of `__consumer_offsets`: the first byte is the length of the key.
pub fn group_record(data: &[u8]) {
    let Some((len, rest)) = data.split_first() else { return };
    let (key, value) = rest.split_at(usize::from(*len).min(rest.len()));
    let (key, value) = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
    for value in [None, Some(&value)] {
        let Ok(Some(record)) = GroupRecord::read(&key, value) else { continue };
        let again = GroupRecord::read(&record.key().into(), record.value().map(Bytes::from).as_ref());
        assert_eq!(again.ok().flatten().as_ref(), Some(&record));
    }
}

#[cfg(test)]
#[path = "../fuzz/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    use super::replay::replay;

    #[test]
    fn what_fuzzers_have_found_holds() {
        replay("metadata_log", super::metadata_log);
        replay("small_files", super::small_files);
        replay("config", super::config);
        replay("kraft", super::kraft);
        replay("group_record", super::group_record);
    }
}

//! The metadata's formats, for `crate::fuzz`: what holds for any bytes.

use super::data_dirs::Meta;
use super::image::Image;
use super::metadata_log::replay;
use super::record::Record;

/// What a log is replayed to can be written, and is replayed to the same.
pub(crate) fn metadata_log(bytes: &[u8]) {
    let Ok((image, end, _)) = replay(bytes) else { return };
    assert!(end <= bytes.len() as u64);
    let lines: String = image.records().iter().map(Record::to_line).collect();
    let (again, end, _) = replay(lines.as_bytes()).expect("what was written can be read");
    assert_eq!(end, lines.len() as u64);
    assert!(again.topics().eq(image.topics()) && again.next_producer_id == image.next_producer_id);
    assert_eq!(again.dynamic(1), image.dynamic(1));
    let groups = |image: &Image| -> Vec<_> {
        let all = image.groups_with_configs();
        all.map(|group| (group.to_owned(), image.group_configs(group).cloned())).collect()
    };
    assert_eq!(groups(&again), groups(&image));
}

pub(crate) fn meta_properties(text: &str) {
    let _ = Meta::parse(text);
}

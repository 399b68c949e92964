//! docs/TUNING.md is what the table says: `RINGLOG_WRITE_DOCS=1 cargo test -p ringlog-tuning --test docs` writes it anew.

use std::path::Path;

#[test]
fn the_tuning_document_is_written_from_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/TUNING.md");
    let text = ringlog_tuning::document();
    if std::env::var_os("RINGLOG_WRITE_DOCS").is_some() {
        std::fs::write(&path, &text).expect("the document can be written");
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == text,
        "docs/TUNING.md is not what the table says: RINGLOG_WRITE_DOCS=1 writes it anew"
    );
}

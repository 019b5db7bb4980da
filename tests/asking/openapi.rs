//! The committed OpenAPI document is the one that the handlers make.

/// Run with `HANDOVER_WRITE_OPENAPI=1` after a change of the API, and read what changed before committing it.
#[test]
fn the_committed_document_is_the_one_that_is_served() {
    let mut made = serde_json::to_string_pretty(&handover::web::api::document()).unwrap();
    made.push('\n');
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/openapi.json");
    if std::env::var_os("HANDOVER_WRITE_OPENAPI").is_some() {
        std::fs::write(&file, &made).unwrap();
    }

    let committed = std::fs::read_to_string(&file).unwrap();

    assert!(
        committed == made,
        "docs/openapi.json is not what the handlers say; write it again and read the difference"
    );
}

use onedock_common::Digest;
use serde_json::{Value, json};

use crate::oci::index::ENTRY_LIMIT;
use crate::oci::platform::EntryPlatform;

use super::*;

#[test]
fn an_index_is_rewritten_with_some_entries_and_nothing_else_is_lost() {
    let mut value = index(&[("linux", "amd64"), ("linux", "arm64"), ("windows", "amd64")]);
    value["manifests"][1]["annotations"] = json!({"c": "d"});
    value["manifests"][1]["platform"]["os.version"] = json!("1");
    let (bytes, read) = (value.to_string(), index_of(&value));
    let same = |entry: &Descriptor| (entry.digest.clone(), entry.clone());
    let rewritten = |new_entries: &[(Digest, Descriptor)]| {
        read.rewritten(bytes.as_bytes(), OCI_INDEX, new_entries)
            .unwrap()
    };
    let all: Vec<_> = read.entries.iter().map(same).collect();
    assert_eq!(rewritten(&all), bytes.as_bytes());
    let one: Value = serde_json::from_slice(&rewritten(&[same(&read.entries[1])])).unwrap();
    assert_eq!(one["manifests"], json!([value["manifests"][1]]));
    assert_eq!(one["annotations"], value["annotations"]);
    let new = Descriptor {
        size: 7,
        digest: Digest::of(b"new"),
        ..read.entries[1].clone()
    };
    let changed = rewritten(&[(read.entries[1].digest.clone(), new)]);
    let changed: Value = serde_json::from_slice(&changed).unwrap();
    let entry = &changed["manifests"][0];
    assert_eq!(entry["digest"], Digest::of(b"new").as_str());
    assert_eq!(entry["size"], 7);
    assert_eq!(entry["annotations"]["c"], "d");
    assert_eq!(entry["platform"]["os.version"], "1");
}

#[test]
fn an_index_has_at_most_a_thousand_entries() {
    let entries = |count| read(&index(&vec![("linux", "amd64"); count]));
    assert!(entries(ENTRY_LIMIT).is_ok());
    assert!(
        entries(ENTRY_LIMIT + 1)
            .unwrap_err()
            .contains("1001 entries")
    );
}

#[test]
fn an_index_is_rewritten_when_entries_go_from_its_end_or_stand_for_others() {
    let mut value = index(&[("linux", "amd64"), ("linux", "arm64")]);
    value.as_object_mut().unwrap().remove("mediaType");
    let (bytes, read) = (value.to_string(), index_of(&value));
    let first = &read.entries[0];
    let new_entries = [(first.digest.clone(), first.clone())];
    let new = read
        .rewritten(bytes.as_bytes(), OCI_INDEX, &new_entries)
        .unwrap();
    let new: Value = serde_json::from_slice(&new).unwrap();
    assert_eq!(new["manifests"].as_array().map(Vec::len), Some(1));
    assert_eq!(new["mediaType"], OCI_INDEX);
    // The new platform replaces the old one.
    let mut other = first.clone();
    other.platform = Some(EntryPlatform {
        os: "linux".into(),
        architecture: "riscv64".into(),
        variant: None,
    });
    let new_entries = [(first.digest.clone(), other)];
    let new = read
        .rewritten(bytes.as_bytes(), OCI_INDEX, &new_entries)
        .unwrap();
    let new: Value = serde_json::from_slice(&new).unwrap();
    assert_eq!(new["manifests"][0]["platform"]["architecture"], "riscv64");
}

//! What the documents say of the tests is true.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The checkout.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every Rust file of the crates.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            sources(&path, found);
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
}

/// The rows that a test's name points to: `fault_24_and_25_a_manifest…` is faults 24 and 25.
fn rows(test: &str) -> Vec<(String, String)> {
    let mut rows = Vec::new();
    let mut kind = None;
    for word in test.split('_') {
        match word {
            "fault" | "attack" => kind = Some(word.to_owned()),
            "and" => {}
            number if number.bytes().all(|b| b.is_ascii_digit()) && !number.is_empty() => {
                let Some(kind) = &kind else { break };
                rows.push((kind.clone(), number.to_owned()));
            }
            _ => break,
        }
    }
    rows
}

#[test]
fn a_name_points_to_each_of_its_numbers() {
    let of = |test| -> Vec<String> {
        let rows = rows(test);
        rows.into_iter().map(|(k, n)| format!("{k} {n}")).collect()
    };
    assert_eq!(of("fault_24_and_25_a_manifest"), ["fault 24", "fault 25"]);
    assert_eq!(of("fault_26_and_attack_42_a"), ["fault 26", "attack 42"]);
    assert_eq!(of("a_fault_2_of_others"), [""; 0]);
}

#[test]
fn the_page_of_faults_and_attacks_names_every_numbered_test_in_its_row() {
    let mut files = Vec::new();
    sources(&root(), &mut files);
    let mut tests = BTreeSet::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let names = text.lines().filter_map(|line| {
            let line = line.trim_start();
            let line = line.strip_prefix("async ").unwrap_or(line);
            Some(line.strip_prefix("fn ")?.split('(').next()?.to_owned())
        });
        for test in names {
            tests.extend(rows(&test).into_iter().map(|row| (row, test.clone())));
        }
    }
    assert!(tests.len() > 100, "only {} tests were found", tests.len());

    let page = fs::read_to_string(root().join("docs/faults-and-attacks.md")).unwrap();
    let mut listed = BTreeSet::new();
    let mut kind = "";
    for line in page.lines() {
        match line {
            "## Faults" => kind = "fault",
            "## Attacks" => kind = "attack",
            _ => {}
        }
        let mut cells = line.trim_matches('|').split(" | ");
        let number = cells.next().unwrap_or_default().trim().to_owned();
        for test in line.split('`').skip(1).step_by(2) {
            if test.starts_with("fault_") || test.starts_with("attack_") {
                listed.insert(((kind.to_owned(), number.clone()), test.to_owned()));
            }
        }
    }
    let example = |((_, number), _): &((String, String), String)| number.parse::<u32>().is_ok();
    listed.retain(example);
    let missing: Vec<_> = tests.difference(&listed).collect();
    let gone: Vec<_> = listed.difference(&tests).collect();
    assert!(
        missing.is_empty() && gone.is_empty(),
        "docs/faults-and-attacks.md lacks {missing:#?} and names what is gone: {gone:#?}"
    );
}

/// The text between back quotes, outside of code blocks.
fn quoted(text: &str) -> Vec<&str> {
    let prose = text.split("```").step_by(2);
    prose
        .flat_map(|part| part.lines())
        .flat_map(|line| line.split('`').skip(1).step_by(2))
        .collect()
}

#[test]
fn the_files_of_the_tree_that_the_documents_name_exist() {
    let root = root();
    let folders: BTreeSet<String> = fs::read_dir(&root)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| !name.starts_with('.') && name != "target" && name != "dist")
        .collect();
    let documents = [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "docs/glossary.md",
        "docs/networking.md",
        "docs/context.md",
        "docs/options.md",
        "docs/monitoring.md",
        "docs/disks.md",
        "docs/engines.md",
    ];
    let (mut named, mut missing) = (0, Vec::new());
    for document in documents {
        let text = fs::read_to_string(root.join(document)).unwrap();
        for path in quoted(&text) {
            let Some((first, _)) = path.split_once('/') else {
                continue;
            };
            let is_pattern =
                path.contains(['*', '<', '{', '…', ' ', '$']) || path.contains("ACTION");
            let is_file = path.ends_with('/') || path.rsplit('/').next().unwrap().contains('.');
            if !folders.contains(first) || is_pattern || !is_file || path.contains("SCRIPT") {
                continue;
            }
            named += 1;
            if !root.join(path).exists() {
                missing.push(format!("{document}: {path}"));
            }
        }
    }
    assert!(named > 40, "only {named} paths were found");
    assert!(missing.is_empty(), "{missing:#?}");
}

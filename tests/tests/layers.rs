//! Modules use each other in one direction only.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The crates of the product.
const WITHOUT_CIRCLES: [&str; 9] = [
    "cli",
    "common",
    "datastore",
    "im",
    "init/program",
    "node",
    "registry",
    "tm",
    "vmm",
];

/// The layers of `registry`, lowest first. A module uses modules of its own folder and of lower
/// layers.
const REGISTRY: [&[&str]; 9] = [
    &["error", "options"],
    &["blocking", "chunks", "new_file"],
    &["oci"],
    &["layer", "transport"],
    &["repository"],
    &["client"],
    &["image"],
    &["archive", "disk"],
    &["image_store"],
];

type Module = Vec<String>;
type Uses = BTreeMap<Module, BTreeSet<Module>>;

/// The files of a crate as modules; the tests beside the code are none.
fn files(folder: &Path, module: &Module, found: &mut BTreeMap<Module, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let child = [module.clone(), vec![name.clone()]].concat();
        match (path.is_dir(), name.as_str()) {
            (_, "tests" | "bin") => {}
            (true, _) => files(&path, &child, found),
            (false, stem) => {
                let root = matches!(stem, "lib" | "main" | "mod");
                let module = if root { module.clone() } else { child };
                let text = fs::read_to_string(&path).unwrap();
                *found.entry(module).or_default() += &format!("{text}\n");
            }
        }
    }
}

/// The paths of a `use` declaration: `a::{b, c::d}` are `a::b` and `a::c::d`.
fn paths(tree: &str) -> Vec<String> {
    let Some((prefix, rest)) = tree.split_once('{') else {
        return vec![tree.split(" as ").next().unwrap().trim().to_owned()];
    };
    let inner = rest.rsplit_once('}').unwrap().0;
    let (mut depth, mut parts) = (0, vec![String::new()]);
    for c in inner.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        match c {
            ',' if depth == 0 => parts.push(String::new()),
            c => parts.last_mut().unwrap().push(c),
        }
    }
    let parts = parts.iter().filter(|part| !part.trim().is_empty());
    let path = |path: String| format!("{}{path}", prefix.trim());
    parts
        .flat_map(|part| paths(part).into_iter().map(path))
        .collect()
}

/// The declaration of a `use`, whoever may see it.
fn declaration(line: &str) -> Option<&str> {
    let line = match line.strip_prefix("pub") {
        Some(rest) => rest.split_once(") ").map_or(rest, |(_, rest)| rest),
        None => line,
    };
    line.trim_start().strip_prefix("use ")
}

/// What a file names. Comments and tests do not count.
fn named(text: &str) -> Vec<String> {
    let text = text.split("\n#[cfg(test)]\nmod tests").next().unwrap();
    let (mut found, mut code) = (Vec::new(), String::new());
    let mut lines = text.lines().map(str::trim_start);
    while let Some(line) = lines.next() {
        let Some(tree) = declaration(line) else {
            code.push_str(if line.starts_with("//") { "" } else { line });
            code.push('\n');
            continue;
        };
        let mut tree = tree.to_owned();
        while !tree.ends_with(';') {
            tree.push_str(lines.next().unwrap());
        }
        found.extend(paths(tree.trim_end_matches(';')));
    }
    let end = |c: char| !(c.is_alphanumeric() || c == '_' || c == ':');
    for start in ["crate::", "super::"] {
        let whole = |(at, _): &(usize, &str)| !code[..*at].ends_with(':');
        for (at, _) in code.match_indices(start).filter(whole) {
            found.push(code[at..].split(end).next().unwrap().to_owned());
        }
    }
    found
}

/// The module in which a path of `module` ends; `None` for a path of another crate.
fn resolve(path: &str, module: &Module, all: &BTreeMap<Module, String>) -> Option<Module> {
    let mut parts = path.split("::").peekable();
    let mut base = module.clone();
    match *parts.peek()? {
        "crate" => base.clear(),
        "self" | "super" => {}
        child => {
            base.push(child.to_owned());
            all.get(&base)?;
            base.pop();
        }
    }
    while let Some(part) = parts.next_if(|part| ["crate", "self", "super"].contains(part)) {
        if part == "super" {
            base.pop();
        }
    }
    base.extend(parts.map(str::to_owned));
    while !all.contains_key(&base) {
        base.pop();
    }
    Some(base)
}

/// Which modules use which. A module and the parts of it are one: what it shares with them, and
/// what it calls of them, does not count.
fn uses(name: &str) -> Uses {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut all = BTreeMap::new();
    files(&root.join(name).join("src"), &Vec::new(), &mut all);
    assert!(all.len() > 3, "{name} has no modules");
    let of = |module: &Module, text: &str| -> BTreeSet<Module> {
        let paths = named(text).into_iter();
        let used = paths.filter_map(|path| resolve(&path, module, &all));
        used.filter(|used| !used.starts_with(module) && !module.starts_with(used))
            .collect()
    };
    let uses = all
        .iter()
        .map(|(module, text)| (module.clone(), of(module, text)));
    uses.collect()
}

/// What is left when every module that uses nothing that is left is taken away.
fn circle(mut uses: Uses) -> Vec<String> {
    loop {
        let left: BTreeSet<Module> = uses.keys().cloned().collect();
        uses.retain(|_, used| used.iter().any(|used| left.contains(used)));
        if uses.len() == left.len() {
            return left.iter().map(|module| module.join("::")).collect();
        }
    }
}

#[test]
fn a_circle_is_found_and_a_chain_is_none() {
    let module = |name: &str| vec![name.to_owned()];
    let uses = |edges: &[(&str, &str)]| {
        let mut uses = Uses::new();
        for (from, to) in edges {
            uses.entry(module(from)).or_default().insert(module(to));
            uses.entry(module(to)).or_default();
        }
        circle(uses)
    };
    assert!(uses(&[("a", "b"), ("b", "c"), ("a", "c")]).is_empty());
    assert_eq!(uses(&[("a", "b"), ("b", "a"), ("c", "d")]), ["a", "b"]);
    // What leads into a circle is named with it.
    assert_eq!(uses(&[("a", "b"), ("b", "a"), ("c", "a")]), ["a", "b", "c"]);
}

#[test]
fn what_a_file_uses_is_found() {
    let text = "//! crate::no\nuse super::a::{B, c::D};\npub(crate) use e::F;\nuse std::fs;\n\
        pub(super) use super::super::k;\nfn f() {\n    crate::g::h();\n}\n#[cfg(test)]\nmod tests {\n    use crate::i;\n}\n";
    assert_eq!(
        named(text),
        [
            "super::a::B",
            "super::a::c::D",
            "e::F",
            "std::fs",
            "super::super::k",
            "crate::g::h"
        ]
    );
    let module = |path: &str| path.split("::").map(str::to_owned).collect::<Module>();
    let all = ["x::a", "x::a::c", "x::y", "g"].map(|m| (module(m), String::new()));
    let all = BTreeMap::from(all);
    let of = |path| resolve(path, &module("x::y"), &all);
    assert_eq!(of("super::a::B"), Some(module("x::a")));
    assert_eq!(of("super::a::c::D"), Some(module("x::a::c")));
    assert_eq!(of("crate::g::h"), Some(module("g")));
    assert_eq!(of("std::fs"), None);
}

#[test]
fn no_modules_use_each_other_in_a_circle() {
    for name in WITHOUT_CIRCLES {
        assert_eq!(circle(uses(name)), [""; 0], "in {name}");
    }
}

#[test]
fn a_lower_layer_of_the_registry_uses_no_higher_one() {
    let level = |module: &Module| {
        let name = module.first().map_or("", String::as_str);
        let level = REGISTRY.iter().position(|names| names.contains(&name));
        level.unwrap_or_else(|| panic!("{name} is in no layer"))
    };
    for (module, used) in uses("registry") {
        for used in used.iter().filter(|_| !module.is_empty()) {
            let same = module.first() == used.first();
            assert!(
                same || level(used) < level(&module),
                "{} uses {}",
                module.join("::"),
                used.join("::")
            );
        }
    }
}

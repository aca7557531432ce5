//! The source layout as docs/design.md has it: who may import whom.
//!
//! In: every `crate::` path in src, tests within the files left out. Out: nothing imports from a floor above its own, and
//! `etcd` is pure. Guards against a layout that is true on the day it is drawn.

use std::collections::BTreeMap;
use std::path::Path;

use fs_err as fs;

/// The folders and files of src, the lowest floor first. A module imports from floors below its own and from its own folder.
const FLOORS: [&[&str]; 7] = [
    &["etcd"],
    &["fs", "interrupt", "progress", "text", "thread_pool"],
    &["archive", "cluster", "data_dir"],
    &["repository"],
    &["restore", "snapshot", "target"],
    &["drill", "monitoring", "retention", "rewind", "upgrade"],
    &["cli"],
];

/// What a module of `etcd` must not name: files, clocks, the environment, the command line.
const IMPURE: [&str; 8] = [
    "std::fs",
    "std::env",
    "std::process",
    "SystemTime",
    "Instant",
    "fs_err",
    "rustix",
    "clap",
];

/// The top-level modules that `source` names, with `crate::a` and `crate::{a::…, b}` alike.
fn imports(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in source.match_indices("crate::") {
        let path = &source[at + "crate::".len()..];
        let group = path.strip_prefix('{').and_then(|rest| rest.split_once('}'));
        let paths = group.map_or_else(|| vec![path], |(group, _)| group.split(',').collect());
        let name = |path: &str| -> String {
            let is_name = |sign: &char| sign.is_alphanumeric() || *sign == '_';
            path.trim_start().chars().take_while(is_name).collect()
        };
        found.extend(paths.into_iter().map(name).filter(|name| !name.is_empty()));
    }
    found
}

/// A file's own code: without comments, and without the tests at its end.
fn own_code(source: &str) -> String {
    let own = source.split("#[cfg(test)]\nmod tests").next().unwrap();
    let code = own
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    code.collect::<Vec<_>>().join("\n")
}

/// What is wrong in a tree of sources, by path below src: each a line that names the file and the import.
fn violations(sources: &BTreeMap<String, String>) -> Vec<String> {
    let floor_of = |name: &str| FLOORS.iter().position(|floor| floor.contains(&name));
    let mut found = Vec::new();
    for (path, source) in sources {
        let top = path.split('/').next().unwrap().trim_end_matches(".rs");
        let Some(floor) = floor_of(top) else {
            found.push(format!("src/{path} is on no floor"));
            continue;
        };
        let code = own_code(source);
        for import in imports(&code) {
            match floor_of(&import) {
                Some(other) if other < floor || import == top => {}
                _ => found.push(format!("src/{path} imports crate::{import}")),
            }
        }
        if top == "etcd" {
            let impure = IMPURE.iter().filter(|name| code.contains(**name));
            found.extend(impure.map(|name| format!("src/{path} names {name}")));
        }
    }
    found
}

fn read_tree(dir: &Path, below: &str, sources: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{below}{}", entry.file_name().to_string_lossy());
        let is_tests = name.ends_with("/tests") || name.ends_with("/tests.rs");
        if entry.file_type().unwrap().is_dir() && !is_tests {
            read_tree(&entry.path(), &format!("{name}/"), sources);
        } else if entry
            .path()
            .extension()
            .is_some_and(|ending| ending == "rs")
            && !is_tests
            && name != "lib.rs"
            && name != "main.rs"
        {
            sources.insert(name, fs::read_to_string(entry.path()).unwrap());
        }
    }
}

#[test]
fn no_module_imports_from_above_and_etcd_is_pure() {
    let mut sources = BTreeMap::new();
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    read_tree(&src, "", &mut sources);
    assert!(sources.len() > 150, "{} files", sources.len());
    let found = violations(&sources);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn a_planted_violation_is_found() {
    let planted = [
        (
            "archive/x.rs",
            "use crate::cli::output::Out;",
            "src/archive/x.rs imports crate::cli",
        ),
        (
            "archive/x.rs",
            "use crate::{\n    etcd::ids::Term,\n    data_dir::DataDir,\n};",
            "src/archive/x.rs imports crate::data_dir",
        ),
        (
            "etcd/x.rs",
            "fn f() { crate::fs::staged::parent_of(p) }",
            "src/etcd/x.rs imports crate::fs",
        ),
        (
            "etcd/x.rs",
            "use std::time::Instant;",
            "src/etcd/x.rs names Instant",
        ),
        ("misc.rs", "", "src/misc.rs is on no floor"),
    ];
    for (path, source, expected) in planted {
        let sources = BTreeMap::from([(path.to_owned(), source.to_owned())]);
        assert_eq!(violations(&sources), [expected], "{source}");
    }
    let fine = "// use crate::cli;\nuse crate::etcd::ids::Term;\nuse crate::archive::Archive;\n#[cfg(test)]\nmod tests {\n    use crate::cli;\n}";
    let sources = BTreeMap::from([("archive/y.rs".to_owned(), fine.to_owned())]);
    assert_eq!(violations(&sources), [""; 0]);
}

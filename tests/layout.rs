//! The source layout of docs/design.md: which module may import which.
//!
//! In: every `crate::` path in src, except in test modules. Out: nothing imports from a higher layer, no folder's files
//! and folders import each other in a circle, and `etcd` is pure. Guards against a documented layout that becomes
//! wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use fs_err as fs;

/// The folders and files of src, the lowest floor first. A module imports from floors below its own and from its own folder.
const FLOORS: [&[&str]; 7] = [
    &["etcd"],
    &[
        "clock",
        "fs",
        "interrupt",
        "progress",
        "text",
        "thread_pool",
    ],
    &["archive", "cluster", "data_dir"],
    &["repository"],
    &["restore", "snapshot", "target"],
    &[
        "drill",
        "monitoring",
        "put_keys",
        "retention",
        "rewind",
        "upgrade",
    ],
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

/// The paths below `crate` that `source` names, as lists of names; `crate::{a::{b, c}, d}` are three.
fn imports(source: &str) -> Vec<Vec<&str>> {
    let mut found = Vec::new();
    for (at, _) in source.match_indices("crate::") {
        let mut rest = &source[at + "crate::".len()..];
        let (mut path, mut groups) = (Vec::new(), Vec::new());
        loop {
            rest = rest.trim_start();
            let is_sign = |sign: char| !sign.is_alphanumeric() && sign != '_';
            let (name, after) = rest.split_at(rest.find(is_sign).unwrap_or(rest.len()));
            path.extend(Some(name).filter(|name| !name.is_empty()));
            if let Some(inner) = after
                .strip_prefix("::{")
                .or_else(|| after.strip_prefix('{'))
            {
                groups.push(path.len());
                rest = inner;
            } else if let Some(next) = after.strip_prefix("::") {
                rest = next;
            } else {
                // An item's end: of the path, or of one in a group.
                found.extend(Some(path.clone()).filter(|path| !path.is_empty()));
                let mut after = after.trim_start();
                while let (Some(closed), true) = (after.strip_prefix('}'), !groups.is_empty()) {
                    groups.pop();
                    after = closed.trim_start();
                }
                match (groups.last(), after.strip_prefix(',')) {
                    (Some(depth), Some(next)) => {
                        path.truncate(*depth);
                        rest = next;
                    }
                    _ => break,
                }
            }
        }
    }
    found
}

/// A file's own code: without comments, and without the tests at its end.
fn own_code(source: &str) -> String {
    let source = source.replace("pub(crate) mod tests", "mod tests");
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
        let tops: BTreeSet<_> = imports(&code).into_iter().map(|import| import[0]).collect();
        for import in tops {
            match floor_of(import) {
                Some(other) if other < floor || import == top => {}
                _ => found.push(format!("src/{path} imports crate::{import}")),
            }
        }
        if code.contains("super::") {
            found.push(format!("src/{path} names super::, which no test follows"));
        }
        if top == "etcd" {
            let impure = IMPURE.iter().filter(|name| code.contains(**name));
            found.extend(impure.map(|name| format!("src/{path} names {name}")));
        }
    }
    found
}

/// The cycles among the files and folders of one folder, for every folder; a `mod.rs` is its folder's own and no part of it.
/// Each is told once, with the import that makes each step.
fn cycles(sources: &BTreeMap<String, String>) -> Vec<String> {
    let mut folders: BTreeMap<String, BTreeMap<String, BTreeMap<String, String>>> = BTreeMap::new();
    for (path, source) in sources {
        let own: Vec<_> = path.trim_end_matches(".rs").split('/').collect();
        let code = own_code(source);
        for import in imports(&code) {
            let same = own.iter().zip(&import).take_while(|(a, b)| a == b).count();
            let (Some(from), Some(to)) = (own.get(same), import.get(same)) else {
                continue;
            };
            let folder = own[..same].join("/");
            let is_module = |name: &str| {
                let path = format!("{folder}/{name}");
                let below = format!("{path}/");
                sources.contains_key(&format!("{path}.rs"))
                    || sources
                        .range(below.clone()..)
                        .next()
                        .is_some_and(|(path, _)| path.starts_with(&below))
            };
            if *from != "mod" && is_module(to) {
                let edges = folders.entry(folder.clone()).or_default();
                let edges = edges.entry((*from).to_owned()).or_default();
                edges
                    .entry((*to).to_owned())
                    .or_insert_with(|| format!("src/{path} imports crate::{}", import.join("::")));
            }
        }
    }
    let mut found = Vec::new();
    for (folder, edges) in &folders {
        let mut done = BTreeSet::new();
        for start in edges.keys() {
            walk(&mut vec![start], edges, &mut done, &mut |cycle| {
                let step = |(at, from): (usize, &&String)| {
                    edges[*from][cycle[(at + 1) % cycle.len()]].as_str()
                };
                let steps: Vec<_> = cycle.iter().enumerate().map(step).collect();
                found.push(format!("a cycle in src/{folder}: {}", steps.join("; ")));
            });
        }
    }
    found
}

fn walk<'a>(
    way: &mut Vec<&'a String>,
    edges: &'a BTreeMap<String, BTreeMap<String, String>>,
    done: &mut BTreeSet<&'a String>,
    tell: &mut dyn FnMut(&[&'a String]),
) {
    let at = way[way.len() - 1];
    if done.contains(at) {
        return;
    }
    for next in edges.get(at).into_iter().flat_map(BTreeMap::keys) {
        if let Some(begin) = way.iter().position(|before| *before == next) {
            tell(&way[begin..]);
        } else {
            way.push(next);
            walk(way, edges, done, tell);
            way.pop();
        }
    }
    done.insert(at);
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
fn no_module_imports_from_above_or_in_a_circle_and_etcd_is_pure() {
    let mut sources = BTreeMap::new();
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    read_tree(&src, "", &mut sources);
    assert!(sources.len() > 150, "{} files", sources.len());
    let mut found = violations(&sources);
    found.extend(cycles(&sources));
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn a_planted_violation_is_found() {
    let planted = "
        archive/x.rs | use crate::cli::output::Out; | src/archive/x.rs imports crate::cli
        archive/x.rs | use crate::{ etcd::ids::Term, data_dir::DataDir, }; | src/archive/x.rs imports crate::data_dir
        etcd/x.rs | fn f() { crate::fs::staged::parent_of(p) } | src/etcd/x.rs imports crate::fs
        etcd/x.rs | use std::time::Instant; | src/etcd/x.rs names Instant
        misc.rs | | src/misc.rs is on no floor";
    for row in planted.trim().lines() {
        let row: Vec<_> = row.split('|').map(str::trim).collect();
        let (path, source, expected) = (row[0], row[1], row[2]);
        let sources = BTreeMap::from([(path.to_owned(), source.to_owned())]);
        assert_eq!(violations(&sources), [expected], "{source}");
    }
    let fine = "// use crate::cli;\nuse crate::etcd::ids::Term;\nuse crate::archive::Archive;\n#[cfg(test)]\nmod tests {\n    use crate::cli;\n}";
    let sources = BTreeMap::from([("archive/y.rs".to_owned(), fine.to_owned())]);
    assert_eq!(violations(&sources), [""; 0]);
}

#[test]
fn a_planted_cycle_is_found() {
    let planted = |files: &[(&str, &str)]| {
        let own = |(path, source): &(&str, &str)| ((*path).to_owned(), (*source).to_owned());
        cycles(&files.iter().map(own).collect())
    };
    let two = [
        (
            "cli/a.rs",
            "use crate::cli::{\n    b::{X, Y},\n    c::Z,\n};",
        ),
        ("cli/b/mod.rs", "use crate::cli::Out;"),
        ("cli/b/d.rs", "fn f() { crate::cli::a::f() }"),
        ("cli/c.rs", "use crate::etcd::a::b;"),
        ("cli/mod.rs", "use crate::cli::a;"),
    ];
    assert_eq!(
        planted(&two),
        [
            "a cycle in src/cli: src/cli/a.rs imports crate::cli::b::X; src/cli/b/d.rs imports crate::cli::a::f"
        ]
    );
    let below = [
        ("cli/b/d.rs", "use crate::cli::b::e::E;"),
        ("cli/b/e.rs", "use crate::cli::b::f;"),
        ("cli/b/f.rs", "use crate::cli::b::d::D;"),
    ];
    assert_eq!(planted(&below).len(), 1, "{:?}", planted(&below));
    assert_eq!(planted(&below[..2]), [""; 0]);
}

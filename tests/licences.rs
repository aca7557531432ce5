//! What is built on may be built on: the licence and the source of every library, by the lists in deny.toml.
//!
//! Does what `cargo deny check licenses bans sources` does by that file, without the minutes that it takes to install it.

use std::path::Path;
use std::process::Command;

use fs_err as fs;
use serde_json::Value;

/// Whether an SPDX expression can be met with the licences in `allow`; what is in parentheses first, then AND before OR.
fn is_met(expression: &str, allow: &[&str]) -> bool {
    if let Some(close) = expression.find(')') {
        let open = expression[..close].rfind('(').unwrap();
        let inner = is_met(&expression[open + 1..close], allow);
        let word = if inner { allow[0] } else { "none" };
        let outer = format!("{}{word}{}", &expression[..open], &expression[close + 1..]);
        return is_met(&outer, allow);
    }
    let all = |part: &str| part.split(" AND ").all(|one| allow.contains(&one.trim()));
    expression.replace('/', " OR ").split(" OR ").any(all)
}

#[test]
fn every_library_has_a_licence_and_a_source_that_deny_toml_allows() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let deny = fs::read_to_string(root.join("deny.toml")).unwrap();
    let list = |key: &str| {
        let line = deny
            .lines()
            .find_map(|line| line.strip_prefix(key))
            .unwrap();
        line.split('"').skip(1).step_by(2).collect::<Vec<_>>()
    };
    let (allow, registries) = (list("allow = "), list("allow-registry = "));
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--format-version", "1", "--locked", "--offline"]);
    cargo
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(root);
    let told = cargo.output().unwrap();
    assert!(
        told.status.success(),
        "{}",
        String::from_utf8_lossy(&told.stderr)
    );
    let told: Value = serde_json::from_slice(&told.stdout).unwrap();
    let packages = told["packages"].as_array().unwrap();
    assert!(packages.len() > 100, "{} packages", packages.len());
    for package in packages {
        let name = &package["name"];
        let licence = package["license"].as_str().unwrap_or("none");
        assert!(is_met(licence, &allow), "{name}: {licence}");
        if let Some(source) = package["source"].as_str() {
            let known = registries
                .iter()
                .any(|url| source == format!("registry+{url}"));
            assert!(known, "{name} comes from {source}");
        } else {
            let wanted = package["dependencies"].as_array().unwrap().iter();
            for dependency in wanted {
                assert_ne!(
                    dependency["req"], "*",
                    "any version of {}",
                    dependency["name"]
                );
            }
        }
    }
    assert!(
        !is_met("GPL-3.0 OR (MIT AND GPL-2.0)", &allow)
            && is_met("(MIT OR GPL-2.0) AND ISC", &allow)
    );
}

//! Every command in a code block of README.md and docs is run in order on the shipped recording, or marked as not run,
//! with the reason.
//!
//! In: the documents, and one member of a cluster of three that answers. Out: each block succeeds as printed, with this
//! machine's paths. The upgrade guide is run on real servers, in `live_2x::runbooks`.

use crate::support::prelude::*;

/// The comment before a block that cannot be run here.
const NOT_RUN: &str = "<!-- not run: ";

/// The shell blocks of a document that are to be run; fails on one that is marked without a reason.
fn blocks(document: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut parts = document.split("```");
    let mut before = parts.next().unwrap();
    while let (Some(block), Some(after)) = (parts.next(), parts.next()) {
        if let Some(script) = block.strip_prefix("sh\n") {
            let last = before.trim_end().lines().next_back().unwrap_or_default();
            match last.trim_start().strip_prefix(NOT_RUN) {
                Some(reason) => assert!(reason.len() > "-->".len() + 10, "{script}"),
                None => found.push(script.to_owned()),
            }
        }
        before = after;
    }
    found
}

#[test]
fn every_command_of_the_documents_runs_as_printed() {
    let story = unpack("upgrade-story");
    let dir = TempDir::new().unwrap();
    let (data, backups) = (dir.path().join("data"), dir.path().join("backups"));
    copy_dir(&story.data_dir("2-backup-infra0"), &data);
    for number in [1, 2] {
        let source = story.data_dir(&format!("2-backup-infra{number}"));
        snapshot(&source, &backups, &[]);
    }
    let (archive, _) = snapshot(&data, &backups, &[]);
    let cluster = FakeCluster::of_story("1-before-upgrade");
    std::os::unix::fs::symlink(BINARY, dir.path().join("etcd-ark")).unwrap();
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{path}", dir.path().display());
    let after = story.data_dir("3-after-upgrade-infra0");
    let shown = |path: &Path| path.to_str().unwrap().to_owned();
    let paths = [
        ("/var/lib/etcd", shown(&data)),
        ("/var/backups/etcd", shown(&backups)),
        ("TARGET…", shown(&archive)),
        ("TARGET", shown(&after)),
        (
            "diff A B",
            format!("diff {} {}", shown(&archive), shown(&data)),
        ),
    ];
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut count = 0;
    let documents = "README.md docs/operations.md docs/reference.md docs/security.md docs/contributing.md docs/performance.md";
    for document in documents.split(' ') {
        let text = fs::read_to_string(root.join(document)).unwrap();
        for block in blocks(&text) {
            let with = |block: String, (name, real): &(&str, String)| block.replace(name, real);
            let script = paths.iter().fold(block, with);
            let mut command = clean("sh");
            command.args(["-e", "-c", &script]).current_dir(dir.path());
            command
                .env("PATH", &path)
                .env("ETCDCTL_ENDPOINTS", cluster.endpoints());
            let ran = run(&mut command);
            assert_eq!(ran.code, 0, "{document}: {ran:#?}");
            count += script.matches("etcd-ark ").count();
        }
    }
    assert!(count >= 15, "{count} commands");
}

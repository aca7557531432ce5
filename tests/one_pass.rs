//! How often bytes are read, counted in system calls: once, or only at an archive's end.

use crate::support::prelude::*;

/// What reads more than once: an archive's tail, and the manifest in its last frame.
const END: u64 = 96 << 10;

/// The calls of `etcd-ark ARGS` about files with `named` in their names: its name, and what it gave.
fn calls(args: &[&str], named: &str) -> Vec<(String, u64)> {
    let scratch = TempDir::new().unwrap();
    let mut traced = clean("strace");
    // A log for each thread: in one for all a call may stand in two parts.
    traced.args(["-ff", "-qq", "-y", "-s", "0", "-e"]);
    traced.args(["trace=openat,read,pread64,copy_file_range,sendfile", "-o"]);
    traced.arg(scratch.path().join("calls"));
    run(traced.arg(BINARY).args(args)).exits(0);
    let logs = fs::read_dir(scratch.path()).unwrap();
    let logs = logs.map(|log| fs::read_to_string(log.unwrap().path()).unwrap());
    let logs: Vec<_> = logs.collect();
    let lines = logs.iter().flat_map(|log| log.lines());
    lines
        .filter(|line| line.contains(named))
        .map(|line| {
            let (name, _) = line.split_once('(').unwrap_or_else(|| panic!("{line}"));
            let gave = line.rsplit(" = ").next().unwrap();
            let gave = gave.split(['<', ' ']).next().unwrap();
            (name.to_owned(), gave.parse().unwrap_or(0))
        })
        .collect()
}

fn bytes_read(calls: &[(String, u64)]) -> u64 {
    let reads = calls.iter().filter(|(name, _)| name != "openat");
    reads.map(|(_, gave)| gave).sum()
}

/// An archive of some 4 MB that does not compress.
fn archive(dir: &Path) -> PathBuf {
    let data = dir.join("data");
    small_member(&data);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let noise = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    let noise: Vec<u8> = noise.take(4 << 17).flatten().collect();
    let broken = "member/snap/0000000000000001-0000000000000001.snap.broken";
    write_file(&data.join(broken), 0o600, &noise);
    snapshot(&data, &dir.join("backups"), &["--all"]).0
}

#[test]
fn an_archive_is_read_once_for_all_its_digests_and_its_checksum_file() {
    // Guards against a verify that reads 10 GB twice: for what is in them, and for `sha256sum`.
    only_with!(need("strace"));
    let dir = TempDir::new().unwrap();
    let archive = archive(dir.path());
    let size = fs::metadata(&archive).unwrap().len();
    let path = archive.to_str().unwrap();
    let read = bytes_read(&calls(&["verify", path], ".tar.zst>"));
    assert!((size..size + END).contains(&read), "{read} of {size} bytes");
    let to = dir.path().join("copies");
    let from = archive.parent().unwrap().to_str().unwrap();
    // Guards against three downloads for one copy, the second time, too, when it is there already.
    for _ in 0..2 {
        let copy = ["copy", from, to.to_str().unwrap()];
        let read = bytes_read(&calls(&copy, "/backups/etcd-"));
        assert!((size..size + END).contains(&read), "{read} of {size} bytes");
    }
    // What stands beside it is compared all the same, whatever the threads.
    let sum = format!("{path}.sha256");
    let told = fs::read_to_string(&sum).unwrap();
    fs::write(&sum, format!("{}{told}", "0".repeat(64))).unwrap();
    for threads in ["1", "4"] {
        let ran = run(clean(BINARY).args(["verify", "--threads", threads, path])).exits(0);
        let digest = told.split_whitespace().next().unwrap();
        ran.says(&format!("write its first word as {digest}"));
    }
}

#[test]
fn a_list_of_many_archives_opens_each_once_and_reads_its_end_once() {
    // Guards against a list that takes seconds where a year of archives is kept.
    const MANY: usize = 50;
    only_with!(need("strace"));
    let (_dir, data, backups, _) = small_scene();
    let (archive, _) = snapshot(&data, &backups, &[]);
    let name = archive.file_name().unwrap().to_str().unwrap();
    for number in 1..MANY {
        let copy = name.replace("etcd-", &format!("etcd-{number}-"));
        fs::copy(&archive, backups.join(copy)).unwrap();
    }
    let place = backups.to_str().unwrap();
    let found = calls(&["list", place], "etcd-");
    let count = |wanted: &str| found.iter().filter(|(name, _)| name == wanted).count();
    assert_eq!(count("openat"), MANY, "{found:?}");
    assert_eq!(count("pread64"), MANY, "{found:?}");
    assert_eq!(found.len(), 2 * MANY, "{found:?}");
}

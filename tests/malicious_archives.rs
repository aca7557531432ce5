//! Archives made to do harm, with all digests right; and files that are not archives.
//!
//! `verify` and `restore` refuse each with its own message, and the target does not change.

use crate::support::archive_builder::{
    CHAR_DEVICE, Entry, FIFO, Forge, HARD_LINK, Packed, SYMLINK, seal,
};
use crate::support::prelude::*;

/// A scratch directory with an archive of the small member taken apart, and a target that must stay as it is.
struct Bench {
    scratch: TempDir,
    forge: Forge,
    archive: PathBuf,
}

impl Bench {
    fn new() -> Self {
        let (scratch, data, _, _) = small_scene();
        let (archive, _) = snapshot(&data, &scratch.path().join("backups"), &[]);
        fs::create_dir(scratch.path().join("target")).unwrap();
        fs::write(scratch.path().join("target/bystander"), "here first").unwrap();
        Self {
            forge: Forge::of(&archive),
            archive,
            scratch,
        }
    }

    fn write(&self, bytes: &[u8]) -> PathBuf {
        let path = self.scratch.path().join("etcd-forged.tar.zst");
        fs::write(&path, bytes).unwrap();
        path
    }

    fn target(&self) -> PathBuf {
        self.scratch.path().join("target")
    }

    /// The target as it is, but for the directory's own time, which staging inside it moves.
    fn target_tree(&self) -> BTreeMap<PathBuf, Stat> {
        let mut found = tree(&self.target());
        found.get_mut(Path::new("")).unwrap().mtime_ns = 0;
        found
    }

    /// Both commands refuse `archive` with `code` and say `message`; nothing is changed or left.
    #[track_caller]
    fn refused(&self, archive: &Path, code: i32, message: &str) {
        let verified = typed("verify {}", &[&archive]).exits(code);
        assert_tells(&verified, message);
        self.restore_refused(archive, code, message);
    }

    #[track_caller]
    fn restore_refused(&self, archive: &Path, code: i32, message: &str) {
        let before = (self.target_tree(), names(self.scratch.path()));
        for target in [self.target(), self.scratch.path().join("absent")] {
            let restored =
                typed("restore --offline {} --data-dir {}", &[&archive, &target]).exits(code);
            assert_tells(&restored, message);
            restored.says("hint: ");
        }
        assert!(
            before == (self.target_tree(), names(self.scratch.path())),
            "something was changed or left"
        );
    }
}

/// Verdicts of `verify` are on stdout, failures on stderr.
#[track_caller]
fn assert_tells(ran: &Ran, message: &str) {
    assert!(
        ran.stdout.contains(message) || ran.stderr.contains(message),
        "no {message:?} in {ran:#?}"
    );
    let said = format!("{}{}", ran.stdout, ran.stderr);
    assert!(
        !said.contains("panicked") && !said.contains("Error {"),
        "{ran:#?}"
    );
}

/// Changes the archive, seals it again, and expects the refusal.
#[track_caller]
fn forged(message: &str, change: impl FnOnce(&mut Forge)) {
    let mut bench = Bench::new();
    change(&mut bench.forge);
    let path = bench.write(&bench.forge.bytes());
    bench.refused(&path, 4, message);
}

const SECOND: &str = "0000000000000001-000000000000000c.wal";

#[test]
fn an_archive_built_by_hand_is_accepted() {
    // Guards against every other test here: they prove nothing if the forge cannot make what a reader takes.
    let bench = Bench::new();
    let path = bench.write(&bench.forge.bytes());
    typed("verify {}", &[&path]).exits(0);
    let target = bench.target();
    typed("restore --offline {} --data-dir {}", &[&path, &target]).exits(0);
    let restored = tree(&target.join("member"));
    let source = tree(&bench.scratch.path().join("source/member"));
    assert!(restored.keys().eq(source.keys()));
    assert!(
        restored
            .iter()
            .all(|(path, stat)| stat.same_content(&source[path]))
    );
}

#[test]
fn a_seal_made_by_hand_is_the_tools_own() {
    // Guards against a format that is not what its drawing says: the same frames give the same tail.
    let bench = Bench::new();
    let bytes = fs::read(&bench.archive).unwrap();
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let count = word(bytes.len() - 9) as usize;
    let table = bytes.len() - 9 - count * 8;
    let mut offset = 0;
    let mut frames = Vec::new();
    for frame in 0..count - 1 {
        let end = offset + word(table + frame * 8) as usize;
        frames.push(Packed {
            bytes: bytes[offset..end].to_vec(),
            plain: word(table + frame * 8 + 4),
        });
        offset = end;
    }
    assert!(seal(&frames, 1) == bytes);
}

#[test]
fn another_implementation_of_the_seekable_format_reads_any_range() {
    // Guards against a seek table that only this tool understands: Python's pyzstd has a reader of its own.
    only_with!(need_python_module("pyzstd"));
    let recording = crate::support::recordings::unpack("ops-2.1");
    let scratch = TempDir::new().unwrap();
    let (archive, _) = snapshot(&recording.data_dir("ops-2.1"), scratch.path(), &[]);
    let whole = zstd::decode_all(fs::File::open(&archive).unwrap()).unwrap();
    let script = "\
import pyzstd, sys
_, archive, start, end = sys.argv
with pyzstd.SeekableZstdFile(archive) as file:
    file.seek(int(start))
    sys.stdout.buffer.write(file.read(int(end) - int(start)))
";
    for (from, to) in [
        (0, 1),
        (511, 1025),
        (100_000, 100_001),
        (whole.len() - 1024, whole.len()),
    ] {
        let read = Command::new("python3")
            .args(["-c", script])
            .arg(&archive)
            .args([from.to_string(), to.to_string()])
            .output()
            .unwrap();
        assert!(read.stdout == whole[from..to], "{from}..{to}: {read:?}");
    }
}

#[test]
fn a_path_out_of_the_data_dir_is_refused() {
    // Guards against an archive that writes where root may and the operator did not mean to.
    let escapes = [
        ("/etc/cron.d/evil", "an absolute path"),
        ("member/snap/../../../evil", "a path that goes up"),
        ("../evil", "a path that goes up"),
        ("member/evil", "not below member/snap or member/wal"),
        ("member/snap/sub/evil", "not a name that an etcd member has"),
        (
            "member/wal/.etcd-ark-x.staging",
            "not a name that an etcd member has",
        ),
    ];
    for (path, why) in escapes {
        let listed = format!("its manifest names `{path}`: {why}");
        forged(&listed, |forge| forge.add(Entry::file(path, b"evil")));
        let held = format!("it holds `{path}`: {why}");
        forged(&held, |forge| {
            path.clone_into(&mut forge.entry(SECOND).path);
        });
    }
}

#[test]
fn what_is_no_regular_file_is_refused() {
    // Guards against a link through which a later entry, or etcd itself, writes somewhere else.
    let kinds = [
        (SYMLINK, "a symbolic link"),
        (HARD_LINK, "a hard link"),
        (CHAR_DEVICE, "a device"),
        (FIFO, "a pipe"),
        (b'L', "of a kind that etcd-ark does not write"),
        (b'x', "of a kind that etcd-ark does not write"),
    ];
    for (kind, what) in kinds {
        let message = format!(
            "unexpected entry `member/wal/{SECOND}`, {what}; archives contain only regular"
        );
        forged(&message, |forge| {
            let entry = forge.entry(SECOND);
            entry.kind = kind;
            "/etc/passwd".clone_into(&mut entry.link);
        });
    }
}

#[test]
fn entries_twice_out_of_order_missing_or_in_excess_are_refused() {
    // Guards against a file that is checked once and written twice, and against one that is not checked.
    let size = "bytes of tar stream, its frames hold";
    forged(size, |forge| forge.entries.push(forge.entries[4].clone()));
    forged(size, |forge| drop(forge.entries.pop()));
    forged(size, |forge| {
        forge.entries.push(Entry::file("member/wal/extra", b""));
    });
    forged("where its manifest lists", |forge| forge.entries.swap(4, 5));
    forged("it is listed twice", |forge| {
        let again = forge.listed(SECOND).clone();
        forge.manifest["files"].as_array_mut().unwrap().push(again);
        let again = forge.entry(SECOND).clone();
        forge.entries.push(again);
    });
    // In the room of another entry, so that no size gives it away.
    forged("where its manifest lists", |forge| {
        let first = forge.entry("0000000000000000-").path.clone();
        forge.entry(SECOND).path = first;
    });
}

#[test]
fn a_manifest_that_lies_is_refused() {
    // Guards against an archive that says it is from before the upgrade, or of another member, and is not.
    let facts = "the manifest does not match the archived files";
    let lies: [(&[&str], Value); 8] = [
        (&["position", "index"], json!(14)),
        (&["position", "commit"], json!(15)),
        (&["identity", "member_id"], json!("1")),
        (&["identity", "cluster_id"], json!("1")),
        (&["identity", "name"], json!("infra1")),
        (&["cluster_version"], json!("2.0.0")),
        (&["members"], json!([])),
        (&["log_bytes_above_snapshot"], json!(0)),
    ];
    for (path, lie) in lies {
        forged(facts, |forge| {
            let member = &mut forge.manifest["member"];
            *path.iter().fold(member, |value, key| &mut value[*key]) = lie;
        });
    }
    forged(facts, |forge| forge.manifest["sizes"]["data"] = json!(1));
    forged("does not match its SHA-256", |forge| {
        forge.listed(SECOND)["sha256"] = json!("0".repeat(64));
    });
    forged("the mode of", |forge| {
        forge.listed(SECOND)["mode"] = json!(0o777);
    });
    forged("the owner of", |forge| {
        forge.listed(SECOND)["uid"] = json!(4711);
    });
    forged("the time of", |forge| {
        forge.listed(SECOND)["mtime"] = json!("2001-01-01T00:00:00Z");
    });
    forged("the mode of", |forge| {
        forge.manifest["directories"][0]["mode"] = json!(0o777);
    });
    forged("does not list the directories of a member", |forge| {
        forge.manifest["directories"] = json!([]);
    });
    forged("its role and its name do not fit together", |forge| {
        forge.listed(SECOND)["role"] = json!("raft-snapshot");
    });
    forged(
        "its manifest cannot be read: unknown variant `kernel-module`",
        |forge| forge.listed(SECOND)["role"] = json!("kernel-module"),
    );
}

#[test]
fn a_file_larger_or_smaller_than_listed_is_refused() {
    // Guards against bytes that are written although no digest covers them.
    for more in [-1_i64, 1] {
        forged("the size of", |forge| {
            let listed = forge.listed(SECOND);
            let size = listed["size"].as_i64().unwrap();
            assert!(size % 512 > 1, "the blocks stay as many");
            listed["size"] = json!(size + more);
        });
    }
    forged("bytes of tar stream", |forge| {
        forge.entry(SECOND).data.extend_from_slice(&[0; 4096]);
    });
    forged("bytes of tar stream", |forge| {
        forge.listed(SECOND)["size"] = json!(u64::MAX);
    });
    forged("its manifest cannot be read", |forge| {
        forge.listed(SECOND)["size"] = json!(-1);
    });
}

#[test]
fn a_wal_that_is_corrupt_under_right_digests_is_refused() {
    // Guards against trust in digests alone: they may have been made of garbage.
    forged("CRC mismatch (stored 1e268fea", |forge| {
        *forge.entry(SECOND).data.last_mut().unwrap() ^= 1;
        forge.relist();
    });
    forged("record cut short at offset", |forge| {
        forge.entry(SECOND).data.pop();
        forge.relist();
    });
    forged("CRC mismatch", |forge| {
        let half = forge.entry(".snap").data.len() / 2;
        forge.entry(".snap").data[half] ^= 1;
        forge.relist();
    });
}

#[test]
fn what_follows_the_end_is_refused() {
    // Guards against a second archive hidden behind the first, which another tar may read instead.
    forged("data after the end of the tar stream", |forge| {
        forge.behind_end = b"more".to_vec();
    });
    forged("data after the end of the tar stream", |forge| {
        forge
            .behind_manifest
            .push(Entry::file("member/wal/late", b"late"));
    });
    // Also by a command that reads no more than the end.
    let mut bench = Bench::new();
    let late = Entry::file("member/wal/late", b"late");
    bench.forge.behind_manifest.push(late);
    let path = bench.write(&bench.forge.bytes());
    let told = typed("list {}", &[&path.parent().unwrap()]).exits(0);
    assert_tells(&told, "data after the end of the tar stream");
    let bench = Bench::new();
    let mut bytes = bench.forge.bytes();
    bytes.extend_from_slice(b"behind the table");
    bench.refused(&bench.write(&bytes), 4, "no seek table at the end");
    let twice = [bench.forge.bytes(), bench.forge.bytes()].concat();
    bench.refused(
        &bench.write(&twice),
        4,
        "its seek table does not fit the file",
    );
}

#[test]
fn a_later_format_names_what_reads_it() {
    // Guards against guessing at an archive of a release that does not exist yet: refused, not corrupt.
    let mut bench = Bench::new();
    bench.forge.seal_version = 2;
    let path = bench.write(&bench.forge.bytes());
    bench.refused(
        &path,
        3,
        "its seal has version 2, of a later release of etcd-ark than this one",
    );
    bench.forge.seal_version = 1;
    bench.forge.manifest = json!({"format": {"major": 3, "minor": 7}, "files": []});
    let path = bench.write(&bench.forge.bytes());
    bench.refused(&path, 3, "it has format 3.7 and was written by ");
}

#[test]
fn a_frame_that_decompresses_to_more_than_its_table_says_is_refused_in_little_memory() {
    // Guards against a few KiB that fill the machine's memory or disk.
    let bench = Bench::new();
    let bomb = zstd::bulk::compress(&vec![0; 1 << 30], 1).unwrap();
    assert!(bomb.len() < 1 << 17);
    for victim in [0, bench.forge.frames().len() - 1] {
        let mut frames = bench.forge.frames();
        frames[victim].bytes.clone_from(&bomb);
        let path = bench.write(&seal(&frames, 1));
        for command in ["verify", "restore"] {
            let target = bench.target();
            let mut limited = clean("prlimit");
            limited
                .args(["--as=268435456", BINARY, command])
                .arg(&path)
                .args(["--threads", "1"]);
            if command == "restore" {
                limited.args(["--offline", "--data-dir"]).arg(&target);
            }
            let ran = run(&mut limited).exits(4);
            assert_tells(&ran, &format!("frame {victim} "));
            assert_tells(&ran, "claims to hold");
        }
        bench.restore_refused(&path, 4, "claims to hold");
        // One that is small enough to be a frame, and still holds more than it says.
        let mut frames = bench.forge.frames();
        frames[victim].bytes = zstd::bulk::compress(&vec![0; 8 << 20], 1).unwrap();
        let path = bench.write(&seal(&frames, 1));
        bench.refused(&path, 4, "does not decompress to");
    }
    assert_eq!(names(&bench.target()), ["bystander"]);
}

#[test]
fn a_table_that_claims_a_huge_frame_is_refused_before_anything_is_allocated() {
    // Guards against four bytes that ask for 4 GiB of memory.
    let bench = Bench::new();
    let mut frames = bench.forge.frames();
    frames[0].plain = u32::MAX;
    let path = bench.write(&seal(&frames, 1));
    bench.refused(&path, 4, "frame 0 claims to hold 4294967295 bytes");
}

/// The end of an archive of the seekable format, with `frames` for its number of frames.
pub(crate) fn table_footer(frames: u32) -> [u8; 9] {
    let mut footer = [0, 0, 0, 0, 0, 0xb1, 0xea, 0x92, 0x8f];
    footer[..4].copy_from_slice(&frames.to_le_bytes());
    footer
}

#[test]
fn a_rotten_archive_of_a_gigabyte_costs_no_memory_and_stops_no_backup_and_no_check_of_the_others() {
    // Guards against a run that is killed for its memory, every night, for four damaged bytes in a file of last year.
    let bench = Bench::new();
    let backups = bench.scratch.path().join("backups");
    for (number, frames) in [1 << 24, (1 << 27) - 1, u32::MAX].into_iter().enumerate() {
        let path = backups.join(format!("etcd-small-2020010{number}T000000.000Z.tar.zst"));
        let mut rotten = fs::File::create(&path).unwrap();
        rotten.set_len((1 << 30) - 9).unwrap();
        std::io::Seek::seek(&mut rotten, std::io::SeekFrom::End(0)).unwrap();
        std::io::Write::write_all(&mut rotten, &table_footer(frames)).unwrap();
    }
    let data = bench.scratch.path().join("source");
    let sound = bench.archive.file_name().unwrap().to_str().unwrap();
    let dir = backups.to_str().unwrap();
    let newer = [
        "snapshot",
        "--backup-dir",
        dir,
        "--data-dir",
        data.to_str().unwrap(),
    ];
    for (args, code) in [
        (&["list", dir][..], 0),
        (&["status", dir], 1),
        (&["verify", dir], 4),
        (&["prune", dir, "--keep-last=1"], 0),
        (&[&newer[..], &["--if-changed"]].concat(), 0),
        (&newer, 0),
    ] {
        let mut limited = clean("prlimit");
        limited.args(["--as=268435456", BINARY]).args(args);
        let ran = run(&mut limited).exits(code);
        let said = format!("{}{}", ran.stdout, ran.stderr);
        let names_one = said.contains("its seek table does not fit the file");
        assert!(args[0] == "snapshot" || names_one, "{ran:#?}");
        let names_all = matches!(args[0], "list" | "verify");
        assert!(!names_all || said.contains(sound), "{ran:#?}");
    }
    // They are kept: nothing allows their removal.
    let left = names(&backups);
    let rotten = left.iter().filter(|name| name.contains("-2020"));
    assert_eq!(rotten.count(), 3, "{left:?}");
}

#[test]
fn sizes_that_do_not_add_up_are_refused() {
    // Guards against offsets computed from a table that lies.
    let bench = Bench::new();
    let mut frames = bench.forge.frames();
    frames[0].plain -= 1;
    bench.refused(
        &bench.write(&seal(&frames, 1)),
        4,
        "bytes of tar stream, its frames hold",
    );
    frames[0].plain += 1;
    let first = frames.remove(0);
    bench.refused(
        &bench.write(&seal(&frames, 1)),
        4,
        "bytes of tar stream, its frames hold",
    );
    bench.refused(
        &bench.write(&seal(&[first], 1)),
        4,
        "its last frame does not hold manifest.json",
    );
    bench.refused(
        &bench.write(&seal(&[], 1)),
        4,
        "its last frame does not hold manifest.json",
    );
}

#[test]
fn a_manifest_of_junk_is_refused_quickly() {
    // Guards against a parser that recurses or allocates without bound on what a stranger wrote.
    let unreadable = "its manifest cannot be read";
    let junk: [Vec<u8>; 4] = [
        vec![b'x'; 10 << 20],
        vec![b'['; 10 << 20],
        [b"{\"format\":".to_vec(), vec![b'{'; 10 << 20]].concat(),
        Vec::new(),
    ];
    for raw in junk {
        forged(unreadable, |forge| forge.raw_manifest = Some(raw));
    }
    forged("claims to hold", |forge| {
        forge.raw_manifest = Some(vec![b' '; 17 << 20]);
    });
}

#[test]
fn what_is_no_archive_is_said_to_be_none() {
    // Guards against a stack trace, or worse a restore, from a file that was never an archive.
    let bench = Bench::new();
    let none = "no seek table at the end: it is truncated, or etcd-ark did not make it";
    bench.refused(&bench.write(b""), 4, none);
    bench.refused(&bench.write(b"short"), 4, none);
    let random: Vec<u8> = (0..100_000_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    bench.refused(&bench.write(&random), 4, none);
    tool(
        bench.scratch.path(),
        "tar",
        &["--zstd", "-cf", "etcd-forged.tar.zst", "source"],
    );
    bench.refused(&bench.scratch.path().join("etcd-forged.tar.zst"), 4, none);

    // A stranger's seekable zstd file has a table, but no seal.
    let table: Vec<u8> = [0x184D_2A5E_u32, 17, 0, 0, 1]
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .collect();
    let foreign = [
        vec![0; 100],
        table,
        vec![0],
        0x8F92_EAB1_u32.to_le_bytes().to_vec(),
    ]
    .concat();
    bench.refused(&bench.write(&foreign), 4, "no seal before the seek table");
    let mut many = foreign;
    let at = many.len() - 9;
    many[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    bench.refused(
        &bench.write(&many),
        4,
        "its seek table does not fit the file",
    );
    many[at..at + 4].copy_from_slice(&0_u32.to_le_bytes());
    bench.refused(
        &bench.write(&many),
        4,
        "its seek table does not fit the file",
    );
}

#[test]
fn a_directory_named_like_an_archive_is_none() {
    // Guards against `restore` of a directory that a glob picked up.
    let bench = Bench::new();
    let path = bench.scratch.path().join("etcd-forged.tar.zst");
    fs::create_dir(&path).unwrap();
    typed("verify {}", &[&path])
        .exits(10)
        .says("no archives and no member in");
    bench.restore_refused(&path, 2, "is a directory, not an archive");
}

#[test]
fn a_pipe_named_like_an_archive_holds_no_run_up() {
    // Guards against a `list`, `verify` or `restore` that waits for ever for someone to write into it.
    let bench = Bench::new();
    let path = bench.scratch.path().join("etcd-forged.tar.zst");
    tool(bench.scratch.path(), "mkfifo", &["etcd-forged.tar.zst"]);
    bench.refused(&path, 2, "is not a regular file");
    typed("list {}", &[&bench.scratch.path()])
        .exits(0)
        .says("is not a regular file");
}

#[test]
fn a_directory_of_a_mode_that_none_has_is_refused() {
    // Guards against an archive that opens and is listed, though no tar header can hold what its manifest says.
    for mode in [0o10_700, 0o40_700, 44_800_000] {
        forged(
            "its manifest names `member/wal/`: a mode that no directory has",
            |forge| forge.manifest["directories"][2]["mode"] = json!(mode),
        );
    }
}

#[test]
fn a_file_that_would_run_as_its_owner_is_refused() {
    // Guards against a program with the setuid bit, put in place by a restore that root runs.
    for mode in [0o4755, 0o2755, 0o1600, 0o170_600] {
        let mut program = Entry::file("member/snap/program", b"#!/bin/sh");
        program.mode = mode;
        forged(
            "its manifest names `member/snap/program`: a mode that no file of an etcd member has",
            |forge| forge.add(program),
        );
    }
}

#[test]
fn a_list_of_digests_that_is_not_the_manifests_is_refused() {
    // Guards against an archive that `sha256sum -c` calls damaged, or whole, and this tool the other way round.
    let bench = Bench::new();
    let entries = bench
        .forge
        .entries
        .iter()
        .filter(|entry| !entry.data.is_empty());
    let sums: Vec<_> = entries
        .map(|entry| format!("{}  {}\n", hex(&entry.data), entry.path))
        .collect();
    let right = sums.concat();
    let other = right.replacen(
        &right[..1],
        if right.starts_with('0') { "1" } else { "0" },
        1,
    );
    let longer = format!("{right}{}", sums[0]);
    let without_last = sums[..sums.len() - 1].concat();
    for wrong in [other, longer, without_last, String::new()] {
        let mut forge = bench.forge.clone();
        forge.raw_sums = Some(wrong.clone());
        let archive = bench.write(&forge.bytes());
        let ran = typed("verify {}", &[&archive]).exits(4);
        assert!(!ran.stderr.is_empty(), "{wrong}: {ran:#?}");
    }
    let mut forge = bench.forge.clone();
    forge.raw_sums = Some(right);
    let archive = bench.write(&forge.bytes());
    typed("verify {}", &[&archive]).exits(0);
}

fn hex(bytes: &[u8]) -> String {
    etcd_ark::etcd::digest::Digest::of(bytes).to_string()
}

#[test]
fn what_a_forged_manifest_says_moves_no_cursor_and_begins_no_line() {
    // Guards against a name of another program that repaints the terminal, or that ends a line and writes a verdict.
    let mut bench = Bench::new();
    let evil = "x\u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}2J\nOK all is well\r";
    bench.forge.manifest["tool"]["name"] = evil.into();
    bench.forge.manifest["labels"] = serde_json::json!([evil]);
    bench.forge.manifest["warnings"] = serde_json::json!([evil]);
    let path = bench.write(&bench.forge.bytes());
    for args in [
        &["inspect"][..],
        &["list"],
        &["-v", "verify"],
        &["-v", "status"],
    ] {
        let mut args: Vec<&OsStr> = args.iter().map(OsStr::new).collect();
        let dir = path.parent().unwrap();
        args.push(
            if args.iter().any(|arg| *arg == "list" || *arg == "status") {
                dir.as_os_str()
            } else {
                path.as_os_str()
            },
        );
        let ran = ark(args);
        for text in [&ran.stdout, &ran.stderr] {
            let is_odd = |c: char| c.is_control() && c != '\n';
            assert!(!text.contains(is_odd), "{ran:#?}");
            assert!(
                !text.lines().any(|line| line.starts_with("OK all")),
                "{ran:#?}"
            );
        }
    }
}

#[test]
fn a_leftover_never_comes_back_under_a_name_that_etcd_loads() {
    // etcd reads by names: a leftover called like the newest raft snapshot is one.
    let mut bench = Bench::new();
    let newer = "00000000000000ff-00000000000000ff.snap";
    for (path, data) in [
        (format!("member/snap/{newer}"), "not what was verified"),
        ("member/snap/zzz.snap".to_owned(), "nor this"),
        (
            "member/wal/00000000000000ff-00000000000000ff.wal".to_owned(),
            "nor that",
        ),
        ("member/snap/notes.txt".to_owned(), "as it was"),
    ] {
        bench.forge.add(Entry::file(&path, data.as_bytes()));
    }
    let path = bench.write(&bench.forge.bytes());
    let data_dir = bench.scratch.path().join("restored");
    typed("restore --offline {} --data-dir {}", &[&path, &data_dir]).exits(0);
    let (snap, wal) = (data_dir.join("member/snap"), data_dir.join("member/wal"));
    let mut found = names(&snap);
    found.extend(names(&wal));
    let is_loaded = |ending: &str| ending == "snap" || ending == "wal";
    let loaded = |name: &&String| name.rsplit('.').next().is_some_and(is_loaded);
    assert_eq!(found.iter().filter(loaded).count(), 3, "{found:?}");
    for name in [
        &format!("{newer}.leftover"),
        "zzz.snap.leftover",
        "notes.txt",
    ] {
        assert!(snap.join(name).exists(), "{found:?}");
    }
}

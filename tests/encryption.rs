//! Archives that only the holder of a key can read, compared with the `age` program.

use crate::support::prelude::*;
use crate::support::tools;

struct Place {
    dir: TempDir,
    key: String,
    recipient: String,
}

impl Place {
    fn new() -> Option<Self> {
        if !tools::need("age") {
            return None;
        }
        let dir = TempDir::new().unwrap();
        copy_dir(
            Path::new("testdata/infra0.etcd"),
            &dir.path().join("infra0.etcd"),
        );
        let (key, recipient) = keygen(dir.path(), "key");
        Some(Self {
            dir,
            key,
            recipient,
        })
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    fn snapshot(&self) -> String {
        let told = typed(
            "--json snapshot --data-dir {} --backup-dir {} --label pre-upgrade --recipient {}",
            &[
                &self.path("infra0.etcd"),
                &self.path("backups"),
                &self.recipient,
            ],
        )
        .exits(0)
        .json();
        told["archive"].as_str().unwrap().to_owned()
    }

    fn restore(&self, archive: &str, key: Option<&str>) -> Ran {
        let target = self.path("restored.etcd");
        let mut args = vec!["restore", archive, "--offline", "--data-dir", &target];
        args.extend(key.into_iter().flat_map(|key| ["--identity", key]));
        ark(args)
    }

    fn same_as_source(&self, restored: &Path) {
        let content = |dir: &Path| -> Vec<_> {
            let files = tree(&dir.join("member")).into_iter();
            files
                .filter(|(_, stat)| stat.len > 0)
                .map(|(path, stat)| (path, stat.sha256))
                .collect()
        };
        // The live set: all but the older raft snapshot.
        let source = content(&self.dir.path().join("infra0.etcd"));
        let found = content(restored);
        assert!(!found.is_empty() && found.iter().all(|file| source.contains(file)));
    }
}

/// A key file and the recipient that belongs to it.
pub(crate) fn keygen(dir: &Path, name: &str) -> (String, String) {
    let key = dir.join(name).to_str().unwrap().to_owned();
    program("age-keygen", ["-o", &key]).exits(0);
    let recipient = program("age-keygen", ["-y", &key]).exits(0).stdout;
    (key, recipient.trim().to_owned())
}

#[test]
fn what_is_encrypted_here_the_age_program_reads() {
    let Some(place) = Place::new() else { return };
    let archive = place.snapshot();
    assert!(archive.ends_with(".tar.zst.age"), "{archive}");
    let name = archive.rsplit('/').next().unwrap();
    assert_eq!(
        names(Path::new(&place.path("backups"))),
        [name, &format!("{name}.json"), &format!("{name}.sha256")]
    );
    let script = "cd \"$1\" && sha256sum -c *.sha256 && mkdir out && age -d -i \"$2\" *.age | tar --zstd -x -C out && cd out && sha256sum -c SHA256SUMS";
    program(
        "sh",
        ["-euc", script, "sh", &place.path("backups"), &place.key],
    )
    .exits(0);
    place.same_as_source(Path::new(&place.path("backups/out")));
    place.restore(&archive, Some(&place.key)).exits(0);
    place.same_as_source(Path::new(&place.path("restored.etcd")));
}

#[test]
fn what_the_age_program_encrypted_is_read_here() {
    let Some(place) = Place::new() else { return };
    typed(
        "snapshot --data-dir {} --backup-dir {}",
        &[&place.path("infra0.etcd"), &place.path("plain")],
    )
    .exits(0);
    let plain = tools::archives_in(Path::new(&place.path("plain"))).remove(0);
    let by_hand = place.path("by-hand.tar.zst.age");
    let seal = |flags: &str, to: &str| {
        let words = words(
            &format!("{flags} {{}} -o {{}} {{}}"),
            &[&place.recipient, &to, &plain],
        );
        program("age", words).exits(0);
    };
    seal("-r", &by_hand);
    place.restore(&by_hand, Some(&place.key)).exits(0);
    place.same_as_source(Path::new(&place.path("restored.etcd")));
    for command in ["verify", "inspect", "keys"] {
        ark([command, &by_hand, "-i", &place.key]).exits(0);
    }
    let plain_keys = ark(["--json", "keys", plain.to_str().unwrap()])
        .exits(0)
        .stdout;
    assert_eq!(
        ark(["--json", "keys", &by_hand, "-i", &place.key])
            .exits(0)
            .stdout,
        plain_keys
    );
    // With ASCII armor, the error says what it is.
    let armored = place.path("armored.tar.zst.age");
    seal("-a -r", &armored);
    ark(["verify", &armored, "-i", &place.key])
        .exits(2)
        .says("armored");
}

#[test]
fn without_a_key_it_is_listed_and_its_ciphertext_proven_and_nothing_else() {
    let Some(place) = Place::new() else { return };
    let archive = place.snapshot();
    let told = ark(["--json", "list", &place.path("backups")])
        .exits(0)
        .json();
    let listed = &told["archives"][0];
    assert_eq!(listed["encrypted"], true);
    assert_eq!(listed["position"]["raft_index"], 250);
    assert_eq!(listed["labels"], json!(["pre-upgrade"]));
    let verified = ark(["--json", "verify", &archive]).exits(0).json();
    assert_has(&verified["targets"][0]["notes"][0], "--identity");
    ark(["status", &place.path("backups")]).exits(0);
    for command in ["inspect", "keys"] {
        ark([command, &archive])
            .exits(2)
            .says("no identity was given");
    }
    place
        .restore(&archive, None)
        .exits(2)
        .says("no identity was given");
    ark(["verify", "--deep", &archive])
        .exits(2)
        .says("is encrypted: --deep reads its content");
    let (other, _) = keygen(place.dir.path(), "other");
    // It may well be whole, for the holder of the key.
    place
        .restore(&archive, Some(&other))
        .exits(3)
        .says(&format!(
            "`{archive}` cannot be opened: it is encrypted for none of the identities"
        ))
        .says("without --identity checks whether it is undamaged");
    let several = ark(["verify", &archive, &archive, "-i", &other]).exits(3);
    let several = several.says("hint: pass the private key of a recipient");
    assert!(!several.stderr.contains("--quiet"), "{several:#?}");
    place
        .restore(&archive, Some(&place.path("missing")))
        .exits(2)
        .says("what --identity names cannot be read");
    let no_key = place.path("no-key");
    fs::write(&no_key, "correct horse battery staple\n").unwrap();
    let ran = place.restore(&archive, Some(&no_key)).exits(2);
    assert!(
        !ran.stderr.contains("battery"),
        "a key file's content is nobody's business: {ran:?}"
    );
    assert!(!Path::new(&place.path("restored.etcd")).exists());
    // The sidecar tells no URL, no file and no key of the store.
    let sidecar = fs::read_to_string(format!("{archive}.json")).unwrap();
    for secret in ["http", "member/", "/1/", "infra1"] {
        assert!(!sidecar.contains(secret), "{secret} in {sidecar}");
    }
}

#[test]
fn a_key_from_a_pipe_restores_without_having_been_on_the_disk() {
    // Guards operations.md's way to restore on a node that must not keep the key.
    let Some(place) = Place::new() else { return };
    let (archive, target) = (place.snapshot(), place.path("restored.etcd"));
    let script = format!(
        "cat '{}' | '{BINARY}' restore '{archive}' --offline --data-dir '{target}' --identity /dev/stdin",
        place.key
    );
    run(clean("sh").args(["-c", &script])).exits(0);
    place.same_as_source(Path::new(&target));
}

#[test]
fn a_recipient_that_is_none_is_wrong_usage_and_leaves_nothing() {
    let Some(place) = Place::new() else { return };
    let backups = place.path("backups");
    let base = [
        "snapshot",
        "--data-dir",
        &place.path("infra0.etcd"),
        "--backup-dir",
        &backups,
    ]
    .map(str::to_owned);
    let run = |flags: [&str; 2]| ark(base.iter().map(String::as_str).chain(flags));
    run(["--recipient", "age1nonsense"])
        .exits(2)
        .says("age1nonsense");
    let file = place.path("recipients");
    fs::write(&file, format!("# ours\n{}\nnonsense\n", place.recipient)).unwrap();
    run(["-R", &file]).exits(2).says("line 3");
    fs::write(&file, "# nobody yet\n").unwrap();
    run(["-R", &file])
        .exits(2)
        .says("names no recipient")
        .says("age-keygen -y");
    assert!(!Path::new(&backups).exists());
    fs::write(&file, format!("# ours\n{}\n", place.recipient)).unwrap();
    run(["-R", &file]).exits(0);
}

#[test]
fn a_recipient_that_came_out_empty_leaves_nothing_in_the_open() {
    // Guards against a script that did not find its key, and an unencrypted archive because of that.
    let dir = TempDir::new().unwrap();
    let backups = dir.path().join("backups");
    let config = dir.path().join("ark.toml");
    let command = || {
        let mut command = clean(BINARY);
        command.args(["--config", config.to_str().unwrap(), "snapshot"]);
        command.args(["--data-dir", "testdata/infra0.etcd", "--backup-dir"]);
        command.arg(&backups);
        command
    };
    fs::write(&config, "").unwrap();
    for name in ["ETCD_ARK_RECIPIENT", "ETCD_ARK_RECIPIENTS_FILE"] {
        run(command().env(name, ""))
            .exits(2)
            .says("nothing would be encrypted");
    }
    for key in ["recipient", "recipients-file"] {
        for value in ["\"\"", "[]", "[\"\"]"] {
            fs::write(&config, format!("[snapshot]\n{key} = {value}\n")).unwrap();
            run(&mut command()).exits(2).says("names no recipient");
        }
    }
    assert!(!backups.exists());
}

#[test]
fn a_header_without_an_end_is_refused_before_it_costs_anything() {
    let Some(place) = Place::new() else { return };
    let archive = place.path("etcd-endless.tar.zst.age");
    for line in ["-> X25519 AAAA\nAAAA\n", "-> ", "A"] {
        let header = format!("age-encryption.org/v1\n{}", line.repeat(200_000));
        fs::write(&archive, header).unwrap();
        ark(["verify", "--identity", &place.key, &archive])
            .exits(4)
            .says("does not end within 65536 bytes");
    }
    let many = format!("{}\n", place.recipient).repeat(501);
    let file = place.path("many");
    fs::write(&file, many).unwrap();
    let data_dir = place.path("infra0.etcd");
    let backups = place.path("backups");
    let line = "snapshot --data-dir {} --backup-dir {} -R {}";
    typed(line, &[&data_dir, &backups, &file])
        .exits(2)
        .says("501 recipients");
    // As many as can be read back.
    let many = format!("{}\n", place.recipient).repeat(500);
    fs::write(&file, many).unwrap();
    let told = typed(&format!("--json {line}"), &[&data_dir, &backups, &file]);
    let told = told.exits(0).json();
    let archive = told["archive"].as_str().unwrap();
    ark(["verify", "--identity", &place.key, archive]).exits(0);
}

#[test]
fn every_cut_and_every_flip_is_found_with_the_key_and_without() {
    let Some(place) = Place::new() else { return };
    let archive = place.snapshot();
    let whole = fs::read(&archive).unwrap();
    let cut = place.path("cut.tar.zst.age");
    let header = whole.windows(4).position(|four| four == b"\n---").unwrap();
    // In the header, behind it, in a chunk, one byte short.
    for length in [
        0,
        10,
        header,
        header + 60,
        header + 80,
        whole.len() / 2,
        whole.len() - 1,
    ] {
        fs::write(&cut, &whole[..length]).unwrap();
        let code = ark(["verify", &cut, "-i", &place.key]).code;
        assert_eq!(code, 4, "cut at {length} of {}", whole.len());
    }
    for at in (0..whole.len()).step_by(97).chain([header + 60]) {
        let mut flipped = whole.clone();
        flipped[at] ^= 1;
        fs::write(&archive, &flipped).unwrap();
        let without = ark(["verify", &archive]);
        assert_eq!(without.code, 4, "without a key, flipped at {at}");
        assert!(
            !without.stdout.contains("verified") && !without.stderr.contains("verified"),
            "{without:#?}"
        );
        // A stanza that is damaged looks like one for someone else; the sidecar knows better.
        let code = place.restore(&archive, Some(&place.key)).code;
        assert_eq!(code, 4, "flipped at {at}");
        assert!(
            !Path::new(&place.path("restored.etcd")).exists(),
            "flipped at {at}"
        );
    }
}

#[test]
fn a_stream_cut_at_a_chunk_is_no_shorter_archive() {
    let Some(place) = Place::new() else { return };
    // Chunks of 64 KiB and 16 bytes of tag: a file with several of them.
    let noise: Vec<u8> = (0..1_u32 << 18)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    let leftover = place
        .dir
        .path()
        .join("infra0.etcd/member/snap/0000000000000001-0000000000000001.snap.broken");
    fs::write(leftover, noise).unwrap();
    let told = typed(
        "--json snapshot --all --data-dir {} --backup-dir {} --recipient {}",
        &[
            &place.path("infra0.etcd"),
            &place.path("backups"),
            &place.recipient,
        ],
    )
    .exits(0)
    .json();
    let archive = told["archive"].as_str().unwrap();
    ark(["verify", archive, "-i", &place.key]).exits(0);
    let whole = fs::read(archive).unwrap();
    let mac = whole.windows(5).position(|five| five == b"\n--- ").unwrap();
    let body = mac
        + 1
        + whole[mac + 1..]
            .iter()
            .position(|&byte| byte == b'\n')
            .unwrap()
        + 1
        + 16;
    let chunk = (64 << 10) + 16;
    let cut = place.path("cut.tar.zst.age");
    let chunks = (whole.len() - body).div_ceil(chunk);
    assert!(chunks > 4, "{chunks}");
    for kept in [1, 2, chunks - 1] {
        fs::write(&cut, &whole[..body + kept * chunk]).unwrap();
        ark(["verify", &cut, "-i", &place.key])
            .exits(4)
            .says("cut short");
    }
    // Two chunks that changed places.
    let mut swapped = whole.clone();
    let (one, other) = (body + chunk, body + 2 * chunk);
    swapped[one..other].copy_from_slice(&whole[other..other + chunk]);
    swapped[other..other + chunk].copy_from_slice(&whole[one..other]);
    fs::write(&cut, swapped).unwrap();
    ark(["verify", &cut, "-i", &place.key]).exits(4);
}

#[test]
fn a_sidecar_that_lies_or_is_nonsense_is_found() {
    let Some(place) = Place::new() else { return };
    let archive = place.snapshot();
    let sidecar = format!("{archive}.json");
    let honest: Value = serde_json::from_slice(&fs::read(&sidecar).unwrap()).unwrap();
    let lies: [(&str, Value); 4] = [
        (
            "identity",
            json!({"cluster_id": "1", "member_id": "2", "name": "x"}),
        ),
        ("labels", json!([])),
        ("cluster_version", json!("2.2.0")),
        ("created", json!("2001-01-01T00:00:00Z")),
    ];
    for (field, lie) in lies {
        let mut told = honest.clone();
        told[field] = lie;
        fs::write(&sidecar, told.to_string()).unwrap();
        place
            .restore(&archive, Some(&place.key))
            .exits(4)
            .says("sidecar")
            .says("once the `.json` beside it is moved away");
    }
    let mut other_digest = honest.clone();
    other_digest["sha256"] = json!("0".repeat(64));
    fs::write(&sidecar, other_digest.to_string()).unwrap();
    ark(["verify", &archive]).exits(4);
    // Nor does it pass with the key, while all who have none call the archive corrupt.
    ark(["verify", &archive, "-i", &place.key]).exits(4);
    let nonsense = [
        String::new(),
        "{".to_owned(),
        "[".repeat(100_000),
        json!({"format": 2}).to_string(),
        json!({"format": 1}).to_string(),
        format!("{{\"format\":1,\"x\":\"{}\"}}", "x".repeat(5 << 20)),
    ];
    for text in nonsense {
        fs::write(&sidecar, &text).unwrap();
        let told = ark(["--json", "list", &place.path("backups")])
            .exits(0)
            .json();
        assert_eq!(
            told["problems"].as_array().unwrap().len(),
            1,
            "{}",
            &text[..text.len().min(40)]
        );
        let code = ark(["verify", &archive]).code;
        assert!([1, 4].contains(&code), "{code}");
    }
    fs::write(&sidecar, honest.to_string()).unwrap();
    place.restore(&archive, Some(&place.key)).exits(0);
}

#[test]
fn a_copy_takes_the_sidecar_along_and_prune_and_remove_know_it() {
    let Some(place) = Place::new() else { return };
    place.snapshot();
    let (from, to) = (place.path("backups"), place.path("copies"));
    ark(["copy", &from, &to]).exits(0);
    let all = names(Path::new(&from));
    assert_eq!(names(Path::new(&to)), all);
    ark(["verify", &to]).exits(0);
    // A run that was killed left it without what belongs beside it.
    for side in &all[1..] {
        fs::remove_file(Path::new(&to).join(side)).unwrap();
    }
    let again = ark(["--json", "copy", &from, &to]).exits(0).json();
    assert_eq!(again["already_there"], 1);
    assert_eq!(names(Path::new(&to)), all);
    // A damaged one is not passed on.
    let archive = PathBuf::from(&from).join(&all[0]);
    flip(&archive, 500);
    ark(["copy", &from, &place.path("third")]).exits(4);
    assert_eq!(names(Path::new(&place.path("third"))), [""; 0]);
}

//! The JSON of every command, on the recordings: its fields are those of the table in docs/reference.md, and the rules
//! above that table hold.
//!
//! Guards against a field that is renamed in one command only, and against a documented field that no command writes.

use std::fmt::Write as _;

use crate::support::prelude::*;

/// What is the same wherever it stands, and told once; or is not ours: what etcd answers, what an archive's manifest holds.
const SHAPES: [&str; 10] = [
    "member",
    "position",
    "raft_snapshot",
    "starts",
    "starts_why",
    "node",
    "manifest",
    "facts",
    "gate",
    "pruned",
];

/// The fields of an object, with those of the objects in them.
#[derive(Default)]
struct Fields(BTreeMap<String, Fields>);

impl Fields {
    fn add(&mut self, value: &Value) {
        for (name, inner) in value.as_object().into_iter().flatten() {
            let is_shape = SHAPES.contains(&name.as_str());
            let (name, inner) = match inner {
                Value::Array(all) => (format!("{name}[]"), all.as_slice()),
                one => (name.clone(), std::slice::from_ref(one)),
            };
            let fields = self.0.entry(name).or_default();
            for inner in inner.iter().filter(|_| !is_shape) {
                fields.add(inner);
            }
        }
    }

    fn text(&self) -> String {
        let mut fields: Vec<_> = self.0.iter().collect();
        // What is null in one run and an object or a list in another is listed once, as the latter.
        fields.retain(|(name, inner)| {
            !inner.0.is_empty() || !self.0.contains_key(&format!("{name}[]"))
        });
        let texts = fields.iter().map(|(name, inner)| {
            if inner.0.is_empty() {
                (*name).clone()
            } else {
                format!("{name} {{{}}}", inner.text())
            }
        });
        texts.collect::<Vec<_>>().join(", ")
    }
}

/// Every command's answers, and where they are made.
struct Scene {
    dir: TempDir,
    story: Recording,
    answers: BTreeMap<&'static str, Fields>,
}

impl Scene {
    /// The JSON of a run that ends as it must, of a line with `{}` for each of `values`; without the fields that every error has.
    #[track_caller]
    fn run(&mut self, command: &'static str, code: i32, line: &str, values: &[&str]) -> Value {
        let mut values = values.iter().copied();
        let words = line.split(' ').filter(|word| !word.is_empty());
        let words = words.map(|word| {
            if word == "{}" {
                values.next().unwrap()
            } else {
                word
            }
        });
        let all = ["--json"].into_iter().chain(command.split(' '));
        let ran = ark(all.chain(words)).exits(code);
        let told = ran.json();
        self.take(command, &told);
        if !ran.stderr.is_empty() {
            self.take("an error", &ran.json_error());
        }
        told
    }

    fn take(&mut self, command: &'static str, told: &Value) {
        promised(command, "", told);
        self.answers.entry(command).or_default().add(told);
    }

    fn data_dir(&self, name: &str) -> String {
        text(&self.story.data_dir(name))
    }

    fn path(&self, name: &str) -> String {
        text(&self.dir.path().join(name))
    }
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// Fails unless instants, sizes and spans are called what they are.
fn promised(command: &str, name: &str, value: &Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                // Not ours.
                if !["manifest", "facts", "node"].contains(&name.as_str()) {
                    promised(command, name, value);
                }
            }
        }
        Value::Array(all) => all.iter().for_each(|value| promised(command, name, value)),
        Value::String(text) => {
            let is_instant = text.parse::<jiff::Timestamp>().is_ok();
            // What etcd itself calls `expiration` keeps that name.
            let is_called = name.ends_with("_at") || name == "expiration";
            assert!(!is_instant || is_called, "{command}: {name} is {text}");
            assert!(
                !is_instant || text.ends_with('Z'),
                "{command}: {name} is {text}"
            );
        }
        _ => assert!(!name.ends_with("size"), "{command}: {name} is in bytes"),
    }
}

#[test]
fn the_table_of_json_in_the_reference_is_what_the_commands_write() {
    let mut scene = Scene {
        dir: TempDir::new().unwrap(),
        story: unpack("upgrade-story"),
        answers: BTreeMap::new(),
    };
    backups(&mut scene);
    stores(&mut scene);
    upgrade(&mut scene);
    tools(&mut scene);
    let mut expected = "| command | fields |\n|---|---|\n".to_owned();
    for (command, fields) in &scene.answers {
        let command = if *command == "an error" {
            "an error".to_owned()
        } else {
            format!("`{command}`")
        };
        writeln!(expected, "| {command} | {} |", fields.text()).unwrap();
    }
    let reference = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference.md");
    let reference = fs::read_to_string(reference).unwrap();
    let (_, table) = reference.split_once("<!-- json -->\n").unwrap();
    let (table, _) = table.split_once("<!-- end of json -->").unwrap();
    let is_run = |row: &&str| !row.starts_with("| `drill`") || scene.answers.contains_key("drill");
    let rows: Vec<_> = table.split_inclusive('\n').filter(is_run).collect();
    assert!(
        rows.concat() == expected,
        "docs/reference.md should have:\n{expected}"
    );
}

fn backups(scene: &mut Scene) {
    let (source, backups) = (scene.data_dir("2-backup-infra0"), scene.path("backups"));
    let places = "--data-dir {} --backup-dir {}";
    let both = [&*source, &*backups];
    let first = scene.run("snapshot", 0, places, &both);
    let archive = first["archive"].as_str().unwrap().to_owned();
    for more in ["--if-changed --keep-last 9", "--dry-run"] {
        scene.run("snapshot", 0, &format!("{places} {more}"), &both);
    }
    scene.run("list", 0, "{}", &[&backups]);
    scene.run("list", 0, "--history {}", &[&backups]);
    scene.run("status", 0, "{}", &[&backups]);
    let new = scene.path("new");
    scene.run(
        "restore",
        0,
        "{} --dry-run --data-dir {}",
        &[&archive, &new],
    );
    // Of one in two places the copy is another.
    let to = scene.path("to");
    scene.run("copy", 0, "{} {}", &[&backups, &to]);
    let name = Path::new(&archive).file_name().unwrap();
    fs::write(Path::new(&to).join(name), "another one").unwrap();
    scene.run("copy", 3, "{} {}", &[&backups, &to]);
    // One that cannot be opened, and the rest of a killed run.
    let torn = Path::new(&backups).join("etcd-torn-20261127T061424.149Z-00000000000000fa.tar.zst");
    fs::write(&torn, "torn").unwrap();
    let gone = "etcd-gone-20261127T061424.149Z-00000000000000fa.tar.zst.sha256";
    fs::write(Path::new(&backups).join(gone), "").unwrap();
    scene.run("list", 0, "{}", &[&backups]);
    scene.run("prune", 0, "{} --keep-last 1 --dry-run", &[&backups]);
    scene.run("verify", 4, "{} {}", &[&archive, &text(&torn)]);
    scene.run("verify", 0, "--deep {}", &[&source]);
    scene.run("inspect", 0, "{}", &[&archive]);
}

fn stores(scene: &mut Scene) {
    let (before, after) = (
        scene.data_dir("2-backup-infra0"),
        scene.data_dir("3-after-upgrade-infra0"),
    );
    scene.run("keys", 0, "{} /app/config", &[&before]);
    scene.run("diff", 1, "{} {}", &[&before, &after]);
    scene.run("inspect", 0, "{}", &[&after]);
    // A torn tail, a bad raft snapshot and what a crash leaves.
    let damaged = PathBuf::from(scene.path("damaged"));
    copy_dir(Path::new(&before), &damaged);
    let snap = damaged.join("member/snap");
    fs::write(snap.join("0000000000000002-00000000000000ca.snap"), "").unwrap();
    let broken = "0000000000000002-00000000000000cb.snap.broken";
    fs::write(snap.join(broken), "").unwrap();
    fs::write(damaged.join("member/outside"), "").unwrap();
    let segment = damaged.join("member/wal/0000000000000000-0000000000000000.wal");
    let bytes = fs::read(&segment).unwrap();
    fs::write(&segment, &bytes[..bytes.len() - 1]).unwrap();
    let told = scene.run("inspect", 4, "{}", &[&text(&damaged)]);
    for list in ["problems", "leftovers"] {
        assert_ne!(told[list], serde_json::json!([]), "{told:#}");
    }
    assert!(told["torn_tail"].is_object(), "{told:#}");
    scene.run("verify", 0, "--deep {}", &[&after]);
}

fn upgrade(scene: &mut Scene) {
    let own = scene.data_dir("2-backup-infra0");
    let moved =
        ["0", "1", "2"].map(|number| scene.data_dir(&format!("3-after-upgrade-infra{number}")));
    let backups = scene.path("of-all");
    for number in ["0", "1", "2"] {
        let source = scene.story.data_dir(&format!("2-backup-infra{number}"));
        snapshot(&source, Path::new(&backups), &[]);
    }
    let line = "--endpoints http://127.0.0.1:1 --data-dir {} --backup-dir {}";
    scene.run("preflight", 3, line, &[&own, &backups]);
    let cluster = FakeCluster::of_story("1-before-upgrade");
    for member in cluster.members() {
        member.version("2.2.5", "2.2.0");
    }
    let endpoints = cluster.endpoints();
    let watch = "--json preflight --watch --endpoints {}";
    let told = typed(watch, &[&endpoints]).exits(0);
    for line in told.stdout.lines() {
        scene.take("preflight --watch", &answer(line));
    }
    let line = "{} /app/config --dry-run --endpoints {}";
    scene.run("put-keys", 0, line, &[&own, &endpoints]);
    drop(cluster);
    let [first, second, third] = &moved;
    let line = "--endpoints http://127.0.0.1:1 --offline --data-dir {}";
    scene.run("downgrade check", 3, line, &[first]);
    let line = "--offline {} {} --backup-dir {} --settle 0 --data-dir {}";
    scene.run("downgrade run", 3, line, &[second, third, &backups, first]);
    // Of a cluster of one its own data dir decides.
    let alone = unpack("ops-2.1");
    let alone = text(&alone.data_dir("ops-2.1"));
    scene.run("downgrade check", 0, "--data-dir {} --offline", &[&alone]);
    let line = "--data-dir {} --offline --backup-dir {} --settle 0";
    scene.run("downgrade run", 0, line, &[&alone, &backups]);
    scene.run("rewind", 3, "{} {} --dry-run", &[first, second]);
    let out = scene.path("out");
    let line = "{} {} {} --base infra0 --out {}";
    scene.run("rewind", 0, line, &[first, second, third, &out]);
    let log = scene.story.path("infra0.log");
    let told = typed("--json explain-log {}", &[&log]).exits(0);
    for line in told.stdout.lines() {
        scene.take("explain-log", &answer(line));
    }
}

fn tools(scene: &mut Scene) {
    scene.run("completions", 0, "bash", &[]);
    scene.run("man", 0, "keys", &[]);
    let out = scene.path("pages");
    fs::create_dir(&out).unwrap();
    scene.run("man", 0, "--out {}", &[&out]);
    let (data, backups) = (scene.data_dir("2-backup-infra0"), scene.path("nightly"));
    let line = "--data-dir {} --backup-dir {}";
    scene.run("schedule", 0, line, &[&data, &backups]);
    if crate::support::tools::need("etcd") {
        // A release that does not start from it.
        scene.run("drill", 4, "{} --etcd etcd --within 30s", &[&data]);
    }
}

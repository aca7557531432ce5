//! Both runbooks of the upgrade guide, run as printed on three real servers: from 2.1 to 2.2, back before the last
//! member, up again, and back once more after the move.
//!
//! In: the guide itself, so that a printed command that does not work fails here. Out: the servers' answers.

use std::fs::Permissions;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;

use super::Roll;
use crate::support::prelude::*;
use crate::support::trio::MEMBERS;

/// One numbered step of a runbook.
struct Step {
    text: String,
    /// What is printed to be typed, a block of lines each.
    blocks: Vec<String>,
}

fn guide() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/upgrade-guide.md")).unwrap()
}

/// The steps below a heading of the guide.
fn runbook(guide: &str, heading: &str) -> Vec<Step> {
    let (_, rest) = guide.split_once(heading).unwrap();
    let section = rest.split("\n## ").next().unwrap();
    let mut steps: Vec<Step> = Vec::new();
    let mut in_block = false;
    for line in section.lines() {
        let number = format!("{}. ", steps.len() + 1);
        if let Some(text) = line.strip_prefix(&number) {
            let text = format!("{text}\n");
            let blocks = Vec::new();
            steps.push(Step { text, blocks });
            continue;
        }
        let Some(step) = steps.last_mut() else {
            continue;
        };
        match line.trim() {
            "```sh" => step.blocks.push(String::new()),
            "```" => {}
            line if in_block => step.blocks.last_mut().unwrap().extend([line, "\n"]),
            line => step.text.extend([line, "\n"]),
        }
        in_block = line.trim() == "```sh" || in_block && line.trim() != "```";
    }
    steps
}

/// The nodes that the guide speaks of, as far as these servers are them.
struct Nodes {
    roll: Roll,
    /// What each node has on its own disk, in `nodeN`, besides its data dir.
    disks: PathBuf,
    /// Where the tool, and what stands in for tools of a node, are found by their names.
    bin: PathBuf,
    /// What is typed once in every shell.
    once: String,
}

impl Nodes {
    /// A printed command, which is that of infra0, as it has to be typed on node `n`.
    fn typed(&self, printed: &str, n: usize) -> String {
        let trio = &self.roll.trio;
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let client = trio.client(0).to_string();
        let network = client.strip_suffix("10:2379").unwrap();
        let mut typed = printed.to_owned();
        if printed.contains("scp -p ") && n != 0 {
            typed = typed
                .replace(&format!("10.0.1.1{n}:"), "10.0.1.10:")
                .replace(&format!("infra{n}-"), "infra0-");
        }
        let typed = typed
            .replace("restore etcd-infra0", &format!("restore etcd-infra{n}"))
            .replace("/var/lib/etcd", &text(trio.data_dir(n)))
            .replace("/var/backups", &text(&self.backups(n)))
            .replace("10.0.1.", network);
        assert!(!typed.contains('…'), "an example is left in: {typed}");
        typed
    }

    /// The guide's `/var/backups` of a node.
    fn backups(&self, n: usize) -> PathBuf {
        self.disks.join(format!("node{n}/backups"))
    }

    /// Types a block on node `n`; what its commands said.
    #[track_caller]
    fn type_block(&mut self, block: &str, n: usize) -> Vec<Ran> {
        if !block.contains("systemctl") {
            let ends_different = block.contains("etcd-ark diff");
            let ran = run(&mut self.shell(block, n));
            return vec![ran.exits(i32::from(ends_different))];
        }
        let mut said = Vec::new();
        for line in block.replace("\\\n", " ").lines() {
            let (command, comment) = line.split_once('#').unwrap_or((line, ""));
            if comment.contains("install the 2.2 binary") {
                self.roll.install(n, true);
            } else if comment.contains("install the 2.1 binary") {
                self.roll.install(n, false);
            }
            match command.trim() {
                ""
                | "systemctl set-environment ETCD_SNAPSHOT_COUNT=10"
                | "systemctl unset-environment ETCD_SNAPSHOT_COUNT" => {}
                "systemctl stop etcd" | "systemctl stop etcd && systemctl mask etcd" => {
                    self.roll.trio.stop(n);
                }
                "systemctl start etcd" | "systemctl unmask etcd && systemctl start etcd" => {
                    self.roll.trio.start_member(n);
                }
                "systemctl restart etcd" => {
                    self.roll.trio.stop(n);
                    self.roll.trio.start_member(n);
                }
                command => said.push(run(&mut self.shell(command, n)).exits(0)),
            }
        }
        said
    }

    #[track_caller]
    fn type_all(&mut self, step: &Step, n: usize) -> Vec<Ran> {
        let blocks = step.blocks.iter();
        blocks.flat_map(|block| self.type_block(block, n)).collect()
    }

    /// A shell on node `n` that has read the beginning of the guide.
    fn shell(&self, command: &str, n: usize) -> std::process::Command {
        let path = std::env::var("PATH").unwrap();
        let script = format!("{}\n{}", self.once, command);
        let mut shell = clean("sh");
        shell
            .args(["-euc", &self.typed(&script, n)])
            .env("PATH", format!("{}:{path}", self.bin.display()))
            .env("LOG_OF_ETCD", self.roll.trio.log_path(n));
        shell
    }

    /// The members, the leader last.
    fn leader_last(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..MEMBERS).collect();
        order.sort_by_key(|n| self.roll.trio.leads(*n));
        order
    }

    #[track_caller]
    fn wait_healthy(&self) {
        self.roll.trio.wait_healthy(&[0, 1, 2]);
    }
}

/// Addresses like the guide's, in a network of the loopback that no other run of the tests has.
fn addresses(n: usize) -> [SocketAddr; 2] {
    let [.., second, third] = std::process::id().to_be_bytes();
    let host = [
        127,
        64 | (second & 63),
        third,
        10 + u8::try_from(n).unwrap(),
    ];
    [2379, 2380].map(|port| SocketAddr::from((host, port)))
}

/// The journal of a node.
const JOURNALCTL: &str = r#"#!/bin/sh
[ "$*" = '-u etcd --since=-10min -o cat' ] && exec cat "$LOG_OF_ETCD"
"#;

/// Files from another node, which the last digit of its address tells.
const SCP: &str = r#"#!/bin/sh
host=${2%%:*}
path=$(echo "${2#*:}" | sed "s,/node[0-9]/,/node${host#"${host%?}"}/,")
[ "$1" = -p ] || [ "$1" = -rp ] && exec cp "$1" $path "$3"
"#;

#[test]
fn both_runbooks_lead_where_they_say_when_typed_as_printed() {
    // Guards against a printed command that does not work at two o'clock at night.
    let Some(roll) = Roll::start_at(addresses) else {
        return;
    };
    only_with!(need("curl"));
    let disks = roll.backups.with_file_name("disks");
    let bin = disks.join("bin");
    for n in 0..MEMBERS {
        fs::create_dir_all(disks.join(format!("node{n}/backups/etcd"))).unwrap();
    }
    fs::create_dir(&bin).unwrap();
    std::os::unix::fs::symlink(BINARY, bin.join("etcd-ark")).unwrap();
    for (name, script) in [("journalctl", JOURNALCTL), ("scp", SCP)] {
        fs::write(bin.join(name), script).unwrap();
        fs::set_permissions(bin.join(name), Permissions::from_mode(0o755)).unwrap();
    }
    let guide = guide();
    let once = guide.split("```").nth(1).unwrap().strip_prefix("sh\n");
    let mut nodes = Nodes {
        roll,
        disks,
        bin,
        once: once.unwrap().to_owned(),
    };
    upgrade_with_a_way_back(&mut nodes, &runbook(&guide, "\n## Upgrade 2.1"));
    go_back_after_the_move(&mut nodes, &runbook(&guide, "\n## Go back"));
}

fn upgrade_with_a_way_back(nodes: &mut Nodes, steps: &[Step]) {
    assert_eq!(steps.len(), 7);
    let [staging, backup, look, turn, back, last, keep] = steps else {
        unreachable!("seven steps");
    };
    let [save, fetch] = backup.blocks.as_slice() else {
        panic!("{:?}", backup.blocks);
    };
    for n in 0..MEMBERS {
        nodes.type_block(save, n);
    }
    for n in 0..MEMBERS {
        nodes.type_block(fetch, n);
    }
    let [copy, try_it] = staging.blocks.as_slice() else {
        panic!("{:?}", staging.blocks);
    };
    nodes.type_block(copy, 0);
    let elsewhere = nodes.disks.join("staging");
    nodes.type_block(
        &try_it.replace("/var/lib/etcd", elsewhere.to_str().unwrap()),
        0,
    );
    let [checklist, restart, watch] = look.blocks.as_slice() else {
        panic!("{:?}", look.blocks);
    };
    for n in nodes.leader_last() {
        nodes.type_block(restart, n);
        nodes.wait_healthy();
    }
    for n in 0..MEMBERS {
        nodes.type_block(checklist, n);
    }
    let mut watch = nodes.shell(&format!("exec {watch}"), 0);
    watch
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut watch = start_server(watch);

    let [exchange, explain] = turn.blocks.as_slice() else {
        panic!("{:?}", turn.blocks);
    };
    let order = nodes.leader_last();
    for &n in &order[..2] {
        nodes.type_block(exchange, n);
        nodes.wait_healthy();
        let explained = nodes.type_block(explain, n);
        assert!(!explained[0].stdout.is_empty(), "{explained:#?}");
    }
    let keys = nodes.roll.trio.wait_equal();

    // The last chance, taken.
    for &n in &order[..2] {
        let said = nodes.type_all(back, n);
        assert!(
            said.iter().all(|ran| ran.stdout.contains("ALLOWED")),
            "{said:#?}"
        );
        nodes.wait_healthy();
    }
    let at_21 = json!({"etcdserver": "2.1.3", "etcdcluster": "2.1.0"});
    assert_eq!(nodes.roll.versions(), [0, 1, 2].map(|_| at_21.clone()));
    assert_eq!(nodes.roll.trio.wait_equal(), keys);

    // Content the second time.
    assert!(last.text.contains("then as in step 4"), "{}", last.text);
    for n in nodes.leader_last() {
        nodes.type_block(exchange, n);
        nodes.wait_healthy();
    }
    nodes.roll.wait_version("2.2.0");
    assert_eq!(nodes.roll.trio.wait_equal(), keys);
    for n in 0..MEMBERS {
        nodes.type_all(keep, n);
    }
    let watched = watch.wait().unwrap();
    assert!(
        watched.success(),
        "it ends by itself when the cluster is at 2.2: {watched}"
    );
}

fn go_back_after_the_move(nodes: &mut Nodes, steps: &[Step]) {
    assert_eq!(steps.len(), 10);
    let [stop, save, gather, make, restore, start, look, salvage, ..] = steps else {
        unreachable!("ten steps");
    };
    let before = nodes.roll.trio.wait_equal();
    nodes.roll.write(25);
    // Each member knows that they are committed: the clients rest before the members stop.
    nodes.roll.trio.wait_equal();
    for n in 0..MEMBERS {
        nodes.type_all(stop, n);
    }
    for n in 0..MEMBERS {
        nodes.type_all(save, n);
    }
    let planned = nodes.type_all(gather, 0);
    assert_has(&planned[1].stdout, "25 of them client writes");
    let compared = nodes.type_all(make, 0);
    let lost = compared[0].stdout.matches("key only in B").count();
    assert_eq!(lost, 25, "{compared:#?}");
    let [fetch, restore] = restore.blocks.as_slice() else {
        panic!("{:?}", restore.blocks);
    };
    for n in 1..MEMBERS {
        nodes.type_block(fetch, n);
    }
    for n in 0..MEMBERS {
        nodes.type_block(restore, n);
    }
    assert_has(&start.text, "Install the 2.1 binary on every node");
    for n in 0..MEMBERS {
        nodes.roll.install(n, false);
        nodes.type_all(start, n);
    }
    nodes.wait_healthy();
    nodes.roll.wait_version("2.1.0");
    let said = nodes.type_all(look, 0);
    let lines: Vec<&str> = said[0].stdout.lines().collect();
    let nodes_say: Vec<&[&str]> = lines.chunks(2).collect();
    let [node, others @ ..] = nodes_say.as_slice() else {
        panic!("{said:#?}");
    };
    assert!(node[0].contains(r#""etcdcluster":"2.1.0""#), "{said:#?}");
    assert!(node[0].contains(r#""health": "true""#), "{said:#?}");
    assert!(others.len() == 2 && others.iter().all(|other| other == node));
    assert_eq!(nodes.roll.trio.wait_equal(), before);
    let [plan] = salvage.blocks.as_slice() else {
        panic!("{:?}", salvage.blocks);
    };
    let planned = nodes.type_block(plan, 0);
    assert!(planned[0].stdout.contains("25 to create"), "{planned:#?}");
    nodes.type_block(&plan.replace(" --dry-run", ""), 0);
    let planned = nodes.type_block(plan, 0);
    assert!(!planned[0].stdout.contains("to create"), "{planned:#?}");
}

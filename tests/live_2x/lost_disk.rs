//! The section of operations.md on a member that lost its disk, typed as printed on three real servers.
//!
//! In: the section itself. Out: what `restore` says of the member's own backup, and the keys of the member that took its
//! place.

use super::{Roll, ark_with};
use crate::support::prelude::*;

const HEADING: &str = "\n## One member lost its disk\n";

/// The commands of the section, a block each, without the indent of the list.
fn blocks() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = fs::read_to_string(root.join("docs/operations.md")).unwrap();
    let (_, rest) = document.split_once(HEADING).unwrap();
    let section = rest.split("\n## ").next().unwrap();
    let blocks = section.split("```sh\n").skip(1);
    let lines = |block: &str| -> Vec<String> {
        let block = block.split("```").next().unwrap();
        block.lines().map(|line| line.trim().to_owned()).collect()
    };
    blocks.map(|block| lines(block).join("\n")).collect()
}

#[test]
fn a_member_that_lost_its_disk_is_replaced_by_an_empty_one_as_printed() {
    // Guards against a printed way that does not work, on a night when a restore is refused.
    let Some(mut roll) = Roll::start() else {
        return;
    };
    let etcdctl = roll.old.with_file_name("etcdctl");
    only_with!(need(etcdctl.to_str().unwrap()));
    roll.back_up_all();
    let keys = roll.trio.wait_equal();
    let old_id = roll.trio.get(1, "/v2/stats/self")["id"].clone();
    let old_id = old_id.as_str().unwrap().to_owned();
    roll.trio.kill(1);
    fs::remove_dir_all(roll.trio.data_dir(1)).unwrap();
    let paths = [
        Path::new("--data-dir"),
        roll.trio.data_dir(1),
        Path::new("--backup-dir"),
        &roll.backups,
    ];
    // Where it led, the others choose another leader first.
    roll.trio.wait_healthy(&[0, 2]);
    let own = ["restore", "latest", "--member", "infra1"];
    let refused = ark_with(&own, &paths).exits(3);
    refused.says("would roll this member back");

    let [exchange, start] = blocks().try_into().unwrap();
    let exchange = exchange
        .replace("11ccc46e74e38a6d", &old_id)
        .replace("http://10.0.1.11:2380", &roll.trio.peer_url(1));
    let mut shell = clean("sh");
    shell.args(["-ec", &exchange]);
    shell.env("ETCDCTL_PEERS", roll.trio.client_url(0));
    let path = std::env::var("PATH").unwrap();
    let tools = etcdctl.parent().unwrap().display();
    shell.env("PATH", format!("{tools}:{path}"));
    let said = run(&mut shell).exits(0);
    assert_has(&said.stdout, "ETCD_INITIAL_CLUSTER_STATE=\"existing\"");
    assert_has(&start, "ETCD_INITIAL_CLUSTER_STATE=existing");
    roll.trio.set_joins(1);
    roll.trio.start_all();
    assert_eq!(roll.trio.wait_equal(), keys);
    let new_id = roll.trio.get(1, "/v2/stats/self")["id"].clone();
    assert_ne!(new_id, old_id.as_str());
    roll.back_up_all();
}

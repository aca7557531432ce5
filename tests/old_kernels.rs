//! Kernels that lack newer system calls: each such call answers ENOSYS, as on Linux 3.10, where etcd 2.x still runs.
//!
//! Guards against a binary that starts on an old host and then cannot do its work, or only a part of it.

use crate::support::prelude::*;

/// What came after 3.10: renameat2 in 3.15, `copy_file_range` in 4.5, statx in 4.11, openat2 in 5.6, and so on.
const NEWER: &str = "?renameat2,?copy_file_range,?statx,?openat2,?faccessat2,?close_range,?fchmodat2,?memfd_create,?preadv2,?pwritev2,?io_uring_setup,?clone3";

fn on_an_old_kernel(args: &[&str]) -> Ran {
    let mut command = clean("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "-e"]);
    command.arg(format!("inject={NEWER}:error=ENOSYS"));
    run(command.arg(BINARY).args(args))
}

#[test]
fn a_kernel_of_2013_takes_a_backup_and_restores_it_and_refuses_only_what_it_cannot_do() {
    only_with!(need("strace"));
    let dir = fast_dir("ark-old-kernel-");
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (data, backups, restored) = (path("data"), path("backups"), path("restored"));
    small_member(Path::new(&data));
    on_an_old_kernel(&["snapshot", "--data-dir", &data, "--backup-dir", &backups]).exits(0);
    let archive = archives_in(Path::new(&backups)).remove(0);
    let archive = archive.to_str().unwrap();
    for command in ["verify", "inspect", "keys", "list"] {
        let target = if command == "list" { &backups } else { archive };
        on_an_old_kernel(&[command, target]).exits(0);
    }
    let restore = ["restore", "--offline", archive, "--data-dir", &restored];
    on_an_old_kernel(&restore).exits(0);
    let of = |dir: &str| {
        let all = tree(Path::new(dir)).into_iter();
        let facts = all.map(|(path, stat)| (path, (stat.mode, stat.sha256, stat.inode)));
        facts.collect::<std::collections::BTreeMap<_, _>>()
    };
    let before = of(&restored);
    for (path, (mode, sha256, _)) in of(&data) {
        let (restored_mode, restored, _) = &before[&path];
        assert_eq!((mode, &sha256), (*restored_mode, restored), "{path:?}");
    }

    // Two directories cannot change places there: nothing is begun that could end halfway.
    let refused = on_an_old_kernel(&[&restore[..], &["--replace"]].concat());
    assert_eq!(refused.code, 3, "{refused:?}");
    let says = refused
        .stderr
        .contains("exchange two directories in one step");
    assert!(says, "{refused:?}");
    assert_eq!(of(&restored), before);
    let again = archived(Path::new(&restored), Path::new(&backups));
    assert!(again.exists());
}

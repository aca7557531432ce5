//! Texts of the manual besides the help of each flag.

/// Exit codes, and how a script may use them. In this and the next texts each line is a name and its meaning.
pub(crate) const EXIT_STATUS: &str = "\
0 | Done.
1 | Failed. For etcd-ark-diff(1): the two are different. Any code that is not listed here is a failure, too.
2 | Wrong usage: nothing was begun.
3 | Refused: a rule says no. The cluster has moved, or the target is not safe.
4 | Corrupt: checksum or structure error.
5 | Done, but something was worth a warning, and --strict was given.
10 | Not found: no data dir, or no archive.
11 | Busy: etcd runs on the target, or another run is at work there.
12 | No space.
129 | Hung up (SIGHUP): the terminal is gone; what was begun has been cleaned up.
130 | The same by SIGINT.
143 | The same by SIGTERM.";

/// Those of `status`, which has its own.
const EXIT_STATUS_OF_STATUS: &str = "\
0 | OK: the backups are in order.
1 | WARNING: worth a look.
2 | CRITICAL: there may be no backup when one is needed.
3 | UNKNOWN: it could not be looked at, or the command line or the configuration is wrong.
129, 130, 143 | Stopped by SIGHUP, SIGINT or SIGTERM, without a line on stdout.";

/// Environment variables besides those of the flags.
pub(crate) const ENVIRONMENT: &str = "\
ETCD_DATA_DIR, ETCD_WAL_DIR, ETCDCTL_ENDPOINTS, ETCD_ARK_* | Every flag reads a variable, which is listed with it. The command line counts before the variable, and the variable before the configuration file; a variable that is set to nothing counts as not set.
NO_COLOR | If it is set to anything, no colours are used unless --color=always is given.";

/// Files of the package, and files in its directories.
pub(crate) const FILES: &str = "\
/etc/etcd-ark.toml | The configuration: the flags' own names, at the top for every command and in tables such as [snapshot] for one.
/etc/default/etcd-ark | Variables for etcd-ark.service, if the file is there: the credentials of an object store, for instance. Keep it at mode 0600.
/var/backups/etcd | The backup dir of the package, of mode 0700: archives, etcd-MEMBER-TIME-INDEX.tar.zst, and beside each its .sha256.
/usr/lib/systemd/system/etcd-ark.service, etcd-ark.timer | A snapshot each night. The package does not enable the timer: systemctl enable --now etcd-ark.timer.";

/// The names and meanings in a text.
pub(crate) fn items(text: &'static str) -> impl Iterator<Item = (&'static str, &'static str)> {
    text.lines().filter_map(|line| line.split_once(" | "))
}

pub(crate) fn exit_status(name: &str) -> &'static str {
    match name {
        "etcd-ark-status" => EXIT_STATUS_OF_STATUS,
        _ => EXIT_STATUS,
    }
}

/// Paragraphs after a command's first sentence.
pub(crate) fn description(name: &str) -> &'static [&'static str] {
    match name {
        "etcd-ark" => &[
            "Captures a member's data directory, also while etcd 2.x runs, into one compressed archive in which every byte is under a checksum; verifies it; restores it, whole or not at all. It knows the rules of the upgrade from 2.1 to 2.2: what to look at before, whether a downgrade is still possible, and how to take a whole cluster back when it is not.",
            "Where a command takes a TARGET it is an archive or a data dir.",
        ],
        "etcd-ark-snapshot" => &[
            "The data dir is only read. The archive holds the live set: the newest raft snapshot that is valid, and the WAL segments from the one that covers it to the end. It is written under a temporary name, synced, read back from the disk and verified, and only then gets its name: a run that dies at any instant leaves no file that looks like an archive.",
            "A running etcd 3.x is refused, because its snap/db cannot be copied under it.",
        ],
        "etcd-ark-schedule" => &[
            "The text is for this machine: it runs the binary that printed it, with the flags of etcd-ark-snapshot(1) as they are given here, on the command line or in the environment, and with relative paths made whole.",
            "Nothing is installed. The comments at the head of the text say how to.",
        ],
        _ => &[],
    }
}

pub(crate) fn see_also(name: &str) -> &'static str {
    match name {
        "etcd-ark" => "etcd(1), etcdctl(1), sha256sum(1), tar(1), zstd(1), systemd.timer(5)",
        "etcd-ark-snapshot" => {
            "etcd-ark(1), etcd-ark-verify(1), etcd-ark-restore(1), etcd-ark-schedule(1)"
        }
        "etcd-ark-schedule" => {
            "etcd-ark(1), etcd-ark-snapshot(1), systemd.service(5), systemd.timer(5), crontab(5)"
        }
        "etcd-ark-restore" => "etcd-ark(1), etcd-ark-rewind(1), etcd-ark-inspect(1)",
        _ => "etcd-ark(1)",
    }
}

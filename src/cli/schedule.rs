//! `schedule`: the text that makes systemd or cron take snapshots on this machine.
//!
//! In: when, as whom, and `snapshot`'s own flags. Out: two units or a crontab on stdout; nothing is installed. The units are
//! those of the Debian package, `dist/etcd-ark.service` and `.timer`, with a few lines changed.

pub(crate) mod flags;
mod quote;
mod when;

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::{Value, json};

use super::failure::{Kind, Told};
use super::out::Out;
use flags::{Schedule, Scheduler, SnapshotLine};
use quote::{cron, plain, shell, unit_argument, unit_path};
use when::When;

/// The units, as the package has them.
const SERVICE: &str = include_str!("../../dist/etcd-ark.service");
const TIMER: &str = include_str!("../../dist/etcd-ark.timer");
/// The user of the package, to whom the backups belong.
const USER: &str = "etcd-ark";
/// The longest command that Debian's cron takes, in bytes; a longer line makes it leave the whole file.
const LONGEST_CRON_COMMAND: usize = 998;
/// Where `PrivateTmp=` and `ProtectHome=` put something else.
const TEMPORARY: [&str; 2] = ["/tmp", "/var/tmp"];
const HOMES: [&str; 3] = ["/home", "/root", "/run/user"];

/// A file that is to be written.
struct Text {
    path: &'static str,
    text: String,
}

pub(crate) fn run(args: &Schedule, out: &Out) -> Result<u8> {
    let when = args.at.or(args.every).unwrap_or(When::NIGHTLY);
    let exe = std::env::current_exe()?;
    let texts = match args.kind {
        Scheduler::Systemd => {
            let user = args.run_as.as_deref().unwrap_or(USER);
            let unit = Unit::new(&exe, user, when, &args.snapshot)?;
            vec![unit.service(), unit.timer()]
        }
        Scheduler::Cron => vec![crontab(args, &exe, when)?],
    };
    if out.is_json() {
        let files: Vec<Value> = texts
            .iter()
            .map(|text| json!({ "path": text.path, "text": text.text }))
            .collect();
        out.json(|| json!({ "files": files }));
    } else {
        let texts: Vec<_> = texts.into_iter().map(|text| text.text).collect();
        out.stream(|stdout| stdout.write_all(texts.join("\n").as_bytes()));
    }
    Ok(0)
}

/// What differs from one machine's units to another's; paths and words are quoted already.
struct Unit {
    user: String,
    when: When,
    exec_start: String,
    /// What must be mounted.
    mounts: Option<String>,
    writes: Option<String>,
    /// The same, each for a shell.
    writes_in_shell: Vec<String>,
    metrics_in_shell: Option<String>,
    private_tmp: &'static str,
    protect_home: &'static str,
}

impl Unit {
    fn new(exe: &Path, user: &str, when: When, snapshot: &SnapshotLine) -> Result<Self> {
        let mut words = vec![unit_path(plain(exe.as_os_str())?)];
        for word in &snapshot.global {
            words.push(unit_argument(plain(word)?));
        }
        words.push("snapshot".to_owned());
        for word in &snapshot.flags {
            words.push(unit_argument(plain(word)?));
        }
        let texts = |paths: &[PathBuf], quote: fn(&str) -> String| {
            let paths = paths.iter();
            let quoted = paths.map(|path| Ok(quote(plain(path.as_os_str())?)));
            quoted.collect::<Result<Vec<_>>>()
        };
        let mut writes = texts(&snapshot.writes, unit_path)?;
        let mut mounts = texts(&snapshot.reads, unit_path)?;
        mounts.extend_from_slice(&writes);
        let metrics = snapshot.metrics.as_slice();
        writes.extend(texts(metrics, unit_path)?);
        let paths = snapshot.reads.iter().chain(&snapshot.writes).chain(metrics);
        let paths: Vec<&Path> = paths.map(PathBuf::as_path).chain([exe]).collect();
        let is_in = |dirs: &[&str]| {
            let mut pairs = paths
                .iter()
                .flat_map(|path| dirs.iter().map(move |dir| (path, dir)));
            pairs.any(|(path, dir)| path.starts_with(dir))
        };
        Ok(Self {
            user: user.to_owned(),
            when,
            exec_start: words.join(" "),
            mounts: (!mounts.is_empty()).then(|| mounts.join(" ")),
            writes: (!writes.is_empty()).then(|| writes.join(" ")),
            writes_in_shell: texts(&snapshot.writes, shell)?,
            metrics_in_shell: texts(metrics, shell)?.pop(),
            private_tmp: if is_in(&TEMPORARY) { "no" } else { "yes" },
            protect_home: if is_in(&HOMES) { "read-only" } else { "yes" },
        })
    }

    fn service(&self) -> Text {
        let path = "/etc/systemd/system/etcd-ark.service";
        let mut head = head(path, "this text up to the timer's first line");
        if self.user == USER {
            head.extend([
                "#     id -u ",
                USER,
                " || useradd --system --user-group --no-create-home --shell /usr/sbin/nologin ",
                USER,
                "\n",
            ]);
        }
        for dir in &self.writes_in_shell {
            let words = ["#     install -d -m 0700 -o ", &self.user, " ", dir, "\n"];
            head.extend(words);
        }
        if let Some(dir) = &self.metrics_in_shell {
            let words = ["#     setfacl -m u:", &self.user, ":rwx ", dir, "\n"];
            head.extend(words);
        }
        head += "#     systemctl daemon-reload\n\
                 #     systemctl start etcd-ark.service       # once, to see that it works\n\
                 #     systemctl enable --now etcd-ark.timer\n";
        Text {
            path,
            text: head + &self.service_body(),
        }
    }

    fn timer(&self) -> Text {
        let path = "/etc/systemd/system/etcd-ark.timer";
        Text {
            path,
            text: format!("# {path}\n{}", self.timer_body()),
        }
    }

    fn service_body(&self) -> String {
        let lines = [
            ("RequiresMountsFor", self.mounts.clone()),
            ("ExecStart", Some(self.exec_start.clone())),
            ("User", Some(self.user.clone())),
            ("ReadWritePaths", self.writes.clone()),
            ("ProtectHome", Some(self.protect_home.to_owned())),
            ("PrivateTmp", Some(self.private_tmp.to_owned())),
        ];
        with_lines(SERVICE, &lines)
    }

    fn timer_body(&self) -> String {
        let lines = [
            ("OnCalendar", Some(self.when.calendar())),
            ("RandomizedDelaySec", Some(self.when.random_delay())),
        ];
        let text = with_lines(TIMER, &lines);
        if self.when == When::NIGHTLY {
            return text;
        }
        // What is said of the hour is of that hour.
        let lines = text.split_inclusive('\n');
        lines.filter(|line| !line.starts_with("# Hardly")).collect()
    }
}

/// A unit less the comment at its head, with other values of some keys; a key without a value goes.
fn with_lines(unit: &str, lines: &[(&str, Option<String>)]) -> String {
    let mut text = String::with_capacity(unit.len());
    for line in unit
        .split_inclusive('\n')
        .skip_while(|line| line.starts_with('#'))
    {
        let key = line.split_once('=').map(|(key, _)| key);
        match lines.iter().find(|(name, _)| key == Some(*name)) {
            None => text += line,
            Some((key, Some(value))) => text.extend([key, "=", value, "\n"]),
            Some((_, None)) => {}
        }
    }
    text
}

fn head(path: &str, what: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!(
        "# {path}\n# Printed by `etcd-ark schedule` {version}. To install it, as root: put {what} into that file, and the\n\
         # rest into the file that it names. Then\n"
    )
}

fn crontab(args: &Schedule, exe: &Path, when: When) -> Result<Text> {
    let path = "/etc/cron.d/etcd-ark";
    let user = args.run_as.as_deref().unwrap_or("root");
    let line = &args.snapshot;
    let mut command = vec![shell(plain(exe.as_os_str())?), "--quiet".to_owned()];
    for word in &line.global {
        command.push(shell(plain(word)?));
    }
    command.push("snapshot".to_owned());
    for word in &line.flags {
        command.push(shell(plain(word)?));
    }
    let command = cron(&command.join(" "));
    if command.len() > LONGEST_CRON_COMMAND {
        let told = Told {
            kind: Kind::Usage,
            message: format!(
                "the command has {} bytes, and cron takes {LONGEST_CRON_COMMAND}",
                command.len()
            ),
            hint: Some("`--kind systemd` has no such limit"),
        };
        return Err(told.into());
    }
    let version = env!("CARGO_PKG_VERSION");
    let when = when.crontab();
    let text = format!(
        "# {path}\n\
         # Printed by `etcd-ark schedule` {version}. To install it, as root: put this text into that file. cron leaves out files\n\
         # with a dot in their name, and files that others than root can write to.\n\
         #\n\
         # cron mails what a run says: nothing, unless something is worth a look. This is who gets it; see that mail from this\n\
         # machine arrives.\n\
         MAILTO=root\n\
         # No flock(1) is needed: a run locks the backup dir itself.\n\
         {when} {user} {command}\n"
    );
    Ok(Text { path, text })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn without_head(unit: &str) -> &str {
        unit.find("\n[Unit]").map_or("", |at| &unit[at..])
    }

    #[test]
    fn the_units_of_the_package_are_what_is_printed_for_it() {
        let snapshot = SnapshotLine {
            writes: vec![PathBuf::from("/var/backups/etcd")],
            ..SnapshotLine::default()
        };
        let exe = Path::new("/usr/bin/etcd-ark");
        let unit = Unit::new(exe, USER, When::NIGHTLY, &snapshot).expect("unit");
        assert_eq!(unit.service_body(), without_head(SERVICE));
        assert_eq!(unit.timer_body(), without_head(TIMER));
    }

    #[test]
    fn every_line_that_differs_from_machine_to_machine_is_there_to_be_changed() {
        let snapshot = SnapshotLine {
            reads: vec![PathBuf::from("/home/e/data")],
            writes: vec![PathBuf::from("/var/tmp/b")],
            ..SnapshotLine::default()
        };
        let unit = Unit::new(
            Path::new("/opt/ark"),
            "me",
            When::Every { minutes: 15 },
            &snapshot,
        );
        let unit = unit.expect("unit");
        let (service, timer) = (unit.service_body(), unit.timer_body());
        let lines = [
            "RequiresMountsFor=/home/e/data /var/tmp/b",
            "ExecStart=/opt/ark snapshot",
            "User=me",
            "ReadWritePaths=/var/tmp/b",
            "ProtectHome=read-only",
            "PrivateTmp=no",
        ];
        for line in lines {
            assert_eq!(service.lines().filter(|l| *l == line).count(), 1, "{line}");
        }
        assert!(timer.contains("OnCalendar=*-*-* *:00/15:00\n"));
        assert!(timer.contains("RandomizedDelaySec=90s\n"));
        assert!(!timer.contains("Hardly"));
    }
}

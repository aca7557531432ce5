//! A service and a timer: those of the Debian package, with a few lines changed.

use crate::cli::commands::schedule::command_line::Line;
use crate::cli::commands::schedule::interval::When;
use crate::cli::commands::schedule::paths::Place;
use crate::cli::commands::schedule::{Text, VERSION};
use crate::cli::quote::{shell, unit_argument, unit_path};

/// The package's units.
const SERVICE: &str = include_str!("../../../../dist/etcd-ark.service");
const TIMER: &str = include_str!("../../../../dist/etcd-ark.timer");
/// The unit that reports a failure, and its path.
const FAILED: &str = include_str!("../../../../dist/examples/etcd-ark-failed@.service");
const FAILED_PATH: &str = "/etc/systemd/system/etcd-ark-failed@.service";
/// The package's user, who owns the backups.
pub(crate) const USER: &str = "etcd-ark";
/// Directories that `PrivateTmp=` and `ProtectHome=` replace.
const PRIVATE: [&str; 2] = ["/tmp", "/var/tmp"];
const HOMES: [&str; 3] = ["/home", "/root", "/run/user"];

/// What the units are made of.
pub(crate) struct Unit<'u> {
    pub(crate) exe: &'u Place,
    pub(crate) user: &'u str,
    pub(crate) when: When,
    pub(crate) line: &'u Line,
}

impl Unit<'_> {
    pub(crate) fn service(&self) -> Text {
        let path = "/etc/systemd/system/etcd-ark.service";
        Text {
            path,
            text: self.head(path) + &self.service_body(),
        }
    }

    pub(crate) fn timer(&self) -> Text {
        let path = "/etc/systemd/system/etcd-ark.timer";
        Text {
            path,
            text: format!("# {path}\n{}", self.timer_body()),
        }
    }

    /// How to install it.
    fn head(&self, path: &str) -> String {
        let mut head = format!(
            "# {path}\n# Printed by `etcd-ark schedule` {VERSION}. To install it, as root: put this text up to the timer's \
             first line into that file, and the\n# rest into the file that it names. Then\n"
        );
        let mut add =
            |words: &[&str]| head.extend(["#     "].iter().chain(words).chain(&["\n"]).copied());
        let user = self.user;
        if user == USER {
            add(&[
                "id -u ",
                USER,
                " ||\n#       useradd --system --user-group --no-create-home \\\n#           --shell /usr/sbin/nologin ",
                USER,
            ]);
        }
        if let Some(dir) = &self.line.backups {
            let text = shell(&dir.named);
            if dir.is_temporary() {
                add(&[
                    "# ",
                    &text,
                    " is a directory for temporary files: not a place for backups. ",
                    user,
                    " must be able to write to it",
                ]);
            } else if dir.may_exist() {
                add(&[
                    "# ",
                    &text,
                    " is there: ",
                    user,
                    " must be able to write to it, best as its owner,\n# and other users must not read it",
                ]);
            } else {
                add(&["install -d -m 0700 -o ", user, " ", &text]);
            }
        }
        if let Some(dir) = &self.line.spool {
            add(&[
                "# ",
                &shell(&dir.named),
                " must be there, and ",
                user,
                " be able to write to it; others may use it, too",
            ]);
        }
        if let Some(dir) = &self.line.metrics {
            add(&["setfacl -m u:", user, ":rwx ", &shell(&dir.named)]);
        }
        add(&["systemctl daemon-reload"]);
        add(&["systemctl start etcd-ark.service       # once, to see that it works"]);
        add(&["systemctl enable --now etcd-ark.timer"]);
        head.extend([
            "#\n# systemd by itself does not report a run that fails. To be told, put these lines into ",
            FAILED_PATH,
            ",\n# and remove the `#` before OnFailure= below; `mail` is in bsd-mailx, and needs a mail server to hand the mail to.\n",
        ]);
        let lines = FAILED.lines().filter(|line| !line.starts_with('#'));
        head.extend(lines.flat_map(|line| ["#     ", line, "\n"]));
        head + "# A run with warnings ends with 0 and is not reported, unless it is run with `--strict`.\n"
    }

    pub(crate) fn service_body(&self) -> String {
        let line = self.line;
        let all = || line.reads.iter().chain(line.writes());
        let everywhere = || all().chain(&line.metrics).chain([self.exe]);
        let is_in = |dirs: &[&str]| everywhere().any(|place| place.is_in(dirs));
        let yes_unless = |hides: bool, otherwise: &str| {
            if hides {
                otherwise.to_owned()
            } else {
                "yes".to_owned()
            }
        };
        // Writing follows symlinks; waiting for mounts does not.
        let mounts = all().flat_map(|place| [&place.named, &place.real]);
        let writes = line.writes().chain(&line.metrics).map(|place| &place.named);
        let lines = [
            ("RequiresMountsFor", paths(mounts)),
            ("ExecStart", Some(self.exec_start())),
            ("User", Some(self.user.to_owned())),
            ("ReadWritePaths", paths(writes)),
            ("ProtectHome", Some(yes_unless(is_in(&HOMES), "read-only"))),
            ("PrivateTmp", Some(yes_unless(is_in(&PRIVATE), "no"))),
        ];
        with_lines(SERVICE, &lines)
    }

    fn exec_start(&self) -> String {
        let mut words = vec![unit_path(&self.exe.named)];
        words.extend(self.line.global.iter().map(|word| unit_argument(word)));
        words.push("snapshot".to_owned());
        words.extend(self.line.flags.iter().map(|word| unit_argument(word)));
        words.join(" ")
    }

    pub(crate) fn timer_body(&self) -> String {
        let lines = [
            ("OnCalendar", Some(self.when.calendar())),
            ("RandomizedDelaySec", Some(self.when.random_delay())),
        ];
        let text = with_lines(TIMER, &lines);
        if self.when == When::NIGHTLY {
            return text;
        }
        // The comment about the hour holds for that hour only.
        let lines = text.split_inclusive('\n');
        lines.filter(|line| !line.starts_with("# Hardly")).collect()
    }
}

/// All paths, each once; `None` if there are none.
fn paths<'p>(paths: impl Iterator<Item = &'p String>) -> Option<String> {
    let mut once: Vec<String> = Vec::new();
    for path in paths.map(|path| unit_path(path)) {
        if !once.contains(&path) {
            once.push(path);
        }
    }
    (!once.is_empty()).then(|| once.join(" "))
}

/// A unit without its first comment, and with other values for some keys; a key without a value is removed.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn place(path: &str) -> Place {
        Place {
            named: path.to_owned(),
            real: path.to_owned(),
        }
    }

    fn without_head(unit: &str) -> &str {
        unit.find("\n[Unit]").map_or("", |at| &unit[at..])
    }

    #[test]
    fn the_units_of_the_package_are_what_is_printed_for_it() {
        let line = Line {
            backups: Some(place("/var/backups/etcd")),
            ..Line::default()
        };
        let exe = place("/usr/bin/etcd-ark");
        let unit = Unit {
            exe: &exe,
            user: USER,
            when: When::NIGHTLY,
            line: &line,
        };
        assert_eq!(unit.service_body(), without_head(SERVICE));
        assert_eq!(unit.timer_body(), without_head(TIMER));
    }

    #[test]
    fn every_line_that_differs_from_machine_to_machine_is_there_to_be_changed() {
        let line = Line {
            reads: vec![place("/home/e/data")],
            backups: Some(Place {
                named: "/b".to_owned(),
                real: "/var/tmp/b".to_owned(),
            }),
            ..Line::default()
        };
        let exe = place("/opt/ark");
        let unit = Unit {
            exe: &exe,
            user: "me",
            when: When::Every { minutes: 15 },
            line: &line,
        };
        let (service, timer) = (unit.service_body(), unit.timer_body());
        let lines = [
            "RequiresMountsFor=/home/e/data /b /var/tmp/b",
            "ExecStart=/opt/ark snapshot",
            "User=me",
            "ReadWritePaths=/b",
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

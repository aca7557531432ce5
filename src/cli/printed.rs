//! Completes the commands in hints with the flags of this run, so that they work as printed.
//!
//! In: a text with bare commands in backticks, such as `etcd-ark list`, from code that knows no flags. Out: the same
//! with the paths, URLs and flags that the command needs; values that only the operator knows are in capitals.

use std::path::{Path, PathBuf};

use crate::etcd::ids::{V2_1, V2_2};
use crate::upgrade::downgrade::evidence::Step;

use crate::cli::json::text;
use crate::cli::location::Location;
use crate::cli::quote::shell;

#[derive(Clone, Debug, Default)]
pub(crate) struct Printed {
    /// The archive on the command line.
    pub(crate) archive: Option<Location>,
    pub(crate) data_dir: Option<String>,
    /// The target that a text is about, if there are several.
    pub(crate) about: Option<String>,
    pub(crate) wal_dir: Option<String>,
    pub(crate) backup_dir: Option<String>,
    pub(crate) identities: Vec<PathBuf>,
    pub(crate) recipients: Vec<(&'static str, String)>,
    pub(crate) connection: Vec<(&'static str, String)>,
    /// The upgrade or the downgrade, if it is not the default one.
    pub(crate) step: Option<Step>,
}

impl Printed {
    pub(crate) fn place(mut self, place: Option<&Location>) -> Self {
        match place {
            Some(Location::Path(dir)) if dir.is_dir() => self.data_dir(Some(dir)),
            place => {
                self.archive = place.cloned();
                self
            }
        }
    }

    /// The same for a text about `target`, unless the run has only one.
    pub(crate) fn about(&self, target: Option<&Path>) -> Self {
        let about = target.map(text);
        Self {
            about,
            ..self.clone()
        }
    }

    pub(crate) fn data_dir(mut self, dir: Option<&Path>) -> Self {
        self.data_dir = dir.map(text);
        self
    }

    pub(crate) fn wal_dir(mut self, dir: Option<&Path>) -> Self {
        self.wal_dir = dir.map(text);
        self
    }

    pub(crate) fn backup_dir(mut self, place: Option<&Location>) -> Self {
        self.backup_dir = place.map(|place| text(place.as_path()));
        self
    }

    pub(crate) fn complete(&self, text: &str) -> String {
        const BEGIN: &str = "`etcd-ark ";
        /// Ends a command about all archives of the place.
        const PLACE: &str = " BACKUP_DIR";
        let mut parts = text.split(BEGIN);
        let mut completed = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            completed += BEGIN;
            match part.split_once('`') {
                Some((command, rest)) => {
                    let of_place = command.strip_suffix(PLACE);
                    let words = match of_place {
                        Some(_) => vec![self.backup_dir_or_beside()],
                        None => self.more(command),
                    };
                    completed += of_place.unwrap_or(command);
                    for word in words {
                        completed.extend([" ", &shell(&word)]);
                    }
                    completed.extend(["`", rest]);
                }
                None => completed += part,
            }
        }
        completed
    }

    /// The words that `command` needs.
    fn more(&self, command: &str) -> Vec<String> {
        let mut words = Vec::new();
        let mut flag = |name: &str, value: Option<&str>| {
            words.extend(value.map(|value| [name.to_owned(), value.to_owned()]));
        };
        let data_dir = self.data_dir.as_deref();
        match command {
            "list" => return vec![self.backup_dir_or_beside()],
            "verify" | "verify --deep" | "inspect" => {
                if data_dir.is_some() {
                    flag("--wal-dir", self.wal_dir.as_deref());
                }
                return words.into_iter().flatten().chain([self.target()]).collect();
            }
            "snapshot" | "snapshot --damaged" | "snapshot --label pre-upgrade" => {
                flag("--data-dir", data_dir.or(Some("DATA_DIR")));
                flag("--wal-dir", self.wal_dir.as_deref());
                let is_set = std::env::var_os("ETCD_ARK_BACKUP_DIR").is_some();
                let place = self.backup_dir.as_deref();
                flag("--backup-dir", place.or((!is_set).then_some("BACKUP_DIR")));
                for (name, value) in &self.recipients {
                    flag(name, Some(value));
                }
            }
            "preflight" | "preflight --watch" | "downgrade check" | "downgrade run --move-wal" => {
                if let Some(Step { from, to }) = self.step
                    && (from, to) != (V2_2, V2_1)
                {
                    let up = command.starts_with("preflight");
                    let (from, to) = if up { (to, from) } else { (from, to) };
                    flag("--from", Some(&from.to_string()));
                    flag("--to", Some(&to.to_string()));
                }
                for (name, value) in &self.connection {
                    flag(name, Some(value));
                }
                let is_run = command.starts_with("downgrade run");
                flag("--data-dir", data_dir.or(is_run.then_some("DATA_DIR")));
                flag("--wal-dir", self.wal_dir.as_deref());
                if is_run {
                    let place = self.backup_dir.as_deref();
                    flag("--backup-dir", place.or(Some("BACKUP_DIR")));
                    for (name, value) in &self.recipients {
                        flag(name, Some(value));
                    }
                } else if command == "preflight" {
                    flag("--backup-dir", self.backup_dir.as_deref());
                }
            }
            _ if command.starts_with("rewind --to ") => {
                flag("--out", Some("OUT_DIR"));
                for identity in &self.identities {
                    flag("--identity", identity.to_str());
                }
                return words.into_iter().flatten().chain([self.target()]).collect();
            }
            _ => {}
        }
        words.into_iter().flatten().collect()
    }

    /// The archive or data dir that a text is about.
    fn target(&self) -> String {
        let archive = self.archive.as_ref().map(|place| text(place.as_path()));
        let target = self.data_dir.clone().or(self.about.clone()).or(archive);
        target.unwrap_or_else(|| "TARGET".to_owned())
    }

    /// The place of the other archives.
    fn backup_dir_or_beside(&self) -> String {
        let beside = || {
            let archive = self.archive.as_ref()?.as_path().parent()?;
            let here = if archive.as_os_str().is_empty() {
                Path::new(".")
            } else {
                archive
            };
            let is_url = matches!(self.archive, Some(Location::Url(_)));
            (is_url || here.is_dir()).then(|| text(here))
        };
        let place = self.backup_dir.clone().or_else(beside);
        place.unwrap_or_else(|| "BACKUP_DIR".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_command_gets_what_the_run_was_given_and_a_whole_one_stays() {
        let dir = tempfile::TempDir::with_suffix("b c").unwrap();
        let given = |path: PathBuf| Printed {
            archive: Some(path.into()),
            ..Printed::default()
        };
        let place = dir.path().display().to_string();
        let text = "`etcd-ark verify BACKUP_DIR` checks them, `etcd-ark verify` this";
        assert_eq!(
            given(dir.path().join("etcd-a.tar.zst")).complete(text),
            format!(
                "`etcd-ark verify '{place}'` checks them, `etcd-ark verify '{place}/etcd-a.tar.zst'` this"
            )
        );
        let given = given(PathBuf::from("/gone/etcd-a.tar.zst"));
        assert_eq!(
            given.complete(text),
            "`etcd-ark verify BACKUP_DIR` checks them, `etcd-ark verify /gone/etcd-a.tar.zst` this"
        );
        let whole = "`etcd-ark list DIR`; etcd-ark list; `etcd-ark";
        assert_eq!(given.complete(whole), whole);
        let member = Printed {
            data_dir: Some("/d".to_owned()),
            wal_dir: Some("/w".to_owned()),
            connection: vec![("--endpoints", "http://a:2379".to_owned())],
            ..Printed::default()
        };
        for (bare, complete) in [
            ("inspect", "inspect --wal-dir /w /d"),
            ("list", "list BACKUP_DIR"),
            (
                "downgrade check",
                "downgrade check --endpoints http://a:2379 --data-dir /d --wal-dir /w",
            ),
            (
                "snapshot --damaged",
                "snapshot --damaged --data-dir /d --wal-dir /w --backup-dir BACKUP_DIR",
            ),
        ] {
            let told = member.complete(&format!("`etcd-ark {bare}`"));
            assert_eq!(told, format!("`etcd-ark {complete}`"));
        }
    }
}

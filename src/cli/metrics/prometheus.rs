//! Prometheus's text format (exposition format 0.0.4), as far as it is used here.
//!
//! In and out: [`Series`]. A metric family is written once, with its help and type, followed by all its
//! series. Reading accepts only what was written here: any other line means that the file is not
//! ours.

/// The metrics. All are gauges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    RunTime,
    SuccessTime,
    ExitCode,
    Duration,
    ArchiveTime,
    ArchiveBytes,
    ArchiveIndex,
    ArchiveWarnings,
    ArchiveStarts,
    DataSize,
    DataSizeLimit,
    Kept,
    Removed,
    DrillTime,
    DrillKeys,
}

/// Each with its name and its help text, in the order of the file.
const FAMILIES: [(Family, &str, &str); 15] = [
    (
        Family::RunTime,
        "etcd_ark_last_run_timestamp_seconds",
        "When the last run ended.",
    ),
    (
        Family::SuccessTime,
        "etcd_ark_last_success_timestamp_seconds",
        "When the last run ended that succeeded; 0 if none did.",
    ),
    (
        Family::ExitCode,
        "etcd_ark_last_run_exit_code",
        "The exit code of the last run; 0 is success, 5 success with warnings.",
    ),
    (
        Family::Duration,
        "etcd_ark_last_run_duration_seconds",
        "How long the last run took.",
    ),
    (
        Family::ArchiveTime,
        "etcd_ark_last_archive_timestamp_seconds",
        "When the capture of the last archive began.",
    ),
    (
        Family::ArchiveBytes,
        "etcd_ark_last_archive_bytes",
        "How large the last archive is.",
    ),
    (
        Family::ArchiveIndex,
        "etcd_ark_last_archive_raft_index",
        "The raft index of the last entry in the last archive.",
    ),
    (
        Family::ArchiveWarnings,
        "etcd_ark_last_archive_warnings",
        "How many warnings the last archive was made with.",
    ),
    (
        Family::ArchiveStarts,
        "etcd_ark_last_archive_starts",
        "1 if etcd of the release of its data starts from the last archive, 0 if not.",
    ),
    (
        Family::DataSize,
        "etcd_ark_data_size_bytes",
        "The member's data size: its raft snapshot and the log's entries above it.",
    ),
    (
        Family::DataSizeLimit,
        "etcd_ark_data_size_limit_bytes",
        "The data size above which etcd's guide says to get help before an upgrade.",
    ),
    (
        Family::Kept,
        "etcd_ark_archives_kept",
        "How many archives the last pruning kept.",
    ),
    (
        Family::Removed,
        "etcd_ark_archives_removed",
        "How many archives the last pruning removed.",
    ),
    (
        Family::DrillTime,
        "etcd_ark_last_proven_archive_timestamp_seconds",
        "When the archive was made that the last successful drill verified with a server.",
    ),
    (
        Family::DrillKeys,
        "etcd_ark_last_proven_archive_keys",
        "How many keys the server held in that drill.",
    ),
];

impl Family {
    fn name(self) -> &'static str {
        let known = FAMILIES.iter().find(|(family, ..)| *family == self);
        known.map_or("", |(_, name, _)| name)
    }
}

/// One value of a command, as a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Series {
    family: Family,
    command: String,
    line: String,
}

impl Series {
    /// A value with further `labels`, which must not differ between series of a command.
    pub(crate) fn new(
        family: Family,
        command: &str,
        labels: &[(&str, String)],
        value: f64,
    ) -> Self {
        let more: String = labels.iter().map(label).collect();
        let line = format!("{}{{command=\"{command}\"{more}}} {value}", family.name());
        let command = command.to_owned();
        Self {
            family,
            command,
            line,
        }
    }

    /// Whether it is this command's value in this family.
    pub(crate) fn is(&self, family: Family, command: &str) -> bool {
        self.family == family && self.command == command
    }

    /// Whether it replaces an older one.
    pub(crate) fn stands_for(&self, old: &Self) -> bool {
        old.is(self.family, &self.command)
    }
}

pub(crate) fn write(series: &[Series]) -> String {
    let mut lines = Vec::new();
    for (family, name, help) in FAMILIES {
        let mut own = series.iter().filter(|one| one.family == family).peekable();
        if own.peek().is_some() {
            lines.push(format!("# HELP {name} {help}\n# TYPE {name} gauge"));
        }
        lines.extend(own.map(|one| one.line.clone()));
    }
    lines.push(String::new());
    lines.join("\n")
}

fn label((name, value): &(&str, String)) -> String {
    let value = value.replace('\\', r"\\");
    let value = value.replace('"', "\\\"").replace('\n', r"\n");
    format!(",{name}=\"{value}\"")
}

/// The series in a text, or the number of the first line that is not ours.
pub(crate) fn read(text: &str) -> Result<Vec<Series>, usize> {
    let mut series = Vec::new();
    for (number, line) in text.lines().enumerate() {
        // Another release may have other help texts.
        let ours = ["# HELP etcd_ark_", "# TYPE etcd_ark_"];
        if ours.iter().any(|start| line.starts_with(start)) {
            continue;
        }
        let (name, command) = parse(line).ok_or(number + 1)?;
        // A name with our prefix that is not in the list was written by another release.
        let known = FAMILIES.into_iter().find(|(_, own, _)| *own == name);
        series.extend(known.map(|(family, ..)| Series {
            family,
            command: command.to_owned(),
            line: line.to_owned(),
        }));
    }
    Ok(series)
}

fn parse(line: &str) -> Option<(&str, &str)> {
    let (name, rest) = line.split_once("{command=\"")?;
    name.strip_prefix("etcd_ark_")?;
    let (command, _) = rest.split_once('"')?;
    let (_, value) = rest.rsplit_once("\"} ")?;
    value.parse::<f64>().ok()?;
    Some((name, command))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_and_dashboard_name_metrics_that_are_written() {
        let rules = include_str!("../../../dist/examples/etcd-ark.rules.yml");
        let dashboard = include_str!("../../../dist/examples/etcd-ark-dashboard.json");
        for text in [rules, dashboard] {
            let names = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let names: Vec<_> = names.filter(|word| word.starts_with("etcd_ark_")).collect();
            assert!(names.len() > 5, "{names:?}");
            for name in names {
                let known = FAMILIES.iter().any(|(_, known, _)| *known == name);
                assert!(known, "{name}");
            }
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let name = "a\\b\"c\nd,e}f{g= é";
        let labels = [("member", name.to_owned())];
        let odd = Series::new(Family::ArchiveBytes, "snapshot", &labels, 1_700_000_000.125);
        let plain = Series::new(Family::ExitCode, "prune", &[], 0.0);
        let series = vec![plain, odd];
        assert_eq!(read(&write(&series)), Ok(series));
        assert_eq!(read(""), Ok(vec![]));
    }

    #[test]
    fn a_line_of_another_program_is_not_taken_for_ours() {
        let good = write(&[Series::new(Family::ExitCode, "prune", &[], 0.0)]);
        for foreign in [
            "up 1",
            "node_textfile_mtime{file=\"x\"} 1",
            "etcd_ark_last_run_exit_code{command=\"prune\" 1",
            "etcd_ark_last_run_exit_code{command=\"prune\"} much",
            "# a comment",
            "\u{0}",
        ] {
            assert_eq!(read(&format!("{good}{foreign}\n")), Err(4), "{foreign}");
        }
        // Lines of another release are ours.
        let other = "etcd_ark_of_another_release{command=\"prune\"} 1\n";
        assert_eq!(read(other), Ok(vec![]));
    }
}

//! Performance data, in the format of the monitoring plugins guidelines:
//! `'label'=value[unit];[warn];[crit]`, separated by spaces.
//!
//! In: a report. Out: one line. A threshold `N` is exceeded above N, `N:` below it; `U` is an unknown
//! value.

use crate::monitoring::{MemberReport, Report, Thresholds};

pub(crate) fn of(report: &Report, rules: &Thresholds) -> String {
    let mut data = Vec::new();
    let alone = report.members.len() == 1;
    for member in &report.members {
        let suffix = if alone { None } else { Some(&*member.name) };
        data.extend(of_member(member, suffix, rules));
    }
    if let Some(free) = report.room.free {
        let room = &report.room;
        let (warning, critical) = (room.warning_below, room.critical_below);
        data.push(if room.round > 0 {
            format!("free={free}B;{warning}:;{critical}:")
        } else {
            format!("free={free}B")
        });
    }
    data.join(" ")
}

fn of_member(member: &MemberReport, suffix: Option<&str>, rules: &Thresholds) -> [String; 4] {
    let label = |name: &str| label(name, suffix);
    let age = match member.age_seconds {
        Some(age) => format!("{age}s"),
        None => "U".to_owned(),
    };
    let warn = rules.warn_age.map(|age| age.as_secs().to_string());
    let warn = warn.unwrap_or_default();
    [
        format!("{}={age};{warn};{}", label("age"), rules.max_age.as_secs()),
        format!(
            "{}={}B;{}",
            label("data_size"),
            member.data_size,
            rules.size_limit
        ),
        format!("{}={}B", label("archive_size"), member.archive_bytes),
        format!("{}={}", label("archives"), member.archives),
    ]
}

/// A label may contain any characters but `=` and `'`, and is quoted unless it has only letters, digits
/// and `_`; `|` would end the text, so it is removed, too.
fn label(name: &str, suffix: Option<&str>) -> String {
    let Some(suffix) = suffix else {
        return name.to_owned();
    };
    let allowed = |c: char| {
        if c.is_control() || "='|".contains(c) {
            '_'
        } else {
            c
        }
    };
    let suffix: String = suffix.chars().map(allowed).collect();
    let label = format!("{name}_{suffix}");
    if label.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        label
    } else {
        format!("'{label}'")
    }
}

#[cfg(test)]
mod tests {
    use super::label;

    #[test]
    fn a_name_that_anybody_chose_cannot_break_the_line() {
        let told = |name| label("age", Some(name));
        assert_eq!(label("age", None), "age");
        assert_eq!(told("infra0"), "age_infra0");
        assert_eq!(told("node 1"), "'age_node 1'");
        assert_eq!(told("a=b'c|d\ne"), "age_a_b_c_d_e");
        assert_eq!(told("é"), "'age_é'");
    }
}

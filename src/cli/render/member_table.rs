//! A table of the members' states that fits 80 columns.

use crate::upgrade::preflight::watch::{Health, Part, Standing};
use jiff::Timestamp;

use crate::cli::layout::{Table, WIDTH, wrap};
use crate::cli::output::{Output, Paint};

/// How many characters of a name are shown.
const NAME: usize = 14;

/// The lines of the table, and below it why members do not answer.
pub(crate) fn table(members: &[Standing], out: &Output) -> Vec<String> {
    let mut table = Table::new(&[
        "NAME", "ID", "SERVER", "CLUSTER", "HEALTH", "ROLE", "POSITION",
    ]);
    for member in members {
        table.row(row(member, out), Vec::new());
    }
    let mut lines = table.painted(|title| out.paint(Paint::Dim, title));
    for member in members {
        if let (Some(silence), Some(since)) = (&member.silence, member.down_since) {
            let text = format!("{} down since {}: {silence}", name(member), clock(since));
            let wrapped = wrap(&text, WIDTH).into_iter();
            lines.extend(wrapped.map(|line| out.paint(Paint::Dim, &line)));
        }
    }
    lines
}

fn row(member: &Standing, out: &Output) -> Vec<String> {
    let said = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let position = member.raft_index.zip(member.raft_term);
    let role = role_text(member.role);
    vec![
        name(member),
        member.id.to_string(),
        said(member.server_version.as_ref().map(ToString::to_string)),
        said(member.cluster_version.as_ref().map(ToString::to_string)),
        out.paint(health_paint(member.health), health_text(member.health)),
        match member.role {
            Part::Leader => out.paint(Paint::Strong, role),
            Part::Leaderless => out.paint(Paint::Bad, role),
            Part::Follower | Part::Unknown => role.to_owned(),
        },
        said(position.map(|(index, term)| format!("{index}, term {term}"))),
    ]
}

pub(crate) fn role_text(role: Part) -> &'static str {
    match role {
        Part::Leader => "leader",
        Part::Follower => "follower",
        Part::Leaderless => "no leader",
        Part::Unknown => "-",
    }
}

pub(crate) fn health_text(health: Health) -> &'static str {
    match health {
        Health::Healthy => "healthy",
        Health::Unhealthy => "unhealthy",
        Health::NoQuorum => "no quorum",
        Health::NoAccess => "no access",
        Health::Down => "down",
    }
}

fn health_paint(health: Health) -> Paint {
    match health {
        Health::Healthy => Paint::Good,
        Health::NoAccess => Paint::Warn,
        Health::Unhealthy | Health::NoQuorum | Health::Down => Paint::Bad,
    }
}

pub(crate) fn name(member: &Standing) -> String {
    let name = member.name.as_str();
    if name.is_empty() {
        "(unnamed)".to_owned()
    } else if name.chars().count() > NAME {
        name.chars().take(NAME - 1).chain(['…']).collect()
    } else {
        name.to_owned()
    }
}

/// The time of day, in UTC.
pub(crate) fn clock(at: Timestamp) -> String {
    at.strftime("%H:%M:%S").to_string()
}

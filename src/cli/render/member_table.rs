//! A table of the members' states that fits 80 columns.

use crate::upgrade::preflight::watch::{Health, Part, Standing};
use jiff::Timestamp;

use crate::cli::layout::{WIDTH, wrap};
use crate::cli::output::{Output, Paint};

/// How many characters of a name are shown.
const NAME: usize = 14;

/// The lines of the table, and below it why members do not answer.
pub(crate) fn table(members: &[Standing], out: &Output) -> Vec<String> {
    let mut rows = vec![header()];
    rows.extend(members.iter().map(row));
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.text.chars().count()).max()
    };
    let widths: Vec<_> = (0..).map_while(width).collect();
    let mut lines: Vec<_> = rows
        .iter()
        .map(|row| {
            let cells = row.iter().zip(&widths);
            let cells: Vec<_> = cells.map(|(cell, width)| cell.show(*width, out)).collect();
            cells.join("  ").trim_end().to_owned()
        })
        .collect();
    for member in members {
        if let (Some(silence), Some(since)) = (&member.silence, member.down_since) {
            let text = format!("{} down since {}: {silence}", name(member), clock(since));
            lines.extend(
                wrap(&text, WIDTH)
                    .iter()
                    .map(|line| out.paint(Paint::Dim, line)),
            );
        }
    }
    lines
}

struct Cell {
    text: String,
    paint: Option<Paint>,
}

impl Cell {
    fn show(&self, width: usize, out: &Output) -> String {
        let room = width.saturating_sub(self.text.chars().count());
        let text = match self.paint {
            Some(paint) => out.paint(paint, &self.text),
            None => self.text.clone(),
        };
        text + &" ".repeat(room)
    }
}

fn header() -> Vec<Cell> {
    let titles = [
        "NAME", "ID", "SERVER", "CLUSTER", "HEALTH", "ROLE", "POSITION",
    ];
    let cell = |title: &str| Cell {
        text: title.to_owned(),
        paint: Some(Paint::Dim),
    };
    titles.map(cell).into()
}

fn row(member: &Standing) -> Vec<Cell> {
    let plain = |text: String| Cell { text, paint: None };
    let said = |text: Option<String>| plain(text.unwrap_or_else(|| "-".to_owned()));
    let server = member.server_version.as_ref().map(ToString::to_string);
    let cluster = member.cluster_version.as_ref().map(ToString::to_string);
    let position = member.raft_index.zip(member.raft_term);
    vec![
        plain(name(member)),
        plain(member.id.to_string()),
        said(server),
        said(cluster),
        Cell {
            text: health_text(member.health).to_owned(),
            paint: Some(health_paint(member.health)),
        },
        role(member.role),
        said(position.map(|(index, term)| format!("{index}, term {term}"))),
    ]
}

fn role(role: Part) -> Cell {
    let paint = match role {
        Part::Leader => Some(Paint::Strong),
        Part::Leaderless => Some(Paint::Bad),
        Part::Follower | Part::Unknown => None,
    };
    Cell {
        text: role_text(role).to_owned(),
        paint,
    }
}

/// A member's role as one or two words.
pub(crate) fn role_text(role: Part) -> &'static str {
    match role {
        Part::Leader => "leader",
        Part::Follower => "follower",
        Part::Leaderless => "no leader",
        Part::Unknown => "-",
    }
}

/// A member's health as one or two words.
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

/// A member's name, shortened, or a word if it has none.
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

//! Draws the log on an index axis: raft snapshots, segments, commit, version changes.
//!
//! In: a member's facts. Out: lines of at most 80 columns.

use crate::etcd::ids::{Index, SnapshotId};
use crate::etcd::member::MemberFacts;
use crate::text::entries;

/// Columns of the axis.
pub(crate) const WIDTH: usize = 62;
/// Columns of the names before it.
pub(crate) const NAMES: usize = 12;
/// How many segments are drawn at most: the newest ones.
const MOST_SEGMENTS: usize = 8;

pub(crate) fn picture(facts: &MemberFacts, snapshots: &[SnapshotId]) -> String {
    let axis = Axis::of(facts, snapshots);
    let mut lines = vec![axis.scale()];
    if !snapshots.is_empty() {
        let indexes: Vec<_> = snapshots.iter().map(|id| id.index).collect();
        lines.extend(axis.marks("snapshots", '◆', &indexes, |at| at.to_string()));
    }
    let skipped = facts.segments.len().saturating_sub(MOST_SEGMENTS);
    if skipped > 0 {
        lines.push(named("segments", &format!("… {skipped} earlier ones")));
    }
    for segment in facts.segments.iter().skip(skipped) {
        let name = format!("segment {}", segment.sequence);
        lines.push(match (segment.first, segment.last) {
            (Some(first), Some(last)) => axis.bar(&name, first, last, '━', last),
            _ => named(&name, "no entries"),
        });
    }
    let commit = facts.position.commit;
    if let Some(jump) = facts.jumps.last() {
        let text = format!(
            "no {}: a raft snapshot covers them",
            entries(jump.after.next(), jump.to)
        );
        lines.push(named("", &text));
    }
    lines.push(axis.bar("committed", axis.first, commit, '═', commit));
    let versions: Vec<_> = facts
        .versions
        .iter()
        .filter_map(|change| Some((change.set_at?, change)))
        .collect();
    if !versions.is_empty() {
        let indexes: Vec<_> = versions.iter().map(|(at, _)| *at).collect();
        let label = |at: Index| {
            let change = versions.iter().find(|(set_at, _)| *set_at == at);
            change.map_or_else(String::new, |(_, change)| {
                let pending = if change.committed { "" } else { " pending" };
                format!("{}@{at}{pending}", change.version)
            })
        };
        lines.extend(axis.marks("versions", '▲', &indexes, label));
    }
    lines.join("\n")
}

pub(crate) fn named(name: &str, text: &str) -> String {
    format!("  {name:<NAMES$}{text}")
}

/// Maps indexes to the columns of a line.
pub(crate) struct Axis {
    pub(crate) first: Index,
    pub(crate) last: Index,
}

impl Axis {
    fn of(facts: &MemberFacts, snapshots: &[SnapshotId]) -> Self {
        let entries = facts.segments.iter().filter_map(|segment| segment.first);
        let indexes = snapshots.iter().map(|id| id.index);
        let first = entries.chain(indexes).min().unwrap_or(Index(0));
        Self {
            first,
            last: facts.position.index.max(first),
        }
    }

    pub(crate) fn column(&self, at: Index) -> usize {
        let span = self.last.0 - self.first.0;
        let from_first = at.0.clamp(self.first.0, self.last.0) - self.first.0;
        if span == 0 {
            return 0;
        }
        (u128::from(from_first) * (WIDTH as u128 - 1) / u128::from(span)) as usize
    }

    pub(crate) fn scale(&self) -> String {
        let (first, last) = (self.first.to_string(), self.last.to_string());
        let gap = WIDTH.saturating_sub(last.len());
        named("index", &format!("{first:<gap$}{last}"))
    }

    pub(crate) fn bar(
        &self,
        name: &str,
        from: Index,
        to: Index,
        stroke: char,
        label: Index,
    ) -> String {
        let (from, to) = (self.column(from), self.column(to));
        let mut line = " ".repeat(from);
        line.extend(std::iter::repeat_n(stroke, (to + 1).saturating_sub(from)));
        let label = label.to_string();
        // The number follows the bar, or is inside its end if there is no room.
        if to + 2 + label.len() <= WIDTH {
            line = format!("{line} {label}");
        }
        named(name, &line)
    }

    /// Marks with labels below them, as many as fit without touching.
    pub(crate) fn marks(
        &self,
        name: &str,
        mark: char,
        indexes: &[Index],
        label: impl Fn(Index) -> String,
    ) -> Vec<String> {
        let mut marks = vec![' '; WIDTH];
        let mut labels = String::new();
        for &at in indexes {
            let column = self.column(at);
            if let Some(place) = marks.get_mut(column) {
                *place = mark;
            }
            let label = label(at);
            let start = column.min(WIDTH.saturating_sub(label.len()));
            let used = labels.chars().count();
            if used == 0 || start > used {
                labels.extend(std::iter::repeat_n(' ', start - used));
                labels.push_str(&label);
            }
        }
        let marks: String = marks.into_iter().collect();
        vec![named(name, marks.trim_end()), named("", &labels)]
    }
}

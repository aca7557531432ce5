//! Draws the inputs of a rewind on one index axis: what each has, what is kept, what is lost.
//!
//! In: a plan. Out: lines of at most 80 columns.

use crate::etcd::ids::Index;
use crate::etcd::text::printable;
use crate::etcd::trace::TracedEntry;
use crate::rewind::Plan;
use crate::rewind::input::ReadInput;

use crate::cli::render::log::{Axis, NAMES, WIDTH, named};

const ENTRIES: char = '━';
/// Entries that are not part of the history, or not known to be.
const TAIL: char = '┄';
const SNAPSHOT: char = '◆';

pub(crate) fn picture(plan: &Plan) -> String {
    let axis = axis(plan);
    let mut lines = vec![axis.scale()];
    let inputs = plan.read_inputs.iter().zip(&plan.agreement.sure);
    for (place, (read_input, sure)) in inputs.enumerate() {
        let name = input_name(place, read_input);
        lines.push(named(&name, &row(&axis, read_input, *sure)));
    }
    let (kept, end) = (plan.moment.index, plan.agreement.end.index);
    lines.push(axis.bar("kept", axis.first, kept, '═', kept));
    if kept < end {
        lines.push(axis.bar("lost", kept.next(), end, '╌', end));
    }
    if let Some(moved) = &plan.moment.moved {
        let label = |_| format!("{}@{}", moved.version, moved.at);
        lines.extend(axis.marks("moved", '▲', &[moved.at], label));
    }
    lines.join("\n")
}

/// An input's number and its member's name, cut to the column's width.
fn input_name(place: usize, read_input: &ReadInput) -> String {
    let name = printable(&read_input.member());
    let text = format!("{} {name}", place + 1);
    text.chars().take(NAMES - 1).collect()
}

fn axis(plan: &Plan) -> Axis {
    let all = |read_input: &ReadInput| {
        let first = read_input.trace.entries.first().map(|entry| entry.index);
        let snapshots = read_input.trace.snapshots.iter();
        let lowest = snapshots.map(|snapshot| snapshot.id.index).min();
        [first, lowest].into_iter().flatten().min()
    };
    let first = plan.read_inputs.iter().filter_map(all).min();
    let lasts = plan.read_inputs.iter().map(|one| one.facts.position.index);
    let first = first.unwrap_or(Index(0));
    Axis {
        first,
        last: lasts.max().unwrap_or(first).max(first),
    }
}

fn row(axis: &Axis, read_input: &ReadInput, sure: Index) -> String {
    let mut line = vec![' '; WIDTH];
    let mut draw = |columns: std::ops::RangeInclusive<usize>, stroke: char| {
        if let Some(places) = line.get_mut(columns) {
            places.fill(stroke);
        }
    };
    let mut before: Option<Index> = None;
    for TracedEntry { index, .. } in &read_input.trace.entries {
        let stroke = if *index <= sure { ENTRIES } else { TAIL };
        let column = axis.column(*index);
        // With more columns than entries, consecutive entries form one line.
        let follows = before.filter(|before| before.next() == *index);
        let from = follows.map_or(column, |before| (axis.column(before) + 1).min(column));
        draw(from..=column, stroke);
        before = Some(*index);
    }
    for snapshot in &read_input.trace.snapshots {
        let column = axis.column(snapshot.id.index);
        draw(column..=column, SNAPSHOT);
    }
    let line: String = line.into_iter().collect();
    let line = line.trim_end();
    let last = read_input.facts.position.index.to_string();
    let length = line.chars().count();
    if length + 1 + last.len() <= WIDTH {
        format!("{line} {last}")
    } else {
        line.to_owned()
    }
}

//! Draws data size over time as columns of blocks, with the limit as a line.
//!
//! In: a history and the width of the picture. Out: lines. A column is a period and as
//! high as the largest archive in it; it is empty if there is none. The limit's line is
//! between two rows, so that everything above it is over the limit.

use crate::monitoring::growth::History;
use crate::text::size;
use jiff::{SignedDuration, Timestamp};

use crate::cli::render::log::{NAMES, named};

/// A column's last cell, in eighths.
const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const EIGHTHS: u64 = 8;
/// The most rows, and the least if all is below the limit.
const MOST_ROWS: u64 = 16;
const ROWS: u64 = 8;
/// The least columns of the chart, whatever the terminal's width.
const NARROWEST: usize = 20;
/// Shorter periods are labelled with times of day.
const SHORT: SignedDuration = SignedDuration::from_hours(48);

/// Draws it in lines of at most `width` columns.
pub(crate) fn picture(history: &History, width: usize) -> String {
    let width = width.saturating_sub(NAMES + 3).max(NARROWEST);
    let (Some(first), Some(last)) = (history.points.first(), history.points.last()) else {
        return String::new();
    };
    let columns = columns(history, (first.at, last.at), width);
    let scale = Scale::of(history);
    let mut lines = Vec::new();
    for row in (1..=scale.rows).rev() {
        if row == scale.limit_row {
            lines.push(limit_line(&columns, history.limit));
        }
        lines.push(scale.row(row, &columns));
    }
    let rule: String = std::iter::repeat_n('─', width).collect();
    lines.push(named(&y_label("0 B"), &format!("└{rule}")));
    lines.push(named("", &dates(first.at, last.at, width)));
    lines.join("\n")
}

/// The largest size in each period.
fn columns(
    history: &History,
    (first, last): (Timestamp, Timestamp),
    width: usize,
) -> Vec<Option<u64>> {
    let mut columns = vec![None; width];
    let span = last.duration_since(first).as_millis().max(1);
    for point in &history.points {
        let from_first = point.at.duration_since(first).as_millis();
        let column = from_first * (width as i128 - 1) / span;
        let column = usize::try_from(column).unwrap_or(0);
        if let Some(most) = columns.get_mut(column) {
            *most = (*most).max(Some(point.bytes));
        }
    }
    columns
}

fn y_label(text: &str) -> String {
    format!("{text:>width$}", width = NAMES - 1)
}

/// What a row means.
struct Scale {
    /// Bytes.
    row: u64,
    rows: u64,
    /// The row with the limit as its upper edge.
    limit_row: u64,
}

impl Scale {
    fn of(history: &History) -> Self {
        let most = history.points.iter().map(|point| point.bytes).max();
        let most = most.unwrap_or(0);
        // The limit is the edge of a row, with as many rows below it as possible.
        for below in [ROWS, 4, 2, 1] {
            let row = history.limit.div_ceil(below).max(1);
            let rows = most.div_ceil(row).max(below);
            if rows <= MOST_ROWS {
                return Self {
                    row,
                    rows,
                    limit_row: below,
                };
            }
        }
        // All is so far above the limit that the limit is at the bottom.
        Self {
            row: most.div_ceil(MOST_ROWS).max(1),
            rows: MOST_ROWS,
            limit_row: 1,
        }
    }

    fn row(&self, row: u64, columns: &[Option<u64>]) -> String {
        let cells: String = columns.iter().map(|size| self.cell(row, *size)).collect();
        // Every other row's upper edge is labelled, except the limit's, which has a line.
        let named_here = row % 2 == self.limit_row % 2 && row != self.limit_row;
        let label = if named_here {
            y_label(&size(self.row.saturating_mul(row)))
        } else {
            String::new()
        };
        named(&label, format!("│{cells}").trim_end())
    }

    fn cell(&self, row: u64, size: Option<u64>) -> char {
        let Some(size) = size else {
            return ' ';
        };
        let below = self.row.saturating_mul(row - 1);
        let above = size.saturating_sub(below);
        // A small value is visible, too.
        let eighths = (u128::from(above) * u128::from(EIGHTHS)).div_ceil(u128::from(self.row));
        let eighths = usize::try_from(eighths).unwrap_or(usize::MAX);
        let nothing = row == 1 && eighths == 0;
        match eighths.min(BLOCKS.len()) {
            0 if nothing => BLOCKS.first().copied().unwrap_or(' '),
            0 => ' ',
            some => BLOCKS.get(some - 1).copied().unwrap_or(' '),
        }
    }
}

/// The limit's line; columns that cross it are over the limit.
fn limit_line(columns: &[Option<u64>], limit: u64) -> String {
    let over = |size: &Option<u64>| size.is_some_and(|size| size > limit);
    let cells = columns
        .iter()
        .map(|size| if over(size) { '█' } else { '╌' });
    let cells: String = cells.collect();
    named(&y_label(&size(limit)), &format!("┝{cells}"))
}

/// The first and the last date, and the middle one if there is room.
fn dates(first: Timestamp, last: Timestamp, width: usize) -> String {
    let span = last.duration_since(first);
    let format = if span < SHORT {
        "%m-%d %H:%M"
    } else {
        "%Y-%m-%d"
    };
    let text = |at: Timestamp| at.strftime(format).to_string();
    let left = text(first);
    if span.is_zero() {
        return format!(" {left}");
    }
    let right = text(last);
    let middle = first.checked_add(span / 2).map(text).unwrap_or_default();
    let room = width.saturating_sub(left.len() + right.len());
    if room >= middle.len() + 8 {
        format!(" {left}{middle:^room$}{right}")
    } else {
        format!(" {left}{right:>rest$}", rest = room + right.len())
    }
}

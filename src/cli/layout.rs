//! Text in lines of at most [`width`] columns, broken at spaces.
//!
//! In: lines, or rows of cells. Out: lines. A longer path, digest or URL is on a line of its own, unbroken; a broken
//! command ends its lines with ` \`, so that a shell accepts it as printed.

/// The width of text and tables, unless `COLUMNS` is set.
pub(crate) const WIDTH: usize = 80;
/// A smaller value in `COLUMNS` is ignored.
const NARROWEST: usize = 20;
/// Text of a row that begins after this column does not continue below itself.
const FARTHEST: usize = 40;
/// First words of lines that are commands.
const PROGRAMS: [&str; 9] = [
    "etcd-ark",
    "etcdctl",
    "chown",
    "cp",
    "curl",
    "mkdir",
    "mv",
    "rm",
    "systemctl",
];
/// Units, which stay with the number before them.
const UNITS: [&str; 10] = ["B", "kB", "MB", "GB", "TB", "s", "ms", "%", "UTC", "bytes"];

pub(crate) fn width() -> usize {
    let set = std::env::var("COLUMNS").ok();
    let set = set.and_then(|columns| columns.trim().parse().ok());
    set.filter(|columns| *columns >= NARROWEST).unwrap_or(WIDTH)
}

/// Breaks every line of `text` that is too long.
pub(crate) fn fit(text: &str, width: usize) -> String {
    let mut is_quoted = false;
    let lines = text.split('\n').map(|line| {
        let began_quoted = is_quoted;
        is_quoted = (began_quoted || is_command(line.trim_start())) && leaves_open(line, is_quoted);
        // A name with a line break is one word of a command, so its lines must stay together.
        if began_quoted || is_quoted {
            line.to_owned()
        } else {
            fit_line(line, width)
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn is_command(text: &str) -> bool {
    PROGRAMS.contains(&text.split(' ').next().unwrap_or_default())
}

/// Whether a line of a command ends inside quotes, given whether it began there.
fn leaves_open(line: &str, began_quoted: bool) -> bool {
    let mut quotes = ShellQuotes(began_quoted.then_some('\''));
    for c in line.chars() {
        quotes.pass(c);
    }
    matches!(quotes.0, Some('\'' | '"'))
}

/// The shell's quoting state inside a command: an open quote, or a backslash right before.
struct ShellQuotes(Option<char>);

impl ShellQuotes {
    fn pass(&mut self, c: char) {
        self.0 = match (self.0, c) {
            (None, '\'' | '"' | '\\') => Some(c),
            (Some('\\'), _) => None,
            (Some(open), c) if open == c => None,
            (open, _) => open,
        };
    }
}

/// `text` in lines of at most `width` columns, without indentation.
pub(crate) fn wrap(text: &str, width: usize) -> Vec<String> {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let lines = broken(&words, 0, false, width);
    lines.split('\n').map(str::to_owned).collect()
}

/// A line that continues at column `hang`.
pub(crate) fn hung(line: &str, hang: usize, width: usize) -> String {
    if columns(line) <= width {
        return line.to_owned();
    }
    broken(line, hang, false, width)
}

fn fit_line(line: &str, width: usize) -> String {
    if columns(line) <= width || line.ends_with(" \\") {
        return line.to_owned();
    }
    let (hang, text) = hang(line);
    let is_command = is_command(text) && columns(line) > columns(text);
    broken(line, hang, is_command, width)
}

/// The column where a line continues: below its text, after a row's name, a number or a dash. Also the text from there.
fn hang(line: &str) -> (usize, &str) {
    let text = line.trim_start();
    let indent = line.len() - text.len();
    let (marker, rest) = text.split_once(' ').unwrap_or((text, ""));
    let number = marker.strip_suffix('.').unwrap_or_default();
    if marker == "-" || number.parse::<u32>().is_ok() {
        return (indent + columns(marker) + 1, rest);
    }
    // The last gap of a row `name   text`, or `mark  name   text`.
    let words = line.match_indices(' ').map(|(at, _)| at + 1);
    let after = words.filter(|at| *at > indent + 1 && line[..*at].ends_with("  "));
    let after = after.filter(|at| !line[*at..].starts_with(' '));
    let mut column = after.map(|at| (columns(&line[..at]), &line[at..]));
    match column.rfind(|(column, _)| *column <= FARTHEST) {
        Some(found) => found,
        // A row that continues the one above has its column already.
        None if indent >= 10 => (indent, text),
        None => (indent + 2, text),
    }
}

/// A part of a line that stays together.
struct Piece<'t> {
    gap: &'t str,
    text: &'t str,
    /// Whether a command continues after it.
    continues: bool,
}

fn broken(line: &str, hang: usize, is_command: bool, width: usize) -> String {
    let (mut done, mut current) = (String::new(), String::new());
    let mut within = false;
    for piece in pieces(line, hang, is_command, width) {
        let room = if piece.continues { width - 2 } else { width };
        let longer = columns(&current) + columns(piece.gap) + columns(piece.text);
        let is_next_command = within && piece.text == "&&";
        if !current.trim().is_empty() && (longer > room || is_next_command) {
            done += current.trim_end();
            done += if within { " \\\n" } else { "\n" };
            let indent = if within { hang + 2 } else { hang };
            current = " ".repeat(indent);
        } else {
            current += piece.gap;
        }
        current += piece.text;
        within = piece.continues;
    }
    done + &current
}

fn pieces(line: &str, hang: usize, is_command: bool, width: usize) -> Vec<Piece<'_>> {
    let mut pieces: Vec<Piece<'_>> = Vec::new();
    let mut at = 0;
    let mut command_ends = if is_command { line.len() } else { 0 };
    while at < line.len() {
        let text = line[at..].trim_start_matches(' ');
        let gap = &line[at..line.len() - text.len()];
        let from = line.len() - text.len();
        let mut end = from + word_end(text, from < command_ends);
        if let Some(span) = quoted_end(text).filter(|_| from >= command_ends) {
            let is_command = PROGRAMS.contains(&first_word(text));
            if columns(&text[..span]) + hang <= width {
                end = from + span;
            } else if is_command {
                command_ends = from + span;
                end = from + word_end(text, true);
            }
        }
        let continues = end < command_ends;
        match pieces.last_mut() {
            Some(before) if gap == " " && stays_with(before, &line[from..end], hang, width) => {
                let start = from - gap.len() - before.text.len();
                before.text = &line[start..end];
                before.continues = continues;
            }
            _ => pieces.push(Piece {
                gap,
                text: &line[from..end],
                continues,
            }),
        }
        at = end;
    }
    pieces
}

/// Whether a word stays with the one before: a unit with its number, a value with its flag.
fn stays_with(before: &Piece<'_>, word: &str, hang: usize, width: usize) -> bool {
    let is_unit = UNITS.contains(&text_of(word));
    let is_value = before.continues && !word.starts_with(['-', '&']);
    let is_flag = before.text.starts_with('-') && !before.text.contains([' ', '=']);
    let fits = hang + 4 + columns(before.text) + 1 + columns(word) <= width;
    is_unit && before.text.ends_with(|c: char| c.is_ascii_digit()) || is_value && is_flag && fits
}

fn first_word(quoted: &str) -> &str {
    let text = quoted.trim_start_matches(['(', '`']);
    text.split([' ', '`']).next().unwrap_or_default()
}

fn text_of(word: &str) -> &str {
    word.trim_end_matches(|c: char| c.is_ascii_punctuation() && c != '%')
}

/// The end of a word; in a command a quoted one ends with its quotes.
fn word_end(text: &str, in_command: bool) -> usize {
    let mut quotes = ShellQuotes(None);
    let end = text.find(|c: char| {
        let is_free = quotes.0.is_none();
        if in_command {
            quotes.pass(c);
        }
        c == ' ' && is_free
    });
    end.unwrap_or(text.len())
}

/// The end of a text in back quotes, with what follows without a space.
fn quoted_end(text: &str) -> Option<usize> {
    let inner = text.trim_start_matches('(').strip_prefix('`')?;
    let from = text.len() - inner.len();
    let close = from + inner.find('`')? + 1;
    Some(close + word_end(&text[close..], false))
}

/// The width of `text` in columns, without colours.
pub(crate) fn columns(text: &str) -> usize {
    let mut count = 0;
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c == '\x1b' {
            rest.by_ref().find(char::is_ascii_alphabetic);
        } else {
            count += 1;
        }
    }
    count
}

pub(crate) struct Table {
    header: Vec<&'static str>,
    rows: Vec<(Vec<String>, Vec<String>)>,
}

/// The prefix of a numeric column's title.
const RIGHT: char = '>';

impl Table {
    /// A title that begins with `>` is that of a right-aligned column.
    pub(crate) fn new(header: &[&'static str]) -> Self {
        Self {
            header: header.to_vec(),
            rows: Vec::new(),
        }
    }

    pub(crate) fn row(&mut self, cells: Vec<String>, below: Vec<String>) {
        self.rows.push((cells, below));
    }

    /// The lines, still to be [`fit`].
    pub(crate) fn lines(&self) -> Vec<String> {
        self.painted(str::to_owned)
    }

    /// The same with titles in a colour.
    pub(crate) fn painted(&self, paint: impl Fn(&str) -> String) -> Vec<String> {
        let titles = self.header.iter();
        let titles: Vec<_> = titles
            .map(|title| paint(title.trim_start_matches(RIGHT)))
            .collect();
        let width = |column: usize| {
            let cells = self.rows.iter().map(|(cells, _)| cells).chain([&titles]);
            let cells = cells.filter_map(|cells| cells.get(column));
            cells.map(|cell| columns(cell)).max().unwrap_or_default()
        };
        let widths: Vec<_> = (0..titles.len()).map(width).collect();
        let shown = |cells: &[String]| {
            let padded = cells.iter().zip(&widths).zip(&self.header);
            let padded = padded.map(|((cell, width), title)| {
                let room = " ".repeat(width.saturating_sub(columns(cell)));
                if title.starts_with(RIGHT) {
                    room + cell
                } else {
                    cell.clone() + &room
                }
            });
            padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        let mut lines = vec![shown(&titles)];
        for (cells, below) in &self.rows {
            lines.push(shown(cells));
            lines.extend(below.iter().map(|line| format!("  {line}")));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_goes_on_below_its_text() {
        let told = |line: &str| fit(line, 40);
        assert_eq!(told("short  and kept"), "short  and kept");
        assert_eq!(
            told("error: the archive is corrupt: frame 0 does not match"),
            "error: the archive is corrupt: frame 0\n  does not match"
        );
        assert_eq!(
            told("  snapshot   of a member, with a name that is long"),
            "  snapshot   of a member, with a name\n             that is long"
        );
        assert_eq!(
            told("  1. stop all members of the old cluster, all"),
            "  1. stop all members of the old\n     cluster, all"
        );
        assert_eq!(
            told("\x1b[1mbold\x1b[0m text that is just forty columns wide"),
            "\x1b[1mbold\x1b[0m text that is just forty columns\n  wide"
        );
    }

    #[test]
    fn paths_spans_and_units_stay_whole() {
        let path = "/a/path/longer/than/the/line/of/forty/columns";
        assert_eq!(
            fit(&format!("error: `{path}`: not found"), 40),
            format!("error:\n  `{path}`:\n  not found")
        );
        assert_eq!(
            fit("the archives that you see by `etcd-ark list` are 12", 40),
            "the archives that you see by\n  `etcd-ark list` are 12"
        );
        assert_eq!(
            fit("the size of the whole of the data is 59.9 kB, so it is", 42),
            "the size of the whole of the data is\n  59.9 kB, so it is"
        );
    }

    #[test]
    fn a_broken_command_still_runs_as_printed() {
        let command = "  mv 'a directory' /var/lib/etcd/member && mv x y";
        let shown = fit(command, 30);
        assert_eq!(
            shown,
            "  mv 'a directory' \\\n      /var/lib/etcd/member \\\n      && mv x y"
        );
        let span = "run `etcd-ark restore ARCHIVE --data-dir DIR --replace --all`, then go on";
        assert_eq!(
            fit(span, 40),
            "run `etcd-ark restore ARCHIVE \\\n    --data-dir DIR --replace --all`,\n  then go on"
        );
        for line in shown.lines() {
            assert!(columns(line) <= 30);
        }
        let command = "  mv '/var/lib/it'\\''s my' /var/lib/etcd/member";
        assert_eq!(
            fit(command, 30),
            "  mv '/var/lib/it'\\''s my' \\\n      /var/lib/etcd/member"
        );
        // A row that is broken already, with a word that is longer than the line.
        let wrapped = wrap(
            "run `etcd-ark list --backup-dir /a/directory/of/a/longer/name --names`",
            30,
        );
        let indented = format!("          {}", wrapped.join("\n          "));
        assert_eq!(fit(&indented, 40), indented);
        let command = "  mv '/it'\\''s a\nname on two lines' /var/lib/etcd/member && mv x y";
        assert_eq!(fit(command, 30), command);
    }

    #[test]
    fn a_table_has_no_blanks_at_its_ends_and_lines_below_its_rows() {
        let mut table = Table::new(&["NAME", ">SIZE", "LAST"]);
        table.row(
            ["a", "1 kB", "x"].map(str::to_owned).into(),
            vec!["file".into()],
        );
        table.row(["bcdef", "10 kB", ""].map(str::to_owned).into(), Vec::new());
        let lines = [
            "NAME    SIZE  LAST",
            "a       1 kB  x",
            "  file",
            "bcdef  10 kB",
        ];
        assert_eq!(table.lines(), lines);
    }
}

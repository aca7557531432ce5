//! Plain English in what users read: no word of the list below in any help text, string literal or document.

use std::path::Path;

use fs_err as fs;

use crate::cli::help::tests::leaves;

const WORDS: [&str; 12] = [
    "whose",
    "nobody",
    "somebody",
    "whoever",
    "anew",
    "at hand",
    "held against",
    "does not check",
    "is no",
    "is none",
    "so many",
    "the deed",
];
/// Where `is no` is plain: "it is no longer a member", "there is no archive".
const NO_LONGER: &str = "is no longer";
const THERE: &str = "there ";

/// The words of the list in `text`, each with the text around it.
fn found(text: &str) -> Vec<String> {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let lower = text.to_lowercase();
    let mut found = Vec::new();
    for word in WORDS {
        for (at, _) in lower.match_indices(word) {
            let is_letter = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
            let rest = &lower[at..];
            let within = is_letter(lower[..at].chars().next_back())
                || is_letter(rest[word.len()..].chars().next());
            let is_no = word.starts_with("is no");
            let is_plain = rest.starts_with(NO_LONGER) || is_no && lower[..at].ends_with(THERE);
            if !within && !is_plain {
                let around = lower[..at].chars().rev().take(30).collect::<Vec<_>>();
                let before: String = around.into_iter().rev().collect();
                let after: String = rest.chars().take(50).collect();
                found.push(format!("{before}{after}"));
            }
        }
    }
    found
}

/// The string literals of a source, without its comments and the tests at its end.
fn literals(source: &str) -> Vec<String> {
    let source = source
        .split("#[cfg(test)]\nmod tests")
        .next()
        .unwrap_or_default();
    let mut found = Vec::new();
    let mut rest = source;
    while let Some(at) = rest.find(['"', '/', '\'']) {
        let (before, from) = rest.split_at(at);
        let raw = before.trim_end_matches('#');
        let hashes = &before[raw.len()..];
        if from.starts_with("//") {
            rest = from.split_once('\n').map_or("", |(_, rest)| rest);
        } else if let Some(text) = from.strip_prefix('"') {
            let is_raw = raw.ends_with('r') && !raw.ends_with("er");
            let end = if is_raw {
                text.find(&format!("\"{hashes}"))
            } else {
                unescaped_quote(text)
            };
            let end = end.unwrap_or(text.len());
            found.push(without_arguments(&text[..end]));
            rest = text.get(end + 1..).unwrap_or_default();
        } else if from.starts_with("'\"'") || from.starts_with("'/'") {
            rest = &from[3..];
        } else if from.starts_with("'\\") {
            rest = from[3..].split_once('\'').map_or("", |(_, rest)| rest);
        } else {
            rest = &from[1..];
        }
    }
    found
}

/// A literal without its format arguments.
fn without_arguments(text: &str) -> String {
    let outside = text
        .split('{')
        .map(|part| part.split_once('}').map_or(part, |(_, rest)| rest));
    outside.collect::<Vec<_>>().join(" ").replace("\\\n", " ")
}

fn unescaped_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().find_map(|(at, c)| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends.then_some(at)
    })
}

/// A document without text quoted as code.
fn prose(document: &str) -> String {
    let fenced = document.split("```").step_by(2).collect::<String>();
    fenced.split('`').step_by(2).collect()
}

fn files_below(dir: &Path, ending: &str, into: &mut Vec<String>) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        let name = path.to_string_lossy().into_owned();
        if path.is_dir() && !name.ends_with("/tests") {
            files_below(&path, ending, into);
        } else if name.ends_with(ending)
            && !name.ends_with("/tests.rs")
            && !name.ends_with("/words.rs")
        {
            into.push(name);
        }
    }
}

#[test]
fn what_users_read_is_plain_english() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut sources, mut documents) = (Vec::new(), Vec::new());
    files_below(&root.join("src"), ".rs", &mut sources);
    files_below(&root.join("src"), ".txt", &mut documents);
    for dir in ["docs", "dist", "testdata"] {
        files_below(&root.join(dir), ".md", &mut documents);
    }
    documents.extend(
        ["README.md", "CHANGELOG.md"].map(|name| root.join(name).to_string_lossy().into_owned()),
    );
    let read = |path: &String| fs::read_to_string(path).expect("a text");
    let mut all = Vec::new();
    for path in &sources {
        let texts = literals(&read(path));
        all.extend(
            texts
                .iter()
                .flat_map(|text| found(text))
                .map(|what| format!("{path}: {what}")),
        );
    }
    for path in &documents {
        all.extend(
            found(&prose(&read(path)))
                .into_iter()
                .map(|what| format!("{path}: {what}")),
        );
    }
    for mut command in leaves() {
        let name = command.get_name().to_owned();
        let texts =
            [command.render_help(), command.render_long_help()].map(|text| text.to_string());
        all.extend(
            texts
                .iter()
                .flat_map(|text| found(text))
                .map(|what| format!("{name} --help: {what}")),
        );
    }
    assert!(all.is_empty(), "{}", all.join("\n"));
}

#[test]
fn the_scanner_finds_what_is_planted_in_a_literal_and_nothing_in_code() {
    let source = r##"let is_none = 'a'; // "whose"
        let q = '"'; let s = "one \"two\" is no \
            URL"; let t = r#"so "many" whose"#; let u = "is no longer";
        #[cfg(test)]
mod tests { "nobody" }"##;
    let texts = literals(source);
    let found: Vec<_> = texts.iter().flat_map(|text| found(text)).collect();
    assert_eq!(found, ["one \\\"two\\\" is no url", "so \"many\" whose"]);
    assert_eq!(prose("a `whose` b\n```sh\nnobody\n```\nc"), "a  b\n\nc");
}

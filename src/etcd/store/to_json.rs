//! Writes the store as etcd's API shows it: JSON, byte for byte as Go's encoder writes it.
//!
//! ```text
//! {"action":"get","node":{"key","value","dir","expiration","nodes","modifiedIndex","createdIndex"}}
//! ```
//!
//! In: a [`Store`] and a node. Out: the answer to a recursive and sorted GET, without `ttl`, which
//! changes with time. It is written in pieces: memory does not grow with the store.
//! Source: `store/node_extern.go`, `store/node.go` `Repr` at etcd 2.1.3 (formats page §8).

use std::fmt;

use crate::etcd::json::swar::{below, copy_until, equal, equal_with};
use crate::etcd::store::value::Value;
use crate::etcd::store::{Node, NodeId, Step, Store, UnixNanos};

/// How many bytes one thread renders at once.
const BATCH: usize = 128 << 10;

/// How a subtree is shown.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shown {
    /// Whether hidden nodes, with names that begin with `_`, are shown below the top node.
    pub hidden: bool,
}

/// Cuts the answer to a GET of `top`, which is shown even if hidden, into pieces that are
/// rendered separately and joined in order; keys are shown as the API does,
/// without the users' namespace.
pub fn answer<E>(
    store: &Store,
    top: NodeId,
    shown: Shown,
    mut emit: impl FnMut(Batch) -> Result<(), E>,
) -> Result<(), E> {
    let mut batch = Batch::default();
    batch.parts.push(Part::Text(r#"{"action":"get","node":"#));
    let mut walk = store.walk(top);
    // The open directories, and whether each has a node already.
    let mut open: Vec<(NodeId, bool)> = Vec::new();
    while let Some(step) = walk.step() {
        let id = match step {
            Step::Key(id) | Step::Open(id) => id,
            Step::Close => {
                if let Some((id, filled)) = open.pop() {
                    let text = if filled { "]" } else { "" };
                    batch.parts.push(Part::Text(text));
                    batch.parts.push(Part::End(id));
                }
                continue;
            }
        };
        let node = store.node(id);
        if id != top && node.is_hidden() && !shown.hidden {
            if let Step::Open(_) = step {
                walk.skip();
                // Its close still comes, with nothing to end.
                walk.step();
            }
            continue;
        }
        if let Some((_, filled)) = open.last_mut() {
            let text = if *filled { "," } else { r#","nodes":["# };
            batch.parts.push(Part::Text(text));
            *filled = true;
        }
        batch.begin(id, node, walk.path());
        match step {
            Step::Open(_) => open.push((id, false)),
            _ => batch.parts.push(Part::End(id)),
        }
        if batch.bytes >= BATCH {
            emit(std::mem::take(&mut batch))?;
        }
    }
    batch.parts.push(Part::Text("}\n"));
    emit(batch)
}

/// A run of nodes that one thread renders.
#[derive(Debug, Default)]
pub struct Batch {
    parts: Vec<Part>,
    /// Their paths, joined.
    paths: Vec<u8>,
    /// Their approximate size as JSON, in bytes.
    bytes: usize,
}

#[derive(Clone, Copy, Debug)]
enum Part {
    /// A fixed text.
    Text(&'static str),
    /// A node up to its children; the second value is the length of its path in bytes.
    Begin(NodeId, usize),
    /// The text after a node's children.
    End(NodeId),
}

impl Batch {
    fn begin(&mut self, id: NodeId, node: &Node, path: &[u8]) {
        self.parts.push(Part::Begin(id, path.len()));
        self.paths.extend_from_slice(path);
        self.bytes += 80 + path.len() + node.value().map_or(0, Value::json_length);
    }

    pub fn render(&self, store: &Store, json: &mut Vec<u8>) {
        json.reserve(self.bytes + self.bytes / 4);
        let mut paths = self.paths.as_slice();
        for part in &self.parts {
            match *part {
                Part::Text(text) => json.extend_from_slice(text.as_bytes()),
                Part::Begin(id, length) => {
                    let (path, rest) = paths.split_at(length.min(paths.len()));
                    paths = rest;
                    begin_node(store.node(id), path, json);
                }
                Part::End(id) => end_node(store.node(id), json),
            }
        }
    }
}

fn begin_node(node: &Node, path: &[u8], json: &mut Vec<u8>) {
    json.push(b'{');
    let key = api_key(path);
    if !key.is_empty() {
        json.extend_from_slice(br#""key":"#);
        put_text(key, json);
        json.push(b',');
    }
    match node.value() {
        Some(value) => {
            json.extend_from_slice(br#""value":"#);
            match value.as_written() {
                Some(text) => {
                    json.push(b'"');
                    json.extend_from_slice(text);
                    json.push(b'"');
                }
                None => put_text(&value.bytes(), json),
            }
        }
        None => json.extend_from_slice(br#""dir":true"#),
    }
    if let Some(expires) = node.expires {
        let expiration = format!(r#","expiration":"{}""#, Expiration(expires));
        json.extend_from_slice(expiration.as_bytes());
    }
}

fn end_node(node: &Node, json: &mut Vec<u8>) {
    let indexes = [
        (&br#","modifiedIndex":"#[..], node.modified),
        (br#","createdIndex":"#, node.created),
    ];
    for (name, index) in indexes {
        if index != 0 {
            json.extend_from_slice(name);
            json.extend_from_slice(index.to_string().as_bytes());
        }
    }
    json.push(b'}');
}

/// A store path as the API shows it: without the users' namespace.
pub fn api_key(path: &[u8]) -> &[u8] {
    match path.strip_prefix(b"/1") {
        Some(key) if key.is_empty() || key.starts_with(b"/") => key,
        _ => path,
    }
}

/// The same as text.
pub fn key_text(path: &[u8]) -> String {
    String::from_utf8_lossy(api_key(path)).into_owned()
}

/// An expiry as the API shows it: RFC 3339 in UTC, without trailing zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiration(pub UnixNanos);

impl fmt::Display for Expiration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_nanosecond(i128::from(self.0)) {
            Ok(time) => time.fmt(f),
            Err(_) => write!(f, "{} ns since 1970", self.0),
        }
    }
}

/// Appends `text` as a JSON string, as Go's encoder does: safe in HTML, and with `\ufffd` for a byte that
/// is not part of a UTF-8 character.
fn put_text(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let mut rest = text;
    loop {
        match std::str::from_utf8(rest) {
            Ok(valid) => {
                put_escaped(valid.as_bytes(), out);
                break;
            }
            Err(error) => {
                let (valid, broken) = rest.split_at(error.valid_up_to());
                put_escaped(valid, out);
                out.extend_from_slice(br"\ufffd");
                rest = broken.get(1..).unwrap_or_default();
            }
        }
    }
    out.push(b'"');
}

fn put_escaped(mut text: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    loop {
        let length = copy_until(text, out, stops);
        let rest = text.get(length..).unwrap_or_default();
        let length = match rest {
            [0xe2, 0x80, last @ (0xa8 | 0xa9), ..] => {
                out.extend_from_slice(br"\u202");
                out.push(HEX[usize::from(last & 0xf)]);
                3
            }
            [byte @ 0xe2, ..] => {
                out.push(*byte);
                1
            }
            [byte, ..] => {
                out.push(b'\\');
                match byte {
                    b'"' | b'\\' => out.push(*byte),
                    b'\n' => out.push(b'n'),
                    b'\r' => out.push(b'r'),
                    b'\t' => out.push(b't'),
                    _ => {
                        out.extend_from_slice(b"u00");
                        out.push(HEX[usize::from(byte >> 4)]);
                        out.push(HEX[usize::from(byte & 0xf)]);
                    }
                }
                1
            }
            [] => return,
        };
        text = rest.get(length..).unwrap_or_default();
    }
}

/// Finds the end of plain text: a control character, `"` or `&`, `<` or `>`, `\`, or 0xe2, which
/// begins U+2028 and U+2029.
fn stops(word: u64) -> u64 {
    let quotes = equal_with(word, 0x04, b'&');
    let angles = equal_with(word, 0x02, b'>');
    below(word, b' ') | quotes | angles | equal(word, b'\\') | equal(word, 0xe2)
}

/// JSON from serde as Go would have written it, for texts without control characters.
pub(crate) fn go_text(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                let _ =
                    fmt::Write::write_fmt(&mut escaped, format_args!("\\u{:04x}", u32::from(c)));
            }
            _ => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Go 1.5 prints for these strings.
    #[test]
    fn text_is_escaped_as_go_escapes_it() {
        for (given, written) in [
            (&b"plain"[..], r#""plain""#),
            (b"a\"b\\c", r#""a\"b\\c""#),
            (b"\n\r\t\x01\x1f\x7f", "\"\\n\\r\\t\\u0001\\u001f\x7f\""),
            (b"<>&", r#""\u003c\u003e\u0026""#),
            (
                "é\u{2028}\u{2029}\u{20ac}".as_bytes(),
                "\"é\\u2028\\u2029\u{20ac}\"",
            ),
            (b"a\xff\xe4\xbdb", r#""a\ufffd\ufffd\ufffdb""#),
        ] {
            let mut out = Vec::new();
            put_text(given, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), written);
        }
    }
}

//! The store as etcd's API shows it: JSON, byte for byte as Go's encoder writes it.
//!
//! ```text
//! {"action":"get","node":{"key","value","dir","expiration","nodes","modifiedIndex","createdIndex"}}
//! ```
//!
//! In: a [`Store`] and a node. Out: the answer to a recursive and sorted GET, but for `ttl`, which
//! counts down. Written as it goes: memory does not grow with the store.
//! Source: `store/node_extern.go`, `store/node.go` `Repr` at etcd 2.1.3 (formats page §8).

use std::fmt;
use std::io::{self, Write};

use super::{Node, NodeId, Step, Store, UnixNanos};

/// How a subtree is shown.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shown {
    /// Whether nodes whose name begins with `_` are shown below the one asked for.
    pub hidden: bool,
}

impl Store {
    /// Writes the answer to a GET of `top`, which is shown whatever its name; a path loses its
    /// first component, as the API shows it.
    pub fn write_answer(&self, top: NodeId, shown: Shown, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(br#"{"action":"get","node":"#)?;
        let mut walk = self.walk(top);
        // For each open directory, whether a node stands in it already.
        let mut filled: Vec<bool> = Vec::new();
        let mut open = Vec::new();
        while let Some(step) = walk.step() {
            let id = match step {
                Step::Key(id) | Step::Open(id) => id,
                Step::Close => {
                    if filled.pop() == Some(true) {
                        out.write_all(b"]")?;
                    }
                    if let Some(id) = open.pop() {
                        Self::end_node(self.node(id), out)?;
                    }
                    continue;
                }
            };
            let node = self.node(id);
            if id != top && node.is_hidden() && !shown.hidden {
                if let Step::Open(_) = step {
                    walk.skip();
                    // Its close still comes, and finds nothing to end.
                    walk.step();
                }
                continue;
            }
            match filled.last_mut() {
                None => {}
                Some(filled) if *filled => out.write_all(b",")?,
                Some(filled) => {
                    out.write_all(br#","nodes":["#)?;
                    *filled = true;
                }
            }
            Self::begin_node(node, walk.path(), out)?;
            match step {
                Step::Open(_) => {
                    filled.push(false);
                    open.push(id);
                }
                _ => Self::end_node(node, out)?,
            }
        }
        out.write_all(b"}\n")
    }

    fn begin_node(node: &Node, path: &[u8], out: &mut dyn Write) -> io::Result<()> {
        out.write_all(b"{")?;
        let mut comma: &[u8] = b"";
        let key = api_key(path);
        if !key.is_empty() {
            out.write_all(br#""key":"#)?;
            write_text(key, out)?;
            comma = b",";
        }
        out.write_all(comma)?;
        match node.value() {
            Some(value) => {
                out.write_all(br#""value":"#)?;
                write_text(value, out)?;
            }
            None => out.write_all(br#""dir":true"#)?,
        }
        if let Some(expires) = node.expires {
            write!(out, r#","expiration":"{}""#, Expiration(expires))?;
        }
        Ok(())
    }

    fn end_node(node: &Node, out: &mut dyn Write) -> io::Result<()> {
        for (name, index) in [
            ("modifiedIndex", node.modified),
            ("createdIndex", node.created),
        ] {
            if index != 0 {
                write!(out, r#","{name}":{index}"#)?;
            }
        }
        out.write_all(b"}")
    }
}

/// A store path as the API shows it: without the users' namespace.
pub fn api_key(path: &[u8]) -> &[u8] {
    match path.strip_prefix(b"/1") {
        Some(key) if key.is_empty() || key.starts_with(b"/") => key,
        _ => path,
    }
}

/// An expiry as the API shows it: RFC 3339 in UTC, without zeros at the end.
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

/// Writes `text` as a JSON string, as Go's encoder does: safe to stand in HTML, a byte that is no
/// part of a UTF-8 character as `\ufffd`.
fn write_text(text: &[u8], out: &mut dyn Write) -> io::Result<()> {
    out.write_all(b"\"")?;
    let mut rest = text;
    loop {
        match std::str::from_utf8(rest) {
            Ok(valid) => {
                write_escaped(valid.as_bytes(), out)?;
                return out.write_all(b"\"");
            }
            Err(error) => {
                let (valid, broken) = rest.split_at(error.valid_up_to());
                write_escaped(valid, out)?;
                out.write_all(br"\ufffd")?;
                rest = broken.get(1..).unwrap_or_default();
            }
        }
    }
}

fn write_escaped(mut text: &[u8], out: &mut dyn Write) -> io::Result<()> {
    let special =
        |&byte: &u8| byte < b' ' || matches!(byte, b'"' | b'\\' | b'<' | b'>' | b'&' | 0xe2);
    while let Some(at) = text.iter().position(special) {
        let (plain, rest) = text.split_at(at);
        out.write_all(plain)?;
        let length = match rest {
            [0xe2, 0x80, last @ (0xa8 | 0xa9), ..] => {
                write!(out, r"\u20{:02x}", last - 0x80)?;
                3
            }
            [byte @ 0xe2, ..] => {
                out.write_all(&[*byte])?;
                1
            }
            [byte @ (b'"' | b'\\'), ..] => {
                out.write_all(&[b'\\', *byte])?;
                1
            }
            [b'\n', ..] => {
                out.write_all(br"\n")?;
                1
            }
            [b'\r', ..] => {
                out.write_all(br"\r")?;
                1
            }
            [b'\t', ..] => {
                out.write_all(br"\t")?;
                1
            }
            [byte, ..] => {
                write!(out, r"\u{byte:04x}")?;
                1
            }
            [] => return Ok(()),
        };
        text = rest.get(length..).unwrap_or_default();
    }
    out.write_all(text)
}

/// JSON made by serde as Go would have made it, where texts have no control characters.
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
            write_text(given, &mut out).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), written);
        }
    }
}

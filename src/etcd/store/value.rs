//! A key's value, as it was read.
//!
//! ```text
//! from the log               bytes
//! from a raft snapshot       the text as the JSON has it, if it is a plain one; bytes otherwise
//! ```
//!
//! Saved values are mostly shown or saved again: a text that Go's encoder would write the same
//! way is kept as in the document, and is neither unescaped nor escaped.

use std::borrow::Cow;

use memchr::memchr_iter;

use crate::etcd::json::tokens::put_unescaped;

/// A key's value; etcd does not require UTF-8.
#[derive(Clone, Debug, Default)]
pub struct Value {
    kept: Box<[u8]>,
    /// Whether it is kept as a [`Token::Written`](crate::etcd::json::tokens::Token::Written).
    written: bool,
}

impl Value {
    /// A value from a text of plain JSON, without its quotes.
    pub(super) fn written(text: Vec<u8>) -> Self {
        Self {
            kept: text.into_boxed_slice(),
            written: true,
        }
    }

    pub fn bytes(&self) -> Cow<'_, [u8]> {
        if !self.written {
            return Cow::Borrowed(&self.kept);
        }
        let mut bytes = Vec::with_capacity(self.kept.len());
        put_unescaped(&self.kept, &mut bytes);
        Cow::Owned(bytes)
    }

    pub fn length(&self) -> usize {
        // Each escape has two bytes.
        let escapes = if self.written {
            memchr_iter(b'\\', &self.kept).count()
        } else {
            0
        };
        self.kept.len() - escapes
    }

    /// Its approximate length as JSON, in bytes.
    pub(super) fn json_length(&self) -> usize {
        self.kept.len()
    }

    /// Its JSON without the quotes, if it is kept like that.
    pub(super) fn as_written(&self) -> Option<&[u8]> {
        self.written.then_some(&self.kept)
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Self {
        bytes.to_vec().into()
    }
}

impl From<Vec<u8>> for Value {
    fn from(bytes: Vec<u8>) -> Self {
        Self {
            kept: bytes.into_boxed_slice(),
            written: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_the_same_however_it_is_kept() {
        let written = Value::written(br#"{\"a\":\t\"b\r\n\"}"#.to_vec());
        let plain = Value::from(&b"{\"a\":\t\"b\r\n\"}"[..]);
        assert_eq!(written.bytes(), plain.bytes());
        assert_eq!(written.length(), plain.length());
        assert_eq!(written.length(), written.bytes().len());
    }
}

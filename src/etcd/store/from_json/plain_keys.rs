//! Keys as etcd 2.1 to 2.3 write them, each read at once instead of as fourteen tokens.
//!
//! ```text
//! "name":{"Path":"…/name","CreatedIndex":1,"ModifiedIndex":1,"ExpireTime":"0001-01-01T00:00:00Z","Value":"…","Children":null}
//! ```
//!
//! A key that is written in any other way, that expires or that is not whole in the given bytes is left to the tokens.

use crate::etcd::json::swar::{equal, length_until};
use crate::etcd::json::tokens::{Members, put_unescaped, stops, written_length};
use crate::etcd::store::fingerprint::Facts;
use crate::etcd::store::from_json::{Frame, Shape};

/// A key in the bytes of a saved store.
struct PlainKey<'b> {
    name: &'b [u8],
    facts: Facts,
    /// As [`Token::Written`](crate::etcd::json::tokens::Token::Written).
    value: &'b [u8],
    /// What follows it, after a comma.
    rest: &'b [u8],
    /// Whether no comma follows.
    is_last: bool,
}

impl Shape {
    /// Takes the next plain keys of the open directory.
    pub(super) fn plain_keys(&mut self, bytes: &[u8]) -> Result<Members, &'static str> {
        let is_in_directory =
            self.skim.is_none() && matches!(self.frames.last(), Some(Frame::Children));
        // Of the cluster's own keys and of the root's each token is looked at.
        let is_user = !self.path.is_empty() && self.path != b"/0" && !self.path.starts_with(b"/0/");
        // A path with one of these bytes is not written as it is.
        let is_plain = length_until(&self.path, stops) == self.path.len();
        if !is_in_directory || !is_user || !is_plain {
            return Ok(Members::default());
        }
        let mut rest = bytes;
        let mut is_last = false;
        while !is_last && let Some(key) = PlainKey::read(rest, &self.path) {
            self.plain_key(&key)?;
            (rest, is_last) = (key.rest, key.is_last);
        }
        Ok(Members {
            length: bytes.len() - rest.len(),
            is_last,
        })
    }

    fn plain_key(&mut self, key: &PlainKey<'_>) -> Result<(), &'static str> {
        self.value.clear();
        self.written = false;
        if self.wanted.fingerprint {
            put_unescaped(key.value, &mut self.value);
        } else if self.wanted.tree || self.trees.is_start_whole {
            self.written(key.value);
        }
        let parent = self.path.len();
        self.path.push(b'/');
        self.path.extend_from_slice(key.name);
        let ended = self.end_key(key.facts);
        self.path.truncate(parent);
        ended
    }
}

impl<'b> PlainKey<'b> {
    /// Reads the key at the start of `bytes`, of the directory at `parent`.
    fn read(bytes: &'b [u8], parent: &[u8]) -> Option<Self> {
        let name = bytes.strip_prefix(b"\"")?;
        let (name, rest) = name.split_at_checked(length_until(name, ends_name))?;
        if matches!(name, b"" | b"." | b"..") {
            return None;
        }
        let rest = rest.strip_prefix(b"\":{\"Path\":\"")?;
        let rest = rest.strip_prefix(parent)?.strip_prefix(b"/")?;
        let rest = rest.strip_prefix(name)?;
        let (created, rest) = number(rest.strip_prefix(b"\",\"CreatedIndex\":")?)?;
        let (modified, rest) = number(rest.strip_prefix(b",\"ModifiedIndex\":")?)?;
        let value = rest.strip_prefix(b",\"ExpireTime\":\"0001-01-01T00:00:00Z\",\"Value\":\"")?;
        let (value, rest) = value.split_at_checked(written_length(value)?)?;
        let rest = rest.strip_prefix(b"\",\"Children\":null}")?;
        let (is_last, rest) = match rest.first()? {
            b',' => (false, rest.get(1..)?),
            b'}' => (true, rest),
            _ => return None,
        };
        let facts = Facts {
            created,
            modified,
            expires: None,
        };
        Some(Self {
            name,
            facts,
            value,
            rest,
            is_last,
        })
    }
}

/// Finds the end of a name that is written without escapes, in ASCII.
fn ends_name(word: u64) -> u64 {
    const NOT_ASCII: u64 = 0x8080_8080_8080_8080;
    stops(word) | equal(word, b'/') | word & NOT_ASCII
}

/// Splits off a number without a sign.
fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit());
    let (digits, rest) = bytes.split_at_checked(digits.count())?;
    let is_written = digits.len() == 1 || !matches!(digits, [] | [b'0', ..]);
    let number = crate::etcd::json::go::unsigned(digits)?;
    is_written.then_some((number, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::etcd::store::Store;
    use crate::etcd::store::from_json::{LoadOptions, SavedScan, StartTree};

    const SAVED: &str = concat!(
        r#"{"Root":{"Path":"/","CreatedIndex":0,"ModifiedIndex":0,"ExpireTime":"0001-01-01T00:00:00Z","Value":"","Children":{"#,
        r#""0":{"Path":"/0","CreatedIndex":0,"ModifiedIndex":0,"ExpireTime":"0001-01-01T00:00:00Z","Value":"","Children":{"#,
        r#""version":{"Path":"/0/version","CreatedIndex":3,"ModifiedIndex":3,"ExpireTime":"0001-01-01T00:00:00Z","Value":"2.1.0","Children":null}}},"#,
        r#""1":{"Path":"/1","CreatedIndex":0,"ModifiedIndex":0,"ExpireTime":"0001-01-01T00:00:00Z","Value":"","Children":{"#,
        r#""a":{"Path":"/1/a","CreatedIndex":4,"ModifiedIndex":14,"ExpireTime":"0001-01-01T00:00:00Z","Value":"{\"x\":\"y\"}","Children":null},"#,
        r#""d\"":{"Path":"/1/d\"","CreatedIndex":5,"ModifiedIndex":5,"ExpireTime":"0001-01-01T00:00:00Z","Value":"","Children":{"#,
        r#""k":{"Path":"/1/d\"/k","CreatedIndex":6,"ModifiedIndex":6,"ExpireTime":"2036-01-02T15:04:05Z","Value":"","Children":null}}},"#,
        r#""e":{"Path":"/1/e","CreatedIndex":7,"ModifiedIndex":7,"ExpireTime":"0001-01-01T00:00:00Z","Value":"","Children":null},"#,
        r#""f":{"Path":"/1/f","CreatedIndex":8,"ModifiedIndex":8,"ExpireTime":"0001-01-01T00:00:00Z","Value":"last","Children":null}}}}},"#,
        r#""WatcherHub":{},"CurrentIndex":18}"#,
    );

    /// All that is read of a saved store which comes in pieces of `length` bytes.
    fn read(saved: &[u8], length: usize, wanted: LoadOptions) -> String {
        let mut scan = SavedScan::new(wanted);
        for piece in saved.chunks(length) {
            scan.update(piece);
        }
        let (read, start) = scan.finish();
        let digest = |store: &Store| (store.index, store.fingerprint());
        let read = read.map(|read| {
            let store = read.store.as_ref().map(digest);
            (read.facts, read.fingerprint, store)
        });
        format!(
            "{read:?} {:?}",
            start.map(|start| start.as_ref().map(digest).map_err(Clone::clone))
        )
    }

    fn all_wanted() -> impl Strategy<Value = LoadOptions> {
        let start = [StartTree::None, StartTree::Cluster, StartTree::Whole];
        (
            any::<bool>(),
            any::<bool>(),
            prop::sample::select(start.to_vec()),
        )
            .prop_map(|(tree, fingerprint, for_start)| LoadOptions {
                tree,
                fingerprint,
                for_start,
            })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        /// A piece of one byte never holds a whole key, so that there each token is looked at.
        #[test]
        fn keys_read_at_once_are_those_of_the_tokens(
            at in 0..SAVED.len(),
            removed in 0_usize..3,
            added in prop::sample::select(vec![
                "", "0", "9", "x", "\"", "\\", "/", ",", "}", " ", "\u{1}", "<", "\u{e9}", "\\n", "\\u0041", "..", "null",
            ]),
            wanted in all_wanted(),
        ) {
            let end = (at + removed).min(SAVED.len());
            let saved = [&SAVED.as_bytes()[..at], added.as_bytes(), &SAVED.as_bytes()[end..]].concat();
            prop_assert_eq!(read(&saved, saved.len(), wanted), read(&saved, 1, wanted));
        }
    }

    #[test]
    fn a_saved_store_is_read() {
        // The comparison above starts from a valid store.
        let wanted = LoadOptions {
            tree: true,
            ..LoadOptions::default()
        };
        let read = read(SAVED.as_bytes(), SAVED.len(), wanted);
        assert!(read.starts_with("Ok("), "{read}");
    }
}

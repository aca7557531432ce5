//! Checks of a store's answer that `object_store` does not do.
//!
//! In: the request, and the answer's status, headers and body. Out: the body to pass on, or an
//! [`Answer`] that is an error and is not retried: an error in an answer with a success status, a
//! wrong clock, more bytes than were asked for. Keys that no client can address go to
//! [`OddKeys`], so that one foreign object does not make a whole list fail.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::SignedDuration;
use object_store::path::Path as Key;
use ureq::http::header::{DATE, HeaderMap, RANGE};
use ureq::http::{Method, StatusCode, request};

/// How far the clocks of a store and of its client may differ.
const SKEW: SignedDuration = SignedDuration::from_mins(5);
/// The most bytes of an answer without an announced length: a page of a list has up to a
/// thousand keys of up to a thousand bytes.
const MOST_WHOLE: u64 = 16 << 20;

/// An error in an answer that is not retried.
#[derive(Debug, thiserror::Error)]
pub(super) enum Answer {
    #[error("the store answers that it cannot do that: {0}")]
    NotImplemented(String),
    /// The request was refused for its time; by how many seconds this machine's clock is ahead, if known.
    #[error("the store refuses the request for its time: {}", skew(*.0))]
    ClockSkew(Option<i64>),
    #[error("the bucket takes only requests with a checksum: {0}")]
    NeedsChecksum(String),
    #[error("the store refuses it: {0}")]
    Denied(String),
    #[error("the store answers that it is not there: {0}")]
    NotFound(String),
    #[error("the store answers with success and an error: {0}")]
    ErrorInSuccess(String),
    #[error("the store sends more than the {0} bytes that it may")]
    TooMuch(u64),
    #[error("the store answers a list with something else")]
    NoList,
}

fn skew(ahead: Option<i64>) -> String {
    match ahead {
        Some(seconds) if seconds < 0 => {
            format!(
                "this machine's clock is {} seconds behind the store's",
                -seconds
            )
        }
        Some(seconds) => format!("this machine's clock is {seconds} seconds ahead of the store's"),
        None => "this machine's clock and the store's differ too much".to_owned(),
    }
}

/// The kind of request, as far as the answer depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    List,
    /// Completes an upload in parts.
    Completion,
    /// Reads this many bytes of an object.
    Range(u64),
    Other,
}

impl Asked {
    pub(super) fn of(head: &request::Parts) -> Self {
        let query = head.uri.query().unwrap_or_default();
        let has = |wanted: &str| query.split('&').any(|part| part.starts_with(wanted));
        match head.method {
            Method::GET if has("list-type=2") || has("comp=list") => Self::List,
            Method::POST if has("uploadId=") => Self::Completion,
            _ => range(&head.headers).map_or(Self::Other, Self::Range),
        }
    }

    /// How many bytes the answer may have.
    pub(super) fn most(self, status: StatusCode) -> u64 {
        match self {
            Self::Range(bytes) if status.is_success() => bytes,
            _ => MOST_WHOLE,
        }
    }

    /// Whether an answer is checked before it is passed on.
    pub(super) fn is_judged(self, status: StatusCode) -> bool {
        !status.is_success() || matches!(self, Self::List | Self::Completion)
    }

    /// Checks an answer for which [`Asked::is_judged`] is true; returns the body to pass on.
    pub(super) fn judge(
        self,
        status: StatusCode,
        headers: &HeaderMap,
        body: Vec<u8>,
        odd_keys: &OddKeys,
    ) -> Result<Vec<u8>, Answer> {
        let text = String::from_utf8_lossy(&body);
        let code = element(&text, "Code").map(|(code, _)| code);
        if status.is_success() {
            return match self {
                Self::List if text.contains("<Error>") => Err(Answer::ErrorInSuccess(told(&text))),
                Self::List
                    if !text.contains("<ListBucketResult")
                        && !text.contains("<EnumerationResults") =>
                {
                    Err(Answer::NoList)
                }
                Self::List => Ok(odd_keys.sort_out(&text).into_bytes()),
                // Not only the root element: a store may send white space for minutes before it.
                Self::Completion if text.contains("<Error>") => {
                    Err(Answer::ErrorInSuccess(told(&text)))
                }
                _ => Ok(body),
            };
        }
        let is_skewed = matches!(code, Some("RequestTimeTooSkewed" | "RequestExpired"));
        match status.as_u16() {
            501 => Err(Answer::NotImplemented(told(&text))),
            400 if text.contains("Object Lock") || text.contains("x-amz-checksum") => {
                Err(Answer::NeedsChecksum(told(&text)))
            }
            400 | 401 | 403 if is_skewed => Err(Answer::ClockSkew(ahead(headers))),
            // An answer to HEAD has no body.
            401 | 403 if ahead(headers).is_some() => Err(Answer::ClockSkew(ahead(headers))),
            401 | 403 if self == Self::List => Err(Answer::Denied(told(&text))),
            404 if self == Self::List => Err(Answer::NotFound(told(&text))),
            _ => Ok(body),
        }
    }
}

/// How many bytes a request asks for.
fn range(headers: &HeaderMap) -> Option<u64> {
    let range = headers.get(RANGE)?.to_str().ok()?;
    let (from, to) = range.strip_prefix("bytes=")?.split_once('-')?;
    let (from, to): (u64, u64) = (from.parse().ok()?, to.parse().ok()?);
    to.checked_sub(from)?.checked_add(1)
}

/// By how many seconds this machine's clock is ahead of the store's, if that is too much.
fn ahead(headers: &HeaderMap) -> Option<i64> {
    let date = headers.get(DATE)?.to_str().ok()?;
    let theirs = jiff::fmt::rfc2822::parse(date).ok()?.timestamp();
    let ahead = crate::clock::now().duration_since(theirs);
    (ahead.abs() > SKEW).then_some(ahead.as_secs())
}

/// The code and message in an answer's text, or all of it.
fn told(text: &str) -> String {
    let part = |name| element(text, name).map(|(part, _)| part);
    match (part("Code"), part("Message")) {
        (Some(code), Some(message)) => format!("{message} ({code})"),
        (Some(code), None) => code.to_owned(),
        _ if text.trim().is_empty() => "without a word".to_owned(),
        _ => text.to_owned(),
    }
}

/// The content of the first element of this name, and the text after it.
fn element<'t>(text: &'t str, name: &str) -> Option<(&'t str, &'t str)> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>"))
}

/// The keys of the objects that the last list of a bucket skipped.
#[derive(Clone, Debug, Default)]
pub(super) struct OddKeys(Arc<Mutex<BTreeSet<String>>>);

/// The elements of a list and the element in each that holds a key: S3's and Google's, then Azure's.
const LISTED: [(&str, &str); 4] = [
    ("Contents", "Key"),
    ("CommonPrefixes", "Prefix"),
    ("Blob", "Name"),
    ("BlobPrefix", "Name"),
];

impl OddKeys {
    pub(super) fn clear(&self) {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        keys.clear();
    }

    pub(super) fn all(&self) -> Vec<String> {
        let keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        keys.iter().cloned().collect()
    }

    /// A page of a list without the objects that no client can address.
    fn sort_out(&self, page: &str) -> String {
        let mut kept = String::with_capacity(page.len());
        let mut rest = page;
        while let Some((before, name, inside, after)) = next_listed(rest) {
            kept.push_str(before);
            let length = rest.len() - before.len() - after.len();
            let whole = rest.get(before.len()..before.len() + length);
            if self.is_kept(name, inside) {
                kept.push_str(whole.unwrap_or_default());
            }
            rest = after;
        }
        kept + rest
    }

    /// Whether a listed object stays in the list; if its key is odd, that is recorded.
    fn is_kept(&self, element_name: &str, inside: &str) -> bool {
        let holder = LISTED.iter().find(|(name, _)| *name == element_name);
        let key = holder.and_then(|(_, key)| element(inside, key));
        let Some((key, _)) = key else {
            return true;
        };
        let key = unescaped(key);
        let bare = key.strip_suffix('/').unwrap_or(&key);
        if Key::parse(bare).is_ok_and(|parsed| parsed.as_ref() == bare && !bare.is_empty()) {
            // A key that ends with a slash is a folder, and a folder's own object holds nothing.
            return bare.len() == key.len() || !["Contents", "Blob"].contains(&element_name);
        }
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        keys.insert(key);
        false
    }
}

/// The first listed object: the text before it, its element's name, its content, and the rest.
fn next_listed(text: &str) -> Option<(&str, &'static str, &str, &str)> {
    let begins = LISTED
        .iter()
        .filter_map(|(name, _)| Some((text.find(&format!("<{name}>"))?, *name)));
    let (at, name) = begins.min()?;
    let (before, from) = text.split_at_checked(at)?;
    let (inside, after) = element(from, name)?;
    Some((before, name, inside, after))
}

/// Text of an XML file without escapes.
fn unescaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('&') {
        plain.push_str(before);
        let Some((name, after)) = behind.split_once(';') else {
            plain.push('&');
            rest = behind;
            continue;
        };
        let by_number = |digits: &str| match digits.strip_prefix('x') {
            Some(hex) => u32::from_str_radix(hex, 16).ok(),
            None => digits.parse().ok(),
        };
        let sign = match name {
            "amp" => Some('&'),
            "lt" => Some('<'),
            "gt" => Some('>'),
            "quot" => Some('"'),
            "apos" => Some('\''),
            other => other
                .strip_prefix('#')
                .and_then(by_number)
                .and_then(char::from_u32),
        };
        plain.push(sign.unwrap_or(char::REPLACEMENT_CHARACTER));
        rest = after;
    }
    plain + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(keys: &[&str]) -> String {
        let contents = keys
            .iter()
            .map(|key| format!("<Contents><Key>{key}</Key><Size>7</Size></Contents>"));
        format!(
            "<?xml?><ListBucketResult>{}</ListBucketResult>",
            contents.collect::<String>()
        )
    }

    #[test]
    fn an_odd_key_leaves_a_list_alone_and_is_named() {
        // One foreign object must not hide every backup in the bucket.
        let odd = [
            "p//x",
            "/p/x",
            "p/../x",
            "p/.",
            "p/a&#x1;b",
            "p/\tx",
            "//",
            "/",
        ];
        let good = ["p/a%23b", "p/a b", "p/ä&amp;&lt;", "p/a\\b?#"];
        for odd_key in odd {
            for keys in [
                vec![good[0], odd_key, good[1]],
                vec![odd_key],
                vec![odd_key, odd_key],
            ] {
                let odd_keys = OddKeys::default();
                let kept: Vec<_> = keys.iter().copied().filter(|key| *key != odd_key).collect();
                assert_eq!(odd_keys.sort_out(&page(&keys)), page(&kept), "{odd_key}");
                assert_eq!(odd_keys.all(), [unescaped(odd_key)]);
            }
        }
        let odd_keys = OddKeys::default();
        let all = page(&good);
        assert_eq!(odd_keys.sort_out(&all), all);
        let folders = "<R><CommonPrefixes><Prefix>p/q/</Prefix></CommonPrefixes>\
            <CommonPrefixes><Prefix>p//</Prefix></CommonPrefixes></R>";
        let kept = "<R><CommonPrefixes><Prefix>p/q/</Prefix></CommonPrefixes></R>";
        assert_eq!(odd_keys.sort_out(folders), kept);
        assert_eq!(odd_keys.all(), ["p//"]);
        // The object of a folder is not an archive, and is not reported.
        assert_eq!(odd_keys.sort_out(&page(&["p/"])), page(&[]));
        assert_eq!(odd_keys.all(), ["p//"]);
    }

    #[test]
    fn a_list_that_is_cut_short_is_passed_on_as_it_is() {
        let whole = page(&["p/a", "p/b"]);
        for end in 0..whole.len() {
            let odd_keys = OddKeys::default();
            assert_eq!(odd_keys.sort_out(&whole[..end]), whole[..end]);
        }
    }
}

//! What an object store's answer means where it is not what was asked for.
//!
//! In: an error of `object_store`. Out: a [`BucketFault`] with its kind.

use std::error::Error as StdError;
use std::io;

use object_store::Error;

use crate::repository::bucket::answer::Answer;

/// What an object store answers, or that it does not.
#[derive(Debug, thiserror::Error)]
#[error("failed to {tried} `{url}`: {}", said(*.kind, .why))]
pub struct BucketFault {
    /// What was tried, such as `list`.
    tried: &'static str,
    url: String,
    /// The store's own words, on one line.
    why: String,
    pub kind: BucketFaultKind,
}

/// What the store said; without credentials that is of a server which no one named.
fn said(kind: BucketFaultKind, why: &str) -> &str {
    match kind {
        BucketFaultKind::NoCredentials => "no credentials found",
        _ => why,
    }
}

/// What kind of answer a [`BucketFault`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BucketFaultKind {
    Denied,
    /// The request is signed with another key than the one that it names.
    WrongSignature,
    /// There are none in the environment of S3: those of a cloud's own machine were asked for.
    NoCredentials,
    NotFound,
    Exists,
    NotSupported,
    /// The clocks of the store and of this machine differ too much; by how many seconds this
    /// machine's is ahead, as far as the store told its time.
    ClockSkew(Option<i64>),
    /// The bucket takes only what comes with a checksum, as with Object Lock.
    NeedsChecksum,
    /// No answer, or another one.
    Other,
}

impl BucketFault {
    /// What `error` says of the request that `tried` something at `url`.
    pub(super) fn of(tried: &'static str, url: String, error: &Error) -> Self {
        let (kind, why) = match answer_in(error) {
            Some(answer) => (kind_of_answer(answer), answer.to_string()),
            None => kind_of(error),
        };
        let kind = match kind {
            _ if url.starts_with("s3://") && asks_the_machine(&why) => {
                BucketFaultKind::NoCredentials
            }
            BucketFaultKind::Denied if why.contains("SignatureDoesNotMatch") => {
                BucketFaultKind::WrongSignature
            }
            kind => kind,
        };
        Self {
            tried,
            url,
            why: one_line(&why),
            kind,
        }
    }

    /// The store's kind, as its URL begins: `s3`, `gs` or `az`.
    pub fn scheme(&self) -> &str {
        self.url.split_once("://").map_or("", |(scheme, _)| scheme)
    }
}

impl From<BucketFault> for io::Error {
    fn from(fault: BucketFault) -> Self {
        let kind = match fault.kind {
            // A wrong clock, too, is not tried again: none goes right within a minute.
            BucketFaultKind::Denied
            | BucketFaultKind::WrongSignature
            | BucketFaultKind::ClockSkew(_) => io::ErrorKind::PermissionDenied,
            BucketFaultKind::NotFound => io::ErrorKind::NotFound,
            BucketFaultKind::Exists => io::ErrorKind::AlreadyExists,
            BucketFaultKind::NotSupported | BucketFaultKind::NeedsChecksum => {
                io::ErrorKind::Unsupported
            }
            BucketFaultKind::NoCredentials | BucketFaultKind::Other => io::ErrorKind::Other,
        };
        Self::new(kind, fault)
    }
}

/// Whether `object_store` found no credentials, and asked the service that gives a cloud's machines theirs.
fn asks_the_machine(why: &str) -> bool {
    let asked = ["/latest/api/token", "/latest/meta-data", "169.254.169.254"];
    asked.iter().any(|path| why.contains(path))
}

/// What our own HTTP client found in an answer, if that is the cause.
fn answer_in(error: &Error) -> Option<&Answer> {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(answer) = error.downcast_ref() {
            return Some(answer);
        }
        cause = error.source();
    }
    None
}

fn kind_of_answer(answer: &Answer) -> BucketFaultKind {
    match answer {
        Answer::NotImplemented(_) => BucketFaultKind::NotSupported,
        Answer::ClockSkew(ahead) => BucketFaultKind::ClockSkew(*ahead),
        Answer::NeedsChecksum(_) => BucketFaultKind::NeedsChecksum,
        Answer::Denied(_) => BucketFaultKind::Denied,
        Answer::NotFound(_) => BucketFaultKind::NotFound,
        Answer::ErrorInSuccess(_) | Answer::TooMuch(_) | Answer::NoList => BucketFaultKind::Other,
    }
}

fn kind_of(error: &Error) -> (BucketFaultKind, String) {
    let kind = match error {
        Error::NotFound { .. } => BucketFaultKind::NotFound,
        Error::AlreadyExists { .. } | Error::Precondition { .. } => BucketFaultKind::Exists,
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => BucketFaultKind::Denied,
        Error::NotSupported { .. } | Error::NotImplemented { .. } => BucketFaultKind::NotSupported,
        _ => BucketFaultKind::Other,
    };
    (kind, in_few_words(error))
}

/// What went wrong, without the settings of the retries and with the innermost cause, such as a refused connection.
fn in_few_words(error: &Error) -> String {
    let text = error.to_string();
    let settings = text
        .split_once(", max_retries: ")
        .and_then(|(before, rest)| Some((before, rest.split_once(" - ")?.1)));
    let text = settings.map_or(text.clone(), |(before, why)| format!("{before}: {why}"));
    let mut innermost: &dyn StdError = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    let cause = innermost.to_string();
    if text.contains(&cause) {
        text
    } else {
        format!("{text}: {cause}")
    }
}

/// A store's answer, which may be a page of XML, on one line of bearable length.
pub(super) fn one_line(text: &str) -> String {
    let mut line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((at, _)) = line.char_indices().nth(400) {
        // What the store calls the error stands far behind in some answers.
        let code = line
            .split_once("<Code>")
            .and_then(|(_, rest)| rest.split_once("</Code>"));
        let code = code
            .map(|(code, _)| format!(" ({code})"))
            .unwrap_or_default();
        line.truncate(at);
        line.push('…');
        line.push_str(&code);
    }
    line
}

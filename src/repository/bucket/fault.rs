//! Classifies an object store's errors.
//!
//! In: an error of `object_store`. Out: a [`BucketFault`] with its kind.

use std::error::Error as StdError;
use std::io;

use object_store::Error;

use crate::repository::bucket::answer::Answer;

#[derive(Debug, thiserror::Error)]
#[error("failed to {tried} `{url}`: {}", said(*.kind, .why))]
pub struct BucketFault {
    /// What was tried, such as `list`.
    tried: &'static str,
    url: String,
    /// The store's own message, on one line.
    why: String,
    pub kind: BucketFaultKind,
}

/// The store's message; without credentials it is of a server that the user did not name.
fn said(kind: BucketFaultKind, why: &str) -> &str {
    match kind {
        BucketFaultKind::NoCredentials => "no credentials found",
        _ => why,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BucketFaultKind {
    Denied,
    /// The request is signed with another key than the one it names.
    WrongSignature,
    /// S3 credentials are missing in the environment, so those of a cloud's own machine were asked for.
    NoCredentials,
    NotFound,
    Exists,
    NotSupported,
    /// The clocks of the store and of this machine differ too much; by how many seconds this
    /// machine's is ahead, if the store sent its time.
    ClockSkew(Option<i64>),
    /// The bucket accepts only requests with a checksum, as with Object Lock.
    NeedsChecksum,
    /// No answer, or any other error.
    Other,
}

impl BucketFault {
    /// Classifies the `error` of the request `tried` at `url`.
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
            // A wrong clock is not retried either: it stays wrong.
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

/// Whether `object_store` found no credentials, and asked the service that gives them to a cloud's machines.
fn asks_the_machine(why: &str) -> bool {
    let asked = ["/latest/api/token", "/latest/meta-data", "169.254.169.254"];
    asked.iter().any(|path| why.contains(path))
}

/// Our own HTTP client's [`Answer`], if that is the cause.
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

/// The error without the settings of the retries and with the innermost cause, such as a refused connection.
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

/// A store's answer, which may be a page of XML, as one short line.
pub(super) fn one_line(text: &str) -> String {
    let mut line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((at, _)) = line.char_indices().nth(400) {
        // Some answers have the store's error code far from their start.
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

//! A place as given on the command line, parsed once.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::builder::{MapValueParser, PathBufValueParser, TypedValueParser, ValueParserFactory};

use crate::repository::is_archive_name;

/// The name for the newest backup; `latest:LABEL` is the newest with a label.
pub(crate) const LATEST: &str = "latest";

/// What URLs of buckets begin with, as the first component of a path.
const SCHEMES: [&str; 3] = ["s3:", "gs:", "az:"];

/// A directory or file on this machine, or a bucket or an archive in one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Location {
    Path(PathBuf),
    /// Such as `s3://BUCKET/PREFIX`; never `file://…`, which is a path.
    Url(String),
}

impl Location {
    pub(crate) fn as_path(&self) -> &Path {
        match self {
            Self::Path(path) => path,
            Self::Url(url) => Path::new(url),
        }
    }

    pub(crate) fn local(&self) -> Option<&Path> {
        match self {
            Self::Path(path) => Some(path),
            Self::Url(_) => None,
        }
    }

    pub(crate) fn is_dir(&self) -> bool {
        self.local().is_some_and(Path::is_dir)
    }

    /// Whether it is a bucket, and not an archive in one.
    pub(crate) fn is_bucket(&self) -> bool {
        let Self::Url(url) = self else { return false };
        !url.rsplit('/').next().is_some_and(is_archive_name)
    }
}

impl From<PathBuf> for Location {
    fn from(path: PathBuf) -> Self {
        match path.to_str().and_then(|text| text.split_once("://")) {
            Some(("file", path)) => Self::Path(PathBuf::from(path)),
            Some(_) => Self::Url(path.to_string_lossy().into_owned()),
            // A slash short of a bucket, and no directory that anyone means.
            None if SCHEMES.iter().any(|scheme| path.starts_with(scheme)) => {
                Self::Url(path.to_string_lossy().into_owned())
            }
            None => Self::Path(path),
        }
    }
}

impl ValueParserFactory for Location {
    type Parser = MapValueParser<PathBufValueParser, fn(PathBuf) -> Self>;

    fn value_parser() -> Self::Parser {
        PathBufValueParser::new().map(Self::from)
    }
}

#[derive(Clone, Debug)]
pub(crate) enum TargetName {
    Latest { label: Option<String> },
    At(Location),
}

impl From<PathBuf> for TargetName {
    fn from(path: PathBuf) -> Self {
        let after = path.to_str().and_then(|text| text.strip_prefix(LATEST));
        match after.map(|after| (after, after.strip_prefix(':'))) {
            Some(("", _)) => Self::Latest { label: None },
            Some((_, Some(label))) => Self::Latest {
                label: Some(label.to_owned()),
            },
            _ => Self::At(path.into()),
        }
    }
}

impl ValueParserFactory for TargetName {
    type Parser = MapValueParser<PathBufValueParser, fn(PathBuf) -> Self>;

    fn value_parser() -> Self::Parser {
        PathBufValueParser::new().map(Self::from)
    }
}

/// Refuses a URL, which would become a directory named `s3:`.
pub(crate) fn no_url(path: OsString) -> Result<OsString, &'static str> {
    match Location::from(PathBuf::from(&path)) {
        Location::Path(local) if local.as_os_str() == path => Ok(path),
        _ => Err("this is a URL, and only a path on this machine is possible here"),
    }
}

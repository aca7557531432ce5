//! Parsers of values that several flags take.

use std::path::PathBuf;

use clap::builder::{PathBufValueParser, TypedValueParser};

/// A path on this machine: `DIR` never takes a URL, which would become a directory named `s3:`.
pub(crate) fn local_path() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(|path| {
        if path
            .as_os_str()
            .as_encoded_bytes()
            .windows(3)
            .any(|part| part == b"://")
        {
            return Err("this is a URL, and only a path on this machine is possible here");
        }
        Ok(path)
    })
}

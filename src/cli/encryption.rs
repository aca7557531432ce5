//! Recipients and identities of age, as given on the command line.

use std::path::{Path, PathBuf};

#[cfg(feature = "encryption")]
use crate::archive::encryption::{Identities, Recipients};
use crate::archive::{ArchiveError, Cipher, Source};

use crate::cli::error::{CliError, Result};

#[cfg(feature = "encryption")]
pub(crate) fn cipher(named: &[String], files: &[PathBuf]) -> Result<Option<Box<dyn Cipher>>> {
    if named.is_empty() && files.is_empty() {
        return refuse_empty_variables().map(|()| None);
    }
    let files = files.iter();
    let files = files.map(|file| {
        // Text that is not UTF-8 is not a recipient, and its line is reported.
        let bytes = read("--recipients-file", file)?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Ok((file.display().to_string(), text))
    });
    let files: Vec<_> = files.collect::<Result<_>>()?;
    Ok(Some(Box::new(Recipients::read(named, &files)?)))
}

#[cfg(feature = "encryption")]
fn read(flag: &str, file: &Path) -> Result<Vec<u8>> {
    use crate::fs::auxiliary::{MOST, read_small};
    read_small(file, MOST).map_err(|error| match error.kind() {
        std::io::ErrorKind::Interrupted => error.into(),
        _ => CliError::usage(format!("what {flag} names cannot be read: {error}"))
            .hint("pass the path of a file that is there, and that the current user may read"),
    })
}

/// Refuses an empty variable, as from a script that found no key: an archive that should be encrypted
/// must not be written unencrypted.
fn refuse_empty_variables() -> Result<()> {
    let is_empty = |name: &&str| std::env::var_os(name).is_some_and(|value| value.is_empty());
    let mut names = ["ETCD_ARK_RECIPIENT", "ETCD_ARK_RECIPIENTS_FILE"].into_iter();
    let Some(empty) = names.find(is_empty) else {
        return Ok(());
    };
    Err(CliError::usage(format!(
        "`{empty}` is set and empty: nothing would be encrypted"
    ))
    .hint("name who may read the archives, or unset the variable if all may"))
}

/// The plaintext of an encrypted file; `path` is its name in messages.
#[cfg(feature = "encryption")]
pub(crate) fn decrypt(
    outside: std::sync::Arc<dyn Source>,
    path: &Path,
    identities: &[PathBuf],
) -> Result<Result<std::sync::Arc<dyn Source>, ArchiveError>> {
    let files = identities.iter();
    let files = files.map(|file| Ok((file.display().to_string(), read("--identity", file)?)));
    let files: Vec<_> = files.collect::<Result<_>>()?;
    Ok(match Identities::read(&files)?.decrypt(outside)? {
        Ok(inside) => Ok(std::sync::Arc::new(inside)),
        Err(fault) => Err(ArchiveError::Fault {
            path: path.to_path_buf(),
            fault: fault.into(),
        }),
    })
}

#[cfg(not(feature = "encryption"))]
pub(crate) fn cipher(named: &[String], files: &[PathBuf]) -> Result<Option<Box<dyn Cipher>>> {
    if named.is_empty() && files.is_empty() {
        return refuse_empty_variables().map(|()| None);
    }
    Err(CliError::usage("this build has no encryption support")
        .hint("build it with the feature `encryption`, which is on by default"))
}

#[cfg(not(feature = "encryption"))]
#[expect(clippy::unnecessary_wraps, reason = "as where there is encryption")]
pub(crate) fn decrypt(
    _: std::sync::Arc<dyn Source>,
    path: &Path,
    _: &[PathBuf],
) -> Result<Result<std::sync::Arc<dyn Source>, ArchiveError>> {
    Ok(Err(ArchiveError::Fault {
        path: path.to_path_buf(),
        fault: crate::archive::ArchiveFault::NoEncryption,
    }))
}

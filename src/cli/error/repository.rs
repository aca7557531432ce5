//! What failures of places outside this machine's own files mean: repositories, buckets, and keys to
//! encrypted archives.

use std::io;

use crate::archive::ArchiveError;
#[cfg(feature = "encryption")]
use crate::archive::encryption::EncryptionFault;
use crate::repository::RepositoryError;
use crate::repository::copy::CopyError;
use crate::repository::upload::DepositError;

use crate::cli::error::{Judged, Kind, of_archive, of_io};

#[cfg(feature = "encryption")]
pub(crate) fn of_encryption(fault: &EncryptionFault) -> Judged {
    match fault {
        EncryptionFault::NoIdentity => (
            Kind::Usage,
            Some(
                "pass the file with the private key: `--identity FILE`; `etcd-ark verify` proves the ciphertext without one",
            ),
        ),
        EncryptionFault::WrongIdentity => (
            Kind::Refused,
            Some(
                "pass the private key that belongs to a recipient of it: it keeps those of the day it was made; `etcd-ark verify` without --identity tells whether it is whole",
            ),
        ),
        EncryptionFault::Armored => (
            Kind::Usage,
            Some("`age -d -i KEY FILE > etcd-….tar.zst` gives the archive itself"),
        ),
        EncryptionFault::Header(_) | EncryptionFault::Truncated => (
            Kind::Corrupt,
            Some(
                "do not rely on it; `etcd-ark list` shows the other archives, and `etcd-ark verify` what each is worth",
            ),
        ),
    }
}

#[cfg(feature = "encryption")]
pub(crate) fn of_key(error: &anyhow::Error) -> Option<Judged> {
    use crate::archive::encryption::KeyError;
    let error = error.downcast_ref::<KeyError>()?;
    let hint = match error {
        KeyError::Recipient(_) | KeyError::RecipientsFile { .. } | KeyError::Nobody(_) => {
            "a recipient is the public key that `age-keygen -y KEY` prints: age1…"
        }
        KeyError::Empty(_) | KeyError::IdentityFile(_) => {
            "an identity is the file that `age-keygen -o KEY` makes: AGE-SECRET-KEY-1…"
        }
        KeyError::TooMany(_) => "encrypt for the key of a team instead of for each of its people",
        KeyError::Passphrase(_) => "decrypt it first: `age -d FILE > KEY`",
    };
    Some((Kind::Usage, Some(hint)))
}

#[cfg(not(feature = "encryption"))]
pub(crate) fn of_key(_: &anyhow::Error) -> Option<Judged> {
    None
}

/// What to do, if it is a key that an archive cannot be opened without.
pub(crate) fn of_keys(error: &anyhow::Error) -> Option<&'static str> {
    match error.downcast_ref()? {
        error @ ArchiveError::Fault { fault, .. } if fault.is_of_keys() => of_archive(error).1,
        _ => None,
    }
}

pub(crate) fn of_repository(error: &RepositoryError) -> Judged {
    match error {
        RepositoryError::NotFound(_) => (
            Kind::NotFound,
            Some("pass the directory that `etcd-ark snapshot --backup-dir` was given"),
        ),
        RepositoryError::Io(error) => of_io(error),
    }
}

pub(crate) fn of_copy(error: &CopyError) -> Judged {
    match error {
        CopyError::Archive(error) => of_archive(error),
        CopyError::Deposit(error) => of_deposit(error),
        CopyError::Different(_) => (
            Kind::Refused,
            Some("nothing was changed; `etcd-ark verify` tells which of the two is whole"),
        ),
    }
}

pub(crate) fn of_deposit(error: &DepositError) -> Judged {
    match error {
        DepositError::ReadBack(_) => (
            Kind::Corrupt,
            Some("what came back is not what was written; nothing was kept"),
        ),
        DepositError::Io(error) => of_io(error),
        DepositError::Interrupted(_) => (Kind::Interrupted, None),
    }
}

#[cfg(feature = "object-store")]
pub(crate) fn of_bucket_url(error: &anyhow::Error) -> Option<Judged> {
    use crate::repository::bucket::BucketUrlError;
    error.downcast_ref::<BucketUrlError>()?;
    Some((
        Kind::Usage,
        Some(
            "a bucket is written as s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX",
        ),
    ))
}

#[cfg(not(feature = "object-store"))]
pub(crate) fn of_bucket_url(_: &anyhow::Error) -> Option<Judged> {
    None
}

/// Whether a fault is of a URL with this scheme.
#[cfg(feature = "object-store")]
fn is_of(scheme: &str, told: &str) -> bool {
    told.contains(&format!("`{scheme}://"))
}

/// Without any credentials the service that gives a cloud's own machines theirs is asked, where there
/// is one.
#[cfg(feature = "object-store")]
fn lacks_credentials(told: &str) -> bool {
    let asked = ["/latest/api/token", "/latest/meta-data", "169.254.169.254"];
    is_of("s3", told)
        && std::env::var_os("AWS_ACCESS_KEY_ID").is_none_or(|key| key.is_empty())
        && asked.iter().any(|path| told.contains(path))
}

#[cfg(feature = "object-store")]
fn denied(told: &str) -> &'static str {
    if told.contains("SignatureDoesNotMatch") {
        "the secret key is wrong: AWS_SECRET_ACCESS_KEY is not that of AWS_ACCESS_KEY_ID"
    } else if is_of("gs", told) {
        "the credentials in the environment do not allow it: GOOGLE_APPLICATION_CREDENTIALS"
    } else if is_of("az", told) {
        "the credentials in the environment do not allow it: AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY"
    } else {
        "the credentials in the environment do not allow it, or the secret key is wrong: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    }
}

/// What an object store's answer means, if that is what went wrong.
#[cfg(feature = "object-store")]
pub(crate) fn of_bucket(error: &io::Error) -> Option<Judged> {
    use crate::repository::bucket::{BucketFault, BucketFaultKind};
    let fault = error.get_ref()?.downcast_ref::<BucketFault>()?;
    let told = fault.to_string();
    Some(match fault.kind {
        _ if lacks_credentials(&told) => (
            Kind::Failed,
            Some(
                "there are no credentials in the environment: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; `~/.aws` is not read",
            ),
        ),
        BucketFaultKind::Denied => (Kind::Failed, Some(denied(&told))),
        BucketFaultKind::NotFound => (
            Kind::NotFound,
            Some(if is_of("s3", &told) {
                "is the bucket's name right, and AWS_REGION or AWS_ENDPOINT_URL?"
            } else {
                "is the bucket's name right?"
            }),
        ),
        BucketFaultKind::Exists => (
            Kind::Busy,
            Some(
                "another run is writing it, or was killed while it did: a day later the next `snapshot` or `copy` takes its place",
            ),
        ),
        BucketFaultKind::ClockSkew(_) => (
            Kind::Failed,
            Some("set this machine's clock right, or the store's: `timedatectl` shows this one"),
        ),
        BucketFaultKind::NeedsChecksum => (
            Kind::Failed,
            Some("set AWS_CHECKSUM_ALGORITHM=SHA256, which a bucket with Object Lock needs"),
        ),
        BucketFaultKind::NotSupported => (
            Kind::Failed,
            Some(
                "the store must be able to create an object only if it is missing (If-None-Match)",
            ),
        ),
        BucketFaultKind::Other => (
            Kind::Failed,
            Some(if is_of("s3", &told) {
                "nothing was kept; is the store reachable? AWS_ENDPOINT_URL names one that is not Amazon's"
            } else {
                "nothing was kept; is the store reachable?"
            }),
        ),
    })
}

#[cfg(not(feature = "object-store"))]
pub(crate) fn of_bucket(_: &io::Error) -> Option<Judged> {
    None
}

//! Exit codes and hints for errors of object stores.

use crate::repository::bucket::{BucketFault, BucketFaultKind, BucketUrlError};

use crate::cli::error::{CliError, Judge, busy, failed, not_found, usage};

impl Judge for BucketUrlError {
    fn judge(&self) -> CliError {
        if let Self::NoThread(error) = self {
            return error.judge();
        }
        usage(
            "a bucket is written as s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX",
        )
    }
}

impl Judge for BucketFault {
    fn judge(&self) -> CliError {
        let is_s3 = self.scheme() == "s3";
        match self.kind {
            BucketFaultKind::NoCredentials => failed(
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment; `~/.aws` is not read",
            ),
            BucketFaultKind::WrongSignature => failed(
                "the secret key is wrong: AWS_SECRET_ACCESS_KEY is not that of AWS_ACCESS_KEY_ID",
            ),
            BucketFaultKind::Denied => failed(match self.scheme() {
                "gs" => {
                    "the credentials in the environment do not allow it: GOOGLE_APPLICATION_CREDENTIALS"
                }
                "az" => {
                    "the credentials in the environment do not allow it: AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY"
                }
                _ => {
                    "the credentials in the environment do not allow it, or the secret key is wrong: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
                }
            }),
            BucketFaultKind::NotFound if is_s3 => {
                not_found("is the bucket's name right, and AWS_REGION or AWS_ENDPOINT_URL?")
            }
            BucketFaultKind::NotFound => not_found("is the bucket's name right?"),
            BucketFaultKind::Exists => busy(
                "another run is writing it, or was killed while it did: a day later the next `snapshot` or `copy` takes its place",
            ),
            BucketFaultKind::ClockSkew(_) => failed(
                "set this machine's clock right, or the store's: `timedatectl` shows this one",
            ),
            BucketFaultKind::NeedsChecksum => {
                failed("set AWS_CHECKSUM_ALGORITHM=SHA256, which a bucket with Object Lock needs")
            }
            BucketFaultKind::NotSupported => failed(
                "the store must be able to create an object only if it is missing (If-None-Match)",
            ),
            BucketFaultKind::Other if is_s3 => failed(
                "nothing was kept; is the store reachable? AWS_ENDPOINT_URL names one that is not Amazon's",
            ),
            BucketFaultKind::Other => failed("nothing was kept; is the store reachable?"),
        }
    }
}

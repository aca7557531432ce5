//! Builds the clients of the object stores.
//!
//! In: a URL, the settings that the cloud's own tools read, and the time limits. Out: a client.

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::{BackoffConfig, Error, ObjectStore, RetryConfig};

use crate::repository::bucket::answer::OddKeys;
use crate::repository::bucket::http::{Connector, Waits};

#[derive(Clone, Copy, Debug)]
pub struct BucketLimits {
    pub connect: Duration,
    /// Between two reads of an answer; not while a part is uploaded, when no answer is expected yet.
    /// A failed request is not retried after a third of it.
    pub silence: Duration,
    /// For one whole request, and for the retries of a part.
    pub request: Duration,
}

impl Default for BucketLimits {
    /// A request may take as long as three parts of 8 MiB need at the same time on a line of 500 kbit/s.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            silence: Duration::from_secs(20),
            request: Duration::from_secs(420),
        }
    }
}

#[derive(Clone)]
pub(super) struct ClientLimits {
    connector: Connector,
    retry_for: Duration,
}

impl ClientLimits {
    /// For requests that are answered at once: no answer means that the store is unreachable. Retries for a
    /// third as long, so that an unreachable store is reported within 30 seconds.
    pub(super) fn for_answers(limits: BucketLimits, odd_keys: &OddKeys) -> Self {
        let waits = Waits {
            connect: limits.connect,
            read: Some(limits.silence),
            total: limits.request,
        };
        Self {
            connector: Connector::new(waits, odd_keys),
            retry_for: limits.silence / 3,
        }
    }

    /// For the upload of parts.
    pub(super) fn for_parts(limits: BucketLimits, odd_keys: &OddKeys) -> Self {
        let waits = Waits {
            connect: limits.connect,
            read: None,
            total: limits.request,
        };
        Self {
            connector: Connector::new(waits, odd_keys),
            retry_for: limits.request,
        }
    }

    fn retry(&self) -> RetryConfig {
        RetryConfig {
            backoff: BackoffConfig {
                init_backoff: Duration::from_millis(100),
                max_backoff: Duration::from_secs(5),
                base: 2.0,
            },
            max_retries: 100,
            retry_timeout: self.retry_for,
        }
    }
}

pub(super) type Built = Result<Arc<dyn ObjectStore>, Error>;

/// The settings that a store knows, with its own names for them. Without a `prefix` it would accept
/// `ENDPOINT` too, but a variable of that name may be of another program.
fn known<'s, K: std::str::FromStr>(
    settings: &'s [(String, String)],
    prefix: &str,
) -> Vec<(K, &'s str)> {
    settings
        .iter()
        .filter(|(name, _)| name.starts_with(prefix))
        .filter_map(|(name, value)| Some((name.to_ascii_lowercase().parse().ok()?, value.as_str())))
        .collect()
}

pub(super) fn s3(url: &str, settings: &[(String, String)], limits: &ClientLimits) -> Built {
    let mut builder = AmazonS3Builder::new()
        .with_url(url)
        .with_retry(limits.retry())
        .with_http_connector(limits.connector.clone());
    for (key, value) in known::<AmazonS3ConfigKey>(settings, "AWS_") {
        // The user chose an endpoint in plain HTTP.
        if key == AmazonS3ConfigKey::Endpoint && value.starts_with("http://") {
            builder = builder.with_allow_http(true);
        }
        builder = builder.with_config(key, value);
    }
    Ok(Arc::new(builder.build()?))
}

pub(super) fn gcs(url: &str, settings: &[(String, String)], limits: &ClientLimits) -> Built {
    let mut builder = GoogleCloudStorageBuilder::new()
        .with_url(url)
        .with_retry(limits.retry())
        .with_http_connector(limits.connector.clone());
    for (key, value) in known::<GoogleConfigKey>(settings, "GOOGLE_") {
        builder = builder.with_config(key, value);
    }
    Ok(Arc::new(builder.build()?))
}

pub(super) fn azure(url: &str, settings: &[(String, String)], limits: &ClientLimits) -> Built {
    let mut builder = MicrosoftAzureBuilder::new()
        .with_url(url)
        .with_retry(limits.retry())
        .with_http_connector(limits.connector.clone());
    for (key, value) in known::<AzureConfigKey>(settings, "AZURE_") {
        if key == AzureConfigKey::Endpoint && value.starts_with("http://") {
            builder = builder.with_allow_http(true);
        }
        builder = builder.with_config(key, value);
    }
    Ok(Arc::new(builder.build()?))
}

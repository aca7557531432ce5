//! A bucket of an object store: S3, Google Cloud Storage, Azure Blob Storage.
//!
//! ```text
//! <prefix>/etcd-….tar.zst             the archive
//! <prefix>/etcd-….tar.zst.sha256      its marker
//! <prefix>/.etcd-ark-claim-etcd-…     who is writing it; gone when the marker stands
//! ```
//!
//! In: a URL such as `s3://bucket/prefix` and the settings that the cloud's own tools read from
//! the environment. Out: a [`Repository`]. No object store can refuse to overwrite at the end of
//! an upload in parts, so a claim is made first, in one request that fails if it is there, and
//! the marker last, likewise: of two writers of one name only one goes on. An archive that is
//! claimed and not marked was left by an upload that died, or is on its way: it is in nobody's
//! list. One with neither was put there by other means, and is an archive as any other.

pub mod http;
pub mod read;
pub mod upload;

use std::future::Future;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use jiff::{SignedDuration, Timestamp};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::path::Path as Key;
use object_store::{
    BackoffConfig, Error, ObjectMeta, ObjectStore, ObjectStoreExt, PutPayload, RetryConfig,
};
use tokio::runtime::Runtime;

use crate::archive::{ArchiveError, SUM_EXTENSION, Source};
use crate::interrupt::{Interrupt, Interrupted};
use crate::repository::bucket::http::Waits;
use crate::repository::bucket::read::ObjectSource;
use crate::repository::bucket::upload::Upload;
use crate::repository::sidecar::SIDECAR_EXTENSION;
use crate::repository::{
    Listed, MOST_BESIDE, Receiving, Repository, RepositoryError, SIDES, beside_of, is_archive_name,
    refuse_large,
};

/// How the name of a claim begins.
const CLAIM: &str = ".etcd-ark-claim-";
/// How old what a killed run left must be before it is removed: no upload takes so long.
const STALE_AFTER: SignedDuration = SignedDuration::from_hours(24);
/// How many requests are on their way at once where each is small.
const AT_ONCE: usize = 16;
/// How often a wait for an answer looks whether to stop.
const TICK: Duration = Duration::from_millis(100);
/// How long the parts of a conversation with a store may take.
#[derive(Clone, Copy, Debug)]
pub struct BucketLimits {
    /// Until there is a connection.
    pub connect: Duration,
    /// Between two reads of an answer, and for trying a request again before the store counts as
    /// gone; not while a part is uploaded, during which nothing comes back.
    pub silence: Duration,
    /// For one request as a whole, and for trying a part again.
    pub request: Duration,
}

impl Default for BucketLimits {
    /// A request may take as long as three parts of 8 MiB need, side by side, on a line of 500 kbit/s.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            silence: Duration::from_secs(30),
            request: Duration::from_secs(420),
        }
    }
}

/// A place in a bucket.
#[derive(Clone)]
pub struct Bucket {
    store: Arc<dyn ObjectStore>,
    /// The same one, for what takes long to go up.
    for_parts: Arc<dyn ObjectStore>,
    /// Below which all keys are; may be empty.
    prefix: Key,
    /// As the user wrote it, without a slash at the end.
    url: String,
    runtime: Arc<Background>,
    interrupt: Interrupt,
}

/// A runtime that is dropped without waiting for requests that nothing waits for any more.
struct Background(Option<Runtime>);

impl Deref for Background {
    type Target = Runtime;

    fn deref(&self) -> &Runtime {
        self.0
            .as_ref()
            .unwrap_or_else(|| unreachable!("taken in drop only"))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// What an object store answers, or that it does not.
#[derive(Debug, thiserror::Error)]
#[error("failed to {tried} `{url}`: {why}")]
pub struct BucketFault {
    /// What was tried, such as `list`.
    tried: &'static str,
    /// At which URL.
    url: String,
    /// The store's own words, on one line.
    why: String,
    /// What kind of answer that is.
    pub kind: BucketFaultKind,
}

/// What kind of answer a [`BucketFault`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BucketFaultKind {
    /// The credentials do not allow it, or there are none.
    Denied,
    /// There is no such bucket or object.
    NotFound,
    /// It is there already.
    Exists,
    /// The store cannot do that.
    NotSupported,
    /// No answer, or another one.
    Other,
}

/// Why a URL is none of a bucket.
#[derive(Debug, thiserror::Error)]
pub enum BucketUrlError {
    /// It begins with something else.
    #[error("`{0}` begins with none of s3://, gs://, az:// and file://")]
    Scheme(String),
    /// It cannot be read, or the settings for it cannot.
    #[error("`{url}` cannot be used: {why}")]
    Unusable {
        /// The URL.
        url: String,
        /// What is wrong.
        why: String,
    },
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Bucket").field(&self.url).finish()
    }
}

impl Bucket {
    /// The bucket at `url`. `settings` are names and values as the environment has them, such as
    /// `AWS_ACCESS_KEY_ID`; those that are not the store's are passed over.
    pub fn open(
        url: &str,
        settings: &[(String, String)],
        interrupt: &Interrupt,
    ) -> Result<Self, BucketUrlError> {
        Self::open_with(url, settings, BucketLimits::default(), interrupt)
    }

    /// As [`Bucket::open`], with other limits than the default ones.
    pub fn open_with(
        url: &str,
        settings: &[(String, String)],
        limits: BucketLimits,
        interrupt: &Interrupt,
    ) -> Result<Self, BucketUrlError> {
        let unusable = |why: String| BucketUrlError::Unusable {
            url: url.to_owned(),
            why: one_line(&why),
        };
        let url = url.trim_end_matches('/');
        let (scheme, rest) = url.split_once("://").unwrap_or_default();
        let (_, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = Key::parse(prefix).map_err(|error| unusable(error.to_string()))?;
        let build = match scheme {
            "s3" => s3,
            "gs" => gcs,
            "az" => azure,
            _ => return Err(BucketUrlError::Scheme(url.to_owned())),
        };
        let build =
            |patience| build(url, settings, patience).map_err(|error| unusable(error.to_string()));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(|error| unusable(error.to_string()))?;
        Ok(Self {
            store: build(Patience::for_answers(limits))?,
            for_parts: build(Patience::for_parts(limits))?,
            prefix,
            url: url.to_owned(),
            runtime: Arc::new(Background(Some(runtime))),
            interrupt: interrupt.clone(),
        })
    }

    fn key(&self, name: &str) -> Key {
        self.prefix.clone().join(name)
    }

    fn url_of(&self, name: &str) -> String {
        format!("{}/{name}", self.url)
    }

    /// Waits for an answer, and for a wish to stop.
    fn wait<T>(
        &self,
        tried: &'static str,
        name: &str,
        request: impl Future<Output = Result<T, Error>>,
    ) -> io::Result<T> {
        let mut request = std::pin::pin!(request);
        let answer = self.runtime.block_on(async {
            loop {
                if let Ok(answer) = tokio::time::timeout(TICK, &mut request).await {
                    return Ok(answer);
                }
                self.interrupt.check()?;
            }
        });
        match answer {
            Ok(answer) => answer.map_err(|error| self.fault(tried, name, &error)),
            Err(Interrupted) => Err(io::Error::other(Interrupted)),
        }
    }

    fn fault(&self, tried: &'static str, name: &str, error: &Error) -> io::Error {
        let why = one_line(&error.to_string());
        let kind = match error {
            Error::NotFound { .. } => BucketFaultKind::NotFound,
            Error::AlreadyExists { .. } | Error::Precondition { .. } => BucketFaultKind::Exists,
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
                BucketFaultKind::Denied
            }
            Error::NotSupported { .. } | Error::NotImplemented { .. } => {
                BucketFaultKind::NotSupported
            }
            // Of a list that failed only the text says which answer it was.
            _ if why.contains(" 401 Unauthorized") || why.contains(" 403 Forbidden") => {
                BucketFaultKind::Denied
            }
            _ if why.contains(" 404 Not Found") => BucketFaultKind::NotFound,
            _ => BucketFaultKind::Other,
        };
        let io_kind = match kind {
            BucketFaultKind::Denied => io::ErrorKind::PermissionDenied,
            BucketFaultKind::NotFound => io::ErrorKind::NotFound,
            BucketFaultKind::Exists => io::ErrorKind::AlreadyExists,
            BucketFaultKind::NotSupported => io::ErrorKind::Unsupported,
            BucketFaultKind::Other => io::ErrorKind::Other,
        };
        let fault = BucketFault {
            tried,
            url: self.url_of(name),
            why,
            kind,
        };
        io::Error::new(io_kind, fault)
    }

    /// Every object directly below the prefix, by name.
    fn objects(&self) -> io::Result<Vec<(String, ObjectMeta)>> {
        let prefix = (!self.prefix.as_ref().is_empty()).then_some(&self.prefix);
        let found = self.wait("list", "", self.store.list_with_delimiter(prefix))?;
        let mut objects: Vec<_> = found
            .objects
            .into_iter()
            .filter_map(|object| Some((object.location.filename()?.to_owned(), object)))
            .collect();
        objects.sort_by(|(a, _), (b, _)| a.cmp(b));
        // Some stores name an object twice where a page of the list ends.
        objects.dedup_by(|(a, _), (b, _)| a == b);
        Ok(objects)
    }

    fn head(&self, name: &str) -> io::Result<Listed> {
        let head = self.wait("look at", name, self.store.head(&self.key(name)))?;
        Ok(listed(name, &head))
    }

    fn find(&self, name: &str) -> io::Result<Option<Listed>> {
        match self.head(name) {
            Ok(listed) => Ok(Some(listed)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes what a run left that claimed `name` and died: the archive, if it has no marker, and the
    /// claim. An archive without a marker and without a claim is no run's of ours, and stays.
    fn end_claim(&self, name: &str, now: Timestamp) -> io::Result<()> {
        // Looked at once more, now: another run may have come since the list was made.
        let is_stale = |listed: &Listed| {
            let written = listed.modified.map(|time| now.duration_since(time));
            written.is_some_and(|age| age > STALE_AFTER)
        };
        let claim = claim_of(name);
        let still_stale = self.find(&claim)?.as_ref().is_some_and(is_stale);
        if !still_stale {
            return Ok(());
        }
        let unmarked = self.find(&format!("{name}{SUM_EXTENSION}"))?.is_none();
        if unmarked && self.find(name)?.as_ref().is_some_and(is_stale) {
            self.delete(name)?;
            self.delete(&format!("{name}{SIDECAR_EXTENSION}"))?;
        }
        self.delete(&claim)
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        match self.wait("remove", name, self.store.delete(&self.key(name))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

impl Repository for Bucket {
    fn location(&self) -> String {
        self.url.clone()
    }

    fn path_of(&self, name: &str) -> PathBuf {
        PathBuf::from(self.url_of(name))
    }

    fn at_once(&self) -> usize {
        AT_ONCE
    }

    fn list(&self) -> Result<Vec<Listed>, RepositoryError> {
        let objects = self.objects()?;
        let has = |name: &str| {
            let found = objects.binary_search_by(|(found, _)| found.as_str().cmp(name));
            found.is_ok()
        };
        let archives = objects
            .iter()
            .filter(|(name, _)| is_archive_name(name))
            .filter(|(name, _)| has(&format!("{name}{SUM_EXTENSION}")) || !has(&claim_of(name)));
        Ok(archives
            .map(|(name, object)| listed(name, object))
            .collect())
    }

    fn look_up(&self, name: &str) -> Result<Listed, ArchiveError> {
        let not_found = || ArchiveError::NotFound(self.path_of(name));
        let listed = self.find(name)?.ok_or_else(not_found)?;
        // One with a claim and without a marker is being written, or was left by a run that died.
        let is_whole = self.find(&format!("{name}{SUM_EXTENSION}"))?.is_some()
            || self.find(&claim_of(name))?.is_none();
        is_whole.then_some(listed).ok_or_else(not_found)
    }

    fn source(&self, listed: &Listed) -> Result<Arc<dyn Source>, ArchiveError> {
        Ok(Arc::new(ObjectSource::new(self, listed)))
    }

    fn prepare(&self) -> io::Result<()> {
        Ok(())
    }

    fn receive(&self, name: &str) -> io::Result<Box<dyn Receiving>> {
        Ok(Box::new(Upload::begin(self, name)?))
    }

    fn read_beside(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let key = self.key(name);
        let read = async {
            let found = self.store.get(&key).await?;
            // What is too large is not read at all.
            if found.meta.size > MOST_BESIDE {
                return Ok(Err(found.meta.size));
            }
            Ok(Ok(found.bytes().await?))
        };
        match self.wait("read", name, read) {
            Ok(Ok(bytes)) => Ok(Some(bytes.to_vec())),
            Ok(Err(size)) => refuse_large(size, &self.path_of(name)).map(|()| None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn write_beside(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let put = PutPayload::from(bytes.to_vec());
        let key = self.key(name);
        self.wait("write", name, self.store.put(&key, put))
            .map(|_| ())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        // The archive first: a marker without one is in nobody's list.
        self.delete(name)?;
        SIDES
            .iter()
            .try_for_each(|side| self.delete(&format!("{name}{side}")))
    }

    fn remove_orphans(&self, now: Timestamp) -> io::Result<()> {
        let objects = self.objects()?;
        let has = |name: &str| objects.iter().any(|(found, _)| found == name);
        for (name, object) in &objects {
            let written = object.last_modified.timestamp();
            let is_stale = now.as_second() - written > STALE_AFTER.as_secs();
            if !is_stale {
                continue;
            }
            if let Some(of) = name.strip_prefix(CLAIM) {
                self.end_claim(of, now)?;
            } else if beside_of(name).is_some_and(|of| !has(of) && !has(&claim_of(of))) {
                self.delete(name)?;
            }
        }
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<Option<u64>> {
        Ok(None)
    }
}

/// The name of the claim on an archive's name.
fn claim_of(name: &str) -> String {
    format!("{CLAIM}{name}")
}

fn listed(name: &str, object: &ObjectMeta) -> Listed {
    Listed {
        name: name.to_owned(),
        bytes: object.size,
        modified: Timestamp::from_second(object.last_modified.timestamp()).ok(),
        is_link: false,
    }
}

/// How patient a client of a store is.
#[derive(Clone, Copy)]
struct Patience {
    waits: Waits,
    retry_for: Duration,
}

impl Patience {
    /// With what is answered at once: silence means that the store is gone.
    fn for_answers(limits: BucketLimits) -> Self {
        let waits = Waits {
            connect: limits.connect,
            read: Some(limits.silence),
            total: limits.request,
        };
        Self {
            waits,
            retry_for: limits.silence,
        }
    }

    /// With parts on their way up.
    fn for_parts(limits: BucketLimits) -> Self {
        let waits = Waits {
            connect: limits.connect,
            read: None,
            total: limits.request,
        };
        Self {
            waits,
            retry_for: limits.request,
        }
    }

    fn retry(self) -> RetryConfig {
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

type Built = Result<Arc<dyn ObjectStore>, Error>;

/// The settings whose names a store knows, as it wants them. It would know them without their
/// `prefix`, too, but a variable `ENDPOINT` is somebody else's.
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

fn s3(url: &str, settings: &[(String, String)], patience: Patience) -> Built {
    let mut builder = AmazonS3Builder::new()
        .with_url(url)
        .with_retry(patience.retry())
        .with_http_connector(patience.waits);
    for (key, value) in known::<AmazonS3ConfigKey>(settings, "AWS_") {
        // An endpoint of the user's own that is plain HTTP is what the user wants.
        if key == AmazonS3ConfigKey::Endpoint && value.starts_with("http://") {
            builder = builder.with_allow_http(true);
        }
        builder = builder.with_config(key, value);
    }
    Ok(Arc::new(builder.build()?))
}

fn gcs(url: &str, settings: &[(String, String)], patience: Patience) -> Built {
    let mut builder = GoogleCloudStorageBuilder::new()
        .with_url(url)
        .with_retry(patience.retry())
        .with_http_connector(patience.waits);
    for (key, value) in known::<GoogleConfigKey>(settings, "GOOGLE_") {
        builder = builder.with_config(key, value);
    }
    Ok(Arc::new(builder.build()?))
}

fn azure(url: &str, settings: &[(String, String)], patience: Patience) -> Built {
    let mut builder = MicrosoftAzureBuilder::new()
        .with_url(url)
        .with_retry(patience.retry())
        .with_http_connector(patience.waits);
    for (key, value) in known::<AzureConfigKey>(settings, "AZURE_") {
        if key == AzureConfigKey::Endpoint && value.starts_with("http://") {
            builder = builder.with_allow_http(true);
        }
        builder = builder.with_config(key, value);
    }
    Ok(Arc::new(builder.build()?))
}

/// A store's answer, which may be a page of XML, on one line of bearable length.
fn one_line(text: &str) -> String {
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

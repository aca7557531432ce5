//! A bucket of an object store: S3, Google Cloud Storage, Azure Blob Storage.
//!
//! ```text
//! <prefix>/etcd-….tar.zst             the archive
//! <prefix>/etcd-….tar.zst.sha256      its marker
//! <prefix>/.etcd-ark-claim-etcd-…     the claim of its writer; removed after the marker is written
//! ```
//!
//! In: a URL such as `s3://bucket/prefix` and the settings that the cloud's own tools read from
//! the environment. Out: a [`Repository`]. No object store can refuse to overwrite at the end of
//! an upload in parts, so a claim is created first, in one request that fails if it exists, and
//! the marker last, likewise: of two writers of one name only one continues. An archive with a
//! claim and without a marker is being uploaded, and is not listed. After a day the claim is stale:
//! an object appears only when its upload is complete, so an archive with a stale claim is complete,
//! and is listed, verified and pruned like any other. So is one with neither, put there by other means.

mod answer;
pub mod config;
pub mod fault;
pub mod http;
pub mod read;
pub mod upload;

use std::future::Future;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{fmt, io};

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use object_store::path::Path as Key;
use object_store::{Error, ObjectMeta, ObjectStore, ObjectStoreExt, PutPayload};
use tokio::runtime::Runtime;

use crate::archive::{ArchiveError, SUM_EXTENSION, Source};
use crate::interrupt::{Interrupt, Interrupted};
use crate::repository::bucket::answer::OddKeys;
use crate::repository::bucket::config::{ClientLimits, azure, gcs, s3};
use crate::repository::bucket::fault::one_line;
use crate::repository::bucket::read::ObjectSource;
use crate::repository::bucket::upload::{Upload, token};
use crate::repository::{
    ArchiveRef, MOST_BESIDE, PROBE, PendingArchive, Repository, RepositoryError, SIDES, beside_of,
    is_archive_name, refuse_large,
};

pub use crate::repository::bucket::config::BucketLimits;
pub use crate::repository::bucket::fault::{BucketFault, BucketFaultKind};

/// The prefix of a claim's name.
const CLAIM: &str = ".etcd-ark-claim-";
/// The age from which leftovers of a killed run are removed: no upload takes so long.
const STALE_AFTER: SignedDuration = SignedDuration::from_hours(24);
/// The number of concurrent small requests.
const AT_ONCE: usize = 16;
/// How often a wait for an answer checks for an interrupt.
const TICK: Duration = Duration::from_millis(100);

/// A prefix in a bucket.
#[derive(Clone)]
pub struct Bucket {
    store: Arc<dyn ObjectStore>,
    /// The same store with the time limits for uploads.
    for_parts: Arc<dyn ObjectStore>,
    /// The prefix of all keys; may be empty.
    prefix: Key,
    /// The URL as the user wrote it, without a slash at the end.
    url: String,
    /// The content of every claim of this run.
    token: String,
    odd_keys: OddKeys,
    /// The result of the last list, until [`Repository::orphans`] has used it.
    listing: Arc<Mutex<Option<Objects>>>,
    runtime: Arc<Background>,
    interrupt: Interrupt,
}

type Objects = Vec<(String, ObjectMeta)>;

/// A runtime that is dropped without waiting for requests that are no longer needed.
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

#[derive(Debug, thiserror::Error)]
pub enum BucketUrlError {
    #[error("`{0}` begins with none of s3://, gs://, az:// and file://")]
    Scheme(String),
    #[error("`{url}` cannot be used: {why}")]
    Unusable { url: String, why: String },
    #[error(transparent)]
    NoThread(#[from] io::Error),
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Bucket").field(&self.url).finish()
    }
}

impl Bucket {
    /// The bucket at `url`. `settings` are names and values from the environment, such as
    /// `AWS_ACCESS_KEY_ID`; those that the store does not know are ignored.
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
        let build = |limits: ClientLimits| {
            build(url, settings, &limits).map_err(|error| unusable(error.to_string()))
        };
        let odd_keys = OddKeys::default();
        // Without one the runtime would panic.
        crate::thread_pool::require_one()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        Ok(Self {
            store: build(ClientLimits::for_answers(limits, &odd_keys))?,
            for_parts: build(ClientLimits::for_parts(limits, &odd_keys))?,
            token: token(),
            odd_keys,
            listing: Arc::default(),
            prefix,
            url: url.to_owned(),
            runtime: Arc::new(Background(Some(runtime))),
            interrupt: interrupt.clone(),
        })
    }

    /// The key of an object directly below the prefix, unencoded: the client encodes it for a URL.
    fn key(&self, name: &str) -> io::Result<Key> {
        let key = match self.prefix.as_ref() {
            "" => name.to_owned(),
            prefix => format!("{prefix}/{name}"),
        };
        let parsed = Key::parse(&key)
            .ok()
            .filter(|parsed| parsed.as_ref() == key);
        parsed.ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{name:?} cannot be the name of an object; give it another name"),
            )
        })
    }

    fn url_of(&self, name: &str) -> String {
        format!("{}/{name}", self.url)
    }

    /// Waits for an answer or an interrupt.
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
        BucketFault::of(tried, self.url_of(name), error).into()
    }

    /// Every object directly below the prefix, by name.
    fn objects(&self) -> io::Result<Objects> {
        self.odd_keys.clear();
        let prefix = (!self.prefix.as_ref().is_empty()).then_some(&self.prefix);
        let found = self.wait("list", "", self.store.list_with_delimiter(prefix))?;
        let mut objects: Vec<_> = found
            .objects
            .into_iter()
            .filter_map(|object| Some((object.location.filename()?.to_owned(), object)))
            .collect();
        objects.sort_by(|(a, _), (b, _)| a.cmp(b));
        // Some stores list an object twice at the end of a page.
        objects.dedup_by(|(a, _), (b, _)| a == b);
        Ok(objects)
    }

    fn last_listing(&self) -> MutexGuard<'_, Option<Objects>> {
        self.listing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn head(&self, name: &str) -> io::Result<ArchiveRef> {
        let head = self.wait("look at", name, self.store.head(&self.key(name)?))?;
        Ok(listed(name, &head))
    }

    fn find(&self, name: &str) -> io::Result<Option<ArchiveRef>> {
        match self.head(name) {
            Ok(listed) => Ok(Some(listed)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether a listed claim was left by a run that was killed.
    fn is_stale(claim: &ArchiveRef, now: Timestamp) -> bool {
        let age = claim.modified.map(|time| now.duration_since(time));
        age.is_some_and(|age| age > STALE_AFTER)
    }

    /// A small object's bytes, or the size of an object that is too large.
    async fn small(&self, key: &Key) -> Result<Result<Bytes, u64>, Error> {
        let found = self.store.get(key).await?;
        if found.meta.size > MOST_BESIDE {
            return Ok(Err(found.meta.size));
        }
        Ok(Ok(found.bytes().await?))
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        match self.wait("remove", name, self.store.delete(&self.key(name)?)) {
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

    fn at_once(&self, archives: usize) -> usize {
        archives.min(AT_ONCE)
    }

    fn list(&self) -> Result<Vec<ArchiveRef>, RepositoryError> {
        let objects = self.objects()?;
        let now = crate::clock::now();
        let find = |name: &str| {
            let found = objects.binary_search_by(|(found, _)| found.as_str().cmp(name));
            found.ok().and_then(|at| objects.get(at))
        };
        let is_on_its_way = |name: &str| {
            let claim = find(&claim_of(name)).map(|(name, object)| listed(name, object));
            claim.is_some_and(|claim| !Self::is_stale(&claim, now))
        };
        let archives = objects
            .iter()
            .filter(|(name, _)| is_archive_name(name))
            .filter(|(name, _)| {
                find(&format!("{name}{SUM_EXTENSION}")).is_some() || !is_on_its_way(name)
            });
        let archives = archives.map(|(name, object)| listed(name, object));
        let archives = archives.collect();
        *self.last_listing() = Some(objects);
        Ok(archives)
    }

    fn skipped(&self) -> Vec<String> {
        self.odd_keys.all()
    }

    fn look_up(&self, name: &str) -> Result<ArchiveRef, ArchiveError> {
        let not_found = || ArchiveError::NotFound(self.path_of(name));
        let listed = self.find(name)?.ok_or_else(not_found)?;
        let is_marked = self.find(&format!("{name}{SUM_EXTENSION}"))?.is_some();
        let now = crate::clock::now();
        let is_on_its_way = |claim: &ArchiveRef| !Self::is_stale(claim, now);
        if is_marked
            || !self
                .find(&claim_of(name))?
                .as_ref()
                .is_some_and(is_on_its_way)
        {
            return Ok(listed);
        }
        Err(not_found())
    }

    fn source(&self, listed: &ArchiveRef) -> Result<Arc<dyn Source>, ArchiveError> {
        Ok(Arc::new(ObjectSource::new(self, listed)?))
    }

    fn prepare(&self) -> io::Result<()> {
        Ok(())
    }

    fn receive(&self, name: &str) -> io::Result<Box<dyn PendingArchive>> {
        Ok(Box::new(Upload::begin(self, name)?))
    }

    fn read_beside(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let key = self.key(name)?;
        match self.wait("read", name, self.small(&key)) {
            Ok(Ok(bytes)) => Ok(Some(bytes.to_vec())),
            Ok(Err(size)) => refuse_large(size, &self.path_of(name)).map(|()| None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn write_beside(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let put = PutPayload::from(bytes.to_vec());
        let key = self.key(name)?;
        self.wait("write", name, self.store.put(&key, put))
            .map(|_| ())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        // The archive first: a marker without an archive is not listed.
        self.delete(name)?;
        SIDES
            .iter()
            .try_for_each(|side| self.delete(&format!("{name}{side}")))
    }

    fn orphans(&self, now: Timestamp) -> io::Result<Vec<String>> {
        // Each is checked once more before it is removed.
        let listing = self.last_listing().take();
        let objects = listing.map_or_else(|| self.objects(), Ok)?;
        let place = |name: &str| objects.binary_search_by(|(found, _)| found.as_str().cmp(name));
        let has = |name: &str| place(name).is_ok();
        let is_orphan = |name: &str| {
            name.starts_with(CLAIM)
                || name.starts_with(PROBE)
                || beside_of(name).is_some_and(|of| !has(of) && !has(&claim_of(of)))
        };
        let orphans = objects
            .iter()
            .filter(|(name, object)| is_orphan(name) && Self::is_stale(&listed(name, object), now));
        Ok(orphans.map(|(name, _)| name.clone()).collect())
    }

    fn remove_orphan(&self, name: &str, now: Timestamp) -> io::Result<()> {
        // Checked once more: another run may have claimed the name since the list was made.
        let is_old = self
            .find(name)?
            .is_some_and(|found| Self::is_stale(&found, now));
        let has_archive = match beside_of(name) {
            Some(of) => self.find(of)?.is_some() || self.find(&claim_of(of))?.is_some(),
            None => false,
        };
        if is_old && !has_archive {
            self.delete(name)?;
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

fn listed(name: &str, object: &ObjectMeta) -> ArchiveRef {
    ArchiveRef {
        name: name.to_owned(),
        bytes: object.size,
        modified: Timestamp::from_second(object.last_modified.timestamp()).ok(),
        is_link: false,
    }
}

//! Uploads an archive into a bucket: a claim, the parts, then a marker.
//!
//! In: bytes, in order. Out: an object that is not listed before it has its marker.
//! A failed part is retried for minutes; memory: a few parts.

use std::collections::VecDeque;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::{fmt, io};

use object_store::{Error, MultipartUpload, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use tokio::task::JoinHandle;

use crate::archive::{SUM_EXTENSION, Source};
use crate::repository::bucket::{Bucket, claim_of};
use crate::repository::sidecar::SIDECAR_EXTENSION;
use crate::repository::{CompanionFile, PendingArchive, Repository};

/// Bytes of a part: S3 requires at least 5 MiB and allows at most 10,000 parts.
const PART: usize = 8 << 20;
/// The number of concurrent parts.
const IN_FLIGHT: usize = 3;

pub(crate) struct Upload {
    bucket: Bucket,
    name: String,
    parts: Option<Box<dyn MultipartUpload>>,
    part: Vec<u8>,
    in_flight: VecDeque<JoinHandle<Result<(), Error>>>,
    written: u64,
    /// Whether the object may exist, without its marker.
    stands: bool,
    published: bool,
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Upload").field(&self.name).finish()
    }
}

impl Upload {
    pub(crate) fn begin(bucket: &Bucket, name: &str) -> io::Result<Self> {
        let key = bucket.key(name)?;
        bucket.claim(name)?;
        // From here on any error removes the claim.
        let mut upload = Self {
            bucket: bucket.clone(),
            name: name.to_owned(),
            parts: None,
            part: Vec::new(),
            in_flight: VecDeque::new(),
            written: 0,
            stands: false,
            published: false,
        };
        // An object that was put there without a claim must not be overwritten.
        if bucket.exists(name)? {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                format!("`{}` is already there", bucket.url_of(name)),
            ));
        }
        let begun = bucket.wait("upload", name, bucket.for_parts.put_multipart(&key))?;
        upload.parts = Some(begun);
        Ok(upload)
    }

    fn send_part(&mut self) -> io::Result<()> {
        while self.in_flight.len() >= IN_FLIGHT {
            self.await_oldest()?;
        }
        if let Some(parts) = &mut self.parts {
            let bytes = std::mem::take(&mut self.part);
            let sent = parts.put_part(PutPayload::from(bytes));
            self.in_flight.push_back(self.bucket.runtime.spawn(sent));
        }
        Ok(())
    }

    fn await_oldest(&mut self) -> io::Result<()> {
        let Some(mut sent) = self.in_flight.pop_front() else {
            return Ok(());
        };
        let arrived = async { (&mut sent).await.map_err(Error::from)? };
        let arrived = self.bucket.wait("upload", &self.name, arrived);
        arrived.map_err(|error| self.lost(error))
    }

    /// Marks an error for a retry of the whole upload if the store has lost the upload, as after a
    /// restart of the store.
    fn lost(&self, error: io::Error) -> io::Error {
        if error.kind() == io::ErrorKind::NotFound {
            return io::Error::other(format!(
                "the store has lost the upload of `{}`: {error}",
                self.bucket.url_of(&self.name)
            ));
        }
        error
    }

    /// Removes what is not listed yet. What cannot be removed now, because the store is unreachable,
    /// is removed as stale by a later `prune`.
    fn withdraw(&mut self) {
        for sent in self.in_flight.drain(..) {
            sent.abort();
        }
        if let Some(mut parts) = self.parts.take() {
            let _ = self.bucket.wait_briefly(async move { parts.abort().await });
        }
        let marker = format!("{}{SUM_EXTENSION}", self.name);
        let mut gone = Vec::new();
        // If creating is not atomic after all, another run may have written the marker.
        if self.stands {
            match self.bucket.exists_briefly(&marker) {
                Some(true) => {}
                Some(false) => {
                    gone.push(self.name.clone());
                    gone.push(format!("{}{SIDECAR_EXTENSION}", self.name));
                }
                None => return,
            }
        }
        // The claim last: it tells a later `prune` that the other objects are leftovers.
        gone.push(claim_of(&self.name));
        for name in gone {
            let Ok(key) = self.bucket.key(&name) else {
                return;
            };
            let store = Arc::clone(&self.bucket.store);
            let removed = self
                .bucket
                .wait_briefly(async move { store.delete(&key).await });
            if !matches!(removed, Some(Ok(()) | Err(Error::NotFound { .. }))) {
                return;
            }
        }
    }
}

impl PendingArchive for Upload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.written += bytes.len() as u64;
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = PART - self.part.len();
            let (now, later) = rest.split_at(room.min(rest.len()));
            self.part.extend_from_slice(now);
            rest = later;
            if self.part.len() == PART {
                self.send_part()?;
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> io::Result<Arc<dyn Source>> {
        if !self.part.is_empty() {
            self.send_part()?;
        }
        while !self.in_flight.is_empty() {
            self.await_oldest()?;
        }
        if let Some(mut parts) = self.parts.take() {
            // From here on the object may exist, whatever the answer is.
            self.stands = true;
            if let Err(error) = self.bucket.wait("upload", &self.name, parts.complete()) {
                // The name was free and is claimed, so the object there is the one that was sent. It is
                // read back anyway.
                let there = self.bucket.find(&self.name).ok().flatten();
                if there.is_none_or(|there| there.bytes != self.written) {
                    self.parts = Some(parts);
                    return Err(self.lost(error));
                }
            }
        }
        let listed = self.bucket.head(&self.name)?;
        self.bucket.source(&listed).map_err(io::Error::other)
    }

    fn publish(mut self: Box<Self>, sides: &[CompanionFile]) -> io::Result<()> {
        let bytes = self.bucket.head(&self.name)?.bytes;
        for side in sides {
            let name = format!("{}{}", self.name, side.extension);
            self.bucket.put_new("write", &name, &side.bytes)?;
        }
        // Read back like the archive: an acknowledged object that is lost must not count as a backup.
        for side in sides {
            let name = format!("{}{}", self.name, side.extension);
            if self.bucket.read_beside(&name)?.as_deref() != Some(&side.bytes) {
                return Err(not_kept(&self.bucket, &name));
            }
        }
        if self.bucket.head(&self.name)?.bytes != bytes {
            return Err(not_kept(&self.bucket, &self.name));
        }
        self.published = true;
        // If nothing may be removed the claim stays; it has no effect any more.
        let _ = self.bucket.delete(&claim_of(&self.name));
        Ok(())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if !self.published {
            self.withdraw();
        }
    }
}

fn not_kept(bucket: &Bucket, name: &str) -> io::Error {
    io::Error::other(format!(
        "the store has not kept `{}` as it was written",
        bucket.url_of(name)
    ))
}

/// A text that no other run writes into its claims.
pub(super) fn token() -> String {
    let random = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}\n", random(), random())
}

impl Bucket {
    /// Creates a small object, which must not exist.
    fn put_new(&self, tried: &'static str, name: &str, bytes: &[u8]) -> io::Result<()> {
        let create = PutOptions::from(PutMode::Create);
        let key = self.key(name)?;
        let payload = PutPayload::from(bytes.to_vec());
        let put = self.store.put_opts(&key, payload, create);
        match self.wait(tried, name, put) {
            // The same bytes are our own: the answer to the first request was lost.
            Err(error)
                if [io::ErrorKind::AlreadyExists, io::ErrorKind::Other].contains(&error.kind())
                    && self.interrupt.check().is_ok()
                    && self.holds_briefly(name, bytes) =>
            {
                Ok(())
            }
            put => put.map(|_| ()),
        }
    }

    /// Claims a name. A stale claim is taken over.
    fn claim(&self, name: &str) -> io::Result<()> {
        let (claim, token) = (claim_of(name), self.token.as_bytes());
        let error = match self.put_new("claim", &claim, token) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => error,
            claimed => return claimed,
        };
        let there = self.find(&claim)?;
        if !there.is_some_and(|there| Self::is_stale(&there, crate::clock::now())) {
            return Err(error);
        }
        self.write_beside(&claim, token)?;
        // Of two that take it over at the same time the later one has it.
        if self.read_beside(&claim)?.as_deref() == Some(token) {
            return Ok(());
        }
        Err(error)
    }

    /// Whether an object has these bytes; `false` without an answer within a short time.
    fn holds_briefly(&self, name: &str, bytes: &[u8]) -> bool {
        let Ok(key) = self.key(name) else {
            return false;
        };
        let found = self.wait_briefly(self.small(&key));
        matches!(found, Some(Ok(Ok(found))) if found[..] == *bytes)
    }

    /// Whether the object exists; `None` without an answer within a short time.
    fn exists_briefly(&self, name: &str) -> Option<bool> {
        let key = self.key(name).ok()?;
        match self.wait_briefly(self.store.head(&key))? {
            Ok(_) => Some(true),
            Err(Error::NotFound { .. }) => Some(false),
            Err(_) => None,
        }
    }

    fn exists(&self, name: &str) -> io::Result<bool> {
        Ok(self.find(name)?.is_some())
    }

    /// Waits for a short time, even after an interrupt: for cleaning up.
    fn wait_briefly<T>(&self, request: impl Future<Output = T>) -> Option<T> {
        let limits = std::time::Duration::from_secs(5);
        let wait = async { tokio::time::timeout(limits, request).await.ok() };
        self.runtime.block_on(wait)
    }
}

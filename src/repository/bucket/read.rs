//! Reads ranges of an object.
//!
//! In: offsets. Out: bytes. Ranges that are announced as needed soon are fetched in blocks in the
//! background; any other range is a request of its own. Memory: a few blocks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::{fmt, io};

use bytes::Bytes;
use object_store::path::Path as Key;
use object_store::{Error, ObjectStoreExt};
use tokio::sync::OnceCell;

use crate::archive::Source;
use crate::archive::read_at::READ_AHEAD;
use crate::repository::bucket::{ArchiveRef, Bucket};

/// Bytes fetched by one request.
const BLOCK: u64 = 4 << 20;
/// How far before the announced range blocks are kept, in bytes.
const BEHIND: u64 = 8 << 20;

type Block = Arc<OnceCell<Bytes>>;

pub(crate) struct ObjectSource {
    bucket: Bucket,
    name: String,
    key: Key,
    length: u64,
    /// Announced blocks, by their number.
    blocks: Mutex<BTreeMap<u64, Block>>,
}

impl fmt::Debug for ObjectSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ObjectSource").field(&self.key).finish()
    }
}

impl ObjectSource {
    pub(crate) fn new(bucket: &Bucket, listed: &ArchiveRef) -> io::Result<Self> {
        Ok(Self {
            key: bucket.key(&listed.name)?,
            bucket: bucket.clone(),
            name: listed.name.clone(),
            length: listed.bytes,
            blocks: Mutex::default(),
        })
    }

    fn block(&self, number: u64) -> Option<Block> {
        let blocks = self.blocks.lock();
        let blocks = blocks.unwrap_or_else(PoisonError::into_inner);
        blocks.get(&number).map(Arc::clone)
    }

    /// The bytes of a block; its first user fetches them.
    async fn fetch(
        bucket: Bucket,
        key: Key,
        block: Block,
        from: u64,
        to: u64,
    ) -> Result<(), Error> {
        let fetch = || bucket.store.get_range(&key, from..to);
        block.get_or_try_init(fetch).await.map(|_| ())
    }

    fn fetch_block(
        &self,
        number: u64,
        block: &Block,
    ) -> impl Future<Output = Result<(), Error>> + Send + 'static {
        let from = number * BLOCK;
        let to = (from + BLOCK).min(self.length);
        let (bucket, key) = (self.bucket.clone(), self.key.clone());
        Self::fetch(bucket, key, Arc::clone(block), from, to)
    }
}

impl Source for ObjectSource {
    fn length(&self) -> u64 {
        self.length
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let mut buffer = buffer;
        let mut offset = offset;
        while !buffer.is_empty() {
            let number = offset / BLOCK;
            let within = (offset % BLOCK) as usize;
            let now = if let Some(block) = self.block(number) {
                let fetch = self.fetch_block(number, &block);
                self.bucket.wait("read", &self.name, fetch)?;
                let bytes = block.get().map(Bytes::as_ref).unwrap_or_default();
                copy(bytes.get(within..).unwrap_or_default(), buffer)
            } else {
                let range = offset..offset + buffer.len() as u64;
                let fetch = self.bucket.store.get_range(&self.key, range);
                copy(&self.bucket.wait("read", &self.name, fetch)?, buffer)
            };
            if now == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            buffer = buffer.get_mut(now..).unwrap_or_default();
            offset += now as u64;
        }
        Ok(())
    }

    fn read_ahead(&self, offset: u64) {
        let end = offset.saturating_add(READ_AHEAD).min(self.length);
        if offset >= end {
            return;
        }
        let keep_from = offset.saturating_sub(BEHIND) / BLOCK;
        let blocks = self.blocks.lock();
        let mut blocks = blocks.unwrap_or_else(PoisonError::into_inner);
        *blocks = blocks.split_off(&keep_from);
        for number in offset / BLOCK..end.div_ceil(BLOCK) {
            blocks.entry(number).or_insert_with(|| {
                let block = Block::default();
                // A failure here is retried, and reported, where the bytes are needed.
                let fetch = self.fetch_block(number, &block);
                self.bucket.runtime.spawn(async { drop(fetch.await) });
                block
            });
        }
    }
}

/// Copies as many bytes as fit; returns their number.
fn copy(from: &[u8], to: &mut [u8]) -> usize {
    let length = from.len().min(to.len());
    if let (Some(from), Some(to)) = (from.get(..length), to.get_mut(..length)) {
        to.copy_from_slice(from);
    }
    length
}

//! Writes the store as JSON, rendered on several threads and written in order.
//!
//! In: a [`Store`] and a node of it. Out: the answer of etcd's API, into a writer; memory
//! does not grow with the store.

use std::io::{self, Write};
use std::sync::Arc;

use crate::etcd::store::to_json::{Batch, Shown, answer};
use crate::etcd::store::{NodeId, Store};
use crate::thread_pool::{Buffers, Lent, Ordered};

/// Writes the answer to a recursive and sorted GET of `top`, on `threads` threads.
pub fn write_answer(
    store: &Arc<Store>,
    top: NodeId,
    shown: Shown,
    threads: usize,
    out: &mut dyn Write,
) -> io::Result<()> {
    let buffers = Buffers::default();
    let mut renderers = Ordered::new(threads, || {
        let (store, buffers) = (Arc::clone(store), buffers.clone());
        move |batch: Batch| {
            let mut json = buffers.get();
            batch.render(&store, &mut json);
            json
        }
    });
    answer(store, top, shown, |batch| {
        renderers.submit(batch);
        if renderers.is_full() {
            write_next(&mut renderers, out)?;
        }
        io::Result::Ok(())
    })?;
    while renderers.in_flight() > 0 {
        write_next(&mut renderers, out)?;
    }
    Ok(())
}

fn write_next(renderers: &mut Ordered<Batch, Lent>, out: &mut dyn Write) -> io::Result<()> {
    if let Some(json) = renderers.take().map_err(io::Error::other)? {
        out.write_all(&json)?;
    }
    Ok(())
}

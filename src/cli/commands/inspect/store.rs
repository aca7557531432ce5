//! The content of a store, for `inspect`: counts, the largest keys, expiries, in-order creations.

use crate::etcd::replay::{InOrderRules, Until};
use crate::etcd::scan::Extent;
use crate::etcd::start::Verdicts;
use crate::etcd::store::stats::{Expiring, StoreStats};
use crate::etcd::store::to_json::{Expiration, api_key, key_text};
use crate::target::{StoreQuery, StoreRead, Target};
use crate::text::{count, entries, expiry, size};
use serde_json::{Value, json};

use crate::cli::commands::keys::print_passed_over;
use crate::cli::context::Context;
use crate::cli::error::Result;
use crate::cli::output::{Output, Paint, one_line};
use crate::cli::render::member::row;

const LARGEST: usize = 5;
/// How many directories with in-order keys are shown.
const DIRECTORIES: usize = 10;

pub(crate) struct Contents {
    read: StoreRead,
    summary: StoreStats,
    expiring: Expiring,
}

pub(crate) fn read(target: &Target, threads: usize, cx: &Context<'_>) -> Result<Contents> {
    let wanted = StoreQuery {
        until: Until::Commit,
        extent: Extent::All,
        starts: true,
        threads,
        ..StoreQuery::default()
    };
    let read = cx.watched(|observe| target.read_store(wanted, cx.interrupt, observe))?;
    print_passed_over(&read, &cx.out);
    let store = &read.replayed.store;
    let now = crate::clock::now().as_nanosecond();
    Ok(Contents {
        summary: store.summary(LARGEST),
        expiring: store.expiring(now.try_into().unwrap_or(i64::MAX)),
        read,
    })
}

impl Contents {
    /// Whether servers of each release line start from it.
    pub(crate) fn starts(&self) -> Option<&Verdicts> {
        self.read.starts.as_ref()
    }

    /// In-order keys that a first start with 2.2 would rename: none once the cluster has moved.
    fn would_be_renamed(&self) -> u64 {
        let version = self.read.member.cluster_version.as_ref();
        match InOrderRules::of(version) {
            InOrderRules::Before22 => self.read.replayed.in_order.applied,
            InOrderRules::From22 | InOrderRules::From23 => 0,
        }
    }

    fn key(&self, id: crate::etcd::store::NodeId) -> String {
        key_text(&self.read.replayed.store.path(id))
    }

    pub(crate) fn to_json(&self) -> Value {
        let (replayed, summary) = (&self.read.replayed, &self.summary);
        let in_order = &replayed.in_order;
        let directories = in_order.directories.iter().map(|(path, posts)| {
            json!({
                "directory": key_text(path),
                "posts": posts.posts,
                "first_raft_index": posts.first_index,
                "last_raft_index": posts.last_index,
            })
        });
        json!({
            "raft_index": replayed.at,
            "etcd_index": replayed.store.index(),
            "in_order_rules": replayed.rules,
            "in_order_rules_from": self.read.rules_from.to_string(),
            "keys": summary.keys,
            "directories": summary.directories,
            "value_bytes": summary.value_bytes,
            "largest_keys": summary.largest_keys.iter().map(|key| json!({
                "key": self.key(key.id), "bytes": key.bytes,
            })).collect::<Vec<_>>(),
            "largest_prefixes": summary.largest_prefixes.iter().map(|prefix| json!({
                "prefix": self.key(prefix.id), "keys": prefix.keys, "bytes": prefix.bytes,
            })).collect::<Vec<_>>(),
            "expiring": {
                "total": self.expiring.total,
                "expired": self.expiring.expired,
                "within_a_day": self.expiring.within_a_day,
                "next_at": self.expiring.next.map(|next| Expiration(next).to_string()),
            },
            "in_order": {
                "posts": in_order.posts,
                "directories": directories.collect::<Vec<_>>(),
                "above_raft_snapshot": in_order.applied,
                "would_be_renamed": self.would_be_renamed(),
            },
        })
    }

    pub(crate) fn print(&self, out: &Output) {
        let (replayed, summary) = (&self.read.replayed, &self.summary);
        out.line("");
        let head = format!(
            "store at index {}, X-Etcd-Index {}",
            replayed.at,
            replayed.store.index()
        );
        out.line(&out.paint(Paint::Strong, &head));
        let counts = format!(
            "{} in {}, {} of values",
            count(summary.keys, "key", "keys"),
            count(summary.directories, "directory", "directories"),
            size(summary.value_bytes)
        );
        row(out, "keys", &counts);
        let show = |id| one_line(self.key(id).as_bytes());
        for (at, key) in summary.largest_keys.iter().enumerate() {
            let name = if at == 0 { "largest" } else { "" };
            row(out, name, &format!("{}  {}", size(key.bytes), show(key.id)));
        }
        for (at, prefix) in summary.largest_prefixes.iter().enumerate() {
            let name = if at == 0 { "prefixes" } else { "" };
            let text = format!(
                "{}  {}/  ({})",
                size(prefix.bytes),
                show(prefix.id),
                count(prefix.keys, "key", "keys")
            );
            row(out, name, &text);
        }
        row(out, "expiring", &self.expiring_text());
        self.print_in_order(out);
    }

    fn expiring_text(&self) -> String {
        let found = &self.expiring;
        if found.total == 0 {
            return "nothing has a TTL".to_owned();
        }
        let next = match found.next {
            Some(next) => format!("the next at {}", expiry(next)),
            None => "all of it already".to_owned(),
        };
        format!(
            "{} with a TTL: {} expired by now, {} within a day, {next}",
            found.total, found.expired, found.within_a_day
        )
    }

    fn print_in_order(&self, out: &Output) {
        let in_order = &self.read.replayed.in_order;
        if in_order.posts == 0 {
            row(out, "in-order", "no POST in the available log");
            return;
        }
        let above = if self.read.replayed.start.is_some() {
            format!("{} above the raft snapshot", in_order.applied)
        } else {
            "no raft snapshot yet".to_owned()
        };
        let posts = count(in_order.posts, "POST", "POSTs");
        row(
            out,
            "in-order",
            &format!("{posts} in the available log, {above}"),
        );
        for (path, posts) in in_order.directories.iter().take(DIRECTORIES) {
            let text = format!(
                "{}/  {}, {}",
                one_line(api_key(path)).trim_end_matches('/'),
                posts.posts,
                entries(posts.first_index, posts.last_index)
            );
            row(out, "", &text);
        }
        let more = in_order.directories.len().saturating_sub(DIRECTORIES);
        if more > 0 {
            row(
                out,
                "",
                &format!("and {more} more directories; --json has all"),
            );
        }
        let renamed = self.would_be_renamed();
        if renamed > 0 {
            let what = count(renamed, "in-order key", "in-order keys");
            let text =
                format!("a first start with 2.2 would give {what} a new name on this member");
            row(out, "", &out.paint(Paint::Warn, &text));
            for line in [
                "before the upgrade: stop all POSTs, then make a raft snapshot above the last one:",
                "restart this member with 2.1 and a low --snapshot-count, and write a few keys",
            ] {
                row(out, "", line);
            }
        }
    }
}

//! The deep part of `verify`: compares raft snapshots with the replay, and lists keys that would expire.

use crate::etcd::member::MemberFacts;
use crate::etcd::replay::Replayed;
use crate::etcd::store::UnixNanos;
use crate::etcd::store::to_json::{Expiration, api_key};
use crate::target::Target;
use crate::target::deep_verify::{DeepReport, SnapshotCheck, SnapshotVerdict, look_deep};
use crate::text::{count, expiry, utc};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::cli::commands::verify::Verify;
use crate::cli::context::Context;
use crate::cli::error::Result;
use crate::cli::json;
use crate::cli::output::{Output, Paint, one_line};

/// How many keys are listed.
const NAMED: usize = 10;

/// The result of a deep verification, and the time for which expiries are computed.
pub(crate) struct Deep {
    report: DeepReport,
    restore_at: Timestamp,
    /// The first keys that expire before that time, soonest first.
    expiring: Vec<(String, UnixNanos)>,
    expires: u64,
}

impl Deep {
    pub(crate) fn look(
        target: &Target,
        first: Option<(MemberFacts, Replayed)>,
        args: &Verify,
        cx: &Context<'_>,
    ) -> Result<Self> {
        let threads = args.threads.count();
        let report =
            cx.watched(|observe| look_deep(target, first, threads, cx.interrupt, observe))?;
        let restore_at = args.restore_at.unwrap_or_else(crate::clock::now);
        let until = restore_at.as_nanosecond();
        let due = report.store.expiries();
        let due = due.take_while(|(expires, _)| i128::from(*expires) <= until);
        let (mut expiring, mut expires) = (Vec::new(), 0);
        for (at, id) in due {
            if expiring.len() < NAMED {
                let path = report.store.path(id);
                expiring.push((one_line(api_key(&path)), at));
            }
            expires += 1;
        }
        Ok(Self {
            report,
            restore_at,
            expiring,
            expires,
        })
    }

    pub(crate) fn first_fault(&self) -> Option<String> {
        let snapshot = self
            .report
            .snapshots
            .iter()
            .find_map(|check| match &check.verdict {
                SnapshotVerdict::Different(keys) => {
                    let first = keys.first().map_or(String::new(), |key| {
                        format!(", first {}: {}", one_line(&key.path), key.what)
                    });
                    Some(format!(
                        "the raft snapshot at {} does not match the log{first}",
                        check.id
                    ))
                }
                _ => None,
            });
        snapshot.or_else(|| self.report.cluster.first().map(ToString::to_string))
    }

    pub(crate) fn to_json(&self) -> Value {
        let report = &self.report;
        json!({
            "replayed_entries": report.entries,
            "from_raft_index": report.start.map_or(0, |id| id.index.0),
            "to_raft_index": report.at,
            "raft_snapshots": report.snapshots.iter().map(check_json).collect::<Vec<_>>(),
            "not_compared": report.not_compared.iter().map(json::raft_snapshot).collect::<Vec<_>>(),
            "cluster": report.cluster.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "expires": {
                "restored_at": self.restore_at,
                "count": self.expires,
                "keys": self.expiring.iter().map(|(key, at)| {
                    format!("{key} at {}", Expiration(*at))
                }).collect::<Vec<_>>(),
            },
        })
    }

    pub(crate) fn print(&self, out: &Output) {
        let report = &self.report;
        let from = match report.start {
            Some(id) => format!("from the raft snapshot at {}", id.index),
            None => "from the empty store".to_owned(),
        };
        out.line(&format!(
            "  replayed {from} to {}: {}",
            report.at,
            count(report.entries, "entry", "entries")
        ));
        for check in &report.snapshots {
            print_check(check, out);
        }
        if report.snapshots.is_empty() && report.not_compared.is_empty() {
            out.line("  no other raft snapshot to compare with the log");
        }
        for id in &report.not_compared {
            let word = out.paint(Paint::Warn, "?  ");
            out.line(&format!(
                "  {word} raft snapshot {} not compared: the replay did not reach it",
                id.index
            ));
        }
        for fault in &report.cluster {
            out.line(&format!("  {} {fault}", out.paint(Paint::Bad, "BAD")));
        }
        self.print_expiring(out);
    }

    fn print_expiring(&self, out: &Output) {
        let before = utc(self.restore_at);
        if self.expires == 0 {
            out.line(&format!("  nothing in it expires before {before}"));
            return;
        }
        out.line(&format!(
            "  {} before {before}; restored after that, they are gone at once:",
            count(self.expires, "key expires", "keys expire")
        ));
        for (key, at) in &self.expiring {
            out.line(&format!("    {key} at {}", expiry(*at)));
        }
        let more = self.expires - self.expiring.len() as u64;
        if more > 0 {
            out.line(&format!("    and {more} more"));
        }
    }
}

fn check_json(check: &SnapshotCheck) -> Value {
    let (equal, rules, differences) = match &check.verdict {
        SnapshotVerdict::Equal(rules) => (true, rules.to_string(), 0),
        SnapshotVerdict::MixedNames(renamed) => (false, "mixed".to_owned(), *renamed),
        SnapshotVerdict::Different(keys) => (false, String::new(), keys.len()),
    };
    let different = match &check.verdict {
        SnapshotVerdict::Different(keys) => keys.as_slice(),
        _ => &[],
    };
    let more = json!({
        "equal": equal,
        "in_order_rules": Some(rules).filter(|rules| !rules.is_empty()),
        "differences": differences,
        "keys": different.iter().take(NAMED).map(|key| json!({
            "key": String::from_utf8_lossy(&key.path), "message": key.what,
        })).collect::<Vec<_>>(),
    });
    json::with(json::raft_snapshot(&check.id), more)
}

fn print_check(check: &SnapshotCheck, out: &Output) {
    let index = check.id.index;
    match &check.verdict {
        SnapshotVerdict::Equal(rules) => {
            let word = out.paint(Paint::Good, "ok ");
            out.line(&format!(
                "  {word} raft snapshot {index} matches the log, applied as etcd {rules} does"
            ));
        }
        SnapshotVerdict::MixedNames(renamed) => {
            let word = out.paint(Paint::Warn, "ok ");
            let renamed = count(*renamed as u64, "in-order key", "in-order keys");
            out.line(&format!(
                "  {word} raft snapshot {index} matches the log, but for the names of"
            ));
            out.line(&format!(
                "      {renamed}: the in-order trap, see `etcd-ark diff`"
            ));
        }
        SnapshotVerdict::Different(keys) => {
            let word = out.paint(Paint::Bad, "BAD");
            out.line(&format!(
                "  {word} raft snapshot {index} does not match the log"
            ));
            for key in keys.iter().take(NAMED) {
                out.line(&format!("        {}: {}", one_line(&key.path), key.what));
            }
            let more = keys.len().saturating_sub(NAMED);
            if more > 0 {
                out.line(&format!("        and {more} more"));
            }
        }
    }
}

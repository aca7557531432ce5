//! After the cluster has moved: what a rewind with the given data would keep and lose.
//!
//! In: the data that the gate read. Out: the plan that `rewind` itself makes of them, so that the two
//! never disagree, and the command for it.

use std::path::PathBuf;

use jiff::Timestamp;

use crate::etcd::entry::EntryCount;
use crate::etcd::ids::{Index, Release};
use crate::etcd::store::UnixNanos;
use crate::etcd::store::to_json::Expiration;
use crate::rewind::cut::RewindTarget;
use crate::rewind::new_cluster::MemberChanges;
use crate::rewind::{Input, Plan, RewindError, RewindRequest, plan};
use crate::target::Target;
use crate::text::{count, expiry};
use crate::upgrade::downgrade::collect::Collected;
use crate::upgrade::downgrade::evidence::{DiskEvidence, DiskKind};
use crate::upgrade::downgrade::gate::Verdict;
use serde_json::{Value, json};

use crate::cli::commands::downgrade::commands;
use crate::cli::commands::downgrade::inquiry::Inquiry;
use crate::cli::context::Context;
use crate::cli::error::{CliError, Kind, Result};
use crate::cli::json::text;

/// What a rewind could do.
pub(crate) struct Left {
    /// The plan of a rewind with the given data, or why there is none; `None` without data.
    planned: Option<std::result::Result<Planned, CliError>>,
    /// The command of the rewind, unless these data do not allow it.
    command: Option<String>,
    /// The highest index that a member has applied, from a quorum read.
    members_at: Option<Index>,
}

/// The result of a rewind.
struct Planned {
    /// The input that is chosen as the base, if members differ in the names of this number of in-order keys.
    base: Option<(PathBuf, usize)>,
    kept: Index,
    /// Whether the next entry moved the cluster; if not, the data hold no move.
    is_before_move: bool,
    lost: EntryCount,
    /// Whether entries are lost that none of the data hold.
    has_unseen: bool,
    /// The last entry in the data.
    end: Index,
    /// The time of that entry, by the clock in the log or by the newest archive.
    known_until: Option<UnixNanos>,
}

/// What a rewind could do, for the verdicts that need it.
pub(crate) fn find(
    verdict: &Verdict,
    collected: &Collected,
    inquiry: &Inquiry<'_>,
    cx: &Context<'_>,
) -> Result<Option<Left>> {
    if !matches!(verdict, Verdict::Moved(_) | Verdict::Moving { .. }) {
        return Ok(None);
    }
    let evidence = &collected.evidence;
    let inputs: Vec<PathBuf> = evidence
        .disks
        .iter()
        .map(|disk| disk.path.clone())
        .collect();
    let is_own = |kind| matches!(kind, DiskKind::Own { .. });
    let own = evidence.disks.iter().find(|disk| is_own(disk.kind));
    let answers = evidence
        .members
        .iter()
        .filter_map(|known| known.answer.as_ref().ok());
    let applied = answers.filter_map(|answer| answer.quorum_read.as_ref().ok().copied());
    let first_above = evidence.step.first_above();
    let planned = if inputs.is_empty() {
        None
    } else {
        match planned(first_above, collected, inquiry, cx) {
            Ok(planned) => Some(Ok(planned)),
            Err(error) => {
                if error.kind == Kind::Interrupted {
                    return Err(error);
                }
                Some(Err(error))
            }
        }
    };
    let ok = planned.as_ref().and_then(|planned| planned.as_ref().ok());
    let is_possible = planned.is_none() || ok.is_some();
    let command = is_possible.then(|| {
        commands::rewind(
            inquiry.gate,
            own.map(|own| own.path.as_path()),
            &inputs,
            &format!("last-before:{first_above}"),
            ok.and_then(|planned| Some(planned.base.as_ref()?.0.as_path())),
            commands::keys_of(&cx.out.printed, &inputs),
        )
    });
    Ok(Some(Left {
        planned,
        command,
        members_at: applied.max().filter(|index| *index > Index(0)),
    }))
}

fn planned(
    first_above: Release,
    collected: &Collected,
    inquiry: &Inquiry<'_>,
    cx: &Context<'_>,
) -> Result<Planned> {
    let places = &cx.places;
    let request = RewindRequest {
        to: RewindTarget::LastBefore(first_above),
        base: None,
        requested: MemberChanges {
            single: None,
            peer_urls: &[],
        },
        keep_cluster_id: false,
        may_run: true,
        now: crate::clock::now(),
        threads: inquiry.gate.threads.count(),
    };
    let mut inputs = Vec::new();
    for disk in &collected.evidence.disks {
        let target = match (disk.kind, &inquiry.own) {
            (DiskKind::Own { .. }, Some(Target::DataDir(own))) => Target::DataDir(own.clone()),
            _ => places.target(&disk.path.clone().into(), None)?,
        };
        inputs.push(Input { target });
    }
    let plan_by = |request: &RewindRequest<'_>| {
        cx.watched(|observe| plan(request, &inputs, cx.interrupt, observe))
    };
    let archives = collected.evidence.disks.iter();
    let newest = archives.filter_map(DiskEvidence::created).max();
    let keys = match plan_by(&request) {
        Err(RewindError::InOrder { keys, .. }) => keys.0.len(),
        plan => return Ok(Planned::of(&plan?, None, newest)),
    };
    // Every base loses the same entries; the operator must choose the names.
    let mut last = None;
    for disk in &collected.evidence.disks {
        let name = text(&disk.path);
        let request = RewindRequest {
            base: Some(&name),
            ..request.clone()
        };
        match plan_by(&request) {
            Ok(plan) => {
                let base = Some((disk.path.clone(), keys));
                return Ok(Planned::of(&plan, base, newest));
            }
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or(RewindError::NoInput).into())
}

impl Planned {
    fn of(plan: &Plan, base: Option<(PathBuf, usize)>, newest_archive: Option<Timestamp>) -> Self {
        let taken = newest_archive.and_then(|at| at.as_nanosecond().try_into().ok());
        Self {
            base,
            kept: plan.moment.index,
            is_before_move: plan.moment.moved.is_some(),
            lost: plan.lost.count,
            has_unseen: !plan.lost.unseen.is_empty(),
            end: plan.agreement.end.index,
            known_until: plan.clocks.1.or(taken),
        }
    }

    fn lines(&self, members_at: Option<Index>) -> Vec<String> {
        let at_least = if self.has_unseen { "at least " } else { "" };
        let entries = count(self.lost.entries, "entry", "entries");
        let writes = match (self.lost.entries, self.lost.client_writes) {
            (1, 0) => "not a client write".to_owned(),
            (1, _) => "a client write".to_owned(),
            (_, 1) => "1 of them a client write".to_owned(),
            (_, writes) => format!("{writes} of them client writes"),
        };
        let mut lines = vec![if self.is_before_move {
            format!(
                "rewind the whole cluster to before entry {}, which loses {at_least}{entries}, {writes}:",
                self.kept.next()
            )
        } else {
            format!(
                "rewind the whole cluster to entry {}, the last one in these data: the version change came later and is not in them:",
                self.kept
            )
        }];
        if let Some((base, keys)) = &self.base {
            lines.push(format!(
                "  {} two names: all members get those of {}; another `--base` chooses others",
                count(*keys as u64, "in-order key has", "in-order keys have"),
                text(base)
            ));
        }
        let until = self.known_until.map(expiry);
        let until = until.map_or_else(String::new, |time| format!(" ({time})"));
        let end = self.end;
        lines.push(match members_at.filter(|at| *at > end) {
            Some(at) => format!(
                "  every write after entry {end}{until} is lost too and cannot be counted here: the members are at entry {at}",
            ),
            None => format!(
                "  every write after entry {end}{until} is lost too and cannot be counted here",
            ),
        });
        lines
    }
}

impl Left {
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines = match &self.planned {
            Some(Ok(planned)) => planned.lines(self.members_at),
            Some(Err(failure)) => {
                let mut lines = vec![format!(
                    "rewind the whole cluster to before the version change, which these data alone do not allow: {}",
                    failure.message
                )];
                lines.extend(failure.hint.iter().map(|hint| format!("  {hint}")));
                lines
            }
            None => vec![
                "rewind the whole cluster to before the version change; with data dirs and archives of the members as TARGETs this shows how much that loses:".to_owned(),
            ],
        };
        lines.extend(self.command.iter().map(|command| format!("  `{command}`")));
        lines
    }

    pub(crate) fn to_json(&self) -> Value {
        let planned = self.planned.as_ref();
        let ok = planned.and_then(|planned| planned.as_ref().ok());
        let failure = planned.and_then(|planned| planned.as_ref().err());
        json!({
            "command": self.command,
            "base": ok.and_then(|left| Some(text(&left.base.as_ref()?.0))),
            "to_raft_index": ok.map(|left| left.kept),
            "is_before_move": ok.map(|left| left.is_before_move),
            "entries": ok.map(|left| left.lost.entries),
            "client_writes": ok.map(|left| left.lost.client_writes),
            "all_seen": ok.map(|left| !left.has_unseen),
            "not_counted_after_raft_index": ok.map(|left| left.end),
            "not_counted_after_at": ok
                .and_then(|left| Some(Expiration(left.known_until?).to_string())),
            "members_raft_index": self.members_at,
            "refused": failure.map(|failure| &failure.message),
        })
    }
}

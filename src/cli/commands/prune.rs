//! `prune`: remove the archives that no rule keeps; `snapshot --keep-…` does the same for its own.

use std::collections::HashSet;

use crate::etcd::text::printable;
use crate::repository::lock::{BackupLock, LockRequest};
use crate::repository::{Catalog, Repository, RepositoryError, summarize};
use crate::retention::prune::{PruneRequest, Pruned, carry_out, only, plan};
use crate::retention::{Decision, Group, Reason};
use crate::text::{names_in_table, size};
use crate::upgrade::preflight::Finding;
use clap::builder::BoolishValueParser;
use serde_json::{Value, json};

use crate::cli::commands::list::in_order_of_appearance;
use crate::cli::context::Context;
use crate::cli::error::{Judge, Kind, Result, with_causes};
use crate::cli::flags::lock_wait::LockWait;
use crate::cli::flags::repository::RepositoryFlags;
use crate::cli::flags::retention::Keep;
use crate::cli::flags::selection::Selection;
use crate::cli::json::{self, text};
use crate::cli::layout::Table;
use crate::cli::metrics::MetricsFile;
use crate::cli::output::skipped_keys;
use crate::cli::render::member::versions_text;

pub(crate) const AFTER_HELP: &str = "Archives are grouped by cluster and member. Only valid archives count: a corrupt one \
    takes no slot, is never removed, and is reported as a warning.\n\n\
    Always kept: the newest valid archive of each member; the newest from before each move of the cluster version, which is \
    the only way back; what --keep-label names; what `rewind` made.\n\n\
    Kept without taking a slot, because a clock was wrong: archives dated in the future, and those with a time that \
    contradicts the order of the log, as long as they are the fewer.\n\n\
    With --member, --label or --since the other archives are left alone, and take no slot.";

#[derive(Debug, clap::Args)]
pub(crate) struct Prune {
    #[command(flatten)]
    pub(crate) repository: RepositoryFlags,
    #[command(flatten)]
    selection: Selection,
    /// Show what would be removed; remove nothing
    #[arg(long, env = "ETCD_ARK_DRY_RUN", value_parser = BoolishValueParser::new())]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    keep: Keep,
    #[command(flatten)]
    lock: LockWait,
    #[command(flatten)]
    pub(crate) metrics: MetricsFile,
}

pub(crate) fn run(args: &Prune, cx: &Context<'_>) -> Result<()> {
    let policy = args.keep.policy()?;
    let repository = args.repository.open(&cx.places)?;
    let locked = repository
        .directory()
        .filter(|dir| !args.dry_run && dir.is_dir());
    let _lock = args.lock.take(locked, "prune", cx)?;
    let request = PruneRequest {
        repository: &*repository,
        policy: &policy,
        prove_again_after: args.keep.prove_again_after,
        now: crate::clock::now(),
        proven: None,
    };
    let mut catalog = summarize(&*repository)?;
    args.selection.demand(&mut catalog, &*repository)?;
    let outcome = prune(&request, &catalog, args.dry_run, cx)?;
    cx.out
        .json(|| outcome.to_json(&*repository, &catalog, args.dry_run));
    if args.dry_run || !outcome.is_done() {
        // The result, or the state after a failure: also without a terminal.
        outcome.show(&mut |line| cx.out.line(line));
    } else {
        outcome.show(&mut |line| cx.out.print(line));
    }
    cx.record
        .pruned(outcome.kept(), outcome.pruned.removed.len());
    outcome.end(cx)
}

/// Prunes the archives of one member after a snapshot of it; returns the JSON.
pub(crate) fn after_snapshot(
    request: &PruneRequest<'_>,
    group: Group,
    claim: &LockRequest,
    cx: &Context<'_>,
) -> (Value, Result<()>) {
    let pruned = || -> Result<(Value, Result<()>)> {
        let dir = request.repository.directory();
        let _lock = dir
            .map(|dir| BackupLock::take(dir, claim, cx.interrupt))
            .transpose()?;
        let mut catalog = summarize(request.repository)?;
        only(&mut catalog, group);
        let outcome = prune(request, &catalog, false, cx)?;
        let json = outcome.to_json(request.repository, &catalog, false);
        let removed = outcome.pruned.removed.len();
        let told = format!("  pruned     {removed} removed, {} kept", outcome.kept());
        if outcome.is_done() {
            cx.out.print(&told);
        } else {
            cx.out.line(&told);
        }
        cx.record.pruned(outcome.kept(), removed);
        Ok((json, outcome.end(cx)))
    };
    pruned().unwrap_or_else(|error| (Value::Null, Err(error)))
}

/// What pruning the archives of one member would do now, without the archive that is about to be made.
pub(crate) fn before_snapshot(
    request: &PruneRequest<'_>,
    group: Group,
    cx: &Context<'_>,
) -> Result<Finding> {
    let mut catalog = match summarize(request.repository) {
        Err(RepositoryError::NotFound(_)) => Catalog::default(),
        found => found?,
    };
    only(&mut catalog, group);
    let plan = plan(request, &catalog, cx.interrupt, &mut |_| ())?;
    for due in plan.decisions.iter().filter(|one| !one.is_kept()) {
        request.repository.may_remove(due.summary.name())?;
    }
    let kept = plan.decisions.iter().filter(|one| one.is_kept()).count();
    let removed = plan.decisions.len() - kept;
    let told = format!("of the archives there now, {kept} would be kept and {removed} removed");
    let warnings = warnings(request.repository, &plan.decisions, &catalog);
    let mut found = if warnings.is_empty() {
        Finding::ok(told)
    } else {
        Finding::warning(told)
    };
    found.evidence.extend(warnings);
    Ok(found)
}

struct Outcome<'c> {
    decisions: Vec<Decision<'c>>,
    /// Files of archives that are gone.
    orphans: Vec<String>,
    pruned: Pruned,
}

fn prune<'c>(
    request: &PruneRequest<'_>,
    catalog: &'c Catalog,
    dry_run: bool,
    cx: &Context<'_>,
) -> Result<Outcome<'c>> {
    let mut observe = |summary: &crate::repository::ArchiveSummary| {
        if cx.out.verbose {
            cx.out.print_note(&format!("reading {}", summary.name()));
        }
    };
    let plan = plan(request, catalog, cx.interrupt, &mut observe)?;
    for warning in warnings(request.repository, &plan.decisions, catalog) {
        cx.out.warn(&warning);
    }
    let pruned = if dry_run {
        Pruned::default()
    } else {
        carry_out(request, &plan, cx.interrupt)
    };
    let orphans = plan.orphans.unwrap_or_else(|error| {
        cx.out.warn(&format!(
            "cannot look for files that killed runs left: {error}"
        ));
        Vec::new()
    });
    if let Some(error) = &pruned.unnoted {
        cx.out.warn(&format!(
            "cannot save which archives are verified, so all are read again next time: {error}"
        ));
    }
    Ok(Outcome {
        decisions: plan.decisions,
        orphans,
        pruned,
    })
}

/// A warning for each archive that is kept because something is wrong.
fn warnings(
    repository: &dyn Repository,
    decisions: &[Decision<'_>],
    catalog: &Catalog,
) -> Vec<String> {
    let path = |decision: &Decision<'_>| repository.path_of(decision.summary.name());
    let mut warnings = Vec::new();
    for decision in decisions {
        for reason in &decision.reasons {
            if matches!(reason, Reason::Bad(_) | Reason::Undecided(_)) {
                let path = path(decision);
                warnings.push(format!(
                    "`{}` {reason}; it stays and does not count",
                    path.display()
                ));
            }
        }
    }
    warnings.extend(skipped_keys(repository));
    for (_, error) in &catalog.unreadable {
        let error = with_causes(error);
        warnings.push(format!("{error}; it stays and does not count"));
    }
    // One line for all of them: after a night with a wrong clock there may be thousands.
    for (reason, what) in [
        (Reason::Future, "dated in the future"),
        (Reason::Contradiction, "dated against the order of the log"),
    ] {
        let mut wrong = decisions.iter().filter(|d| d.reasons.contains(&reason));
        if let Some(newest) = wrong.next() {
            let (number, all) = (1 + wrong.count(), decisions.len());
            let are = if number == 1 { "is" } else { "are" };
            let archives = if all == 1 { "archive" } else { "archives" };
            warnings.push(format!(
                "{number} of {all} {archives} {are} {what}, the newest of them `{}`: a clock is or was wrong, or a member went \
                 back to older data; such archives stay and do not count",
                path(newest).display()
            ));
        }
    }
    warnings
}

impl Outcome<'_> {
    fn kept(&self) -> usize {
        self.decisions.iter().filter(|d| d.is_kept()).count()
    }

    /// The end of the run: an error for what could not be removed, or for an interrupt.
    fn end(&self, cx: &Context<'_>) -> Result<()> {
        let interrupt = cx.interrupt;
        let pruned = &self.pruned;
        if let Some((name, error)) = pruned.failed.first() {
            return Err(error
                .judge()
                .kind
                .error(format!(
                    "{} of {} archives could not be removed, first `{name}`: {error}",
                    pruned.failed.len(),
                    pruned.failed.len() + pruned.removed.len()
                ))
                .hint("what was removed is gone whole; run it again once the cause is fixed"));
        }
        if let Some((name, error)) = &pruned.failed_orphan {
            return Err(Kind::Failed.error(format!(
                "cannot remove `{name}`, left by a killed run: {error}"
            )));
        }
        interrupt.check()?;
        Ok(())
    }

    /// Whether all that no rule keeps is removed.
    fn is_done(&self) -> bool {
        self.kept() + self.pruned.removed.len() == self.decisions.len()
    }

    /// The result for each archive, as one word.
    fn fates(&self) -> Vec<&'static str> {
        let removed: HashSet<&str> = self.pruned.removed.iter().map(String::as_str).collect();
        let failed = self.pruned.failed.iter();
        let failed: HashSet<&str> = failed.map(|(name, _)| name.as_str()).collect();
        let fate = |decision: &Decision<'_>| match decision.summary.name() {
            _ if decision.is_kept() => "KEEP",
            name if removed.contains(name) => "REMOVED",
            name if failed.contains(name) => "FAILED",
            _ => "REMOVE",
        };
        self.decisions.iter().map(fate).collect()
    }

    /// How many archives have this result, and their bytes.
    fn sum(&self, of: &str) -> (usize, u64) {
        let all = self.decisions.iter().zip(self.fates());
        let of_it = all.filter(|(_, fate)| *fate == of);
        of_it.fold((0, 0), |(count, bytes), (decision, _)| {
            (count + 1, bytes + decision.summary.listed.bytes)
        })
    }

    fn show(&self, line: &mut dyn FnMut(&str)) {
        for name in &self.orphans {
            let fate = if self.pruned.orphans.contains(name) {
                "REMOVED"
            } else {
                "REMOVE"
            };
            line(&format!("{fate} {}: left by a killed run", printable(name)));
        }
        if self.decisions.is_empty() {
            line("no archives");
            return;
        }
        // As in `list`, but a single cluster needs no heading.
        let of = |decision: &Decision<'_>| decision.summary.identity.cluster_id;
        let clusters = in_order_of_appearance(self.decisions.iter().map(of));
        let fates = self.fates();
        for id in &clusters {
            if clusters.len() > 1 {
                line(&format!("cluster {id}"));
            }
            let all = self.decisions.iter().zip(&fates);
            let rows: Vec<_> = all.filter(|(decision, _)| of(decision) == *id).collect();
            table(&rows).lines().iter().for_each(|row| line(row));
            if clusters.len() > 1 {
                line("");
            }
        }
        let words = [
            ("KEEP", "kept"),
            ("REMOVE", "to be removed"),
            ("REMOVED", "removed"),
            ("FAILED", "could not be removed"),
        ];
        let sums = words.map(|(fate, word)| {
            let (count, bytes) = self.sum(fate);
            (count > 0 || fate == "KEEP").then(|| format!("{count} {word} ({})", size(bytes)))
        });
        let sums: Vec<_> = sums.into_iter().flatten().collect();
        line(&sums.join(", "));
    }

    fn to_json(&self, repository: &dyn Repository, catalog: &Catalog, dry_run: bool) -> Value {
        let path = |name: &str| text(&repository.path_of(name));
        let problem = |name: &str, error: &dyn Judge| {
            json::problem(&path(name), error.judge().kind, &with_causes(error))
        };
        let failed = self.pruned.failed.iter();
        let failed = failed.map(|(name, error)| problem(name, error));
        let unreadable = catalog.unreadable.iter();
        let unreadable = unreadable.map(|(listed, error)| problem(&listed.name, error));
        let one = |(decision, fate): (&Decision<'_>, &'static str)| {
            let more = json!({
                "keep": decision.is_kept(),
                "removed": fate == "REMOVED",
                "reasons": decision.reasons.iter().map(|reason| json!({
                    "rule": reason.rule(), "message": reason.to_string(),
                })).collect::<Vec<_>>(),
            });
            json::with(json::archive(repository, decision.summary), more)
        };
        let [kept, planned, removed] = ["KEEP", "REMOVE", "REMOVED"].map(|fate| self.sum(fate));
        json!({
            "dry_run": dry_run,
            "kept": kept.0,
            "kept_bytes": kept.1,
            "to_be_removed": planned.0,
            "to_be_removed_bytes": planned.1,
            "removed": removed.0,
            "removed_bytes": removed.1,
            "leftovers": self.orphans.iter().map(|name| json!({
                "name": name, "removed": self.pruned.orphans.contains(name),
            })).collect::<Vec<_>>(),
            "skipped": repository.skipped(),
            "archives": self.decisions.iter().zip(self.fates()).map(one).collect::<Vec<_>>(),
            "problems": failed.chain(unreadable).collect::<Vec<_>>(),
        })
    }
}

fn table(rows: &[(&Decision<'_>, &&str)]) -> Table {
    let names = names_in_table(rows.iter().map(|(one, _)| &one.summary.identity));
    let mut table = Table::new(&[
        "",
        "CREATED (UTC)",
        ">INDEX",
        "VERSION",
        ">ARCHIVE",
        "MEMBER",
    ]);
    for ((decision, fate), name) in rows.iter().zip(names) {
        let summary = decision.summary;
        let mut why: Vec<_> = decision.reasons.iter().map(ToString::to_string).collect();
        if why.is_empty() {
            why.push("no rule keeps it".to_owned());
        }
        if !summary.labels.is_empty() {
            why.push(format!("labels: {}", summary.labels.join(", ")));
        }
        let cells = [
            (**fate).to_owned(),
            summary.created.strftime("%Y-%m-%d %H:%M:%S").to_string(),
            summary.position.index.to_string(),
            versions_text(
                summary.cluster_version.as_ref(),
                summary.pending_version.as_ref(),
            ),
            size(summary.listed.bytes),
            name,
        ];
        let below = vec![printable(summary.name()), printable(&why.join("; "))];
        table.row(cells.into(), below);
    }
    table
}

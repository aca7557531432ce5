//! `downgrade`: checks whether the cluster may go back, and prepares this member.

mod commands;
mod evidence_text;
pub(crate) mod flags;
mod inquiry;
mod left;
pub(crate) mod next_steps;
pub(crate) mod report;
pub(crate) mod report_json;

use std::time::{Duration, Instant};

use crate::text::size;
use crate::upgrade::downgrade::collect::Collected;
use crate::upgrade::downgrade::evidence::{DiskKind, Step};
use crate::upgrade::downgrade::gate;
use crate::upgrade::downgrade::gate::{Doubt, Verdict, decide};
use crate::upgrade::downgrade::move_wal::{self, Found, MoveError};
use crate::upgrade::downgrade::prepare as downgrade;
use crate::upgrade::downgrade::prepare::{LABEL, Prepared};
use serde_json::{Value, json};

use crate::cli::commands::downgrade::flags::{Check, Command, Downgrade, GoBack};
use crate::cli::commands::downgrade::next_steps::Steps;
use crate::cli::commands::downgrade::report::Judgement;

use crate::cli::commands::downgrade::inquiry::{Inquiry, Own};
use crate::cli::context::Context;
use crate::cli::error::{CliError, Kind, Result, STOP_FIRST};
use crate::cli::flags::destination::Opened;
use crate::cli::flags::lock_wait::{UNLOCKED, claim};
use crate::cli::json::{self, text};
use crate::cli::output::{Output, Paint};
use crate::cli::progress::countdown;

/// After this time in seconds a move that has begun is visible: the leader checks every 5 seconds.
const SETTLED_AFTER: u16 = 10;
/// The data size in bytes above which the safety snapshot warns, as `snapshot` does.
const SIZE_LIMIT: u64 = 100_000_000;
/// How long the safety snapshot waits for another run on the backup dir: etcd is stopped meanwhile.
const LOCK_WAIT: Duration = Duration::from_secs(30);

pub(crate) fn run(args: &Downgrade, cx: &Context<'_>) -> Result<()> {
    match &args.command {
        Command::Check(args) => check(args, cx),
        Command::Run(args) => go_back(args, cx),
    }
}

fn check(args: &Check, cx: &Context<'_>) -> Result<()> {
    let gate = &args.gate;
    let step = gate.step()?;
    if args.data_dir.is_none() && gate.targets.is_empty() && !gate.connection.is_given() {
        return Err(CliError::usage("no endpoint and no data dir is given")
            .hint("pass --endpoints, --data-dir, or archives and data dirs of the members"));
    }
    let wal_dir = gate.wal_dir.as_deref();
    let mut own = match args.data_dir.as_deref() {
        Some(dir) => Own::open(dir, wal_dir)?,
        None => Own::default(),
    };
    let nothing_else = gate.targets.is_empty() && !gate.connection.is_given();
    if let Some(fault) = own.fault.take_if(|_| nothing_else) {
        return Err(fault);
    }
    let inquiry = Inquiry::open(gate, step, own.target.take(), &cx.places)?;
    let mut disks = inquiry.read(cx)?;
    let unreadable = disks.unreadable.take().map(CliError::from);
    if nothing_else && let Some(fault) = unreadable {
        return Err(fault);
    }
    let fault = own.fault.as_ref().or(unreadable.as_ref());
    let collected = inquiry.ask(&disks, cx.interrupt)?;
    let judgement = judge(&collected, fault, &inquiry, cx)?;
    let next = next_of_check(&judgement, args);
    cx.out.json(|| {
        let mut told = judgement.to_json();
        told["next"] = json!(next);
        told
    });
    judgement.print(&cx.out);
    for warning in judgement.warnings() {
        cx.out.warn(&warning);
    }
    if let Some(refusal) = judgement.failure() {
        return Err(refusal);
    }
    if let Some(fault) = own.fault {
        return Err(fault);
    }
    for line in &next {
        cx.out.line(line);
    }
    Ok(())
}

/// What to do after an allowance, and on which members.
fn next_of_check(judgement: &Judgement<'_>, args: &Check) -> Vec<String> {
    let evidence = judgement.evidence();
    if judgement.is_refusal() || judgement.verdict == Verdict::NothingToGoBackFrom {
        return Vec::new();
    }
    let step = evidence.step;
    let members = evidence.members.iter();
    let ahead = members.filter(|known| known.release().is_some_and(|release| release > step.to));
    let names: Vec<_> = ahead.map(next_steps::name).collect();
    if names.is_empty() {
        return vec![format!(
            "next: nothing, no member is known to run a release above {}",
            step.to
        )];
    }
    let missing = gate::to_bring_back_first(evidence);
    if !missing.is_empty() {
        let missing: Vec<_> = missing.into_iter().map(next_steps::name).collect();
        return vec![format!(
            "next: bring back {} first, with the release that it ran: to stop another member now would stop the cluster",
            missing.join(", ")
        )];
    }
    let (gate, data_dir) = (&args.gate, args.data_dir.as_deref());
    if !evidence.offline && evidence.members.len() == 2 {
        let command = commands::run_of_two(gate, step, data_dir, judgement.strict);
        return vec![
            format!(
                "next: stop etcd on both members, which have a quorum only together; then on {}, with the data dirs of both:",
                names.join(", ")
            ),
            format!("  `{command}`"),
        ];
    }
    let command = commands::run(gate, step, data_dir, None, judgement.strict);
    let first = if evidence.offline {
        ""
    } else {
        " stop etcd, then"
    };
    vec![
        format!(
            "next, on {}, one at a time and with the paths of that member:{first}",
            names.join(", ")
        ),
        format!("  `{command}`"),
    ]
}

/// A stopped member, and what the gate saw of its cluster.
struct Seen<'g> {
    inquiry: Inquiry<'g>,
    step: Step,
    own: Result<Found>,
    collected: Collected,
    /// Seconds.
    waited: u16,
}

fn go_back(args: &GoBack, cx: &Context<'_>) -> Result<()> {
    let opened = args.to.open(&cx.places)?;
    let seen = look_at_stopped(args, &opened, cx)?;
    let fault = seen.own.as_ref().err();
    let judgement = judge(&seen.collected, fault, &seen.inquiry, cx)?;
    let print_end = || {
        cx.out
            .json(|| json!({"gate": judgement.to_json(), "waited_seconds": seen.waited}));
        judgement.print(&cx.out);
        judgement.failure().map_or(Ok(()), Err)
    };
    if judgement.is_refusal() {
        return print_end();
    }
    let Ok(found) = &seen.own else {
        return print_restoring(&judgement, seen.own.err(), args, &cx.out);
    };
    if judgement.verdict == Verdict::NothingToGoBackFrom {
        return print_end();
    }
    // The verdict may be another one than before the wait.
    refuse_before_work(found, seen.step, args, &opened)?;
    let wal_dir = args.gate.wal_dir.as_deref();
    let request = downgrade::PrepareRequest {
        found,
        move_wal: wal_dir.filter(|_| args.move_wal),
        to: opened.destination(),
        dry_run: args.dry_run,
        threads: args.gate.threads.count(),
        size_limit: SIZE_LIMIT,
        now: crate::clock::now(),
        lock: claim("downgrade run", LOCK_WAIT),
    };
    let prepared = cx.watched(|observe| downgrade::prepare(&request, cx.interrupt, observe))?;
    let warnings = warnings(&judgement, &seen, &prepared);
    for warning in &warnings {
        cx.out.warn(warning);
    }
    let evidence = &seen.collected.evidence;
    let steps = Steps::after(&prepared, args, evidence, cx.strict);
    cx.out.json(|| {
        let mut told = to_json(&judgement, &prepared, &steps, args);
        told["waited_seconds"] = seen.waited.into();
        told["warnings"] = warnings.into();
        told
    });
    judgement.print(&cx.out);
    print(&prepared, &steps, args, &seen, &cx.out);
    Ok(())
}

/// Looks at the stopped member and its cluster; if nothing refuses, looks again after the time in which
/// a move becomes visible that began before etcd stopped.
fn look_at_stopped<'g>(args: &'g GoBack, to: &Opened, cx: &Context<'_>) -> Result<Seen<'g>> {
    let gate = &args.gate;
    let step = gate.step()?;
    let mut own = Own::open(&args.data_dir, gate.wal_dir.as_deref())?;
    if let Some(found) = &own.found
        && let Some(running) = downgrade::running(found.data_dir())?
    {
        return Err(MoveError::Running(running).into());
    }
    let stopped = Instant::now();
    let nothing_else = gate.targets.is_empty() && !gate.connection.is_given();
    if let Some(fault) = own.fault.take_if(|_| nothing_else) {
        return Err(fault);
    }
    let inquiry = Inquiry::open(gate, step, own.target.take(), &cx.places)?;
    let mut disks = inquiry.read(cx)?;
    let own = own.into_result(disks.unreadable.take());
    let own = if nothing_else { Ok(own?) } else { own };
    let mut collected = inquiry.ask(&disks, cx.interrupt)?;
    let mut waited = 0;
    refuse_if_it_answers(&collected)?;
    if !is_settled(&decide(&collected.evidence)) {
        if let Ok(found) = &own
            && !decide(&collected.evidence).is_refusal(cx.strict)
        {
            refuse_before_work(found, step, args, to)?;
        }
        waited = if gate.offline { 0 } else { args.settle };
        countdown(
            Duration::from_secs(waited.into()).saturating_sub(stopped.elapsed()),
            "waiting, in case a version change is in progress",
            &cx.out,
            cx.interrupt,
        )?;
        collected = inquiry.ask(&disks, cx.interrupt)?;
        refuse_if_it_answers(&collected)?;
    }
    Ok(Seen {
        inquiry,
        step,
        own,
        collected,
        waited,
    })
}

/// Refuses what the work on this member's files would end in.
fn refuse_before_work(found: &Found, step: Step, args: &GoBack, to: &Opened) -> Result<()> {
    refuse_wal_elsewhere(found, step, args)?;
    to.destination().refuse_inside(found.data_dir())?;
    if let Found::Elsewhere(data_dir) = found
        && args.move_wal
    {
        move_wal::refuse_in_the_way(data_dir)?;
    }
    Ok(())
}

/// Whether no wait can change the verdict. A quorum may only be missing while a leader is elected.
fn is_settled(verdict: &Verdict) -> bool {
    let may_pass = |doubt: &Doubt| matches!(doubt, Doubt::NoQuorumRead(_));
    match verdict {
        Verdict::Moved(_) | Verdict::Moving { .. } | Verdict::DoesNotStart(_) => true,
        Verdict::Unknown(doubts) => !doubts.iter().any(may_pass),
        _ => false,
    }
}

fn warnings(judgement: &Judgement<'_>, seen: &Seen<'_>, prepared: &Prepared) -> Vec<String> {
    let mut warnings = judgement.warnings();
    let waited = seen.waited;
    if !seen.collected.evidence.offline && waited < SETTLED_AFTER {
        warnings.push(format!(
            "waited only {waited} s: a version change that was in progress when etcd stopped takes up to {SETTLED_AFTER} s to show"
        ));
    }
    if let Some(taken) = &prepared.snapshot {
        warnings.extend(taken.manifest.warnings.iter().map(ToString::to_string));
        warnings.extend((!taken.alone).then(|| UNLOCKED.to_owned()));
    }
    warnings
}

/// The verdict, and what a rewind could do if it refuses because of a move.
fn judge<'c>(
    collected: &'c Collected,
    fault: Option<&CliError>,
    inquiry: &Inquiry<'_>,
    cx: &Context<'_>,
) -> Result<Judgement<'c>> {
    let strict = cx.strict;
    let verdict = decide(&collected.evidence);
    let left = left::find(&verdict, collected, inquiry, cx)?;
    Ok(Judgement {
        verdict,
        left,
        collected,
        unreadable: fault.map(|fault| fault.message.clone()),
        strict,
    })
}

/// Refuses if the member answers: in a container its locks may be invisible.
fn refuse_if_it_answers(collected: &Collected) -> Result<()> {
    let evidence = &collected.evidence;
    let is_own = |kind: DiskKind| matches!(kind, DiskKind::Own { .. });
    let own = evidence.disks.iter().find(|disk| is_own(disk.kind));
    let own = own.map(|disk| disk.identity.member_id);
    let mut members = evidence.members.iter();
    let answer = members.find_map(|known| {
        let answer = known.answer.as_ref().ok()?;
        (Some(known.member.id) == own).then_some(answer)
    });
    answer.map_or(Ok(()), |answer| {
        Err(Kind::Busy
            .error(format!("this member runs: it answers at {}", answer.url))
            .hint(STOP_FIRST))
    })
}

/// Refuses segments outside `member/wal`: 2.1 must find all of them there.
fn refuse_wal_elsewhere(found: &Found, step: Step, args: &GoBack) -> Result<()> {
    let wal_dir = args.gate.wal_dir.as_deref().map(text).unwrap_or_default();
    let message = match found {
        _ if args.move_wal || !step.needs_wal_at_home() => return Ok(()),
        Found::AtHome(_) => return Ok(()),
        Found::Elsewhere(_) => format!(
            "the WAL is in `{wal_dir}`, and etcd {} has no --wal-dir: it would take this member for a new one and begin an empty WAL",
            step.to
        ),
        Found::Both(_) => format!(
            "the WAL has been copied to `member/wal`, but is still in `{wal_dir}`, too: an etcd that is started with --wal-dir would go on there, and the two would diverge"
        ),
    };
    Err(Kind::Refused.error(message).hint("nothing was changed; `--move-wal` moves the segments into `member/wal` and keeps the old ones"))
}

/// Explains how to restore a backup. The gate allows the downgrade, and the member's data dir is missing or
/// damaged: the only case for a restore, which this command does not do.
fn print_restoring(
    judgement: &Judgement<'_>,
    fault: Option<CliError>,
    args: &GoBack,
    out: &Output,
) -> Result<()> {
    let step = judgement.evidence().step;
    let is_missing = !args.data_dir.exists();
    let steps = next_steps::restoring(args, is_missing, step, &out.printed);
    out.json(|| json!({"gate": judgement.to_json(), "restore_steps": steps}));
    judgement.print(out);
    let state = if is_missing { "missing" } else { "damaged" };
    let head = format!("this member's data dir is {state}; only then is a backup restored:");
    out.line(&out.paint(Paint::Strong, &head));
    print_numbered(&steps, out);
    fault.map_or(Ok(()), Err)
}

fn print_numbered(steps: &[String], out: &Output) {
    for (number, step) in steps.iter().enumerate() {
        out.line(&format!("  {}. {step}", number + 1));
    }
}

fn to_json(judgement: &Judgement<'_>, prepared: &Prepared, steps: &Steps, args: &GoBack) -> Value {
    json!({
        "gate": judgement.to_json(),
        "dry_run": args.dry_run,
        "snapshot": prepared.snapshot.as_ref().map(|taken| json!({
            "archive": text(&taken.path),
            "archive_bytes": taken.bytes,
            "sha256": taken.sha256,
        })),
        "member": json::member(&prepared.member.identity),
        "position": json::position(&prepared.member.position),
        "wal_moved": prepared.moved.as_ref().map(|moved| json!({
            "wal": text(&moved.wal), "kept": text(&moved.kept),
        })),
        "keep_data_dir": text(&args.data_dir),
        "this_member": steps.this_member,
        "others": steps.others,
    })
}

fn print(prepared: &Prepared, steps: &Steps, args: &GoBack, seen: &Seen<'_>, out: &Output) {
    let row = |name: &str, text: &str| out.line(&format!("  {name:<10} {text}"));
    out.line("");
    let head = if args.dry_run {
        "what was looked at; nothing was changed"
    } else {
        "what was done"
    };
    out.line(&out.paint(Paint::Strong, head));
    let (waited, step) = (seen.waited, seen.step);
    if waited > 0 {
        row(
            "waited",
            &format!("{waited} s, in case a version change was already in progress"),
        );
    }
    if let Some(taken) = &prepared.snapshot {
        row(
            "snapshot",
            &format!(
                "{} ({}), labelled {LABEL}, verified",
                taken.path.display(),
                size(taken.bytes)
            ),
        );
    }
    if let Some(moved) = &prepared.moved {
        row("WAL", &format!("moved to {}", moved.wal.display()));
        row(
            "",
            &format!("the old segments are kept in {}", moved.kept.display()),
        );
    }
    let member = &prepared.member;
    row("data dir", &format!("verified: {}", member.identity));
    row("", &crate::cli::render::member::position_text(member));
    out.line("");
    out.line(&format!(
        "This member's own data are good for etcd {} and must be kept: only the binary is swapped.",
        step.to
    ));
    out.line(&out.paint(Paint::Strong, "on this member"));
    print_numbered(&steps.this_member, out);
    if !steps.others.is_empty() {
        out.line(&out.paint(Paint::Strong, "on the others"));
        print_numbered(&steps.others, out);
    }
}

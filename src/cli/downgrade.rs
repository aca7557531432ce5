//! `downgrade`: whether the cluster may still go back, and this member's part of it.

pub(super) mod flags;
mod steps;
mod verdict;

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use etcd_ark::deed::store::Target;
use etcd_ark::ground::interrupt::Interrupt;
use etcd_ark::place::cluster::Cluster;
use etcd_ark::workflow::collect::{Collected, Request, collect};
use etcd_ark::workflow::downgrade::{self, LABEL, Prepared};
use etcd_ark::workflow::evidence::{DiskKind, Step};
use etcd_ark::workflow::gate::{Verdict, decide};
use etcd_ark::workflow::move_wal::{self, Found};
use jiff::Timestamp;
use serde_json::{Value, json};

use flags::{Check, Command, Downgrade, Gate, GoBack};
use steps::Steps;
use verdict::Judgement;

use super::failure::{Failure, Kind, Told};
use super::out::{Out, Paint, size, text};
use super::progress::{Progress, countdown};

/// Within so many seconds a move that was begun has shown: the leader looks every 5.
const SETTLED_AFTER: u16 = 10;
/// The data size in bytes above which the safety snapshot warns, as `snapshot` does.
const SIZE_LIMIT: u64 = 100_000_000;

pub(crate) fn run(args: &Downgrade, strict: bool, out: &Out, interrupt: &Interrupt) -> Result<u8> {
    match &args.command {
        Command::Check(args) => check(args, strict, out, interrupt),
        Command::Run(args) => go_back(args, strict, out, interrupt),
    }
}

fn check(args: &Check, strict: bool, out: &Out, interrupt: &Interrupt) -> Result<u8> {
    let gate = &args.gate;
    let step = gate.step()?;
    if args.data_dir.is_none() && gate.targets.is_empty() && !gate.connection.is_given() {
        let told = Told {
            kind: Kind::Usage,
            message: "there is nobody to ask and nothing to read".to_owned(),
            hint: Some("pass --endpoints, --data-dir, or archives and data dirs of the members"),
        };
        return Err(told.into());
    }
    let wal_dir = gate.wal_dir.as_deref();
    let own = args.data_dir.as_deref().map(|dir| own(dir, wal_dir));
    let own = own.transpose()?.map(|(_, target)| target);
    let collected = look(gate, step, own.as_ref(), out, interrupt)?;
    let judgement = judge(&collected, strict);
    out.json(|| judgement.to_json());
    judgement.tell(out);
    tell_warnings(&judgement, out);
    match judgement.failure() {
        Some(refusal) => Err(refusal.into()),
        None => Ok(0),
    }
}

fn go_back(args: &GoBack, strict: bool, out: &Out, interrupt: &Interrupt) -> Result<u8> {
    let gate = &args.gate;
    let step = gate.step()?;
    let wal_dir = gate.wal_dir.as_deref();
    let opened = own(&args.data_dir, wal_dir);
    let (found, own) = opened.inspect_err(|error| tell_restoring(error, args, step, out))?;
    if let Some(running) = downgrade::running(found.data_dir())? {
        return Err(downgrade::PrepareError::Running(running).into());
    }
    let waited = if gate.offline { 0 } else { args.settle };
    countdown(
        Duration::from_secs(waited.into()),
        "waiting for a move that was begun before etcd stopped to show",
        out,
        interrupt,
    )?;
    let collected = look(gate, step, Some(&own), out, interrupt)?;
    if let Some(fault) = collected.unreadable {
        let error = anyhow::Error::from(fault);
        tell_restoring(&error, args, step, out);
        return Err(error);
    }
    refuse_if_it_answers(&collected)?;
    let judgement = judge(&collected, strict);
    if let Some(refusal) = judgement.failure() {
        out.json(|| json!({"gate": judgement.to_json(), "waited_seconds": waited}));
        judgement.tell(out);
        return Err(refusal.into());
    }
    if judgement.verdict == Verdict::NothingToGoBackFrom {
        out.json(|| json!({"gate": judgement.to_json(), "waited_seconds": waited}));
        judgement.tell(out);
        return Ok(0);
    }
    refuse_wal_elsewhere(&found, step, args)?;
    let started = Timestamp::now();
    let request = downgrade::Request {
        found: &found,
        move_wal: wal_dir.filter(|_| args.move_wal),
        backup_dir: &args.backup_dir,
        dry_run: args.dry_run,
        threads: gate.threads.count(),
        size_limit: SIZE_LIMIT,
        now: started,
    };
    let mut progress = Progress::new(out);
    let observe = &mut |event| progress.observe(event);
    let prepared = downgrade::prepare(&request, interrupt, observe)?;
    drop(progress);
    tell_warnings(&judgement, out);
    if !gate.offline && waited < SETTLED_AFTER {
        out.warn(&format!(
            "waited {waited} s only: a move that was begun before etcd stopped takes up to {SETTLED_AFTER} s to show"
        ));
    }
    for warning in prepared
        .snapshot
        .iter()
        .flat_map(|taken| &taken.manifest.warnings)
    {
        out.warn(warning);
    }
    let steps = Steps::after(&prepared, &args.data_dir, &collected.evidence, wal_dir);
    out.json(|| to_json(&judgement, &prepared, &steps, args, waited));
    judgement.tell(out);
    tell(&prepared, &steps, args, waited, step, out);
    Ok(0)
}

/// The own data dir, with its segments wherever they are.
fn own(dir: &Path, wal_dir: Option<&Path>) -> Result<(Found, Target)> {
    let found = move_wal::find(dir, wal_dir)?;
    let target = Target::DataDir(found.data_dir().clone());
    // What cannot be listed is no data dir, however it looks from above.
    found.data_dir().list()?;
    Ok((found, target))
}

fn look(
    gate: &Gate,
    step: Step,
    own: Option<&Target>,
    out: &Out,
    interrupt: &Interrupt,
) -> Result<Collected> {
    let targets = gate.targets.iter().map(|path| Target::open(path, None));
    let others: Vec<_> = targets.collect::<Result<_, _>>()?;
    let asks = !gate.offline || gate.connection.is_given();
    let cluster = asks
        .then(|| Ok::<_, anyhow::Error>(Cluster::new(&gate.connection.access()?)?))
        .transpose()?;
    let mut progress = Progress::new(out);
    let request = Request {
        step,
        own,
        others: &others,
        cluster: cluster.as_ref(),
        offline: gate.offline,
        ran: gate.ran(),
        threads: gate.threads.count(),
    };
    let collected = collect(&request, interrupt, &mut |event| progress.observe(event))?;
    interrupt.check()?;
    Ok(collected)
}

fn judge(collected: &Collected, strict: bool) -> Judgement<'_> {
    Judgement {
        verdict: decide(&collected.evidence),
        collected,
        strict,
    }
}

fn tell_warnings(judgement: &Judgement<'_>, out: &Out) {
    for warning in judgement.warnings() {
        out.warn(&warning);
    }
}

/// Locks can be blind in a container: a member that answers runs.
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
        let told = Told {
            kind: Kind::Busy,
            message: format!("this member runs: it answers at {}", answer.url),
            hint: Some(STOP_FIRST),
        };
        Err(told.into())
    })
}

const STOP_FIRST: &str = "stop etcd first, and keep it stopped: `systemctl mask --now etcd`";

fn refuse_wal_elsewhere(found: &Found, step: Step, args: &GoBack) -> Result<()> {
    let at_home = matches!(found, Found::AtHome(_));
    if at_home || args.move_wal || !step.needs_wal_at_home() {
        return Ok(());
    }
    let wal_dir = found.data_dir().wal_dir().display().to_string();
    let told = Told {
        kind: Kind::Refused,
        message: format!(
            "the WAL is in `{wal_dir}`, and etcd {} has no --wal-dir: it would take this member for a new one and begin an empty WAL",
            step.to
        ),
        hint: Some(
            "nothing was changed; `--move-wal` moves the segments into `member/wal` and keeps the old ones",
        ),
    };
    Err(told.into())
}

/// Only where the data dir is missing or does not check is a backup put back, and not by us.
fn tell_restoring(error: &anyhow::Error, args: &GoBack, step: Step, out: &Out) {
    let kind = Failure::of(error).kind;
    if !matches!(kind, Kind::NotFound | Kind::Corrupt) {
        return;
    }
    let steps = steps::restoring(&args.data_dir, step);
    out.json(|| json!({"restore_steps": steps}));
    let head = "this member's data dir is missing or does not check; only then is a backup put back, and so:";
    out.line(&out.paint(Paint::Strong, head));
    tell_numbered(&steps, out);
}

fn tell_numbered(steps: &[String], out: &Out) {
    for (number, step) in steps.iter().enumerate() {
        out.line(&format!("  {}. {step}", number + 1));
    }
}

fn to_json(
    judgement: &Judgement<'_>,
    prepared: &Prepared,
    steps: &Steps,
    args: &GoBack,
    waited: u16,
) -> Value {
    json!({
        "gate": judgement.to_json(),
        "waited_seconds": waited,
        "dry_run": args.dry_run,
        "snapshot": prepared.snapshot.as_ref().map(|taken| json!({
            "archive": text(&taken.path),
            "bytes": taken.bytes,
            "sha256": taken.sha256,
            "warnings": taken.manifest.warnings,
        })),
        "member": {"identity": prepared.member.identity, "position": prepared.member.position},
        "wal_moved": prepared.moved.as_ref().map(|moved| json!({
            "wal": text(&moved.wal), "kept": text(&moved.kept),
        })),
        "keep_data_dir": text(&args.data_dir),
        "this_member": steps.this_member,
        "others": steps.others,
    })
}

fn tell(prepared: &Prepared, steps: &Steps, args: &GoBack, waited: u16, step: Step, out: &Out) {
    let row = |name: &str, text: &str| out.line(&format!("  {name:<10} {text}"));
    out.line("");
    let head = if args.dry_run {
        "what was looked at; nothing was changed"
    } else {
        "what was done"
    };
    out.line(&out.paint(Paint::Strong, head));
    if waited > 0 {
        row(
            "waited",
            &format!("{waited} s, within which a move begun before etcd stopped would have shown"),
        );
    }
    if let Some(taken) = &prepared.snapshot {
        row(
            "snapshot",
            &format!(
                "{} ({}), labelled {LABEL}, read back and proven",
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
    row(
        "data dir",
        &format!("reads well from end to end: {}", member.identity),
    );
    row("", &super::inspect::position_text(member));
    out.line("");
    out.line(&format!(
        "This member's own data are good for etcd {} and must be kept: only the binary is swapped.",
        step.to
    ));
    out.line(&out.paint(Paint::Strong, "on this member"));
    tell_numbered(&steps.this_member, out);
    if !steps.others.is_empty() {
        out.line(&out.paint(Paint::Strong, "on the others"));
        tell_numbered(&steps.others, out);
    }
}

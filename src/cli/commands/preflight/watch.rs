//! `preflight --watch`: the members' state, poll by poll, until the cluster is at the new
//! version.
//!
//! On a terminal one table is redrawn in its place; elsewhere a line is written when something
//! changes, and under `--json` an object.

use std::collections::VecDeque;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use crate::cluster::{Cluster, ClusterState};
use crate::data_dir::scan::SurveyError;
use crate::etcd::ids::{ClusterId, V2_2};
use crate::etcd::membership::Member;
use crate::interrupt::Interrupt;
use crate::thread_pool::start;
use crate::upgrade::preflight::cluster_members;
use crate::upgrade::preflight::watch::{Health, Roll, Standing, UpgradeProgress};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::commands::preflight::{Preflight, refuse_other_cluster};
use crate::cli::context::Context;
use crate::cli::error::{CliError, Kind, Result};
use crate::cli::layout::{WIDTH, wrap};
use crate::cli::output::{Output, Paint};
use crate::cli::render::member_table::{clock, health_text, name, role_text, table};

/// The longest delay of an interrupt.
const TICK: Duration = Duration::from_millis(50);
/// How many changes are shown below the table.
const HISTORY: usize = 8;

pub(crate) fn run(
    args: &Preflight,
    cluster: &Cluster,
    (known, expected): (&[Member], Option<ClusterId>),
    cx: &Context<'_>,
) -> Result<()> {
    let (mut known, mut expected) = (known.to_vec(), expected);
    let mut roll = Roll::new(args.to);
    let mut shown = Shown::new(args, &cx.out);
    let end = args
        .watch_for
        .and_then(|length| Instant::now().checked_add(length.unsigned_abs()));
    let last = loop {
        let begun = Instant::now();
        let look = look(cluster, &known, expected, cx.interrupt)?;
        if shown.looks == 0 {
            refuse_other_cluster(args, &look, expected)?;
        }
        // A member that stops answering is still asked, and answers of another cluster are ignored.
        expected = expected.or(look.cluster_id);
        let named = look.members.iter().any(|look| look.named_by_cluster);
        if named {
            let members = cluster_members(&look).into_iter();
            known = members.map(|look| look.member.clone()).collect();
        }
        let moment = roll.take(&look, crate::clock::now());
        cx.interrupt.check().map_err(SurveyError::from)?;
        shown.show(&moment);
        if moment.done {
            break moment;
        }
        let rest = args.interval.unsigned_abs().saturating_sub(begun.elapsed());
        if end.is_some_and(|end| begun + rest >= end) {
            drop(shown);
            return Err(not_there_yet(args, &moment, &look));
        }
        sleep(rest, cx.interrupt)?;
    };
    drop(shown);
    print_end(args, &last, &cx.out);
    Ok(())
}

/// The failure when the time of the watch is over.
fn not_there_yet(args: &Preflight, last: &UpgradeProgress, look: &ClusterState) -> CliError {
    let message = if last.members.is_empty() {
        let unknown_endpoints = look
            .unknown_endpoints
            .iter()
            .map(|stray| stray.silence.to_string());
        let why: Vec<_> = unknown_endpoints.collect();
        format!("no member answered: {}", why.join("; "))
    } else {
        format!(
            "the cluster has not moved to {} within --watch-for: {} of {} members run it",
            args.to,
            last.there,
            last.members.len()
        )
    };
    Kind::Failed.error(message).hint("`etcd-ark preflight` shows what is missing; the watch changes nothing and can be started again")
}

pub(crate) fn look(
    cluster: &Cluster,
    known: &[Member],
    expected: Option<ClusterId>,
    interrupt: &Interrupt,
) -> Result<ClusterState> {
    let (sender, receiver) = mpsc::channel();
    let (cluster, known) = (cluster.clone(), known.to_vec());
    start(move || sender.send(cluster.look(&known, expected)))?;
    loop {
        interrupt.check().map_err(SurveyError::from)?;
        match receiver.recv_timeout(TICK) {
            Ok(look) => return Ok(look),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Kind::Failed.error("asking the members failed"));
            }
        }
    }
}

fn sleep(rest: Duration, interrupt: &Interrupt) -> Result<()> {
    let end = Instant::now() + rest;
    loop {
        interrupt.check().map_err(SurveyError::from)?;
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(TICK));
    }
}

/// What the user sees of the upgrade.
struct Shown<'o> {
    out: &'o Output,
    title: String,
    /// The table's lines on the terminal; hidden without a terminal.
    place: ProgressBar,
    history: VecDeque<String>,
    looks: u64,
}

impl<'o> Shown<'o> {
    fn new(args: &Preflight, out: &'o Output) -> Self {
        let place = if out.is_json() {
            ProgressBar::hidden()
        } else {
            ProgressBar::with_draw_target(None, ProgressDrawTarget::stdout())
        };
        if let Ok(style) = ProgressStyle::with_template("{msg}") {
            place.set_style(style);
        }
        Self {
            out,
            title: format!("upgrade {} to {}", args.from, args.to),
            place,
            history: VecDeque::new(),
            looks: 0,
        }
    }

    fn show(&mut self, moment: &UpgradeProgress) {
        if moment.is_news() {
            self.out.json_line(|| moment);
        }
        let first = self.looks == 0;
        self.looks += 1;
        if self.place.is_hidden() {
            for line in changes(moment, true) {
                self.out
                    .line(&format!("{}  {line}", moment.at.strftime("%FT%TZ")));
            }
            return;
        }
        if !first {
            // The reasons of members that are down are below the table.
            let at = clock(moment.at);
            let lines = changes(moment, false).into_iter();
            self.history
                .extend(lines.map(|line| format!("{at}  {line}")));
        }
        while self.history.len() > HISTORY {
            self.history.pop_front();
        }
        self.place.set_message(self.screen(moment).join("\n"));
    }

    fn screen(&self, moment: &UpgradeProgress) -> Vec<String> {
        let title = format!(
            "{}, {} UTC: {} of {} members there",
            self.title,
            clock(moment.at),
            moment.there,
            moment.members.len()
        );
        let mut lines = vec![self.out.paint(Paint::Strong, &title), String::new()];
        lines.extend(table(&moment.members, self.out));
        if !self.history.is_empty() {
            lines.push(String::new());
            lines.extend(
                self.history
                    .iter()
                    .map(|line| self.out.paint(Paint::Dim, line)),
            );
        }
        lines
    }
}

impl Drop for Shown<'_> {
    /// Leaves the last table on the screen, even after an interrupt.
    fn drop(&mut self) {
        if !self.place.is_hidden() {
            // Not drawn again: the terminal may have moved the cursor with its own `^C`.
            self.place.set_draw_target(ProgressDrawTarget::hidden());
            self.place.abandon();
            self.out.line("");
        }
    }
}

/// What has changed, one item in a line.
fn changes(moment: &UpgradeProgress, with_reasons: bool) -> Vec<String> {
    let members = moment.members.iter();
    let changed = members.filter(|member| moment.changed.contains(&member.id));
    let gone = moment.gone.iter();
    changed
        .map(|member| change_text(member, with_reasons))
        .chain(gone.map(|member| format!("{} is no longer a member", name(member))))
        .collect()
}

fn change_text(member: &Standing, with_reason: bool) -> String {
    let name = name(member);
    if member.health == Health::Down {
        return match &member.silence {
            Some(why) if with_reason => format!("{name}  down: {why}"),
            _ => format!("{name}  down"),
        };
    }
    let server = member.server_version.as_ref().map(ToString::to_string);
    let cluster = member.cluster_version.as_ref().map(ToString::to_string);
    format!(
        "{name}  {}, cluster version {}, {}, {}",
        server.unwrap_or_default(),
        cluster.unwrap_or_default(),
        health_text(member.health),
        role_text(member.role)
    )
}

fn print_end(args: &Preflight, last: &UpgradeProgress, out: &Output) {
    let unwell = last.members.iter();
    let unwell: Vec<_> = unwell
        .filter(|member| !matches!(member.health, Health::Healthy | Health::NoAccess))
        .map(name)
        .collect();
    let (from, to) = (args.from, args.to);
    out.line("");
    let done = format!(
        "the cluster is at {to}: {} members run it and the cluster version has moved",
        last.members.len()
    );
    out.line(&out.paint(Paint::Good, &done));
    let does = if from < V2_2 {
        "would start on these data without any warning"
    } else {
        "does not start on these data"
    };
    let points = [
        (
            format!("going back to {from} by changing binaries is over: {from} {does}, and this refuses:"),
            "`etcd-ark downgrade check`".to_owned(),
        ),
        (
            "keep the archives from before the upgrade, of every member: to go back this needs them, and what was written since is lost then:".to_owned(),
            format!("`etcd-ark rewind ARCHIVES --to last-before:{to} --out OUT_DIR`"),
        ),
        (
            "look at what clients see: read and write through each member; in-order keys that got two names are in the difference of two members' archives:".to_owned(),
            "`etcd-ark diff ARCHIVE OTHER_ARCHIVE --at-common-index`".to_owned(),
        ),
        (
            "take a snapshot of every member: the old ones lack what is written from now on".to_owned(),
            "`etcd-ark snapshot`".to_owned(),
        ),
    ];
    for (point, command) in points {
        for (number, line) in wrap(&point, WIDTH - 2).iter().enumerate() {
            let lead = if number == 0 { "- " } else { "  " };
            out.line(&format!("{lead}{line}"));
        }
        out.line(&format!("    {}", out.complete(&command).replace('`', "")));
    }
    if !unwell.is_empty() {
        out.warn(&format!("not healthy: {}", unwell.join(", ")));
    }
}

//! The gate's evidence and verdict, as text and as JSON.

use std::borrow::Cow;

use crate::cluster::ProbeError;
use crate::etcd::ids::{MemberId, V2_2};
use crate::etcd::start::cure;
use crate::text::who;
use crate::upgrade::downgrade::collect::Collected;
use crate::upgrade::downgrade::evidence::{Answer, Evidence, MemberEvidence, NoAnswer};
use crate::upgrade::downgrade::gate::{Caution, Claim, Doubt, Ground, NoStart, Source, Verdict};

use crate::cli::commands::downgrade::evidence_text::{answer_text, disk_line, kind_text, ran_text};
use crate::cli::commands::downgrade::left::Left;
use crate::cli::error::{CliError, Kind};
use crate::cli::json::text;
use crate::cli::output::{Output, Paint};

/// The evidence, the verdict, and the member that it is for.
pub(crate) struct Judgement<'c> {
    pub(crate) collected: &'c Collected,
    /// Why this member's data dir cannot be read, if it was given.
    pub(crate) unreadable: Option<String>,
    pub(crate) verdict: Verdict,
    pub(crate) left: Option<Left>,
    pub(crate) strict: bool,
}

impl Judgement<'_> {
    pub(crate) fn evidence(&self) -> &Evidence {
        &self.collected.evidence
    }

    pub(crate) fn is_refusal(&self) -> bool {
        self.verdict.is_refusal(self.strict)
    }

    pub(crate) fn warnings(&self) -> Vec<String> {
        match &self.verdict {
            Verdict::AllowedWithWarning(_, cautions) => cautions
                .iter()
                .map(|caution| self.caution(caution))
                .collect(),
            _ => Vec::new(),
        }
    }

    pub(crate) fn print(&self, out: &Output) {
        out.line(&out.paint(Paint::Strong, "evidence"));
        for line in self.seen() {
            out.line(&format!("  {line}"));
        }
        out.line("");
        let (paint, word) = match &self.verdict {
            Verdict::AllowedWithWarning(..) if self.is_refusal() => {
                (Paint::Bad, "REFUSED because of --strict")
            }
            _ if self.is_refusal() => (Paint::Bad, "REFUSED"),
            Verdict::AllowedWithWarning(..) => (Paint::Warn, "ALLOWED, with a warning"),
            Verdict::NothingToGoBackFrom => (Paint::Good, "NOTHING TO GO BACK FROM"),
            _ => (Paint::Good, "ALLOWED"),
        };
        let word = out.paint(paint, word);
        out.line(&format!("{word}: {}", self.headline()));
        for line in self.reasons() {
            out.line(&format!("  {line}"));
        }
        let left = self.left();
        if !left.is_empty() {
            out.line("options");
            for line in left {
                out.line(&format!("  {line}"));
            }
        }
    }

    fn seen(&self) -> Vec<String> {
        let members = self.evidence().members.iter();
        let mut lines: Vec<_> = members.map(|known| self.member_line(known)).collect();
        let unknown_endpoints = self.collected.unknown_endpoints.iter();
        lines.extend(unknown_endpoints.map(|stray| format!("endpoint {}", stray.silence)));
        lines.extend(self.evidence().disks.iter().map(disk_line));
        if let Some(fault) = &self.unreadable {
            lines.push(format!("this member's data dir cannot be read: {fault}"));
        }
        lines
    }

    fn member_line(&self, known: &MemberEvidence) -> String {
        let who = who(&known.member);
        match (&known.answer, known.stopped) {
            (Err(why), _) if known.is_not_understood() => {
                format!("{who}: an answer that cannot be understood: {why}")
            }
            (Ok(answer), _) => format!("{who} at {}: {}", answer.url, answer_text(answer)),
            (Err(_), Some(ran)) => {
                let ran = ran_text(ran);
                if self.evidence().offline {
                    format!("{who}: assumed stopped (--offline); {ran}")
                } else {
                    format!("{who}: stopped; {ran}; its state was read from its data dir")
                }
            }
            (Err(why), None) => format!("{who}: no answer: {why}"),
        }
    }

    pub(crate) fn headline(&self) -> String {
        let step = self.evidence().step;
        let (from, to) = (step.from, step.to);
        match &self.verdict {
            Verdict::Moved(claims) => {
                let claimed = claims.iter().map(|claim| claim.version.release());
                let moved = claimed.max().unwrap_or(from);
                format!("the cluster has moved to {moved}")
            }
            Verdict::Moving { .. } => format!("the cluster is moving to {from} now"),
            Verdict::DoesNotStart(_) => format!("etcd {to} does not start from these data"),
            Verdict::Allowed(ground) | Verdict::AllowedWithWarning(ground, _) => match ground {
                Ground::OwnDataDir => format!(
                    "the cluster version is {to}: single-member cluster, stopped; its data dir is authoritative"
                ),
                Ground::QuorumRead => {
                    format!("the cluster version is {to}, as of a quorum read just now")
                }
                Ground::Majority => format!(
                    "the cluster version is {to}, by the data of a majority of the members, all stopped"
                ),
            },
            Verdict::NothingToGoBackFrom => {
                format!("the cluster version has not reached {to} yet")
            }
            Verdict::Unknown(_) => {
                format!(
                    "cannot confirm that the cluster version is still {to}, so the downgrade is refused"
                )
            }
        }
    }

    pub(crate) fn reasons(&self) -> Vec<String> {
        let step = self.evidence().step;
        match &self.verdict {
            Verdict::Moved(claims) => {
                let mut lines = vec!["evidence:".to_owned()];
                lines.extend(
                    claims
                        .iter()
                        .map(|claim| format!("  {}", self.claim(claim))),
                );
                lines.push(self.older_release_on_moved_data());
                lines.push("no flag overrides this".to_owned());
                lines
            }
            Verdict::Moving { pending, all_ahead } => {
                let mut lines: Vec<_> = pending.iter().map(|claim| {
                    format!("{}: not known to be committed, but it may become so as soon as there is a leader", self.claim(claim))
                }).collect();
                if *all_ahead {
                    lines.push(format!(
                        "every member is of {} or later: the leader raises the cluster version within seconds of hearing from all of them",
                        step.from
                    ));
                }
                lines
            }
            Verdict::DoesNotStart(found) => {
                found.iter().map(|found| self.no_start(found)).collect()
            }
            Verdict::AllowedWithWarning(..) => self.warnings(),
            Verdict::Unknown(doubts) => doubts.iter().flat_map(|doubt| self.doubt(doubt)).collect(),
            Verdict::Allowed(_) | Verdict::NothingToGoBackFrom => Vec::new(),
        }
    }

    fn no_start(&self, found: &NoStart) -> String {
        let disk = self.evidence().disks.get(found.disk);
        let owner = disk.map_or_else(String::new, |disk| {
            format!("{} ({})", text(&disk.path), kind_text(disk))
        });
        format!("{owner}: {}", found.why)
    }

    /// How the release to go back to behaves on data of a cluster that has moved.
    fn older_release_on_moved_data(&self) -> String {
        let to = self.evidence().step.to;
        let mut disks = self.evidence().disks.iter();
        let known = disks.find_map(|disk| disk.why_not(to));
        // 2.0 and 2.1 do not check; every later release exits.
        let why = known.or_else(|| {
            (to >= V2_2).then(|| "the cluster version is higher than the server's (etcd: `cluster cannot be downgraded`)".to_owned())
        });
        match why {
            Some(why) => format!("etcd {to} does not start from it: {why}."),
            None => {
                format!(
                    "etcd {to} would start on this data and report healthy without any warning."
                )
            }
        }
    }

    /// What can still be done if the cluster has moved, or may have.
    fn left(&self) -> Vec<String> {
        let Some(left) = &self.left else {
            return Vec::new();
        };
        // It may have moved further than the step that was asked about.
        let moved_to = match &self.verdict {
            Verdict::Moved(claims) => claims.iter().map(|claim| claim.version.release()).max(),
            _ => None,
        };
        let from = moved_to.unwrap_or(self.evidence().step.from);
        let mut lines = vec![format!("stay on {from}, with the data as they are; or")];
        lines.extend(left.lines());
        lines
    }

    fn claim(&self, claim: &Claim) -> String {
        let version = &claim.version;
        match claim.source {
            Source::Member(id) => {
                let answer = self.answer(id);
                let url = answer.map_or_else(String::new, |answer| format!(" at {}", answer.url));
                format!("{}{url} says {version}", self.name(id))
            }
            Source::Disk(number) => {
                let disk = self.evidence().disks.get(number);
                let owner = disk.map_or_else(String::new, |disk| {
                    format!("{} ({})", text(&disk.path), kind_text(disk))
                });
                match claim.set_at {
                    Some(index) => format!("{owner} has {version}, set by raft entry {index}"),
                    None => format!("{owner} has {version}, set before the available log"),
                }
            }
        }
    }

    fn caution(&self, caution: &Caution) -> String {
        match caution {
            Caution::Silent(id) => format!(
                "{} does not answer: its version and its log are not known",
                self.name(*id)
            ),
            Caution::NotGiven(id) => format!(
                "no data dir of {} is given: a version change that is only in its log would not be seen",
                self.name(*id)
            ),
            Caution::Behind {
                member,
                end,
                committed,
            } => format!(
                "the data of {} end at {end}, and entries up to {committed} are known to be committed: if they are a copy and not what it stopped with, they do not show a version change after that",
                self.name(*member)
            ),
        }
    }

    fn doubt(&self, doubt: &Doubt) -> Vec<String> {
        let step = self.evidence().step;
        let one = match doubt {
            Doubt::NoAnswer => "no member answers".to_owned(),
            Doubt::NoQuorumRead(_) if self.wants_a_user() => {
                "authentication is needed for a quorum read (no or wrong user)".to_owned()
            }
            Doubt::NoQuorumRead(ids) => format!(
                "no quorum read succeeds: {} may be cut off from a cluster that has moved",
                self.names(ids)
            ),
            Doubt::Between(version) => format!(
                "the cluster version is {version}, above {}: a downgrade to that release may be possible, with `--to {}`",
                step.to,
                version.release()
            ),
            Doubt::NoMemberOf(release) => {
                let known = format!(
                    "no member is known to run {release}, so nothing keeps the cluster version there"
                );
                return std::iter::once(known).chain(self.assumption()).collect();
            }
            Doubt::NoMemberBelow(release) => {
                let known = format!(
                    "the cluster version is below {} or undecided, and no member is known to run a release below {release}",
                    step.to
                );
                return std::iter::once(known).chain(self.assumption()).collect();
            }
            Doubt::NotUnderstood(ids) => format!(
                "something answers at the URLs of {}, and its version cannot be read: the release that runs there is not known",
                self.names(ids)
            ),
            Doubt::NotStopped(ids) => {
                format!(
                    "--offline says that all members are stopped, but {} answers",
                    self.names(ids)
                )
            }
            Doubt::RunsOn(path) => format!(
                "--offline says that all members are stopped, but etcd runs on {}",
                text(path)
            ),
            Doubt::NotInUse {
                path,
                member,
                end,
                applied,
            } => format!(
                "{} has applied entry {applied}, and `{}`, which no etcd holds locked, ends at {end}: it is not the data dir that this member runs on",
                self.name(*member),
                path.display()
            ),
            Doubt::NoMembers => "no member answers, and no data dir names the members".to_owned(),
            Doubt::NoMajority {
                given,
                needed,
                missing,
                has_archives,
            } => {
                let all = self.evidence().members.len();
                let mut lines = vec![format!(
                    "{needed} of {all} members are a majority, and data dirs of {given} are given; missing: {}",
                    self.names(missing)
                )];
                if *has_archives {
                    lines.push("an archive can show that the cluster has moved, but not that it has not: that takes the data dirs with which the members stopped".to_owned());
                }
                return lines;
            }
            Doubt::NotTheLast {
                committed,
                holders,
                needed,
            } => format!(
                "entry {committed} is known to be committed, so {needed} members must have it, and by the data given only {holders} can: these are older copies, not what the members stopped with"
            ),
        };
        vec![one]
    }

    /// That the release of a stopped member is only assumed, and how to give it.
    fn assumption(&self) -> Option<String> {
        let step = self.evidence().step;
        let mut members = self.evidence().members.iter();
        let known = members.find(|known| known.release_is_assumed())?;
        Some(format!(
            "{} is assumed to have run {} before it stopped: if its binary is of an earlier release (`etcd --version` tells), pass for example `--stopped-version {}`",
            who(&known.member),
            step.from,
            step.to
        ))
    }

    fn answer(&self, id: MemberId) -> Option<&Answer> {
        let mut members = self.evidence().members.iter();
        let known = members.find(|known| known.member.id == id)?;
        known.answer.as_ref().ok()
    }

    fn name(&self, id: MemberId) -> String {
        let mut members = self.evidence().members.iter();
        let known = members.find(|known| known.member.id == id);
        known.map_or_else(|| id.to_string(), |known| who(&known.member))
    }

    fn names(&self, ids: &[MemberId]) -> String {
        let names: Vec<_> = ids.iter().map(|id| self.name(*id)).collect();
        names.join(", ")
    }

    /// Whether quorum reads fail only because auth is on.
    fn wants_a_user(&self) -> bool {
        let members = self.evidence().members.iter();
        let mut reads = members.filter_map(|known| Some(&known.answer.as_ref().ok()?.quorum_read));
        let mut any = false;
        let all = reads.all(|read| {
            any = true;
            matches!(read, Err(ProbeError::NotAllowed { .. }))
        });
        any && all
    }

    /// Whether a server refused to talk without a client certificate, or with that one.
    fn wants_a_certificate(&self) -> bool {
        let of_member = |known: &MemberEvidence| matches!(&known.answer, Err(NoAnswer::Silent(silence)) if silence.wants_certificate());
        let endpoints = self.collected.unknown_endpoints.iter();
        self.evidence().members.iter().any(of_member)
            || endpoints
                .into_iter()
                .any(|stray| stray.silence.wants_certificate())
    }

    /// The refusal for stderr and the exit code; `None` for an allowance.
    pub(crate) fn failure(&self) -> Option<CliError> {
        if !self.is_refusal() {
            return None;
        }
        let (detail, hint) = match &self.verdict {
            Verdict::Moved(claims) => (
                claims.first().map(|claim| self.claim(claim)),
                "stay on it, or rewind the whole cluster to before the version change, as printed",
            ),
            Verdict::Moving { .. } => (
                self.reasons().into_iter().next(),
                "do not start the older release; start the members as they were and check again, or rewind the whole cluster as printed",
            ),
            Verdict::DoesNotStart(_) => (
                self.reasons().into_iter().next(),
                "keep the release that runs; `etcd-ark verify` on the data dir shows what each release does with it",
            ),
            Verdict::AllowedWithWarning(..) => (
                self.warnings().into_iter().next(),
                "resolve what is named here, or leave out --strict",
            ),
            _ if self.wants_a_user() => (
                self.reasons().into_iter().next(),
                "auth is on: pass --username, and the password in --password-file or ETCD_ARK_PASSWORD",
            ),
            _ if self.wants_a_certificate() => (
                self.reasons().into_iter().next(),
                "the servers want a client certificate: pass --cert and --key, of an authority that they trust",
            ),
            Verdict::Unknown(doubts)
                if matches!(doubts.first(), Some(Doubt::NoMemberOf(_)))
                    && self.assumption().is_some() =>
            {
                (
                    self.assumption(),
                    "run this again with --stopped-version if it ran an earlier release; otherwise do not start the older release",
                )
            }
            Verdict::Unknown(doubts) if matches!(doubts.first(), Some(Doubt::NotUnderstood(_))) => {
                (
                    self.reasons().into_iter().next(),
                    "find out what answers there; the member counts again once it answers as etcd does, or is stopped",
                )
            }
            Verdict::Unknown(doubts) if matches!(doubts.first(), Some(Doubt::NotInUse { .. })) => (
                self.reasons().into_iter().next(),
                "compare --data-dir and --wal-dir with the flags and the variables of etcd's unit",
            ),
            Verdict::Unknown(doubts) if matches!(doubts.first(), Some(Doubt::Between(_))) => (
                self.reasons().into_iter().next(),
                "no release between can be left out: go back to the release named here first",
            ),
            Verdict::Unknown(doubts)
                if matches!(
                    doubts.first(),
                    Some(Doubt::NoMemberOf(_) | Doubt::NoMemberBelow(_))
                ) =>
            {
                (
                    self.reasons().into_iter().next(),
                    "start a member of the older release that is stopped, if there is one, and do not stop the others before it answers",
                )
            }
            _ if self.evidence().members.len() == 2 => (
                self.reasons().into_iter().next(),
                "two members have a quorum only together: start this one again as it was, or stop the other too and pass --offline and the data dirs of both",
            ),
            _ => (
                self.reasons().into_iter().next(),
                "bring back enough members for a quorum and name one with --endpoints; if all are stopped, pass --offline and the data dirs of a majority",
            ),
        };
        let detail = detail.map_or_else(String::new, |detail| format!(": {detail}"));
        let message = match &self.verdict {
            Verdict::AllowedWithWarning(..) => format!("refused because of --strict{detail}"),
            _ => format!("{}{detail}", self.headline()),
        };
        let cure = self.cure();
        let cure = cure.map(|cure| {
            format!("keep the release that runs; once every member is stopped, {cure}")
        });
        let hint = cure.map_or(Cow::Borrowed(hint), Cow::Owned);
        Some(Kind::Refused.error(message).hint(hint))
    }

    /// What makes a cluster that starts of data from which no server starts.
    fn cure(&self) -> Option<String> {
        let Verdict::DoesNotStart(found) = &self.verdict else {
            return None;
        };
        let disks = &self.evidence().disks;
        let mut starts = found
            .iter()
            .filter_map(|one| disks.get(one.disk)?.starts.as_ref());
        starts.find_map(cure)
    }
}

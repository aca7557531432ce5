//! The checks of the members' answers.

use std::collections::{BTreeMap, BTreeSet};

use crate::cluster::{MemberState, MemberStatus, ProbeError, ReportedVersion, UnknownEndpoint};
use crate::etcd::ids::{MemberId, Release};
use crate::text::{list, name};
use crate::upgrade::preflight::{Facts, Finding, Status};

const BRING_BACK: &str = "every member must answer before another is stopped: bring it back first";
const NO_ENDPOINT: &str = "not checked: no endpoint is known";
const ASK: &str =
    "give --endpoints with client URLs of members, and --timeout if they are far away";
const ASK_EACH_BY_ITS_SCHEME: &str =
    "give --endpoints with client URLs of members, as `http://…` if they have no TLS";
const PASS_CERTIFICATE: &str =
    "the servers want a client certificate: pass --cert and --key, of an authority that they trust";

/// The members that answered, with their answers, and a line about those that did not; [`versions`]
/// gives the reasons once.
fn answers(facts: &Facts) -> (Vec<(&MemberState, &MemberStatus)>, Vec<String>) {
    let members = facts.members();
    let mut silent = Vec::new();
    let dumb: Vec<_> = members.iter().filter(|look| look.said.is_err()).collect();
    if members.is_empty() {
        silent.push(NO_ENDPOINT.to_owned());
    } else if !dumb.is_empty() {
        let does = if dumb.len() == 1 { "does" } else { "do" };
        let dumb = names(dumb.into_iter().copied());
        silent.push(format!("{dumb} {does} not answer"));
    }
    let said = members
        .into_iter()
        .filter_map(|look| Some((look, look.said.as_ref().ok()?)));
    (said.collect(), silent)
}

fn names<'a>(looks: impl IntoIterator<Item = &'a MemberState>) -> String {
    let names: Vec<_> = looks.into_iter().map(|look| name(&look.member)).collect();
    list(&names)
}

fn leads(said: &MemberStatus) -> bool {
    said.role.as_ref().is_some_and(|role| role.leads)
}

/// Each member's server version: all `from`, or how far the upgrade is.
pub(crate) fn versions(facts: &Facts) -> Finding {
    let (from, to) = (facts.rules.from, facts.rules.to);
    let (said, silent) = answers(facts);
    let mut evidence = who_runs_what(&said);
    evidence.extend(facts.members().into_iter().filter_map(|look| {
        let silence = look.said.as_ref().err()?;
        Some(format!("{} does not answer: {silence}", name(&look.member)))
    }));
    if said.is_empty() {
        let (wrong, lost) = unknown_endpoints(facts);
        let unknown_endpoints = wrong.into_iter().chain(lost);
        evidence
            .extend(unknown_endpoints.map(|stray| format!("no member answers: {}", stray.silence)));
        if evidence.is_empty() {
            evidence.push(NO_ENDPOINT.to_owned());
        }
    }
    let release = |said: &MemberStatus| Release::of(&said.server_version);
    let any = |wrong: &dyn Fn(Release) -> bool| said.iter().any(|(_, said)| wrong(release(said)));
    let at_from = |(_, said): &&(&MemberState, &MemberStatus)| release(said) == from;
    let left: Vec<_> = said.iter().filter(at_from).collect();
    let fail = |evidence, advice: String| Finding::all(evidence).but(Status::Fail, advice);
    if any(&|found| found > to) {
        let advice = format!("this checklist is for {from} to {to}; some member is past that");
        fail(evidence, advice)
    } else if any(&|found| found != from && found != to) {
        fail(evidence, format!("upgrade to {from} first, all members"))
    } else if !silent.is_empty() {
        let advice = if facts.any_silence(ProbeError::wants_certificate) {
            PASS_CERTIFICATE
        } else if said.is_empty() && facts.any_silence(ProbeError::is_of_tls) {
            ASK_EACH_BY_ITS_SCHEME
        } else if said.is_empty() {
            ASK
        } else {
            BRING_BACK
        };
        fail(evidence, advice.to_owned())
    } else if left.is_empty() {
        evidence.push("this upgrade is done, or about to be".to_owned());
        let advice =
            "too late for a preflight; `etcd-ark downgrade check` says whether there is a way back";
        fail(evidence, advice.to_owned())
    } else if left.len() == said.len() {
        Finding::all(evidence)
    } else {
        let done = said.len() - left.len();
        evidence.push(format!("{done} of {} members are upgraded", said.len()));
        Finding::all(evidence).but(
            Status::Warn,
            format!("still to do: {}", still_to_do(facts).join(", then ")),
        )
    }
}

/// A line for each version that a member runs.
fn who_runs_what(said: &[(&MemberState, &MemberStatus)]) -> Vec<String> {
    let mut by_version: BTreeMap<_, Vec<&MemberState>> = BTreeMap::new();
    for (look, said) in said {
        let version = &said.server_version;
        by_version.entry(version).or_default().push(look);
    }
    let line = |(version, looks): (_, Vec<&MemberState>)| {
        let run = if looks.len() == 1 { "runs" } else { "run" };
        format!("{} {run} {version}", names(looks))
    };
    by_version.into_iter().map(line).collect()
}

/// The members that are still to be upgraded, in the order that costs least.
pub(crate) fn still_to_do(facts: &Facts) -> Vec<String> {
    let (said, _) = answers(facts);
    let is_left = |(_, said): &&(&MemberState, &MemberStatus)| {
        Release::of(&said.server_version) == facts.rules.from
    };
    order(said.iter().filter(is_left).collect())
}

/// The order of upgrades: the leader last, so that only one election is needed.
fn order(mut left: Vec<&(&MemberState, &MemberStatus)>) -> Vec<String> {
    left.sort_by_key(|(look, said)| (leads(said), name(&look.member)));
    let named = left.iter().map(|(look, said)| {
        let leader = if leads(said) { " (the leader)" } else { "" };
        format!("{}{leader}", name(&look.member))
    });
    named.collect()
}

/// Whether every member reports that it is healthy, and answers a quorum read.
pub(crate) fn health(facts: &Facts) -> Finding {
    let (said, silent) = answers(facts);
    if said.is_empty() {
        return Finding::unanswered();
    }
    let mut bad = silent;
    for (look, said) in &said {
        let name = name(&look.member);
        match said.healthy {
            Some(true) => {}
            Some(false) => bad.push(format!("{name} says that it is not healthy")),
            None => bad.push(format!("{name} did not answer /health")),
        }
        if let Err(silence) = &said.quorum_read {
            bad.push(format!("{name} answered no quorum read: {silence}"));
        }
    }
    if bad.is_empty() {
        let who = match said.as_slice() {
            [_] => "the member is healthy and answered a quorum read".to_owned(),
            all => format!(
                "all {} members are healthy and answered a quorum read",
                all.len()
            ),
        };
        return Finding::ok(who);
    }
    let advice = if facts.wants_user() {
        "give --username, and the password by --password-file: a quorum read needs a user that may read"
    } else {
        "do not stop another member now; bring these back first (`etcdctl cluster-health` calls a cluster healthy when one member is)"
    };
    Finding::all(bad).but(Status::Fail, advice)
}

/// Whether there is one leader that every member reports.
pub(crate) fn leader(facts: &Facts) -> Finding {
    let (said, silent) = answers(facts);
    if said.is_empty() {
        return Finding::unanswered();
    }
    let known: BTreeMap<MemberId, String> = facts
        .members()
        .into_iter()
        .map(|look| (look.member.id, name(&look.member)))
        .collect();
    let mut followed: BTreeMap<Option<MemberId>, Vec<&MemberState>> = BTreeMap::new();
    let mut bad = silent.clone();
    for (look, said) in &said {
        match &said.role {
            Some(role) if role.leads => {
                followed.entry(Some(look.member.id)).or_default().push(look);
            }
            Some(role) => followed.entry(role.leader).or_default().push(look),
            None => bad.push(format!(
                "{} did not answer /v2/stats/self",
                name(&look.member)
            )),
        }
    }
    if let [(Some(leader), followers)] = followed.iter().collect::<Vec<_>>().as_slice()
        && bad.is_empty()
        && let Some(name) = known.get(leader)
        && said
            .iter()
            .any(|(look, said)| look.member.id == *leader && leads(said))
    {
        let text = match followers.len() {
            1 => format!("{name}, the only member"),
            all => format!("{name}, known to all {all}"),
        };
        return Finding::ok(text);
    }
    for (leader, looks) in &followed {
        let who = names(looks.iter().copied());
        let (is_aware, follows) = if looks.len() == 1 {
            ("knows", "follows")
        } else {
            ("know", "follow")
        };
        bad.push(match leader {
            None => format!("{who} {is_aware} no leader"),
            Some(id) => match known.get(id) {
                Some(leader) if *leader == who => format!("{who} says that it leads"),
                Some(leader) => format!("{who} {follows} {leader}"),
                None => format!("{who} {follows} {id}, which is not a member"),
            },
        });
    }
    let advice = if followed.len() == 1 && !silent.is_empty() {
        BRING_BACK
    } else {
        "wait until there is one leader; if it does not settle, look at the network between the members"
    };
    Finding::all(bad).but(Status::Fail, advice)
}

/// Whether every member lists the same members, and every endpoint belongs to one of them.
pub(crate) fn membership(facts: &Facts) -> Finding {
    let (said, silent) = answers(facts);
    let members = facts.members();
    let all: BTreeSet<_> = members.iter().map(|look| look.member.id).collect();
    let mut bad = Vec::new();
    for (look, said) in &said {
        let name = name(&look.member);
        match &said.members {
            None => bad.push(format!("{name} did not answer /v2/members")),
            Some(ids) if ids.iter().copied().collect::<BTreeSet<_>>() == all => {}
            Some(ids) => {
                let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
                bad.push(format!("{name} lists other members: {}", list(&ids)));
            }
        }
    }
    let (wrong, lost) = unknown_endpoints(facts);
    bad.extend(wrong.iter().map(|stray| stray.silence.to_string()));
    if said.is_empty() && bad.is_empty() {
        return Finding::unanswered();
    }
    if !bad.is_empty() {
        return Finding::all(bad).but(
            Status::Fail,
            "the members must agree on who they are, and the endpoints must be theirs",
        );
    }
    let mut evidence = vec![match all.len() {
        1 => {
            "a single member: clients have no member to ask while it is being restarted".to_owned()
        }
        2 => "2 members: nothing can be written while either is being restarted".to_owned(),
        many if silent.is_empty() => format!("{many} members, the same at each"),
        many => format!("{many} members, the same at each that answers"),
    }];
    let forgotten = facts
        .look
        .members
        .iter()
        .filter(|look| !look.named_by_cluster);
    let forgotten: Vec<_> = forgotten.collect();
    if lost.is_empty() && forgotten.is_empty() {
        return Finding::all(evidence);
    }
    evidence.extend(lost.iter().map(|stray| stray.silence.to_string()));
    evidence.extend(forgotten.iter().map(|look| {
        format!(
            "the data dir knows of {}, the cluster does not",
            name(&look.member)
        )
    }));
    Finding::all(evidence).but(
        Status::Warn,
        "make sure that these are mistakes in what was given here, and not in the cluster",
    )
}

/// Endpoints that belong to another cluster, and endpoints that do not answer. A member that does not
/// answer at its own URL is reported as a member.
fn unknown_endpoints(facts: &Facts) -> (Vec<&UnknownEndpoint>, Vec<&UnknownEndpoint>) {
    let members = facts.members();
    let urls = members.iter().flat_map(|look| &look.member.client_urls);
    let urls: BTreeSet<_> = urls.map(|url| url.trim_end_matches('/')).collect();
    let is_foreign = |stray: &&UnknownEndpoint| {
        matches!(
            stray.silence,
            ProbeError::OtherCluster { .. } | ProbeError::OtherMember { .. }
        )
    };
    let (wrong, lost): (Vec<_>, Vec<_>) = facts.look.unknown_endpoints.iter().partition(is_foreign);
    let is_own = |stray: &&UnknownEndpoint| urls.contains(stray.endpoint.trim_end_matches('/'));
    (
        wrong,
        lost.into_iter().filter(|stray| !is_own(stray)).collect(),
    )
}

/// Whether there is one cluster version, that of `from`, at every member and in the data dir.
pub(crate) fn cluster_version(facts: &Facts) -> Finding {
    let (from, to) = (facts.rules.from, facts.rules.to);
    let (said, silent) = answers(facts);
    let mut by_version: BTreeMap<String, Vec<&MemberState>> = BTreeMap::new();
    for (look, said) in &said {
        let text = match &said.cluster_version {
            ReportedVersion::Unknown20 => "none, as in 2.0".to_owned(),
            ReportedVersion::NotDecided => "not decided yet".to_owned(),
            ReportedVersion::Is(version) => version.to_string(),
        };
        by_version.entry(text).or_default().push(look);
    }
    let groups = by_version.iter();
    let mut evidence: Vec<_> = groups
        .map(|(version, looks)| format!("{version}, says {}", names(looks.iter().copied())))
        .collect();
    evidence.extend(on_disk(facts, to));
    if has_moved(facts) {
        let advice = format!(
            "the cluster has moved, or is about to: members cannot go back to {from} one by one; `etcd-ark downgrade check` shows the options"
        );
        return Finding::all(evidence).but(Status::Fail, advice);
    }
    let all_at_from = said.iter().all(|(_, said)| match &said.cluster_version {
        ReportedVersion::Is(version) => Release::of(&version.0) == from,
        ReportedVersion::Unknown20 | ReportedVersion::NotDecided => false,
    });
    if all_at_from && by_version.len() == 1 && silent.is_empty() {
        let version = by_version.keys().next().cloned().unwrap_or_default();
        return Finding::all(vec![match said.len() {
            1 => version,
            all => format!("{version}, says each of {all} members"),
        }]);
    }
    if said.is_empty() {
        return Finding::unanswered();
    }
    let all_answer = silent.is_empty();
    evidence.extend(silent);
    let advice = if all_at_from && !all_answer {
        BRING_BACK.to_owned()
    } else {
        format!(
            "every member must say {from}.0; the leader sets it within seconds once all members run {from} and reach one another"
        )
    };
    Finding::all(evidence).but(Status::Fail, advice)
}

/// Whether a member or the data dir reports that the cluster has moved.
pub(crate) fn has_moved(facts: &Facts) -> bool {
    let to = facts.rules.to;
    let (said, _) = answers(facts);
    let moved = |said: &MemberStatus| matches!(&said.cluster_version, ReportedVersion::Is(version) if version.release() >= to);
    said.iter().any(|(_, said)| moved(said)) || on_disk(facts, to).is_some()
}

/// What the data dir records of a move to `to`.
fn on_disk(facts: &Facts, to: Release) -> Option<String> {
    let data = facts.data.found()?;
    let versions = &data.member.as_ref().ok()?.versions;
    let found = versions
        .iter()
        .find(|change| Release::of(&change.version.0) >= to)?;
    let where_from = match found.set_at {
        Some(index) => format!("set by entry {index}"),
        None => "from before its log".to_owned(),
    };
    let doubt = if found.committed {
        ""
    } else {
        ", not known to be committed"
    };
    Some(format!(
        "{} in the data dir, {where_from}{doubt}",
        found.version
    ))
}

pub(crate) fn auth(facts: &Facts) -> Finding {
    let in_data = facts.data.found().and_then(|data| data.auth_enabled);
    let mut on = Vec::new();
    if facts.wants_user() {
        on.push("on: a member requires authentication".to_owned());
    }
    if in_data == Some(true) {
        on.push("on, says the store in the data dir".to_owned());
    }
    if !on.is_empty() {
        return Finding::all(on).but(
            Status::Warn,
            "etcd's guide has no step for it: in staging, log in as every user and as no user (the guest role) on both releases. Users, roles and password hashes are in the store, so they are in every archive too",
        );
    }
    if in_data == Some(false) {
        return Finding::ok("off, says the store in the data dir");
    }
    // A guest role that may read everything also needs no user.
    Finding::not_checked("--data-dir: the store in it says whether it is on")
}

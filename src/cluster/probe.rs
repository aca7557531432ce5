//! Asks a cluster for its members, and each member for its state.
//!
//! In: the endpoints of an [`Access`](crate::cluster::Access), and the members known from files. Out: a
//! [`ClusterState`]. First all known URLs are asked for the list of members, then every member for its
//! state; an answer counts as a member's only if it has the member's id.

use std::collections::{BTreeMap, HashMap};

use crate::cluster::fan_out::{Enough, at_once};
use crate::cluster::http::{Answer, Cluster, LONG, SHORT, Talk};
use crate::cluster::response::{base_of, shown};
use crate::cluster::{
    Applied, ClusterState, MEMBERS, MemberState, MemberStatus, OWN, ProbeError, ReportedVersion,
    Role, UnknownEndpoint, response as answers,
};
use crate::etcd::ids::{ClusterId, Index, MemberId, Term};
use crate::etcd::membership::Member;

/// Reads only the headers of a directory, through raft.
const QUORUM_READ: &str = "/v2/keys/?quorum=true";

/// What a server reports about its cluster.
#[derive(Debug)]
struct Told {
    cluster_id: ClusterId,
    members: Vec<Member>,
    own: Option<MemberId>,
}

type ToldBy = HashMap<String, Result<Told, ProbeError>>;

impl Cluster {
    /// Asks the endpoints, and the members that are `known` from files. With
    /// `expected` the answers of any other cluster do not count; without it, those of any other
    /// than the first one found.
    pub fn look(&self, known: &[Member], expected: Option<ClusterId>) -> ClusterState {
        let doors = self.doors(known);
        let told = self.ask_who(doors.clone());
        let first = doors.iter().find_map(|url| told.get(url)?.as_ref().ok());
        let cluster_id = expected.or(first.map(|told| told.cluster_id));
        let unknown_endpoints = self.unknown_endpoints(&told, cluster_id);
        let members = members(&doors, &told, cluster_id, known);
        let answers = self.ask_all(members.iter().map(|(member, _)| member), &told, cluster_id);
        let cluster_id = cluster_id.or_else(|| answers.iter().find_map(Answers::cluster_id));
        let looks = members.into_iter().zip(answers);
        ClusterState {
            cluster_id,
            unknown_endpoints,
            members: looks
                .map(|((member, named_by_cluster), answers)| MemberState {
                    member,
                    named_by_cluster,
                    said: answers.end(cluster_id),
                })
                .collect(),
        }
    }

    /// The URLs to ask for the members, the most trusted first.
    fn doors(&self, known: &[Member]) -> Vec<String> {
        let files = known.iter().flat_map(|member| &member.client_urls);
        let mut doors = self.endpoints.clone();
        for url in files.filter_map(|url| base_of(url)) {
            if !doors.contains(&url) {
                doors.push(url);
            }
        }
        doors
    }

    fn ask_who(&self, doors: Vec<String>) -> ToldBy {
        let (cluster, mut told) = (self.clone(), ToldBy::new());
        let ask = move |url: &String| who(&cluster.talk(url, None));
        at_once(doors, ask, |url, answer| {
            told.insert(url, answer);
            Enough::NotYet
        });
        told
    }

    fn unknown_endpoints(
        &self,
        told: &ToldBy,
        cluster_id: Option<ClusterId>,
    ) -> Vec<UnknownEndpoint> {
        let silence = |url: &String| match told.get(url)? {
            Ok(told) if Some(told.cluster_id) != cluster_id => Some(ProbeError::OtherCluster {
                url: url.clone(),
                found: told.cluster_id,
            }),
            Ok(_) => None,
            Err(silence) => Some(silence.clone()),
        };
        let stray = |url: &String| {
            Some(UnknownEndpoint {
                endpoint: url.clone(),
                silence: silence(url)?,
            })
        };
        self.endpoints.iter().filter_map(stray).collect()
    }

    fn ask_all<'m>(
        &self,
        members: impl Iterator<Item = &'m Member>,
        told: &ToldBy,
        cluster_id: Option<ClusterId>,
    ) -> Vec<Answers> {
        let mut jobs = Vec::new();
        let mut answers: Vec<Answers> = Vec::new();
        for (place, member) in members.enumerate() {
            let mut all = Answers::default();
            for url in urls_of(member, told) {
                match url {
                    Ok(url) => {
                        all.waiting += 1;
                        jobs.push((place, member.id, url));
                    }
                    Err(silence) => all.silences.push(silence),
                }
            }
            answers.push(all);
        }
        let cluster = self.clone();
        let ask = move |(_, id, url): &(usize, MemberId, String)| {
            what_it_says(&mut cluster.talk(url, cluster_id), *id)
        };
        at_once(jobs, ask, |(place, ..), answer| {
            if let Some(answers) = answers.get_mut(place) {
                answers.take(answer);
            }
            if answers.iter().all(Answers::is_enough) {
                Enough::Yes
            } else {
                Enough::NotYet
            }
        });
        answers
    }
}

#[derive(Debug, Default)]
struct Answers {
    said: Option<(ClusterId, MemberStatus)>,
    silences: Vec<ProbeError>,
    waiting: usize,
}

impl Answers {
    fn take(&mut self, answer: Result<(ClusterId, MemberStatus), ProbeError>) {
        self.waiting = self.waiting.saturating_sub(1);
        match answer {
            Ok(said) if self.said.is_none() => self.said = Some(said),
            Ok(_) => {}
            Err(silence) => self.silences.push(silence),
        }
    }

    fn is_enough(&self) -> bool {
        self.said.is_some() || self.waiting == 0
    }

    fn cluster_id(&self) -> Option<ClusterId> {
        self.said.as_ref().map(|(cluster_id, _)| *cluster_id)
    }

    fn end(self, cluster_id: Option<ClusterId>) -> Result<MemberStatus, ProbeError> {
        match self.said {
            Some((found, said)) if Some(found) != cluster_id => Err(ProbeError::OtherCluster {
                url: said.url,
                found,
            }),
            Some((_, said)) => Ok(said),
            None => Err(most_telling(self.silences)),
        }
    }
}

/// Of the errors of a member's URLs, the one that tells most.
fn most_telling(silences: Vec<ProbeError>) -> ProbeError {
    let rank = |silence: &ProbeError| match silence {
        ProbeError::OtherCluster { .. } | ProbeError::OtherMember { .. } => 1,
        silence if silence.is_reached() => 0,
        _ => 2,
    };
    let best = silences.into_iter().min_by_key(rank);
    best.unwrap_or(ProbeError::NoClientUrl)
}

/// All listed members, by id, and whether a running one listed them.
fn members(
    doors: &[String],
    told: &ToldBy,
    cluster_id: Option<ClusterId>,
    known: &[Member],
) -> Vec<(Member, bool)> {
    let mut found: BTreeMap<MemberId, (Member, bool)> = BTreeMap::new();
    let lists = doors.iter().filter_map(|url| told.get(url)?.as_ref().ok());
    let lists = lists.filter(|told| Some(told.cluster_id) == cluster_id);
    for member in lists.flat_map(|told| &told.members) {
        let entry = found.entry(member.id);
        let (first, _) = entry.or_insert_with(|| (member.clone(), true));
        // A member that is behind may not have this one's URLs yet.
        if first.client_urls.is_empty() {
            *first = member.clone();
        }
    }
    for member in known {
        let entry = found.entry(member.id);
        entry.or_insert_with(|| (member.clone(), false));
    }
    found.into_values().collect()
}

/// The URLs of a member: an endpoint that has proved to be it, and its client URLs.
fn urls_of(member: &Member, told: &ToldBy) -> Vec<Result<String, ProbeError>> {
    let is_own = |told: &Result<Told, ProbeError>| {
        let told = told.as_ref().ok();
        told.and_then(|told| told.own) == Some(member.id)
    };
    let mut urls: Vec<_> = told.iter().filter(|(_, told)| is_own(told)).collect();
    urls.sort_by_key(|(url, _)| *url);
    let mut urls: Vec<_> = urls.into_iter().map(|(url, _)| Ok(url.clone())).collect();
    for url in &member.client_urls {
        let url = base_of(url).ok_or_else(|| no_url(url));
        if !urls.contains(&url) {
            urls.push(url);
        }
    }
    let worth_asking = |url: String| no_connection(told, &url).map_or(Ok(url), Err);
    let urls = urls.into_iter();
    urls.map(|url| url.and_then(worth_asking)).collect()
}

/// The error for a URL that cannot be asked.
pub(super) fn no_url(url: &str) -> ProbeError {
    ProbeError::Rubbish {
        url: shown(url),
        why: "this is not a valid endpoint URL, although a member names it as its own".to_owned(),
    }
}

/// The error of a URL that was asked a moment ago, if asking again would only take as long again.
fn no_connection(told: &ToldBy, url: &str) -> Option<ProbeError> {
    let silence = told.get(url)?.as_ref().err()?;
    let is_final = matches!(
        silence,
        ProbeError::Unreachable { .. } | ProbeError::TooSlow { .. } | ProbeError::Tls { .. }
    );
    is_final.then(|| silence.clone())
}

fn who(talk: &Talk<'_>) -> Result<Told, ProbeError> {
    let (cluster_id, members) = members_by(talk)?;
    let own = talk.get(OWN, SHORT).ok();
    Ok(Told {
        cluster_id,
        members,
        own: own.and_then(|answer| Some(answers::own(&answer.body).ok()?.0)),
    })
}

fn members_by(talk: &Talk<'_>) -> Result<(ClusterId, Vec<Member>), ProbeError> {
    let answer = talk.get(MEMBERS, LONG)?;
    let Some(cluster_id) = answer.cluster_id() else {
        return Err(talk.not_etcd(MEMBERS, answer));
    };
    let members = answers::members(&answer.body).map_err(|odd| talk.rubbish(odd))?;
    Ok((cluster_id, members))
}

/// All answers of a member, if it has the expected id.
fn what_it_says(
    talk: &mut Talk<'_>,
    id: MemberId,
) -> Result<(ClusterId, MemberStatus), ProbeError> {
    own_role(talk, id)?;
    let (cluster_id, members) = members_by(talk)?;
    talk.expected.get_or_insert(cluster_id);
    let mut said_versions = versions(talk)?;
    // There may be several servers behind one name: check the id again.
    let role = own_role(talk, id)?;
    // An unhealthy member answers with status 503.
    let health = talk.fetch("/health", SHORT).ok();
    let health = health.filter(|answer| matches!(answer.status, 200 | 503));
    let quorum_read = talk.head_as_user(QUORUM_READ);
    if let Err(other @ ProbeError::OtherCluster { .. }) = quorum_read {
        return Err(other);
    }
    let mut quorum_read = quorum_read.and_then(|answer| applied(talk, &answer));
    // Its answers from before the quorum read may be older.
    if let Ok(applied) = quorum_read {
        quorum_read = versions(talk).and_then(|after| {
            own_role(talk, id)?;
            said_versions = after;
            Ok(applied)
        });
    }
    let (server_version, cluster_version) = said_versions;
    let said = MemberStatus {
        url: talk.url.to_owned(),
        server_version,
        cluster_version,
        healthy: health.and_then(|answer| answers::health(&answer.body)),
        role: Some(role),
        quorum_read,
        members: Some(members.into_iter().map(|member| member.id).collect()),
    };
    Ok((cluster_id, said))
}

/// The version of its binary, and the cluster version that it reports.
fn versions(talk: &Talk<'_>) -> Result<(semver::Version, ReportedVersion), ProbeError> {
    let answer = talk.get("/version", SHORT)?;
    answers::version(&answer.body).map_err(|odd| talk.rubbish(odd))
}

fn own_role(talk: &Talk<'_>, id: MemberId) -> Result<Role, ProbeError> {
    let answer = talk.get(OWN, SHORT)?;
    let (found, role) = answers::own(&answer.body).map_err(|odd| talk.rubbish(odd))?;
    if found != id {
        return Err(talk.other_member(found));
    }
    Ok(role)
}

fn applied(talk: &Talk<'_>, answer: &Answer) -> Result<Applied, ProbeError> {
    let applied = || {
        Some(Applied {
            raft_index: Index(answer.header("X-Raft-Index")?),
            raft_term: Term(answer.header("X-Raft-Term")?),
            etcd_index: answer.header("X-Etcd-Index")?,
        })
    };
    applied().ok_or_else(|| talk.rubbish("its answer does not say how far it has come"))
}

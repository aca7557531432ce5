//! Whether any member of a cluster is there, which is all that a restore needs to know.
//!
//! In: the members listed in files, and their cluster. Out: a [`Presence`] for each. Peer
//! URLs are asked as well as client URLs: they answer without authentication, and a member that
//! never published itself has no client URLs.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::cluster::fan_out::{Enough, at_once};
use crate::cluster::http::{Cluster, LONG, SHORT, Talk};
use crate::cluster::probe::no_url;
use crate::cluster::response::base_of;
use crate::cluster::{MEMBERS, OWN, ProbeError, response as answers};
use crate::etcd::ids::{ClusterId, MemberId};
use crate::etcd::membership::Member;

/// The list of members at a peer URL.
const PEER_MEMBERS: &str = "/members";

/// What is at a member's URLs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presence {
    Here {
        url: String,
        /// The member that answers; `None` at a peer URL, which does not tell.
        member: Option<MemberId>,
    },
    /// A server is there that could not be asked.
    Unclear(ProbeError),
    OtherCluster {
        url: String,
        found: ClusterId,
    },
    Absent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Peer,
    Client,
}

impl Cluster {
    /// Asks at the URLs of `members` whether a member of the cluster answers, for at most `within`.
    /// If several URLs of a member differ, the most alarming counts.
    pub fn presence_of(
        &self,
        members: &[Member],
        cluster_id: ClusterId,
        within: Duration,
    ) -> Vec<(Member, Presence)> {
        let mut found: Vec<_> = members
            .iter()
            .map(|member| (member.clone(), Presence::Absent))
            .collect();
        let mut jobs = BTreeSet::new();
        for (place, (member, presence)) in found.iter_mut().enumerate() {
            let peers = member.peer_urls.iter().map(|url| (Kind::Peer, url));
            let clients = member.client_urls.iter().map(|url| (Kind::Client, url));
            for (kind, url) in peers.chain(clients) {
                match base_of(url) {
                    Some(url) => _ = jobs.insert((place, kind, url)),
                    None => *presence = Presence::Unclear(no_url(url)),
                }
            }
        }
        let mut cluster = self.clone();
        cluster.timeout = within;
        let ask = move |(_, kind, url): &(usize, Kind, String)| {
            let talk = cluster.talk(url, None);
            presence(&talk, *kind, cluster_id)
        };
        at_once(jobs.into_iter().collect(), ask, |(place, ..), answers| {
            if let Some((_, presence)) = found.get_mut(place)
                && rank(&answers) < rank(presence)
            {
                *presence = answers;
            }
            Enough::NotYet
        });
        found
    }
}

/// The most alarming first.
fn rank(presence: &Presence) -> u8 {
    match presence {
        // An answer with the member's id says more.
        Presence::Here { member, .. } => u8::from(member.is_none()),
        Presence::Unclear(_) => 2,
        Presence::OtherCluster { .. } => 3,
        Presence::Absent => 4,
    }
}

fn presence(talk: &Talk<'_>, kind: Kind, cluster_id: ClusterId) -> Presence {
    let path = match kind {
        Kind::Peer => PEER_MEMBERS,
        Kind::Client => MEMBERS,
    };
    let url = talk.url.to_owned();
    // With any status: the headers have the cluster's id.
    let found = match talk.fetch(path, LONG) {
        Ok(answer) => match answer.cluster_id() {
            Some(found) => found,
            None => return Presence::Unclear(talk.not_etcd(path, answer)),
        },
        Err(silence) if silence.is_reached() => return Presence::Unclear(silence),
        Err(_) => return Presence::Absent,
    };
    if found != cluster_id {
        return Presence::OtherCluster { url, found };
    }
    let own = match kind {
        Kind::Peer => None,
        Kind::Client => talk.get(OWN, SHORT).ok(),
    };
    let member = own.and_then(|answer| Some(answers::own(&answer.body).ok()?.0));
    Presence::Here { url, member }
}

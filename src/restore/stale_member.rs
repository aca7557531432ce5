//! The stale-member rule: a member must not return with an older log to members that have continued.
//!
//! In: an archive's manifest, and a function that looks for its members. Out: which of them were found, or
//! why the archive must not be restored. A rewound archive has a new cluster id; there it is
//! the cluster it was made from that must not run.

use std::time::Duration;

use jiff::Timestamp;

use crate::archive::manifest::Manifest;
use crate::cluster::Presence;
use crate::etcd::ids::{ClusterId, MemberId};
use crate::etcd::membership::Member;
use crate::etcd::text::printable;
use crate::text::utc;

/// The time limit for the members' answers.
pub const WITHIN: Duration = Duration::from_secs(2);

/// What was found at the members' URLs.
#[derive(Clone, Debug)]
pub struct Asked {
    pub cluster_id: ClusterId,
    pub found: Vec<(Member, Presence)>,
    /// For a rewound archive: members of the rewound cluster, at URLs that the old ones did not have.
    pub found_rewound: Vec<(Member, Presence)>,
    pub rewound: bool,
    own: MemberId,
    own_cluster: ClusterId,
    created: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StaleMemberError {
    #[error(
        "cluster {cluster_id} runs, and restoring would roll this member back to {} and lose writes that it has acknowledged since: {who}",
        utc(*created)
    )]
    ClusterRuns {
        cluster_id: ClusterId,
        /// The members that answer, and their URLs.
        who: String,
        created: Timestamp,
    },
    #[error("cluster {cluster_id}, from which this archive was rewound, runs: {who}{same_id}")]
    OldClusterRuns {
        cluster_id: ClusterId,
        /// The members that answer, and their URLs.
        who: String,
        /// A remark, if the rewound cluster has the same id.
        same_id: &'static str,
    },
    #[error(
        "the rewound cluster {cluster_id} runs already: {who}; restoring a member of it again would lose writes that it has acknowledged since"
    )]
    RewoundClusterRuns {
        cluster_id: ClusterId,
        /// The members that answer, and their URLs.
        who: String,
    },
    #[error("cannot determine whether cluster {cluster_id} runs: {who}")]
    CannotBeAsked {
        cluster_id: ClusterId,
        /// The members that could not be asked, and why.
        who: String,
        rewound: bool,
    },
}

impl Asked {
    /// Has `ask` look for the members in `manifest`, of the cluster that must not run, also at the URLs that those who
    /// know a cluster longer have: a cluster that has moved since does not answer at the URLs of its old archives.
    pub fn about(
        manifest: &Manifest,
        later: &[(ClusterId, Vec<Member>)],
        ask: impl Fn(&[Member], ClusterId) -> Vec<(Member, Presence)>,
    ) -> Self {
        let identity = &manifest.member.identity;
        let (members, cluster_id) = match &manifest.rewind {
            Some(rewind) => (&rewind.old_members, rewind.old_cluster_id),
            None => (&manifest.member.members, identity.cluster_id),
        };
        let elsewhere = |member: &&Member| {
            let is_old = |url: &String| members.iter().any(|old| old.peer_urls.contains(url));
            manifest.rewind.is_some() && !member.peer_urls.iter().all(is_old)
        };
        let at_new_urls: Vec<_> = manifest
            .member
            .members
            .iter()
            .filter(elsewhere)
            .cloned()
            .collect();
        let with_later = |members: &[Member], cluster_id: ClusterId| {
            let known = later.iter().filter(|(of, _)| *of == cluster_id);
            let known = known.fold(members.to_vec(), |all, (_, later)| joined(all, later));
            ask(&known, cluster_id)
        };
        let rewound = manifest.rewind.is_some() && identity.cluster_id != cluster_id;
        Self {
            cluster_id,
            found: with_later(members, cluster_id),
            found_rewound: if rewound {
                with_later(&at_new_urls, identity.cluster_id)
            } else {
                ask(&at_new_urls, identity.cluster_id)
            },
            rewound: manifest.rewind.is_some(),
            own: identity.member_id,
            own_cluster: identity.cluster_id,
            created: manifest.created,
        }
    }

    pub fn verdict(&self) -> Result<(), StaleMemberError> {
        let cluster_id = self.cluster_id;
        let running = self.tell(|member, presence| match presence {
            Presence::Here { url, member: id } => Some(self.running(member, url, *id)),
            _ => None,
        });
        if !running.is_empty() && self.rewound {
            let is_same = self.own_cluster == cluster_id;
            return Err(StaleMemberError::OldClusterRuns {
                cluster_id,
                who: running,
                same_id: if is_same {
                    " (the rewound cluster keeps its id, so this may also be a member that was restored and started already)"
                } else {
                    ""
                },
            });
        }
        let rewound_running = self.rewound_cluster_runs();
        if !rewound_running.is_empty() {
            return Err(StaleMemberError::RewoundClusterRuns {
                cluster_id: self.own_cluster,
                who: rewound_running,
            });
        }
        if !running.is_empty() {
            return Err(StaleMemberError::ClusterRuns {
                cluster_id,
                who: running,
                created: self.created,
            });
        }
        let unclear = self.tell(|member, presence| match presence {
            Presence::Unclear(silence) => {
                let name = self.name(member);
                Some(format!("{}: {silence}", name.trim_end_matches(',')))
            }
            _ => None,
        });
        if unclear.is_empty() {
            return Ok(());
        }
        Err(StaleMemberError::CannotBeAsked {
            cluster_id,
            who: unclear,
            rewound: self.rewound,
        })
    }

    /// The warning to give although the archive may be restored.
    pub fn warning(&self) -> Option<String> {
        if self.rewound {
            return None;
        }
        match self.found.len() {
            0 => Some(
                "the archive names no member that could be asked whether its cluster runs"
                    .to_owned(),
            ),
            1 => None,
            members => Some(format!(
                "none of the {members} members of the cluster answers; {}",
                consequence(self.created)
            )),
        }
    }

    /// Notes about members of other clusters at these members' URLs.
    pub fn notes(&self) -> Vec<String> {
        let note = |(member, presence): &(Member, Presence)| {
            let Presence::OtherCluster { url, found } = presence else {
                return None;
            };
            let which = if self.rewound && *found == self.own_cluster {
                "the rewound cluster"
            } else {
                "another cluster"
            };
            let name = self.name(member);
            Some(format!(
                "where {name} should be, {url} answers for {which}, {found}"
            ))
        };
        self.found.iter().filter_map(note).collect()
    }

    /// The members that answer for the rewound cluster, at old or new URLs.
    fn rewound_cluster_runs(&self) -> String {
        let old_places = self
            .found
            .iter()
            .filter_map(|(member, presence)| match presence {
                Presence::OtherCluster { url, found }
                    if self.rewound && *found == self.own_cluster =>
                {
                    Some(format!("{} answers at {url}", self.name(member)))
                }
                _ => None,
            });
        let new_places =
            self.found_rewound
                .iter()
                .filter_map(|(member, presence)| match presence {
                    Presence::Here { url, member: id } => Some(self.running(member, url, *id)),
                    _ => None,
                });
        old_places.chain(new_places).collect::<Vec<_>>().join("; ")
    }

    fn tell(&self, about: impl Fn(&Member, &Presence) -> Option<String>) -> String {
        let found = self.found.iter();
        let told: Vec<_> = found
            .filter_map(|(member, presence)| about(member, presence))
            .collect();
        told.join("; ")
    }

    fn running(&self, member: &Member, url: &str, id: Option<MemberId>) -> String {
        let name = self.name(member);
        match id {
            Some(id) if id != member.id => {
                format!("member {id} answers at {url}, where {name} should be")
            }
            _ => format!("{name} answers at {url}"),
        }
    }

    fn name(&self, member: &Member) -> String {
        let id = member.id;
        let mut name = match printable(&member.name) {
            name if name.is_empty() => format!("member {id}"),
            name => format!("{name} ({id})"),
        };
        if id == self.own {
            name += ", which the archive is of,";
        }
        name
    }
}

/// All members of both lists, each at the URLs of both.
fn joined(mut members: Vec<Member>, later: &[Member]) -> Vec<Member> {
    for member in later {
        let Some(known) = members.iter_mut().find(|known| known.id == member.id) else {
            members.push(member.clone());
            continue;
        };
        for (urls, more) in [
            (&mut known.peer_urls, &member.peer_urls),
            (&mut known.client_urls, &member.client_urls),
        ] {
            let new: Vec<_> = more
                .iter()
                .filter(|url| !urls.contains(url))
                .cloned()
                .collect();
            urls.extend(new);
        }
    }
    members
}

/// The warning to give if no member is asked.
pub fn unasked(manifest: &Manifest) -> String {
    if let Some(rewind) = &manifest.rewind {
        return format!(
            "no member was contacted (--offline): cluster {} must not run any more when the rewound one starts",
            rewind.old_cluster_id
        );
    }
    format!(
        "no member was contacted (--offline); {}",
        consequence(manifest.created)
    )
}

fn consequence(created: Timestamp) -> String {
    format!(
        "if any member acknowledged writes that are not in this archive, as all after {}, restoring this one loses them. To restore the whole cluster use `etcd-ark rewind`, never each member's own backup",
        utc(created)
    )
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::archive::manifest::Rewind;
    use crate::etcd::ids::Index;

    const OLD: ClusterId = ClusterId(0xc0);
    const NEW: ClusterId = ClusterId(0xc1);
    const OWN: &str = "a (a), which the archive is of,";

    fn member(id: u64, name: &str, port: u16) -> Member {
        Member {
            id: MemberId(id),
            name: name.to_owned(),
            peer_urls: vec![format!("http://host:{port}")],
            client_urls: Vec::new(),
        }
    }

    /// An archive of the member `a`, of three; one of them has no name. If it is rewound, from `old` members.
    fn manifest(cluster: ClusterId, old: Option<Vec<Member>>) -> Manifest {
        let mut manifest = Manifest::sample(cluster);
        manifest.member.members =
            vec![member(0xa, "a", 1), member(0xb, "b", 2), member(0xc, "", 3)];
        manifest.rewind = old.map(|old_members| Rewind {
            old_cluster_id: OLD,
            old_members,
            rewound_to: Index(1),
            derived_from: Vec::new(),
        });
        manifest
    }

    /// What is found if `presence` is what every member gives, and who was asked about which cluster.
    fn asked(
        manifest: &Manifest,
        presence: impl Fn(ClusterId) -> Presence,
    ) -> (Asked, Vec<(ClusterId, Vec<u64>)>) {
        let calls = RefCell::new(Vec::new());
        let asked = Asked::about(manifest, &[], |members, cluster| {
            let ids: Vec<_> = members.iter().map(|member| member.id.0).collect();
            calls.borrow_mut().push((cluster, ids));
            let found = members
                .iter()
                .map(|member| (member.clone(), presence(cluster)));
            found.collect()
        });
        let mut calls = calls.into_inner();
        calls.retain(|(_, ids)| !ids.is_empty());
        calls.sort();
        (asked, calls)
    }

    fn here(member: Option<u64>) -> Presence {
        Presence::Here {
            url: "URL".to_owned(),
            member: member.map(MemberId),
        }
    }

    #[test]
    fn the_old_members_are_asked_and_of_the_new_those_that_moved() {
        let absent = |_| Presence::Absent;
        let (asked_, calls) = asked(&manifest(OLD, None), absent);
        assert_eq!(calls, [(OLD, vec![0xa, 0xb, 0xc])]);
        assert_eq!(asked_.verdict(), Ok(()));
        assert!(
            asked_
                .warning()
                .unwrap()
                .starts_with("none of the 3 members")
        );
        // One of the old members was elsewhere: the new one of that id is asked, too.
        let old = vec![member(0xa, "a", 1), member(0xb, "b", 9), member(0xc, "", 3)];
        let (asked_, calls) = asked(&manifest(NEW, Some(old.clone())), absent);
        assert_eq!(calls, [(OLD, vec![0xa, 0xb, 0xc]), (NEW, vec![0xb])]);
        assert_eq!((asked_.verdict(), asked_.warning()), (Ok(()), None));
        let only_new = |cluster| {
            if cluster == NEW {
                here(Some(0xb))
            } else {
                Presence::Absent
            }
        };
        let (asked_, _) = asked(&manifest(NEW, Some(old)), only_new);
        let who = "b (b) answers at URL".to_owned();
        let runs = StaleMemberError::RewoundClusterRuns {
            cluster_id: NEW,
            who,
        };
        assert_eq!(asked_.verdict(), Err(runs));
    }

    #[test]
    fn who_runs_is_told_by_name_by_id_and_by_the_id_that_answers() {
        for (answers, expected) in [
            (
                None,
                format!("{OWN} answers at URL; b (b) answers at URL; member c answers at URL"),
            ),
            (
                Some(0xb),
                format!(
                    "member b answers at URL, where {OWN} should be; b (b) answers at URL; member b answers at URL, where member c should be"
                ),
            ),
        ] {
            let (asked, _) = asked(&manifest(OLD, None), |_| here(answers));
            let Err(StaleMemberError::ClusterRuns { who, .. }) = asked.verdict() else {
                panic!("{asked:?}");
            };
            assert_eq!(who, expected);
        }
    }

    #[test]
    fn a_rewound_cluster_of_the_same_id_may_be_the_new_one_and_another_cluster_is_named() {
        let old = || Some(vec![member(0xa, "a", 1)]);
        for (cluster, remark) in [(OLD, true), (NEW, false)] {
            let (asked, _) = asked(&manifest(cluster, old()), |_| here(None));
            let Err(StaleMemberError::OldClusterRuns { same_id, .. }) = asked.verdict() else {
                panic!("{asked:?}");
            };
            assert_eq!(!same_id.is_empty(), remark, "{cluster}");
        }
        for (found, which, refused) in [
            (NEW, "the rewound cluster, c1", true),
            (ClusterId(7), "another cluster, 7", false),
        ] {
            let other = |_| Presence::OtherCluster {
                url: "URL".to_owned(),
                found,
            };
            let (asked, _) = asked(&manifest(NEW, old()), other);
            assert_eq!(
                asked.notes(),
                [format!("where {OWN} should be, URL answers for {which}")]
            );
            assert_eq!(asked.verdict().is_err(), refused);
            // To an archive that is not rewound every other cluster is another one.
            let (asked, _) = self::asked(&manifest(NEW, None), other);
            assert!(asked.verdict().is_ok());
            assert_eq!(asked.notes().len(), 3);
            assert!(
                asked.notes()[0].contains("for another cluster"),
                "{:?}",
                asked.notes()
            );
        }
    }
}

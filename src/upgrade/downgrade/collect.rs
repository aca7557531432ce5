//! Collects the evidence for the downgrade check.
//!
//! In: this machine's data dir, further directories and archives, a cluster to ask. Out: the
//! [`Evidence`], all of it of one cluster. [`read`] reads whole directories and verifies archives;
//! [`ask`] asks the cluster after that, and may be called again, so that its answers are the latest.

use std::path::PathBuf;

use fs_err as fs;

use crate::cluster::{Cluster, ClusterState, MemberState, ProbeError, UnknownEndpoint};
use crate::data_dir::scan::SurveyError;
use crate::data_dir::start::verdicts_at_home;
use crate::etcd::ids::{ClusterId, Identity, MemberId};
use crate::etcd::member::MemberFacts;
use crate::etcd::scan::Pass;
use crate::interrupt::Interrupt;
use crate::progress::Event;
use crate::target::{StoreError, Target};
use crate::upgrade::downgrade::evidence::{
    Answer, DiskEvidence, DiskKind, Evidence, MemberEvidence, NoAnswer, Ran, Step,
};

#[derive(Debug)]
pub struct EvidenceRequest<'r> {
    pub step: Step,
    pub own: Option<&'r Target>,
    pub others: &'r [Target],
    /// The cluster's client; `None` asks no member.
    pub cluster: Option<&'r Cluster>,
    /// Whether the operator states that all members are stopped.
    pub offline: bool,
    /// The release that stopped members ran, as far as it is known.
    pub ran: Ran,
    pub threads: usize,
}

#[derive(Debug)]
pub struct Disks {
    /// Each that could be read; this machine's data dir first.
    pub all: Vec<DiskEvidence>,
    pub unreadable: Option<StoreError>,
}

/// Evidence, and endpoints that gave none.
#[derive(Debug)]
pub struct Collected {
    pub evidence: Evidence,
    pub unknown_endpoints: Vec<UnknownEndpoint>,
}

#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("`{what}` belongs to cluster {found}, and `{before}` to cluster {expected}")]
    OtherCluster {
        what: String,
        found: ClusterId,
        before: String,
        expected: ClusterId,
    },
    #[error("`{path}` is the data dir of {identity}, which is not a member of it any more")]
    NotAMember { path: PathBuf, identity: Identity },
    #[error(
        "`{0}` is the output of `etcdctl backup`, which starts only with `--force-new-cluster`: no member runs on it"
    )]
    EtcdctlBackup(PathBuf),
}

pub fn read(
    request: &EvidenceRequest<'_>,
    interrupt: &Interrupt,
    observe: &mut dyn FnMut(Event),
) -> Result<Disks, CollectError> {
    let mut all = Vec::new();
    let mut unreadable = None;
    if let Some(target) = request.own {
        match read_target(target, request, interrupt, observe) {
            Ok(disk) => all.push(as_own(disk)),
            Err(fault @ (StoreError::Unsound { .. } | StoreError::Start { .. })) => {
                unreadable = Some(fault);
            }
            Err(error) => return Err(error.into()),
        }
    }
    for target in request.others {
        if !is_same_place(request.own, target) {
            all.push(read_target(target, request, interrupt, observe)?);
        }
    }
    refuse_two_clusters(&all)?;
    Ok(Disks { all, unreadable })
}

/// Asks the cluster, and joins its answers with `disks`.
pub fn ask(request: &EvidenceRequest<'_>, disks: &Disks) -> Result<Collected, CollectError> {
    let disks = &disks.all;
    let known = newest(disks).map_or(&[][..], |disk| &disk.members);
    let expected = disks.first().map(|disk| disk.identity.cluster_id);
    let look = request
        .cluster
        .map(|cluster| cluster.look(known, expected))
        .unwrap_or_default();
    refuse_other_cluster(&look, disks.first())?;
    Ok(Collected {
        evidence: Evidence {
            step: request.step,
            members: members(&look, disks, request)?,
            disks: disks.clone(),
            offline: request.offline,
        },
        unknown_endpoints: look.unknown_endpoints,
    })
}

fn read_target(
    target: &Target,
    request: &EvidenceRequest<'_>,
    interrupt: &Interrupt,
    observe: &mut dyn FnMut(Event),
) -> Result<DiskEvidence, StoreError> {
    let found = target.scan(Pass::WHOLE, request.threads, interrupt, observe)?;
    let (kind, starts) = match target {
        Target::Archive(archive) => {
            let created = archive.manifest().created;
            (DiskKind::Archive { created }, found.starts)
        }
        Target::DataDir(data_dir) => {
            let running = found.running.is_some();
            let starts = if data_dir.has_dedicated_wal() {
                Some(verdicts_at_home(data_dir).map_err(SurveyError::from)?)
            } else {
                found.starts
            };
            (DiskKind::DataDir { running }, starts)
        }
    };
    let MemberFacts {
        identity,
        position,
        cluster_version,
        versions,
        members,
        ..
    } = found.member;
    Ok(DiskEvidence {
        path: target.path().to_path_buf(),
        kind,
        identity,
        position,
        cluster_version,
        versions,
        members,
        starts,
    })
}

fn as_own(disk: DiskEvidence) -> DiskEvidence {
    let running = disk.is_running();
    DiskEvidence {
        kind: DiskKind::Own { running },
        ..disk
    }
}

/// Whether `target` is this machine's data dir, given a second time.
fn is_same_place(own: Option<&Target>, target: &Target) -> bool {
    let real = |target: &Target| fs::canonicalize(target.path()).ok();
    own.is_some_and(|own| real(own).is_some() && real(own) == real(target))
}

fn refuse_two_clusters(disks: &[DiskEvidence]) -> Result<(), CollectError> {
    let Some(first) = disks.first() else {
        return Ok(());
    };
    let expected = first.identity.cluster_id;
    let other = disks
        .iter()
        .find(|disk| disk.identity.cluster_id != expected);
    other.map_or(Ok(()), |other| {
        Err(CollectError::OtherCluster {
            what: other.path.display().to_string(),
            found: other.identity.cluster_id,
            before: first.path.display().to_string(),
            expected,
        })
    })
}

/// Refuses an endpoint of another cluster: the user gave a wrong one.
fn refuse_other_cluster(
    look: &ClusterState,
    first: Option<&DiskEvidence>,
) -> Result<(), CollectError> {
    let Some(expected) = look.cluster_id else {
        return Ok(());
    };
    for stray in &look.unknown_endpoints {
        if let ProbeError::OtherCluster { url, found } = &stray.silence {
            let before = first.map_or_else(
                || "the endpoint before it".to_owned(),
                |disk| disk.path.display().to_string(),
            );
            return Err(CollectError::OtherCluster {
                what: url.clone(),
                found: *found,
                before,
                expected,
            });
        }
    }
    Ok(())
}

/// The data that reach furthest in the log.
fn newest(disks: &[DiskEvidence]) -> Option<&DiskEvidence> {
    let place = |disk: &&DiskEvidence| (disk.position.commit, disk.position.index);
    disks.iter().max_by_key(place)
}

/// Every member of the cluster, and what is known of it now.
fn members(
    look: &ClusterState,
    disks: &[DiskEvidence],
    request: &EvidenceRequest<'_>,
) -> Result<Vec<MemberEvidence>, CollectError> {
    let is_own = |disk: &&DiskEvidence| matches!(disk.kind, DiskKind::Own { .. });
    let own = disks.iter().find(is_own);
    let on_disk = newest(disks).map_or(&[][..], |disk| &disk.members);
    let ids = named_by_a_quorum(look).unwrap_or_else(|| {
        let running = look.members.iter().filter(|look| look.named_by_cluster);
        let running = running.map(|look| look.member.id);
        running
            .chain(on_disk.iter().map(|known| known.id))
            .collect()
    });
    if let Some(own) = own
        && !ids.is_empty()
        && !ids.contains(&own.identity.member_id)
    {
        let path = own.path.clone();
        if own.is_etcdctl_backup() {
            return Err(CollectError::EtcdctlBackup(path));
        }
        return Err(CollectError::NotAMember {
            path,
            identity: own.identity.clone(),
        });
    }
    let answers = look.members.iter().map(|look| (&look.member, answer(look)));
    let unasked = on_disk.iter().filter(|_| request.cluster.is_none());
    let unasked = unasked.map(|member| (member, Err(NoAnswer::NotAsked)));
    let all = answers.chain(unasked);
    let members = all.filter(|(member, _)| ids.contains(&member.id));
    let speaks_for =
        |id: MemberId| own.is_some_and(|own| own.identity.member_id == id && !own.is_running());
    Ok(members
        .map(|(member, answer)| {
            let stopped = answer.is_err() && (request.offline || speaks_for(member.id));
            MemberEvidence {
                member: member.clone(),
                answer,
                stopped: stopped.then_some(request.ran),
            }
        })
        .collect())
}

/// The members as listed by those that answer a quorum read.
fn named_by_a_quorum(look: &ClusterState) -> Option<Vec<MemberId>> {
    let said = look
        .members
        .iter()
        .filter_map(|look| look.said.as_ref().ok());
    let current = said.filter(|said| said.quorum_read.is_ok());
    let named: Vec<_> = current.filter_map(|said| said.members.as_ref()).collect();
    (!named.is_empty()).then(|| named.into_iter().flatten().copied().collect())
}

fn answer(look: &MemberState) -> Result<Answer, NoAnswer> {
    let said = look.said.as_ref().map_err(Clone::clone)?;
    let quorum_read = said.quorum_read.as_ref();
    Ok(Answer {
        url: said.url.clone(),
        server: said.server_version.clone(),
        cluster: said.cluster_version.clone(),
        quorum_read: quorum_read
            .map(|applied| applied.raft_index)
            .map_err(Clone::clone),
    })
}

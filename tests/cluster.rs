//! The cluster client, with every kind of server at a member's address.
//!
//! Guards against an answer wrongly taken as a member's, and against confusing kinds of silence: a server that is down,
//! slow or answers nonsense needs different steps of the operator, and gives different verdicts of the downgrade gate.

use etcd_ark::cluster::{
    Access, AccessError, Cluster, ClusterState, MemberState, MemberStatus, Presence, ProbeError,
    ReportedVersion, User,
};
use etcd_ark::etcd::ids::{ClusterId, MemberId};
use etcd_ark::etcd::membership::Member;

use crate::support::fake_cluster::{Behaviour, FakeMember, Quorum};
use crate::support::prelude::*;

/// How long a server may take in these stories; generous, for the machine does other things too.
const TIMEOUT: Duration = Duration::from_secs(2);

const CLUSTER: u64 = 0x007e_2765_2122_e8b2;
const IDS: [(u64, &str); 3] = [(0xb0, "infra0"), (0xa1, "infra1"), (0xc2, "infra2")];

fn three() -> FakeCluster {
    FakeCluster::start(CLUSTER, &IDS)
}

fn access(endpoints: &str) -> Access {
    Access {
        endpoints: endpoints.split(',').map(str::to_owned).collect(),
        timeout: TIMEOUT,
        ..Access::default()
    }
}

fn look(fake: &FakeCluster) -> ClusterState {
    look_from(&fake.endpoints())
}

fn look_from(endpoints: &str) -> ClusterState {
    Cluster::new(&access(endpoints)).unwrap().look(&[], None)
}

/// What the look found at a fake member.
#[track_caller]
fn at<'l>(look: &'l ClusterState, fake: &FakeMember) -> &'l MemberState {
    let mut members = look.members.iter();
    let found = members.find(|found| found.member.id == MemberId(fake.id()));
    found.unwrap_or_else(|| panic!("{} is not in {look:#?}", fake.name()))
}

#[track_caller]
fn said<'l>(look: &'l ClusterState, fake: &FakeMember) -> &'l MemberStatus {
    let found = at(look, fake);
    found
        .said
        .as_ref()
        .unwrap_or_else(|silence| panic!("{}: {silence}", fake.name()))
}

#[track_caller]
fn silence<'l>(look: &'l ClusterState, fake: &FakeMember) -> &'l ProbeError {
    let found = at(look, fake);
    match &found.said {
        Err(silence) => silence,
        Ok(said) => panic!("{} answered: {said:#?}", fake.name()),
    }
}

#[track_caller]
fn versions(look: &ClusterState, fake: &FakeMember) -> (String, ReportedVersion) {
    let said = said(look, fake);
    (
        said.server_version.to_string(),
        said.cluster_version.clone(),
    )
}

fn is(version: &str) -> ReportedVersion {
    ReportedVersion::Is(version.parse().unwrap())
}

#[test]
fn what_the_recorded_members_answered_is_read_as_they_meant_it() {
    let moments = [
        ("1-before-upgrade", ["2.1.3", "2.1.3", "2.1.3"], "2.1.0"),
        ("2-backup-infra1", ["2.2.5", "2.1.3", "2.1.3"], "2.1.0"),
        ("2-backup-infra2", ["2.2.5", "2.2.5", "2.1.3"], "2.1.0"),
        ("3-after-upgrade", ["2.2.5", "2.2.5", "2.2.5"], "2.2.0"),
    ];
    for (moment, servers, cluster) in moments {
        let fake = FakeCluster::of_story(moment);
        // One endpoint leads to all members.
        let look = look_from(&fake.member(1).client_url());
        assert_eq!(look.cluster_id, Some(ClusterId(fake.cluster_id())));
        assert!(look.unknown_endpoints.is_empty(), "{look:#?}");
        assert_eq!(look.members.len(), 3);
        assert!(look.members.is_sorted_by_key(|look| look.member.id));
        for (member, server) in fake.members().iter().zip(servers) {
            let found = at(&look, member);
            assert!(found.named_by_cluster);
            assert_eq!(found.member.name, member.name());
            assert_eq!(found.member.peer_urls, [member.peer_url()]);
            assert_eq!(versions(&look, member), (server.to_owned(), is(cluster)));
            let said = said(&look, member);
            assert_eq!(said.url, member.client_url());
            assert_eq!(said.healthy, Some(true));
            assert_eq!(said.members.as_ref().map(Vec::len), Some(3));
            let read = said.quorum_read.as_ref().unwrap();
            assert_eq!(read.raft_index.0, 250);
            assert_eq!((read.raft_term.0, read.etcd_index), (2, 200));
        }
        let leaders = look.members.iter().filter(|look| {
            let role = look.said.as_ref().unwrap().role.as_ref().unwrap();
            assert!(role.leader.is_some());
            role.leads
        });
        assert_eq!(leaders.count(), 1, "{moment}");
    }
}

#[test]
fn a_version_is_what_2_0_and_a_young_cluster_say_too() {
    let fake = three();
    fake.member(0).version_text("etcd 2.0.13");
    fake.member(1)
        .version_text(r#"{"releaseVersion":"2.0.3","internalVersion":"2"}"#);
    fake.member(2).version("2.1.0-rc.1", "not_decided");
    let found = look(&fake);
    let expected = [
        ("2.0.13", ReportedVersion::Unknown20),
        ("2.0.3", ReportedVersion::Unknown20),
        ("2.1.0-rc.1", ReportedVersion::NotDecided),
    ];
    for (member, (server, cluster)) in fake.members().iter().zip(expected) {
        assert_eq!(versions(&found, member), (server.to_owned(), cluster));
    }
    for odd in [
        r#"{"etcdserver":"2.1.3","etcdcluster":"latest"}"#,
        r#"{"etcdserver":"","etcdcluster":"2.1.0"}"#,
        r#"{"etcdserver":"2.1.3"}"#,
        "etcd",
        "",
    ] {
        fake.member(0).version_text(odd);
        let found = look(&fake);
        let silence = silence(&found, fake.member(0));
        assert!(
            matches!(silence, ProbeError::Rubbish { .. }),
            "{odd}: {silence:?}"
        );
    }
}

/// Which kind of silence it is; the URL in it must be the member's.
fn kind(silence: &ProbeError, url: &str) -> &'static str {
    let (kind, named) = match silence {
        ProbeError::NoClientUrl => return "no client URL",
        ProbeError::NoneAnswered { .. } => return "none answered",
        ProbeError::Unreachable { url, .. } => ("unreachable", url),
        ProbeError::TooSlow { url, .. } => ("too slow", url),
        ProbeError::Tls { url, .. } => ("TLS", url),
        ProbeError::Lost { url } => ("lost", url),
        ProbeError::NotAllowed { url } => ("not allowed", url),
        ProbeError::Refused { url, .. } => ("refused", url),
        ProbeError::Rubbish { url, .. } => ("rubbish", url),
        ProbeError::OtherCluster { url, .. } => ("other cluster", url),
        ProbeError::OtherMember { url, .. } => ("other member", url),
    };
    assert!(named.starts_with(url), "{silence}");
    kind
}

#[test]
fn every_silence_is_told_apart() {
    let ways = [
        (Behaviour::Down, "unreachable"),
        (Behaviour::Silent, "too slow"),
        (Behaviour::Dribbles, "too slow"),
        (Behaviour::DribblesBody, "too slow"),
        (Behaviour::NotHttp, "rubbish"),
        (Behaviour::Html, "rubbish"),
        (Behaviour::WrongJson, "rubbish"),
        (Behaviour::Endless, "rubbish"),
        (Behaviour::EndlessHead, "rubbish"),
        (Behaviour::HangsUp, "rubbish"),
        (Behaviour::WantsTls, "TLS"),
        (
            Behaviour::Says(400, "Client sent an HTTP request to an HTTPS server.\n"),
            "TLS",
        ),
        (Behaviour::Says(401, "{}"), "not allowed"),
        (Behaviour::Says(403, ""), "not allowed"),
        (Behaviour::Says(302, ""), "rubbish"),
        (Behaviour::Says(404, "404 page not found"), "refused"),
        (Behaviour::Says(503, "no leader"), "refused"),
    ];
    for (behaviour, expected) in ways {
        let fake = three();
        let odd = fake.member(1);
        odd.client(behaviour);
        let began = Instant::now();
        let found = look(&fake);
        let took = began.elapsed();
        let silence = silence(&found, odd);
        assert_eq!(kind(silence, &odd.client_url()), expected, "{silence}");
        assert!(took < 2 * TIMEOUT, "{behaviour:?} took {took:?}");
        println!("{behaviour:?}: {silence}");
        assert_eq!(silence.is_reached(), expected != "unreachable");
        // It was an endpoint, too, and led nowhere.
        let unknown_endpoints: Vec<_> = found
            .unknown_endpoints
            .iter()
            .map(|stray| &stray.endpoint)
            .collect();
        assert_eq!(unknown_endpoints, [&odd.client_url()], "{behaviour:?}");
        assert_eq!(
            kind(&found.unknown_endpoints[0].silence, &odd.client_url()),
            expected
        );
        // The others say what they know anyway.
        for place in [0, 2] {
            assert_eq!(versions(&found, fake.member(place)).0, "2.1.3");
        }
    }
}

#[test]
fn many_hanging_members_cost_one_timeout() {
    let ids: Vec<_> = (1..=15).map(|id| (id, format!("m{id:02}"))).collect();
    let ids: Vec<_> = ids.iter().map(|(id, name)| (*id, name.as_str())).collect();
    let fake = FakeCluster::start(CLUSTER, &ids);
    for place in 1..15 {
        let behaviour = [
            Behaviour::Silent,
            Behaviour::Dribbles,
            Behaviour::DribblesBody,
        ];
        fake.member(place).client(behaviour[place % 3]);
    }
    for endpoints in [fake.endpoints(), fake.member(0).client_url()] {
        let began = Instant::now();
        let found = look_from(&endpoints);
        let took = began.elapsed();
        assert_eq!(versions(&found, fake.member(0)).0, "2.1.3");
        for member in &fake.members()[1..] {
            let silence = silence(&found, member);
            assert_eq!(kind(silence, &member.client_url()), "too slow", "{silence}");
        }
        // What hung as an endpoint is not waited for again as a member.
        assert!(took < TIMEOUT * 3 / 2, "{took:?}");
    }
    // Quorum reads that hang come on top of hanging endpoints: two timeouts, and no more.
    fake.member(0).quorum(Quorum::Hangs);
    let began = Instant::now();
    let found = look(&fake);
    let took = began.elapsed();
    let read = &said(&found, fake.member(0)).quorum_read;
    assert!(matches!(read, Err(ProbeError::TooSlow { .. })), "{read:?}");
    assert!(took < TIMEOUT * 5 / 2, "{took:?}");
}

#[test]
fn a_member_that_had_fallen_behind_is_believed_what_it_says_after_its_quorum_read() {
    let fake = FakeCluster::of_story("1-before-upgrade");
    fake.member(2).learns("2.1.3", "2.2.0");
    let found = look(&fake);
    let version = &said(&found, fake.member(2)).cluster_version;
    assert_eq!(*version, ReportedVersion::Is("2.2.0".parse().unwrap()));
}

#[test]
fn a_member_without_a_quorum_says_what_it_knows_and_that_it_may_be_old() {
    let fake = three();
    fake.member(0)
        .quorum(Quorum::IsLost)
        .healthy(false)
        .follows(0);
    fake.member(1).down();
    fake.member(2).down();
    let found = look(&fake);
    let said = said(&found, fake.member(0));
    assert_eq!(said.healthy, Some(false));
    assert_eq!(said.cluster_version, is("2.1.0"));
    assert_eq!(said.role.as_ref().unwrap().leader, None);
    match &said.quorum_read {
        Err(ProbeError::Refused {
            status,
            message,
            url,
        }) => {
            assert_eq!(*status, 500);
            assert_eq!(
                message,
                "Raft Internal Error: etcdserver: request timed out"
            );
            assert!(url.ends_with("/v2/keys/?quorum=true"), "{url}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn another_member_or_cluster_at_a_members_url_does_not_speak_for_it() {
    // The URL of infra1 leads to infra0: a name that moved, a port that was taken over.
    let fake = three();
    fake.member(1).publishes(&[&fake.member(0).client_url()]);
    let found = look_from(&fake.member(0).client_url());
    match silence(&found, fake.member(1)) {
        ProbeError::OtherMember { url, found } => {
            assert_eq!(*url, fake.member(0).client_url());
            assert_eq!(*found, MemberId(fake.member(0).id()));
        }
        other => panic!("{other}"),
    }
    assert_eq!(versions(&found, fake.member(0)).0, "2.1.3");

    // Two servers behind one name: who is asked for the version need not be who was asked for the id.
    let fake = three();
    let twin = fake.member(0).id();
    fake.member(1)
        .shares_its_name_with(twin)
        .version("2.2.5", "2.1.0");
    let found = look_from(&fake.member(0).client_url());
    let silent = silence(&found, fake.member(1));
    assert_eq!(kind(silent, &fake.member(1).client_url()), "other member");

    // A member of another cluster with the very same id, as a drill has it.
    let fake = three();
    fake.member(1).of_cluster(0xbad).version("2.2.5", "2.2.0");
    let found = look(&fake);
    let silent = silence(&found, fake.member(1));
    assert_eq!(kind(silent, &fake.member(1).client_url()), "other cluster");
    assert_eq!(found.unknown_endpoints.len(), 1);
    assert_eq!(found.cluster_id, Some(ClusterId(CLUSTER)));

    // Without anyone's word, the first endpoint that answers says which cluster is meant.
    for _ in 0..5 {
        let other_first = format!("{},{}", fake.member(1).client_url(), fake.endpoints());
        let found = look_from(&other_first);
        assert_eq!(found.cluster_id, Some(ClusterId(0xbad)));
        assert_eq!(versions(&found, fake.member(1)).0, "2.2.5");
        let silent = silence(&found, fake.member(0));
        assert_eq!(kind(silent, &fake.member(0).client_url()), "other cluster");
    }
    // With the word of the files it does not count.
    let cluster = Cluster::new(&access(&fake.member(1).client_url())).unwrap();
    let found = cluster.look(&[], Some(ClusterId(CLUSTER)));
    assert_eq!(found.cluster_id, Some(ClusterId(CLUSTER)));
    assert_eq!(found.unknown_endpoints.len(), 1);
    assert!(found.members.is_empty(), "{found:#?}");
}

#[test]
fn the_word_of_the_cluster_and_of_the_files_are_united_and_told_apart() {
    let fake = three();
    fake.member(1).publishes(&[]);
    fake.member(2).removed();
    let from_files = |fake: &FakeMember, url: &str| Member {
        id: MemberId(fake.id()),
        name: format!("{} of the files", fake.name()),
        peer_urls: Vec::new(),
        client_urls: vec![url.to_owned()],
    };
    let known = [
        from_files(fake.member(0), "http://127.0.0.1:1"),
        from_files(fake.member(2), &fake.member(2).client_url()),
    ];
    let cluster = Cluster::new(&access(&fake.member(0).client_url())).unwrap();
    let found = cluster.look(&known, Some(ClusterId(CLUSTER)));
    // The cluster knows better than the files where a member is.
    assert_eq!(at(&found, fake.member(0)).member.name, "infra0");
    assert_eq!(versions(&found, fake.member(0)).0, "2.1.3");
    // It has not said where clients reach it.
    assert_eq!(silence(&found, fake.member(1)), &ProbeError::NoClientUrl);
    assert_eq!(at(&found, fake.member(1)).member.name, "");
    // Removed, and running on: it is asked, and marked.
    let removed = at(&found, fake.member(2));
    assert!(!removed.named_by_cluster);
    assert_eq!(versions(&found, fake.member(2)).0, "2.1.3");

    // No endpoint at all: the files know where to ask, and who is asked knows of the others.
    let nowhere = Access {
        endpoints: Vec::new(),
        ..access("")
    };
    let found = Cluster::new(&nowhere).unwrap().look(&known, None);
    assert_eq!(found.cluster_id, Some(ClusterId(CLUSTER)));
    assert!(found.unknown_endpoints.is_empty());
    assert_eq!(found.members.len(), 3);
    assert!(at(&found, fake.member(1)).named_by_cluster);
    // An endpoint that proves to be the member will do where its own URLs do not: a tunnel.
    fake.member(0).publishes(&["http://127.0.0.1:1"]);
    let found = look_from(&fake.member(0).client_url());
    assert_eq!(
        said(&found, fake.member(0)).url,
        fake.member(0).client_url()
    );
}

#[test]
fn one_url_of_several_is_enough() {
    let fake = three();
    let hanging = FakeCluster::start(1, &[(9, "hanging")]);
    hanging.member(0).silent();
    let own = fake.member(1).client_url();
    let urls = [
        "http://127.0.0.1:1",
        &hanging.member(0).client_url(),
        "unix://127.0.0.1:2379",
        &own,
    ];
    fake.member(1).publishes(&urls);
    let began = Instant::now();
    let found = look_from(&fake.member(0).client_url());
    assert_eq!(said(&found, fake.member(1)).url, own);
    // No one waits for the one that hangs.
    assert!(began.elapsed() < TIMEOUT / 2, "{:?}", began.elapsed());
    // Of several that are silent, the most telling one speaks.
    fake.member(1).client(Behaviour::Says(401, ""));
    let found = look_from(&fake.member(0).client_url());
    assert!(silence(&found, fake.member(1)).is_reached());
}

#[test]
fn a_list_that_no_cluster_has_counts_for_none() {
    let fake = three();
    let many = |count: u64, url: &str| {
        let one =
            |id| format!(r#"{{"id":"{id:x}","name":"m","peerURLs":[],"clientURLs":["{url}"]}}"#);
        let all: Vec<_> = (1..=count).map(one).collect();
        format!(r#"{{"members":[{}]}}"#, all.join(","))
    };
    let lists = [
        many(0, ""),
        many(100_000, "http://127.0.0.1:1"),
        many(3, &"x".repeat(100_000)),
        r#"{"members":[{"id":"not hex","name":"a"}]}"#.to_owned(),
        r#"{"members":null}"#.to_owned(),
    ];
    for list in lists {
        fake.member(0).lists(&list);
        let found = look_from(&fake.member(0).client_url());
        assert!(
            found.members.is_empty() && found.cluster_id.is_none(),
            "{found:#?}"
        );
        let stray = &found.unknown_endpoints[0].silence;
        assert_eq!(kind(stray, &fake.member(0).client_url()), "rubbish");
        assert!(
            stray.to_string().len() < 1000,
            "{}",
            stray.to_string().len()
        );
    }
    // What is believed can be shown on a terminal.
    fake.member(0).lists(
        r#"{"members":[{"id":"b0","name":"\u001b[2Jinfra0\n","clientURLs":["http://\u001b[31m","file:///etc/passwd","http://root:secret@127.0.0.1:1/"]}]}"#,
    );
    let found = look_from(&fake.member(0).client_url());
    assert_eq!(found.members[0].member.name, "\u{fffd}[2Jinfra0\u{fffd}");
    let shown = format!("{found:?}");
    assert!(!shown.contains("\\u{1b}"), "{shown}");
}

#[test]
fn a_password_is_sent_only_where_it_is_asked_for() {
    let fake = three();
    for member in fake.members() {
        // root:secret
        member.auth("cm9vdDpzZWNyZXQ=");
    }
    let user = |password: &str| {
        Some(User {
            name: "root".to_owned(),
            password: password.to_owned(),
        })
    };
    let looks = |user| {
        let access = Access {
            user,
            ..access(&fake.member(0).client_url())
        };
        Cluster::new(&access).unwrap().look(&[], None)
    };
    for (user, allowed) in [
        (None, false),
        (user("wrong"), false),
        (user("secret"), true),
    ] {
        let found = looks(user);
        for member in fake.members() {
            let read = &said(&found, member).quorum_read;
            assert_eq!(read.is_ok(), allowed, "{read:?}");
            let denied = ProbeError::NotAllowed {
                url: member.client_url(),
            };
            assert!(allowed || *read == Err(denied), "{read:?}");
        }
    }
    for member in fake.members() {
        for request in member.requests() {
            let with_password = request.contains("Basic");
            assert!(
                !with_password || request.starts_with("/v2/keys"),
                "{request}"
            );
        }
    }
    // The operator's endpoint is https; a member says it is reached over plain HTTP: no password goes there.
    let fake = three();
    let known = [Member {
        id: MemberId(fake.member(0).id()),
        client_urls: vec![fake.member(0).client_url()],
        ..Member::default()
    }];
    let access = Access {
        user: user("secret"),
        ..access("https://127.0.0.1:1")
    };
    let found = Cluster::new(&access).unwrap().look(&known, None);
    assert_eq!(versions(&found, fake.member(0)).0, "2.1.3");
    let requests = fake.member(0).requests();
    assert!(
        requests.iter().all(|request| !request.contains("Basic")),
        "{requests:?}"
    );
    let shown = format!("{access:?} {:?}", Cluster::new(&access));
    assert!(
        !shown.contains("secret") && !shown.contains("cm9vd"),
        "{shown}"
    );
}

#[test]
fn what_is_no_endpoint_is_said_before_anybody_is_asked() {
    for endpoint in [
        "",
        "127.0.0.1:2379",
        "ftp://127.0.0.1",
        "http://",
        "http://a b",
        "http://root:secret@127.0.0.1:2379",
        "http://127.0.0.1:99999",
        "http://127.0.0.1:2379/v2/keys",
    ] {
        let refused = Cluster::new(&access(endpoint)).unwrap_err();
        assert!(
            matches!(refused, AccessError::Endpoint(_)),
            "{endpoint}: {refused}"
        );
    }
    assert!(Cluster::new(&access("http://127.0.0.1:2379/")).is_ok());
}

#[test]
fn a_member_that_runs_is_found_at_any_of_its_urls() {
    let fake = three();
    let members: Vec<_> = fake.members().iter().map(as_listed).collect();
    let there = |members: &[Member]| {
        let nobody = Access::default();
        let cluster = Cluster::new(&nobody).unwrap();
        let began = Instant::now();
        let found = cluster.presence_of(members, ClusterId(CLUSTER), TIMEOUT);
        assert!(began.elapsed() < TIMEOUT * 3 / 2, "{:?}", began.elapsed());
        let ids: Vec<_> = found.iter().map(|(member, _)| member.id).collect();
        assert_eq!(
            ids,
            members.iter().map(|member| member.id).collect::<Vec<_>>()
        );
        found
            .into_iter()
            .map(|(_, presence)| presence)
            .collect::<Vec<_>>()
    };
    let here = |url: String, member: Option<u64>| Presence::Here {
        url,
        member: member.map(MemberId),
    };
    for (presence, fake) in there(&members).iter().zip(fake.members()) {
        assert_eq!(*presence, here(fake.client_url(), Some(fake.id())));
    }
    fake.member(0).client(Behaviour::Down);
    fake.member(1).down();
    fake.member(2).of_cluster(0xbad);
    let found = there(&members);
    assert_eq!(found[0], here(fake.member(0).peer_url(), None));
    assert_eq!(found[1], Presence::Absent);
    assert!(matches!(
        found[2],
        Presence::OtherCluster {
            found: ClusterId(0xbad),
            ..
        }
    ));
    // A server that cannot be asked counts more than none, or than another cluster's.
    for behaviour in [
        Behaviour::Silent,
        Behaviour::Dribbles,
        Behaviour::WantsTls,
        Behaviour::Html,
        Behaviour::NotHttp,
        Behaviour::HangsUp,
        Behaviour::Says(401, ""),
        Behaviour::Says(404, "404 page not found"),
    ] {
        fake.member(1).client(behaviour);
        fake.member(2).peer(behaviour);
        let found = there(&members);
        assert!(
            matches!(found[1], Presence::Unclear(_)),
            "{behaviour:?}: {found:?}"
        );
        assert!(
            matches!(found[2], Presence::Unclear(_)),
            "{behaviour:?}: {found:?}"
        );
        fake.member(1).client(Behaviour::Down);
        fake.member(2).peer(Behaviour::Answers);
    }
    let nowhere = Member {
        peer_urls: vec!["unix:///run/etcd".to_owned()],
        ..Member::default()
    };
    assert!(matches!(there(&[nowhere])[0], Presence::Unclear(_)));
}

fn as_listed(fake: &FakeMember) -> Member {
    Member {
        id: MemberId(fake.id()),
        name: fake.name().to_owned(),
        peer_urls: vec![fake.peer_url()],
        client_urls: vec![fake.client_url()],
    }
}

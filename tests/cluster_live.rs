//! The cluster client against a real etcd 3.4: certificates on both sides, and a user with a password.

use etcd_ark::cluster::{Access, AccessError, Cluster, MemberStatus, Presence, ProbeError, User};
use etcd_ark::etcd::membership::Member;

use crate::support::certs::{Authority, Pair};
use crate::support::etcd::{Connection, ServerTls};
use crate::support::prelude::*;

/// How long the server may take, on a machine that does other things too.
const PATIENCE: Duration = Duration::from_secs(10);

fn access(endpoint: &str) -> Access {
    Access {
        endpoints: vec![endpoint.to_owned()],
        timeout: PATIENCE,
        ..Access::default()
    }
}

/// What a client of a real server has to show.
fn with_certs(etcd: &Etcd, ca: Option<&Path>, client: Option<&Pair>) -> Access {
    Access {
        ca_cert: ca.map(Path::to_path_buf),
        client_cert: client.map(|pair| (pair.cert.clone(), pair.key.clone())),
        ..access(&etcd.client_url())
    }
}

/// The only member of a real server, or why there is no answer: at its endpoint, or at its own URL.
fn real(access: &Access) -> Result<MemberStatus, ProbeError> {
    let mut found = Cluster::new(access).unwrap().look(&[], None);
    match found.members.pop() {
        Some(only) => only.said,
        None => Err(found.unknown_endpoints.remove(0).silence),
    }
}

#[test]
fn a_real_server_with_tls_tells_only_whom_it_knows() {
    // Guards against a certificate that is not asked for, not sent or not checked, and against a quarrel about certificates
    // that is taken for a member that is down.
    only_with!(need("etcd"));
    let dir = TempDir::with_prefix("ark-tls-").unwrap();
    let authority = Authority::new(dir.path(), "ca");
    let other = Authority::new(dir.path(), "other-ca");
    let (client, stranger) = (authority.signs("client"), other.signs("stranger"));
    let tls = ServerTls {
        own: authority.signs("server"),
        trusted_ca: authority.cert.clone(),
    };
    let etcd = Etcd::start_tls(&dir.path().join("data"), &tls);
    let ca = authority.cert.as_path();

    let access = with_certs(&etcd, Some(ca), Some(&client));
    let said = real(&access).unwrap();
    assert_eq!(said.server_version.major, 3);
    assert_eq!(said.healthy, Some(true));
    assert!(said.quorum_read.unwrap().raft_index.0 > 0);
    let here = Cluster::new(&access).unwrap();
    let look = here.look(&[], None);
    let (member, cluster_id) = (look.members[0].member.clone(), look.cluster_id.unwrap());
    let presence = |access: &Access, member: &Member| {
        let cluster = Cluster::new(access).unwrap();
        let mut found = cluster.presence_of(std::slice::from_ref(member), cluster_id, PATIENCE);
        found.remove(0).1
    };
    let only_peer = Member {
        client_urls: Vec::new(),
        ..member.clone()
    };
    let found = presence(&access, &only_peer);
    let url = etcd.peer_url();
    assert_eq!(found, Presence::Here { url, member: None });

    let ways = [
        ("no certificate", with_certs(&etcd, Some(ca), None)),
        (
            "another's certificate",
            with_certs(&etcd, Some(ca), Some(&stranger)),
        ),
        (
            "another authority",
            with_certs(&etcd, Some(&other.cert), Some(&client)),
        ),
        (
            "this machine's authorities",
            with_certs(&etcd, None, Some(&client)),
        ),
    ];
    for (way, access) in ways {
        let silence = real(&access).unwrap_err();
        println!("{way}: {silence}");
        assert!(
            matches!(silence, ProbeError::Tls { .. }),
            "{way}: {silence:?}"
        );
        for member in [&member, &only_peer] {
            let found = presence(&access, member);
            let is_tls = matches!(found, Presence::Unclear(ProbeError::Tls { .. }));
            assert!(is_tls, "{way}: {found:?}");
        }
    }
    // Without TLS at all: 2.x sends an alert, 3.4 hangs up.
    let plain = Access {
        endpoints: vec![etcd.client_url().replace("https", "http")],
        ..access.clone()
    };
    let silence = real(&plain).unwrap_err();
    assert!(silence.to_string().contains("https"), "{silence}");
    // A name that the certificate does not have.
    let mut elsewhere = access.clone();
    elsewhere.endpoints = vec![etcd.client_url().replace("127.0.0.1", "localhost")];
    let look = Cluster::new(&elsewhere).unwrap().look(&[], None);
    assert!(
        matches!(look.unknown_endpoints[0].silence, ProbeError::Tls { .. }),
        "{look:#?}"
    );
}

#[test]
fn certificates_that_cannot_be_used_are_said_before_anybody_is_asked() {
    let dir = TempDir::with_prefix("ark-tls-").unwrap();
    let authority = Authority::new(dir.path(), "ca");
    let (one, two) = (authority.signs("one"), authority.signs("two"));
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let empty = file("empty", "");
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let broken = file("broken", broken);
    let encrypted = file(
        "encrypted",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    let no_key = file(
        "no-key",
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
    );
    let ca = |path: &PathBuf| Access {
        ca_cert: Some(path.clone()),
        ..Access::default()
    };
    let pair = |cert: &PathBuf, key: &PathBuf| Access {
        client_cert: Some((cert.clone(), key.clone())),
        ..Access::default()
    };
    for not_pem in [
        ca(&empty),
        ca(&broken),
        ca(&one.key),
        pair(&empty, &one.key),
        pair(&broken, &one.key),
        pair(&one.cert, &empty),
        pair(&one.cert, &encrypted),
    ] {
        let refused = Cluster::new(&not_pem).unwrap_err();
        assert!(
            matches!(refused, AccessError::Pem { .. }),
            "{not_pem:?}: {refused}"
        );
    }
    for unfit in [pair(&one.cert, &two.key), pair(&one.cert, &no_key)] {
        let refused = Cluster::new(&unfit).unwrap_err();
        assert!(
            matches!(
                refused,
                AccessError::KeyMismatch { .. } | AccessError::Key { .. }
            ),
            "{unfit:?}: {refused}"
        );
    }
    let missing = ca(&dir.path().join("missing"));
    let refused = Cluster::new(&missing).unwrap_err();
    assert!(refused.to_string().contains("missing"), "{refused}");
    assert!(Cluster::new(&pair(&one.cert, &one.key)).is_ok());
}

#[test]
fn a_real_server_with_auth_answers_a_quorum_read_to_its_user_only() {
    only_with!(need("etcd"));
    let dir = TempDir::with_prefix("ark-auth-").unwrap();
    let etcd = Etcd::start(&dir.path().join("data"));
    let mut connection = Connection::new(etcd.client());
    for (path, body) in [
        (
            "users/root",
            r#"{"user":"root","password":"right: and long"}"#,
        ),
        // Without this a guest may read everything.
        (
            "roles/guest",
            r#"{"role":"guest","permissions":{"kv":{"read":[],"write":[]}}}"#,
        ),
        ("enable", ""),
    ] {
        let path = format!("/v2/auth/{path}");
        let answer = connection
            .send("PUT", &path, "application/json", body)
            .unwrap();
        assert!(answer.status < 300, "{answer:?}");
    }
    let read_as = |user: Option<(&str, &str)>| {
        let user = user.map(|(name, password)| User {
            name: name.to_owned(),
            password: password.to_owned(),
        });
        let access = Access {
            user,
            ..access(&etcd.client_url())
        };
        let said = real(&access).unwrap();
        // The rest needs no user.
        assert_eq!((said.server_version.major, said.healthy), (3, Some(true)));
        said.quorum_read
    };
    let url = etcd.client_url();
    for user in [
        None,
        Some(("root", "wrong")),
        Some(("nobody", "right: and long")),
    ] {
        assert_eq!(
            read_as(user),
            Err(ProbeError::NotAllowed { url: url.clone() })
        );
    }
    assert!(
        read_as(Some(("root", "right: and long")))
            .unwrap()
            .raft_index
            .0
            > 0
    );
}

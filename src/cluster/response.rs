//! Parses members' answers.
//!
//! In: bodies of HTTP answers (formats page §8), from any server at a member's URL.
//! Out: their meaning in etcd, limited in size and printable; or what is wrong with them.

use serde::Deserialize;

use crate::cluster::{ReportedVersion, Role};
use crate::etcd::ids::MemberId;
use crate::etcd::membership::Member;
use crate::etcd::text::printable;

/// The most members that are accepted: more than any cluster has.
const MAX_MEMBERS: usize = 64;
/// The most URLs of either kind that are accepted for a member.
const MAX_URLS: usize = 16;
/// The longest accepted name or URL, in bytes.
const MAX_TEXT: usize = 512;
/// The longest part of an answer that is shown in a message, in characters.
const SHOWN: usize = 200;

/// What is wrong with an answer.
pub(super) type Odd = String;

/// `/version`: of the binary, and of the cluster as this member knows it.
pub(super) fn version(body: &[u8]) -> Result<(semver::Version, ReportedVersion), Odd> {
    #[derive(Deserialize)]
    struct Since21 {
        etcdserver: String,
        etcdcluster: String,
    }
    /// The first releases of 2.0.
    #[derive(Deserialize)]
    struct First20 {
        #[serde(rename = "releaseVersion")]
        release_version: String,
    }
    let parse = |text: &str| text.parse().map_err(|_| odd("a version", body));
    if let Ok(said) = serde_json::from_slice::<Since21>(body) {
        let cluster = match said.etcdcluster.as_str() {
            "not_decided" => ReportedVersion::NotDecided,
            version => ReportedVersion::Is(version.parse().map_err(|_| odd("a version", body))?),
        };
        return Ok((parse(&said.etcdserver)?, cluster));
    }
    if let Ok(said) = serde_json::from_slice::<First20>(body) {
        return Ok((parse(&said.release_version)?, ReportedVersion::Unknown20));
    }
    let text = std::str::from_utf8(body).ok();
    let plain = text.and_then(|text| text.trim().strip_prefix("etcd "));
    let version = plain.ok_or_else(|| odd("a version", body))?;
    Ok((parse(version)?, ReportedVersion::Unknown20))
}

/// `/health`: its value is a string.
pub(super) fn health(body: &[u8]) -> Option<bool> {
    #[derive(Deserialize)]
    struct Health {
        health: String,
    }
    let said: Health = serde_json::from_slice(body).ok()?;
    said.health.parse().ok()
}

/// `/v2/stats/self`: the member's id and role.
pub(super) fn own(body: &[u8]) -> Result<(MemberId, Role), Odd> {
    #[derive(Deserialize)]
    struct Own {
        id: MemberId,
        #[serde(default)]
        state: String,
        #[serde(rename = "leaderInfo", default)]
        leader_info: LeaderInfo,
    }
    #[derive(Default, Deserialize)]
    struct LeaderInfo {
        #[serde(default)]
        leader: String,
    }
    let said: Own = parse(body, "a member's statistics")?;
    let leader = said.leader_info.leader.parse().ok();
    let role = Role {
        leads: said.state == "StateLeader",
        // Before the first election it is empty or 0.
        leader: leader.filter(|leader| *leader != MemberId(0)),
    };
    Ok((said.id, role))
}

/// `/v2/members`: the members, with printable names and URLs.
pub(super) fn members(body: &[u8]) -> Result<Vec<Member>, Odd> {
    #[derive(Deserialize)]
    struct Listed {
        members: Vec<OneListed>,
    }
    #[derive(Deserialize)]
    struct OneListed {
        id: MemberId,
        #[serde(default)]
        name: String,
        #[serde(rename = "peerURLs", default)]
        peer_urls: Option<Vec<String>>,
        #[serde(rename = "clientURLs", default)]
        client_urls: Option<Vec<String>>,
    }
    let listed: Listed = parse(body, "a list of members")?;
    if listed.members.is_empty() || listed.members.len() > MAX_MEMBERS {
        return Err(format!("it lists {} members", listed.members.len()));
    }
    let urls = |urls: Option<Vec<String>>| {
        let urls = urls.unwrap_or_default();
        urls.iter().map(|url| printable(url)).collect()
    };
    let member = |listed: OneListed| Member {
        id: listed.id,
        name: printable(&listed.name),
        peer_urls: urls(listed.peer_urls),
        client_urls: urls(listed.client_urls),
    };
    let members: Vec<_> = listed.members.into_iter().map(member).collect();
    for member in &members {
        let urls = [&member.peer_urls, &member.client_urls];
        let mut texts = urls.into_iter().flatten().chain([&member.name]);
        if texts.any(|text| text.len() > MAX_TEXT) {
            return Err(format!("it lists a text of more than {MAX_TEXT} bytes"));
        }
        if urls.iter().any(|urls| urls.len() > MAX_URLS) {
            return Err(format!("it lists more than {MAX_URLS} URLs of one member"));
        }
    }
    Ok(members)
}

/// The message in an error of etcd, or the start of any other text.
pub(super) fn message(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Told {
        message: String,
        #[serde(default)]
        cause: String,
    }
    match serde_json::from_slice::<Told>(body) {
        Ok(told) if told.cause.is_empty() => shown(&told.message),
        Ok(told) => shown(&format!("{}: {}", told.message, told.cause)),
        Err(_) => shown(&String::from_utf8_lossy(body)),
    }
}

/// The URL up to the port, if an etcd server may have it.
pub(super) fn base_of(url: &str) -> Option<String> {
    let url = url.trim();
    let plain = url.len() <= MAX_TEXT && url.bytes().all(|byte| byte.is_ascii_graphic());
    let parsed: ureq::http::Uri = url.parse().ok().filter(|_| plain)?;
    let scheme = parsed.scheme_str()?.to_ascii_lowercase();
    let authority = parsed.authority()?;
    let is_bare = matches!(parsed.path(), "" | "/") && parsed.query().is_none();
    let is_web = matches!(scheme.as_str(), "http" | "https");
    // Text before an `@` would contain a password.
    let is_server = !authority.host().is_empty() && !authority.as_str().contains('@');
    let port = authority.as_str().strip_prefix(authority.host())?;
    let is_port = port.is_empty() || authority.port_u16().is_some_and(|port| port > 0);
    (is_web && is_bare && is_server && is_port).then(|| format!("{scheme}://{authority}"))
}

/// A URL that can be shown: without user and password.
pub(super) fn without_user(url: &str) -> String {
    let from = url.find("://").map_or(0, |at| at + "://".len());
    let (scheme, rest) = url.split_at(from);
    // A password may contain a slash or an `@`.
    match rest.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}…@{host}"),
        None => url.to_owned(),
    }
}

/// The start of a text, on one line.
pub(super) fn shown(text: &str) -> String {
    let line = printable(text.trim());
    if line.chars().count() <= SHOWN {
        return line;
    }
    line.chars().take(SHOWN).chain(['…']).collect()
}

fn parse<'b, T: Deserialize<'b>>(body: &'b [u8], what: &str) -> Result<T, Odd> {
    serde_json::from_slice(body).map_err(|_| odd(what, body))
}

fn odd(what: &str, body: &[u8]) -> Odd {
    let text = shown(&String::from_utf8_lossy(body));
    if text.is_empty() {
        format!("nothing instead of {what}")
    } else {
        format!("this is not {what}: {text}")
    }
}

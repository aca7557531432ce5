//! The keys of a running cluster, over the v2 API.
//!
//! In: a [`Cluster`], keys as the API names them. Out: the nodes below a key, or the result of one write. Each write
//! has a condition, so that it never overwrites what another client has written meanwhile.
//! Source: etcd's documentation of the v2 API at 2.2.5 (`prevExist`, `prevIndex`, `ttl`).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::cluster::http::{Cluster, Method, SHORT};
use crate::cluster::response::shown;
use crate::cluster::{ClusterId, ProbeError};
use crate::etcd::json::tokens::go_utf8;
use crate::interrupt::Interrupt;

/// Bytes of the longest answer with keys that is read.
const LARGE: u64 = 1 << 30;
/// How long the endpoints are asked again: members elect a leader within seconds.
const PATIENCE: Duration = Duration::from_secs(15);
const BETWEEN_ROUNDS: Duration = Duration::from_millis(250);
/// etcd's error codes for an unmet condition of a write.
const KEY_NOT_FOUND: u32 = 100;
const COMPARE_FAILED: u32 = 101;
const NOT_A_FILE: u32 = 102;
const NOT_A_DIR: u32 = 104;
const KEY_EXISTS: u32 = 105;
const DIR_NOT_EMPTY: u32 = 108;

/// A node of the running cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveNode {
    /// Its value; `None` for a directory. Bytes that are not UTF-8 have become U+FFFD.
    pub value: Option<String>,
    /// `createdIndex`; a node that is removed and made again has another one.
    pub created: u64,
    /// `modifiedIndex`.
    pub modified: u64,
    pub expires: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    Absent,
    /// This is its `modifiedIndex`.
    Modified(u64),
    EmptyDirectory,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// The node has this `modifiedIndex` now.
    Done(u64),
    /// The condition was not met; nothing was changed.
    Conflict,
    /// The directory to be removed is not empty; nothing was changed.
    NotEmpty,
}

struct Heard {
    status: u16,
    body: Vec<u8>,
    /// Whether a member that was asked before this one may have done the same already.
    again: bool,
}

/// The keys of a cluster, through one endpoint as long as that answers, and then through the next. An interrupt ends the
/// waiting for an answer.
#[derive(Debug)]
pub struct Keys<'c> {
    cluster: &'c Cluster,
    interrupt: &'c Interrupt,
    url: Option<String>,
    cluster_id: Option<ClusterId>,
    /// Whether `url` has answered every request since it named its cluster.
    is_known: bool,
}

#[derive(Deserialize)]
struct Answered {
    node: Shown,
}

#[derive(Deserialize)]
struct Shown {
    #[serde(default)]
    key: String,
    #[serde(default)]
    dir: bool,
    #[serde(default)]
    value: String,
    #[serde(default)]
    nodes: Vec<Shown>,
    #[serde(default, rename = "createdIndex")]
    created: u64,
    #[serde(default, rename = "modifiedIndex")]
    modified: u64,
    ttl: Option<i64>,
}

#[derive(Deserialize)]
struct Failed {
    #[serde(rename = "errorCode")]
    code: u32,
    #[serde(default)]
    cause: String,
}

impl<'c> Keys<'c> {
    /// The keys of `cluster`; asks no member yet.
    pub fn new(cluster: &'c Cluster, interrupt: &'c Interrupt) -> Self {
        Self {
            cluster,
            interrupt,
            url: None,
            cluster_id: None,
            is_known: false,
        }
    }

    pub fn cluster_id(&self) -> Option<ClusterId> {
        self.cluster_id
    }

    /// The endpoint that answered.
    pub fn url(&self) -> &str {
        self.url.as_deref().unwrap_or_default()
    }

    /// The node `key`, `/` for all, and all nodes below it, by key, read through a quorum; empty if the key does not
    /// exist. etcd leaves out hidden nodes below `key`.
    pub fn read(
        &mut self,
        key: &[u8],
        is_dir: bool,
    ) -> Result<BTreeMap<String, LiveNode>, ProbeError> {
        self.read_query(key, is_dir, "recursive=true&quorum=true")
    }

    /// The node `key` alone, read through a quorum.
    pub fn node(&mut self, key: &[u8], is_dir: bool) -> Result<Option<LiveNode>, ProbeError> {
        let mut found = self.read_query(key, is_dir, "quorum=true")?;
        Ok(found.remove(&*String::from_utf8_lossy(&go_utf8(key))))
    }

    fn read_query(
        &mut self,
        key: &[u8],
        is_dir: bool,
        query: &str,
    ) -> Result<BTreeMap<String, LiveNode>, ProbeError> {
        let path = format!("{}?{query}", path_of(key, is_dir));
        let answer = self.ask(&Method::Get, &path)?;
        let mut found = BTreeMap::new();
        if let (200, Ok(answered)) = (
            answer.status,
            serde_json::from_slice::<Answered>(&answer.body),
        ) {
            let mut left = vec![answered.node];
            while let Some(node) = left.pop() {
                left.extend(node.nodes);
                let live = LiveNode {
                    value: (!node.dir).then_some(node.value),
                    created: node.created,
                    modified: node.modified,
                    expires: node.ttl.is_some(),
                };
                found.insert(node.key, live);
            }
            return Ok(found);
        }
        match serde_json::from_slice::<Failed>(&answer.body) {
            Ok(Failed {
                code: KEY_NOT_FOUND,
                ..
            }) => {}
            // A key stands where the way to this one leads: it is given instead.
            Ok(Failed {
                code: NOT_A_DIR,
                cause,
            }) => {
                let above = LiveNode {
                    value: Some(String::new()),
                    created: 0,
                    modified: 0,
                    expires: false,
                };
                found.insert(cause, above);
            }
            _ => return Err(self.refused(&path, &answer)),
        }
        Ok(found)
    }

    /// Writes a key, or a directory if there is no `value`, on the `condition`; it expires after `ttl` seconds.
    pub fn put(
        &mut self,
        key: &[u8],
        value: Option<&[u8]>,
        ttl: Option<i64>,
        condition: Condition,
    ) -> Result<Written, ProbeError> {
        let is_dir = value.is_none();
        let mut path = format!("{}?{}", path_of(key, is_dir), query(condition));
        if let Some(ttl) = ttl {
            let _ = write!(path, "&ttl={ttl}");
        }
        let form = match value {
            Some(value) => [&b"value="[..], &in_form(value)].concat(),
            None => b"dir=true".to_vec(),
        };
        let (written, again) = self.change(&Method::Put(&form), &path)?;
        if again && written == Written::Conflict {
            let text = value.map(|value| String::from_utf8_lossy(&go_utf8(value)).into_owned());
            let node = self.node(key, is_dir)?;
            if let Some(node) = node.filter(|node| node.value == text) {
                return Ok(Written::Done(node.modified));
            }
        }
        Ok(written)
    }

    /// Removes a key, or an empty directory, on the `condition`.
    pub fn delete(&mut self, key: &[u8], condition: Condition) -> Result<Written, ProbeError> {
        let is_dir = condition == Condition::EmptyDirectory;
        let path = format!("{}?{}", path_of(key, is_dir), query(condition));
        let (written, again) = self.change(&Method::Delete, &path)?;
        if again && written == Written::Conflict && self.node(key, is_dir)?.is_none() {
            return Ok(Written::Done(0));
        }
        Ok(written)
    }

    /// Also tells whether a member that was asked before may have made the change already.
    fn change(&mut self, method: &Method<'_>, path: &str) -> Result<(Written, bool), ProbeError> {
        let answer = self.ask(method, path)?;
        let written = match (answer.status, code_of(&answer.body)) {
            (200 | 201, _) => {
                let answered = serde_json::from_slice::<Answered>(&answer.body);
                Written::Done(answered.map_or(0, |answered| answered.node.modified))
            }
            (_, Some(DIR_NOT_EMPTY)) => Written::NotEmpty,
            (_, Some(KEY_NOT_FOUND | COMPARE_FAILED | NOT_A_FILE | NOT_A_DIR | KEY_EXISTS)) => {
                Written::Conflict
            }
            _ => return Err(self.refused(path, &answer)),
        };
        Ok((written, answer.again))
    }

    /// The answer of the first endpoint that gives one; later requests go to it first. Where a member has died, or the
    /// cluster elects a leader, all are asked again for a time. The condition of a write makes that safe.
    fn ask(&mut self, method: &Method<'_>, path: &str) -> Result<Heard, ProbeError> {
        let began = Instant::now();
        let mut again = false;
        loop {
            let mut silent = Vec::new();
            if let Some(heard) = self.ask_each(method, path, &mut silent, &mut again)? {
                return Ok(heard);
            }
            let is_passing = self.url.is_some() || silent.iter().any(may_lack_a_leader);
            let is_over = began.elapsed() >= PATIENCE || self.interrupt.signal().is_some();
            if is_over || !is_passing {
                return Err(match <[_; 1]>::try_from(silent) {
                    Ok([only]) => only,
                    Err(each) => ProbeError::NoneAnswered { each },
                });
            }
            std::thread::sleep(BETWEEN_ROUNDS);
        }
    }

    /// Asks each endpoint once until one answers; the others' reasons are added to `silent`. Nothing is written to an
    /// endpoint before it has named its cluster, and after a failure it names it again: another server may be there.
    fn ask_each(
        &mut self,
        method: &Method<'_>,
        path: &str,
        silent: &mut Vec<ProbeError>,
        again: &mut bool,
    ) -> Result<Option<Heard>, ProbeError> {
        let answered = self.url.clone();
        let others = self.cluster.endpoints.iter();
        let others = others.filter(|url| Some(*url) != answered.as_ref());
        for url in answered.iter().chain(others) {
            let talk = self.cluster.talk(url, self.cluster_id);
            let is_known = self.is_known && answered.as_ref() == Some(url);
            let named = match method {
                Method::Put(_) | Method::Delete if !is_known => talk.cluster_id().map(drop),
                _ => Ok(()),
            };
            let is_sent = named.is_ok();
            self.is_known = false;
            let answer = match named.and_then(|()| talk.exchange_as_user(method, path, LARGE)) {
                Ok(answer) => answer,
                Err(silence) => {
                    *again |= is_sent && silence.is_reached();
                    silent.push(match silence {
                        ProbeError::Rubbish { url, .. } | ProbeError::Tls { url, .. }
                            if answered.as_ref() == Some(&url) =>
                        {
                            ProbeError::Lost { url }
                        }
                        silence => silence,
                    });
                    continue;
                }
            };
            if answer.status == 401 || answer.status == 403 && code_of(&answer.body).is_none() {
                let (key, _) = path.split_once('?').unwrap_or((path, ""));
                return Err(ProbeError::NotAllowed {
                    url: format!("{url}{key}"),
                });
            }
            if answer.status >= 500 {
                *again = true;
                silent.push(refused(url, path, answer.status, &answer.body));
                continue;
            }
            self.cluster_id = answer.cluster_id();
            if self.cluster_id.is_none() {
                return Err(talk.not_etcd(path, answer));
            }
            self.url = Some(url.clone());
            self.is_known = true;
            return Ok(Some(Heard {
                status: answer.status,
                body: answer.body,
                again: *again,
            }));
        }
        Ok(None)
    }

    fn refused(&self, path: &str, answer: &Heard) -> ProbeError {
        refused(self.url(), path, answer.status, &answer.body)
    }
}

fn refused(url: &str, path: &str, status: u16, body: &[u8]) -> ProbeError {
    let body = body.get(..SHORT as usize).unwrap_or(body);
    ProbeError::Refused {
        url: format!("{url}{path}"),
        status,
        message: shown(&String::from_utf8_lossy(body)),
    }
}

/// Whether a server is there that may only wait for a leader.
fn may_lack_a_leader(silence: &ProbeError) -> bool {
    matches!(
        silence,
        ProbeError::TooSlow { .. } | ProbeError::Refused { .. }
    )
}

fn code_of(body: &[u8]) -> Option<u32> {
    Some(serde_json::from_slice::<Failed>(body).ok()?.code)
}

fn query(condition: Condition) -> String {
    match condition {
        Condition::Absent => "prevExist=false".to_owned(),
        Condition::Modified(index) => format!("prevIndex={index}"),
        Condition::EmptyDirectory => "dir=true".to_owned(),
    }
}

/// The path of a key; with a `/` at the end for a directory, because a role of `/app/*` does not allow `/app`.
fn path_of(key: &[u8], is_dir: bool) -> String {
    let end = if is_dir && key != b"/" { "/" } else { "" };
    format!("/v2/keys{}{end}", escaped(key, b"/"))
}

/// `value` in a form. Go takes at most 10 MB of one, so only what it would take for something else is escaped.
fn in_form(value: &[u8]) -> Vec<u8> {
    let mut form = Vec::with_capacity(value.len());
    for &byte in value {
        if byte.is_ascii_control() || b"%&+; ".contains(&byte) {
            form.extend_from_slice(format!("%{byte:02X}").as_bytes());
        } else {
            form.push(byte);
        }
    }
    form
}

/// `bytes` in a URL or a form: all but letters, digits, `-._~` and those of `also` as `%XX`.
pub(crate) fn escaped(bytes: &[u8], also: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || also.contains(&byte) {
            text.push(byte.into());
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

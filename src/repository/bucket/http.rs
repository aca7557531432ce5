//! The HTTP client under the object store: ureq, as for etcd itself, so that one HTTP and TLS stack
//! serves both.
//!
//! In: the requests that `object_store` builds, and the time limits in [`Waits`]. Out: its responses,
//! whole, of no more bytes than were asked for, and checked by [`answer`](super::answer). ureq blocks, so
//! each request has a thread until it is answered.

use std::io::Read as _;
use std::pin::Pin;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http_body::Body as _;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
};
use tokio::sync::oneshot;
use ureq::http::Method;
use ureq::http::header::CONTENT_LENGTH;
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Agent, Error, Proxy, Timeout};

use crate::cluster::connector::InTime;
use crate::cluster::system_tls;
use crate::repository::bucket::answer::{Answer, Asked, OddKeys};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Waits {
    pub(crate) connect: Duration,
    /// Between two reads of the response.
    pub(crate) read: Option<Duration>,
    pub(crate) total: Duration,
}

#[derive(Clone, Debug)]
pub(super) struct Connector {
    waits: Waits,
    odd_keys: OddKeys,
}

impl Connector {
    pub(super) fn new(waits: Waits, odd_keys: &OddKeys) -> Self {
        let odd_keys = odd_keys.clone();
        Self { waits, odd_keys }
    }
}

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        let agent = |proxy| -> Agent {
            let config = Agent::config_builder()
                .tls_config(system_tls())
                .proxy(proxy)
                .max_redirects(0)
                .max_redirects_will_error(false)
                .http_status_as_error(false)
                .user_agent(concat!("etcd-ark/", env!("CARGO_PKG_VERSION")))
                .timeout_resolve(Some(self.waits.connect))
                .timeout_connect(Some(self.waits.connect))
                .timeout_per_read(self.waits.read)
                .timeout_global(Some(self.waits.total))
                .build();
            Agent::with_parts(config, DefaultConnector::default(), InTime)
        };
        Ok(HttpClient::new(Service {
            // A store in plain HTTP is on the local network, and so is a cloud's metadata server.
            plain: agent(None),
            tls: agent(Proxy::try_from_env()),
            odd_keys: self.odd_keys.clone(),
        }))
    }
}

#[derive(Debug)]
struct Service {
    plain: Agent,
    tls: Agent,
    odd_keys: OddKeys,
}

#[async_trait]
impl HttpService for Service {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let is_tls = request.uri().scheme_str() == Some("https");
        let agent = if is_tls { &self.tls } else { &self.plain }.clone();
        let (head, mut body) = request.into_parts();
        let mut bytes = Vec::new();
        while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await
        {
            bytes.extend(frame?.into_data());
        }
        let (answer, answered) = oneshot::channel();
        let odd_keys = self.odd_keys.clone();
        let exchange = move || {
            // Without a listener the request was given up.
            drop(answer.send(ask(&agent, head, bytes, &odd_keys)));
        };
        crate::thread_pool::start(exchange)
            .map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?;
        let gone = |error| HttpError::new(HttpErrorKind::Interrupted, error);
        answered.await.map_err(gone)?
    }
}

/// Sends a request; returns its answer if it passes the checks.
fn ask(
    agent: &Agent,
    head: ureq::http::request::Parts,
    body: Vec<Bytes>,
    odd_keys: &OddKeys,
) -> Result<HttpResponse, HttpError> {
    let asked = Asked::of(&head);
    let response = send(agent, head, body).map_err(failure)?;
    let (mut head, body) = response.into_parts();
    let mut body = whole(body, asked.most(head.status))?;
    if asked.is_judged(head.status) {
        let judged = asked.judge(head.status, &head.headers, body, odd_keys);
        body = judged.map_err(|answer| HttpError::new(HttpErrorKind::Unknown, answer))?;
        // It may be shorter now.
        head.headers.remove(CONTENT_LENGTH);
    }
    Ok(HttpResponse::from_parts(head, body.into()))
}

fn send(
    agent: &Agent,
    head: ureq::http::request::Parts,
    mut body: Vec<Bytes>,
) -> Result<ureq::http::Response<ureq::Body>, Error> {
    use ureq::http::Request;
    let has_body = matches!(head.method, Method::PUT | Method::POST | Method::PATCH);
    if !has_body {
        return agent.run(Request::from_parts(head, ()));
    }
    // A part comes as one piece, which is sent without a copy.
    let bytes = match body.len() {
        1 => body.swap_remove(0),
        _ => Bytes::from(body.concat()),
    };
    agent.run(Request::from_parts(head, &bytes[..]))
}

/// A body of at most `most` bytes.
fn whole(body: ureq::Body, most: u64) -> Result<Vec<u8>, HttpError> {
    let mut whole = Vec::new();
    let mut body = body.into_reader().take(most.saturating_add(1));
    let read = body.read_to_end(&mut whole);
    read.map_err(|error| failure(Error::from(error)))?;
    if whole.len() as u64 > most {
        let answer = Answer::TooMuch(most);
        return Err(HttpError::new(HttpErrorKind::Unknown, answer));
    }
    Ok(whole)
}

/// The kind of error by which `object_store` decides whether to retry.
fn failure(error: Error) -> HttpError {
    use std::io::ErrorKind as Io;
    let kind = match &error {
        Error::Timeout(Timeout::Resolve | Timeout::Connect)
        | Error::ConnectionFailed
        | Error::HostNotFound
        | Error::ConnectProxyFailed(_) => HttpErrorKind::Connect,
        Error::Timeout(_) => HttpErrorKind::Timeout,
        Error::Io(error) => match error.kind() {
            Io::ConnectionRefused | Io::HostUnreachable | Io::NetworkUnreachable => {
                HttpErrorKind::Connect
            }
            Io::TimedOut | Io::WouldBlock => HttpErrorKind::Timeout,
            Io::ConnectionAborted
            | Io::ConnectionReset
            | Io::BrokenPipe
            | Io::NotConnected
            | Io::UnexpectedEof => HttpErrorKind::Interrupted,
            _ => HttpErrorKind::Unknown,
        },
        Error::BodyStalled => HttpErrorKind::Interrupted,
        _ => HttpErrorKind::Unknown,
    };
    HttpError::new(kind, error)
}

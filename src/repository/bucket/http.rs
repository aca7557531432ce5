//! The HTTP client under the object store: ureq, as for etcd itself, so that one HTTP and TLS stack
//! serves both.
//!
//! In: the requests that `object_store` builds, and the time limits in [`Waits`]. Out: its responses,
//! of no more bytes than were asked for, read as they are consumed; those that [`answer`](super::answer)
//! checks are read whole first. ureq blocks, so each request has a thread of the
//! runtime's blocking pool until its body has been read or dropped.

use std::io::Read as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http_body::{Body, Frame};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
    HttpResponseBody, HttpService,
};
use tokio::sync::{mpsc, oneshot};
use ureq::http::Method;
use ureq::http::header::CONTENT_LENGTH;
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Agent, BodyReader, Error, Proxy, Timeout};

use crate::cluster::connector::InTime;
use crate::cluster::system_tls;
use crate::repository::bucket::answer::{Answer, Asked, OddKeys};

/// Bytes of a response body in one chunk.
const CHUNK: usize = 64 << 10;
/// Chunks that are read ahead of the consumer.
const CHUNKS_AHEAD: usize = 4;

/// Time limits of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waits {
    /// To connect.
    pub(crate) connect: Duration,
    /// Between two reads of the response.
    pub(crate) read: Option<Duration>,
    /// For the whole request.
    pub(crate) total: Duration,
}

/// Makes the HTTP client of a store.
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
            let asked = Asked::of(&head);
            let response = match send(&agent, head, bytes) {
                Ok(response) => response,
                Err(error) => return drop(answer.send(Err(failure(error)))),
            };
            let (mut head, body) = response.into_parts();
            let body = Bounded::of(body, asked.most(head.status));
            if asked.is_judged(head.status) {
                let judged = body.whole().and_then(|body| {
                    let judged = asked.judge(head.status, &head.headers, body, &odd_keys);
                    judged.map_err(|answer| HttpError::new(HttpErrorKind::Unknown, answer))
                });
                // The body that is passed on may be shorter.
                head.headers.remove(CONTENT_LENGTH);
                let response = judged.map(|body| HttpResponse::from_parts(head, body.into()));
                return drop(answer.send(response));
            }
            let (chunks, received) = mpsc::channel(CHUNKS_AHEAD);
            let body_out = HttpResponseBody::new(Chunks(received));
            let response = HttpResponse::from_parts(head, body_out);
            if answer.send(Ok(response)).is_ok() {
                body.pass_on(&chunks);
            }
        };
        crate::thread_pool::start(exchange)
            .map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?;
        let gone = |error| HttpError::new(HttpErrorKind::Interrupted, error);
        answered.await.map_err(gone)?
    }
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

/// A body that ends with an error if it is longer than allowed.
struct Bounded {
    body: BodyReader<'static>,
    most: u64,
    read: u64,
}

impl Bounded {
    fn of(body: ureq::Body, most: u64) -> Self {
        Self {
            body: body.into_reader(),
            most,
            read: 0,
        }
    }

    /// The next bytes; empty at the end.
    fn next(&mut self) -> Result<Bytes, HttpError> {
        let mut chunk = vec![0; CHUNK];
        let read = self.body.read(&mut chunk);
        let read = read.map_err(|error| failure(Error::from(error)))?;
        self.read += read as u64;
        if self.read > self.most {
            let answer = Answer::TooMuch(self.most);
            return Err(HttpError::new(HttpErrorKind::Unknown, answer));
        }
        chunk.truncate(read);
        Ok(Bytes::from(chunk))
    }

    fn whole(mut self) -> Result<Vec<u8>, HttpError> {
        let mut whole = Vec::new();
        loop {
            let chunk = self.next()?;
            if chunk.is_empty() {
                return Ok(whole);
            }
            whole.extend_from_slice(&chunk);
        }
    }

    /// Reads to the end, or until the consumer stops.
    fn pass_on(mut self, chunks: &mpsc::Sender<Result<Bytes, HttpError>>) {
        loop {
            let chunk = self.next();
            if chunk.as_ref().is_ok_and(Bytes::is_empty) {
                return;
            }
            let is_last = chunk.is_err();
            if chunks.blocking_send(chunk).is_err() || is_last {
                return;
            }
        }
    }
}

/// A response body as a stream of chunks.
struct Chunks(mpsc::Receiver<Result<Bytes, HttpError>>);

impl Body for Chunks {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        self.0
            .poll_recv(cx)
            .map(|chunk| chunk.map(|chunk| chunk.map(Frame::data)))
    }
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

//! Connections with errors that tell at which stage they failed.
//!
//! In: ureq's calls of a resolver and a connector. Out: the same connections, but an error says
//! whether no server was reached or TLS failed. ureq by itself reports a host that is
//! switched off and a server that never answers as the same timeout.

use std::sync::mpsc::sync_channel;

use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::time::Duration;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, NextTimeout, TcpConnector, Transport,
};

use crate::cluster::HUNG_UP;
use crate::cluster::tls::{self, Failed, Tls, Why};

/// A TLS record that is an alert, of any version: what a server answers to plain HTTP.
const TLS_ALERT: [u8; 2] = [0x15, 0x03];

/// Resolves names, each in a thread that is abandoned after a timeout; without a thread it waits for the answer.
#[derive(Debug, Default)]
pub(crate) struct InTime;

impl Resolver for InTime {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let forever = NextTimeout {
            after: Duration::NotHappening,
            ..timeout
        };
        let look_up = {
            let (uri, config) = (uri.clone(), config.clone());
            move || DefaultResolver::default().resolve(&uri, &config, forever)
        };
        let (sender, receiver) = sync_channel(1);
        let in_thread = {
            let look_up = look_up.clone();
            // After the timeout there is no receiver.
            move || drop(sender.send(look_up()))
        };
        if crate::thread_pool::start(in_thread).is_err() {
            return look_up();
        }
        let found = receiver.recv_timeout(*timeout.after);
        found.unwrap_or(Err(Error::Timeout(timeout.reason)))
    }
}

/// The same, with errors that tell the stage.
#[derive(Debug, Default)]
pub(super) struct Names(InTime);

impl Resolver for Names {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let found = self.0.resolve(uri, config, timeout);
        found.map_err(|error| reaching(error, "its name could not be looked up in time"))
    }
}

/// Connects, with TLS if the URL asks for it.
#[derive(Debug)]
pub(super) struct ByStage {
    tcp: TcpConnector,
    tls: Tls,
}

impl ByStage {
    pub(super) fn new(tls: Tls) -> Self {
        let tcp = TcpConnector::default();
        Self { tcp, tls }
    }
}

impl Connector for ByStage {
    type Out = Box<dyn Transport>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<()>,
    ) -> Result<Option<Self::Out>, Error> {
        let tcp = self.tcp.connect(details, chained);
        let tcp = tcp.map_err(|error| reaching(error, "no connection in time"))?;
        if !details.needs_tls() {
            let plain = tcp.map(|inner| Plain {
                inner,
                has_heard: false,
            });
            return Ok(plain.map(|plain| Box::new(plain) as _));
        }
        let Some(tcp) = tcp else {
            return Ok(None);
        };
        let tls = self.tls.agree(details, tcp).map_err(agreeing)?;
        Ok(Some(Box::new(tls)))
    }
}

fn reaching(error: Error, in_time: &str) -> Error {
    let why = match error {
        Error::Timeout(_) => in_time.to_owned(),
        Error::Io(error) => error.to_string(),
        error => error.to_string(),
    };
    Error::Other(Box::new(Failed::Reaching(why)))
}

fn agreeing(error: Error) -> Error {
    let why = match error {
        // A server is there but too slow.
        Error::Timeout(_) => return error,
        Error::Io(error) => match error.kind() {
            std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::ConnectionReset => {
                HUNG_UP.to_owned().into()
            }
            _ => in_words(&error),
        },
        Error::Rustls(error) => tls::why(&error),
        error => error.to_string().into(),
    };
    Error::Other(Box::new(Failed::Tls(why)))
}

fn in_words(error: &std::io::Error) -> Why {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    inner.map_or_else(|| error.to_string().into(), tls::why)
}

/// A connection without TLS, which notices if the other side speaks TLS.
#[derive(Debug)]
struct Plain<T> {
    inner: T,
    has_heard: bool,
}

impl<T: Transport> Transport for Plain<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.inner.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let is_more = self.inner.await_input(timeout)?;
        if !self.has_heard && is_more {
            self.has_heard = true;
            if self.inner.buffers().input().starts_with(&TLS_ALERT) {
                let why = "it uses TLS: its URL begins with https".to_owned();
                return Err(Error::Other(Box::new(Failed::Tls(why.into()))));
            }
        }
        Ok(is_more)
    }

    fn is_open(&mut self) -> bool {
        self.inner.is_open()
    }
}

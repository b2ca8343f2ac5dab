//! From an origin to a connection: name, guard, proxy, TLS, all within one time.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::rt::TokioIo;
use metrics::Counter;
use tokio::net::TcpStream;
use tower::{BoxError, Service};

use super::Network;
use super::line::{Facts, Line};
use super::lookup::{Lookup, Private, Reach, Resolve, System};
use super::proxy::Proxy;

type Opening<T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>;
type Tcp = HttpConnector<Lookup>;

/// Connects to origins, each as far as it may be reached.
#[derive(Clone, Debug)]
pub(super) struct Dial {
    /// The operator's own origin and proxy, wherever they lead.
    own: Tcp,
    /// Origins that events name.
    named: Tcp,
    reach: Reach,
    base: Arc<(String, String)>,
    proxy: Option<Proxy>,
    age_max: Duration,
}

impl Dial {
    pub(super) fn new(network: &Network, age_max: Duration) -> Self {
        let reach = if network.allow_private { Reach::Any } else { Reach::Public };
        let base = (network.base.scheme().as_str().to_owned(), network.base.authority());
        Self {
            own: tcp(&network.resolver, Reach::Any),
            named: tcp(&network.resolver, reach),
            reach,
            base: Arc::new(base),
            proxy: network.proxy.clone(),
            age_max,
        }
    }

    /// Connects to whatever the operator names.
    pub(super) fn anywhere(proxy: Option<Proxy>, age_max: Duration) -> Self {
        let tcp = tcp(&(Arc::new(System) as Arc<dyn Resolve>), Reach::Any);
        let (own, named, reach) = (tcp.clone(), tcp, Reach::Any);
        Self { own, named, reach, base: Arc::default(), proxy, age_max }
    }

    /// How far a connection to `uri` may go.
    fn reach(&self, uri: &Uri) -> Reach {
        let (scheme, authority) = &*self.base;
        let is_base = uri.scheme_str() == Some(scheme)
            && uri.authority().is_some_and(|own| own.as_str() == authority);
        if is_base { Reach::Any } else { self.reach }
    }

    fn opening(&mut self, uri: Uri) -> Opening<(TokioIo<TcpStream>, bool)> {
        let reach = self.reach(&uri);
        // An address is connected to without asking the resolver.
        let host = uri.host().unwrap_or_default();
        let literal = host.trim_start_matches('[').trim_end_matches(']').parse();
        if literal.is_ok_and(|address| !reach.allows(address)) {
            return Box::pin(std::future::ready(Err(Private.into())));
        }
        let Some(proxy) = &self.proxy else {
            let tcp = if reach == Reach::Any { &mut self.own } else { &mut self.named };
            let opening = tcp.call(uri);
            return Box::pin(async move { Ok((opening.await?, false)) });
        };
        if uri.scheme() == Some(&http::uri::Scheme::HTTP) {
            let opening = self.own.call(proxy.uri().clone());
            return Box::pin(async move { Ok((opening.await?, true)) });
        }
        let mut tunnel = Tunnel::new(proxy.uri().clone(), self.own.clone());
        if let Some(value) = proxy.authorization() {
            tunnel = tunnel.with_auth(value.clone());
        }
        Box::pin(async move { Ok((tunnel.call(uri).await?, false)) })
    }
}

fn tcp(resolver: &Arc<dyn Resolve>, reach: Reach) -> Tcp {
    let mut tcp = Tcp::new_with_resolver(Lookup { resolver: Arc::clone(resolver), reach });
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp
}

impl Service<Uri> for Dial {
    type Response = Line;
    type Error = BoxError;
    type Future = Opening<Line>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        // A TCP connector always is.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (opening, age_max) = (self.opening(uri), self.age_max);
        Box::pin(async move {
            let (stream, proxied) = opening.await?;
            Ok(Line { stream, proxied, facts: Arc::new(Facts::new(age_max)) })
        })
    }
}

/// A connector that bounds the whole way to a connection, name and handshake included, and counts.
#[derive(Clone, Debug)]
pub(super) struct Watched<C> {
    pub(super) inner: C,
    pub(super) within: Duration,
    pub(super) opened: Counter,
}

impl<C> Service<Uri> for Watched<C>
where
    C: Service<Uri>,
    C::Error: Into<BoxError>,
    C::Response: 'static,
    C::Future: Send + 'static,
{
    type Response = C::Response;
    type Error = BoxError;
    type Future = Opening<C::Response>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let opening = tokio::time::timeout(self.within, self.inner.call(uri));
        let opened = self.opened.clone();
        Box::pin(async move {
            let connection = opening.await?.map_err(Into::into)?;
            opened.increment(1);
            Ok(connection)
        })
    }
}

//! An upstream on any path, with TLS and HTTP/2 if wished, that counts its connections.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use rcgen::{CertificateParams, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

/// One request as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) version: Version,
    pub(crate) method: Method,
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// How a connection ends that has had enough requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Farewell {
    /// What is under way is answered.
    Gracefully,
    /// At once, the last request without an answer.
    Abruptly,
    /// Not at all, but one request after so many is refused unread.
    Refusing,
}

/// Answers everything alike: 202, until it is told otherwise.
pub(crate) struct CountedUpstream {
    addr: SocketAddr,
    authority_pem: Option<String>,
    state: Arc<State>,
    _serving: AbortOnDropHandle<()>,
}

struct State {
    acceptor: Option<TlsAcceptor>,
    requests_max: usize,
    end: Farewell,
    status: AtomicU16,
    connections: AtomicUsize,
    seen: Mutex<Vec<Seen>>,
}

impl CountedUpstream {
    /// One without TLS.
    pub(crate) async fn start() -> Self {
        Self::serve(None, None, usize::MAX, Farewell::Gracefully).await
    }

    /// One behind TLS that speaks `protocols`, the preferred first, and lets a connection go after
    /// `requests_max` requests.
    pub(crate) async fn start_tls(protocols: &[&str], requests_max: usize) -> Self {
        let (acceptor, authority_pem) = tls(protocols);
        Self::serve(Some(acceptor), Some(authority_pem), requests_max, Farewell::Gracefully).await
    }

    /// The same, with another end.
    pub(crate) async fn start_ending(
        protocols: &[&str],
        requests_max: usize,
        end: Farewell,
    ) -> Self {
        let (acceptor, authority_pem) = tls(protocols);
        Self::serve(Some(acceptor), Some(authority_pem), requests_max, end).await
    }

    async fn serve(
        acceptor: Option<TlsAcceptor>,
        authority_pem: Option<String>,
        requests_max: usize,
        end: Farewell,
    ) -> Self {
        let state = Arc::new(State {
            acceptor,
            requests_max,
            end,
            status: AtomicU16::new(202),
            connections: AtomicUsize::new(0),
            seen: Mutex::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (tasks, accepting) = (TaskTracker::new(), Arc::clone(&state));
        let serving = tasks.clone().spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tasks.spawn(accept(stream, Arc::clone(&accepting)));
            }
        });
        Self { addr, authority_pem, state, _serving: AbortOnDropHandle::new(serving) }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its origin, under the name that its certificate has.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.authority_pem.is_some() { "https" } else { "http" };
        format!("{scheme}://localhost:{}", self.addr.port())
    }

    /// Answers with `status` from now on.
    pub(crate) fn answer(&self, status: u16) {
        self.state.status.store(status, Ordering::SeqCst);
    }

    /// The authority that signed its certificate.
    pub(crate) fn authority_pem(&self) -> &str {
        self.authority_pem.as_deref().expect("it has TLS")
    }

    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }
}

/// A server's side of TLS under `localhost`, and the authority that vouches for it.
pub(super) fn tls(protocols: &[&str]) -> (TlsAcceptor, String) {
    let authority_key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority_pem = authority.self_signed(&authority_key).unwrap().pem();
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().unwrap();
    let own = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = own.signed_by(&key, &issuer).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    (TlsAcceptor::from(Arc::new(config)), authority_pem)
}

async fn accept(stream: TcpStream, state: Arc<State>) {
    match state.acceptor.clone() {
        Some(acceptor) => {
            // A client that does not believe the certificate ends here.
            let Ok(stream) = acceptor.accept(stream).await else { return };
            match state.end {
                Farewell::Gracefully | Farewell::Abruptly => serve(stream, state).await,
                Farewell::Refusing => refuse(stream, state).await,
            }
        }
        None => serve(stream, state).await,
    }
}

async fn serve<S>(stream: S, state: Arc<State>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    state.connections.fetch_add(1, Ordering::SeqCst);
    let (served, enough) = (AtomicUsize::new(0), Arc::new(Notify::new()));
    let (told, end) = (Arc::clone(&enough), state.end);
    let service = service_fn(move |request: Request<Incoming>| {
        let is_last = served.fetch_add(1, Ordering::SeqCst) + 1 == state.requests_max;
        if is_last {
            told.notify_one();
        }
        let (state, silent) = (Arc::clone(&state), is_last && end == Farewell::Abruptly);
        async move { if silent { std::future::pending().await } else { answer(request, state).await } }
    });
    let builder = Builder::new(TokioExecutor::new());
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return drop(ended),
        () = enough.notified() => match end {
            Farewell::Gracefully => connection.as_mut().graceful_shutdown(),
            Farewell::Abruptly | Farewell::Refusing => return,
        },
    }
    let _ended = connection.await;
}

/// HTTP/2 by hand: hyper's server refuses no stream.
async fn refuse<S>(stream: S, state: Arc<State>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    state.connections.fetch_add(1, Ordering::SeqCst);
    let mut connection = h2::server::handshake(stream).await.unwrap();
    let mut came = 0;
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        came += 1;
        if came % state.requests_max == 0 {
            respond.send_reset(h2::Reason::REFUSED_STREAM);
            continue;
        }
        let (parts, _unread) = request.into_parts();
        state.seen.lock().unwrap().push(Seen {
            version: parts.version,
            method: parts.method,
            target: parts.uri.path_and_query().unwrap().to_string(),
            headers: parts.headers,
            body: Bytes::new(),
        });
        let response = Response::builder().status(StatusCode::ACCEPTED).body(()).unwrap();
        respond.send_response(response, true).unwrap();
    }
}

async fn answer(
    request: Request<Incoming>,
    state: Arc<State>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    if let Ok(body) = body.collect().await {
        state.seen.lock().unwrap().push(Seen {
            version: parts.version,
            method: parts.method,
            target: parts.uri.path_and_query().unwrap().to_string(),
            headers: parts.headers,
            body: body.to_bytes(),
        });
    }
    let mut response = Response::new(Full::default());
    let status = state.status.load(Ordering::SeqCst);
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    Ok(response)
}

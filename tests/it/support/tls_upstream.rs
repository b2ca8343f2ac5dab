//! An upstream behind TLS that offers HTTP/2, and counts what it is spoken to in.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use rcgen::{CertificateParams, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

/// One request as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) version: Version,
    pub(crate) target: String,
    pub(crate) body: Bytes,
}

/// Answers 202 to everything, over TLS.
pub(crate) struct TlsUpstream {
    addr: SocketAddr,
    authority_pem: String,
    state: Arc<State>,
    _serving: AbortOnDropHandle<()>,
}

struct State {
    acceptor: TlsAcceptor,
    requests_max: usize,
    connections: AtomicUsize,
    seen: Mutex<Vec<Seen>>,
}

impl TlsUpstream {
    /// One that speaks `protocols`, the preferred first, and lets a connection go after
    /// `requests_max` requests.
    pub(crate) async fn start(protocols: &[&str], requests_max: usize) -> Self {
        let authority_key = KeyPair::generate().unwrap();
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority_pem = authority.self_signed(&authority_key).unwrap().pem();
        let issuer = Issuer::new(authority, authority_key);
        let key = KeyPair::generate().unwrap();
        let own = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = own.signed_by(&key, &issuer).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::Pkcs8(key.serialize_der().into()),
            )
            .unwrap();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let state = Arc::new(State {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            requests_max,
            connections: AtomicUsize::new(0),
            seen: Mutex::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (tasks, accepting) = (TaskTracker::new(), Arc::clone(&state));
        let serving = tasks.clone().spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tasks.spawn(serve(stream, Arc::clone(&accepting)));
            }
        });
        Self { addr, authority_pem, state, _serving: AbortOnDropHandle::new(serving) }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The URL under the name that its certificate has.
    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}", self.addr.port())
    }

    /// The authority that signed its certificate.
    pub(crate) fn authority_pem(&self) -> &str {
        &self.authority_pem
    }

    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }
}

async fn serve(stream: TcpStream, state: Arc<State>) {
    // A client that does not believe the certificate ends here.
    let Ok(stream) = state.acceptor.accept(stream).await else { return };
    state.connections.fetch_add(1, Ordering::SeqCst);
    let (served, enough) = (AtomicUsize::new(0), Arc::new(Notify::new()));
    let told = Arc::clone(&enough);
    let service = service_fn(move |request: Request<Incoming>| {
        if served.fetch_add(1, Ordering::SeqCst) + 1 == state.requests_max {
            told.notify_one();
        }
        answer(request, Arc::clone(&state))
    });
    let builder = Builder::new(TokioExecutor::new());
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return drop(ended),
        () = enough.notified() => connection.as_mut().graceful_shutdown(),
    }
    let _ended = connection.await;
}

async fn answer(
    request: Request<Incoming>,
    state: Arc<State>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (version, target) =
        (request.version(), request.uri().path_and_query().unwrap().to_string());
    if let Ok(body) = request.into_body().collect().await {
        state.seen.lock().unwrap().push(Seen { version, target, body: body.to_bytes() });
    }
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::ACCEPTED;
    Ok(response)
}

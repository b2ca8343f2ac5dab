//! Over real sockets on loopback, whose addresses are private to whoever is not told otherwise.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;
use tokio_util::task::TaskTracker;
use tower::Service;

use super::lookup::{Lookup, Reach};
use super::*;

/// Of a relay that does not stop.
fn going() -> CancellationToken {
    CancellationToken::new()
}

const LIMITS: Limits = Limits {
    idle_connections_max: 4,
    pool_idle_timeout: Duration::from_secs(30),
    connection_max_age: Duration::from_secs(300),
    // Longer than a busy machine takes; a test that waits for the end has its own.
    connect_within: Duration::from_secs(30),
    attempt_within: Duration::from_secs(30),
};

/// Answers as it is told, and counts connections and requests.
struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    heads: Arc<Mutex<Vec<String>>>,
    _serving: AbortOnDropHandle<()>,
}

impl Server {
    async fn start(answer: &'static str) -> Self {
        Self::over(TcpListener::bind("127.0.0.1:0").await.unwrap(), answer)
    }

    /// Two addresses that have one port, which some other program may have on the second of them.
    async fn pair(answer: &'static str) -> (Self, Self) {
        for _ in 0..100 {
            let first = Self::start(answer).await;
            let second = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), first.address.port()));
            if let Ok(listener) = TcpListener::bind(second).await {
                return (first, Self::over(listener, answer));
            }
        }
        panic!("no port is free on both");
    }

    fn over(listener: TcpListener, answer: &'static str) -> Self {
        let address = listener.local_addr().unwrap();
        let (connections, heads) = (Arc::<AtomicUsize>::default(), Arc::<Mutex<_>>::default());
        let (counted, kept) = (Arc::clone(&connections), Arc::clone(&heads));
        let tasks = TaskTracker::new();
        let serving = tasks.clone().spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                counted.fetch_add(1, Ordering::SeqCst);
                tasks.spawn(answer_each(stream, answer, Arc::clone(&kept)));
            }
        });
        Self { address, connections, heads, _serving: AbortOnDropHandle::new(serving) }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

async fn answer_each(mut stream: TcpStream, answer: &'static str, heads: Arc<Mutex<Vec<String>>>) {
    let (mut buffer, mut bytes) = ([0; 4096], Vec::new());
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        bytes.extend_from_slice(&buffer[..count]);
        if bytes.ends_with(b"{}") || bytes.starts_with(b"CONNECT") && bytes.ends_with(b"\r\n\r\n") {
            heads.lock().unwrap().push(String::from_utf8(std::mem::take(&mut bytes)).unwrap());
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    }
}

const ALWAYS: Again<'static> = &|| true;

const ACCEPTED: &str = "HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n";

const WITH_BODY: &str = "HTTP/1.1 202 Accepted\r\ncontent-length: 13\r\n\r\n{\"messages\":1";

/// Knows one name, whose address changes.
#[derive(Debug)]
struct Names(Mutex<Vec<IpAddr>>);

impl Names {
    fn of(addresses: &[&str]) -> Arc<Self> {
        Arc::new(Self(Mutex::new(parsed(addresses))))
    }

    fn turn_to(&self, addresses: &[&str]) {
        *self.0.lock().unwrap() = parsed(addresses);
    }
}

fn parsed(addresses: &[&str]) -> Vec<IpAddr> {
    addresses.iter().map(|address| address.parse().unwrap()).collect()
}

impl Resolve for Names {
    fn resolve(&self, name: &str) -> Resolving {
        assert_eq!(name, "events.example.net");
        let found = self.0.lock().unwrap().clone();
        Box::pin(async move { Ok(found) })
    }
}

fn client(limits: Limits, network: &Network) -> Client {
    let counters = Counters { opened: Counter::noop(), resent: Counter::noop() };
    Client::new(limits, network, counters, Clock::system())
}

fn network(base: &str) -> Network {
    Network::open(Origin::parse(base).unwrap())
}

fn post(url: &str) -> Request<Full<Bytes>> {
    let request = Request::post(url).header("content-type", "application/json");
    request.body(Full::new(Bytes::from_static(b"{}"))).unwrap()
}

fn answered(attempt: &Attempt) -> Option<u16> {
    match attempt {
        Attempt::Answered { status, .. } => Some(status.as_u16()),
        Attempt::Unanswered { .. } | Attempt::Cut(_) => None,
    }
}

const PRIVATE: Attempt = Attempt::Unanswered { sent: Sent::No, code: "private_address" };
const UNCONNECTED: Attempt = Attempt::Unanswered { sent: Sent::No, code: "connect" };

#[tokio::test]
async fn an_origin_that_an_event_names_may_not_lead_to_a_private_address() {
    let server = Server::start(ACCEPTED).await;
    let port = server.address.port();
    let mut network = network("https://base.example");
    network.resolver = Names::of(&["127.0.0.1", "10.0.0.1", "::1"]);
    let urls = [
        format!("http://127.0.0.1:{port}/x"),
        format!("http://[::ffff:127.0.0.1]:{port}/x"),
        format!("http://[::1]:{port}/x"),
        format!("http://events.example.net:{port}/x"),
        format!("https://events.example.net:{port}/x"),
    ];
    let guarded = client(LIMITS, &network);
    for url in &urls {
        assert_eq!(guarded.attempt(post(url), &going(), ALWAYS).await, PRIVATE, "{url}");
    }
    assert_eq!(server.connections(), 0);

    network.allow_private = true;
    network.resolver = Names::of(&["127.0.0.1"]);
    let allowed = client(LIMITS, &network);
    for url in [&urls[0], &urls[3]] {
        assert_eq!(
            answered(&allowed.attempt(post(url), &going(), ALWAYS).await),
            Some(202),
            "{url}"
        );
    }
}

#[tokio::test]
async fn the_base_url_leads_where_its_operator_wants() {
    let server = Server::start(ACCEPTED).await;
    let base = format!("http://events.example.net:{}", server.address.port());
    let mut network = network(&base);
    network.resolver = Names::of(&["127.0.0.1"]);
    let client = client(LIMITS, &network);
    assert_eq!(
        answered(&client.attempt(post(&format!("{base}/x")), &going(), ALWAYS).await),
        Some(202)
    );
    // Another port is another origin.
    assert_eq!(
        client.attempt(post("http://events.example.net:9/x"), &going(), ALWAYS).await,
        PRIVATE
    );
}

#[tokio::test]
async fn only_public_addresses_of_a_name_are_connected_to_whenever_it_is_asked() {
    let names = Names::of(&["10.0.0.1", "192.0.2.1", "8.8.8.8", "2606:4700::1111"]);
    let resolver: Arc<dyn Resolve> = Arc::clone(&names) as Arc<dyn Resolve>;
    let mut lookup = Lookup { resolver, reach: Reach::Public };
    let name = || "events.example.net".parse().unwrap();
    let found: Vec<IpAddr> = lookup.call(name()).await.unwrap().map(|one| one.ip()).collect();
    assert_eq!(found, parsed(&["8.8.8.8", "2606:4700::1111"]));
    names.turn_to(&["127.0.0.1"]);
    let error = lookup.call(name()).await.unwrap_err();
    assert!(error.get_ref().is_some_and(|inner| inner.is::<Private>()), "{error:?}");
    // A name without an address is no attack.
    names.turn_to(&[]);
    assert_eq!(lookup.call(name()).await.unwrap().count(), 0);
}

#[tokio::test]
async fn a_names_new_address_is_found_once_its_connection_is_old() {
    let (old, new) = Server::pair(ACCEPTED).await;
    let port = old.address.port();
    let base = format!("http://events.example.net:{port}");
    let (mut network, names) = (network(&base), Names::of(&["127.0.0.1"]));
    network.resolver = Arc::clone(&names) as Arc<dyn Resolve>;
    let url = format!("{base}/x");

    let client =
        client(Limits { connection_max_age: Duration::from_millis(80), ..LIMITS }, &network);
    assert_eq!(answered(&client.attempt(post(&url), &going(), ALWAYS).await), Some(202));
    names.turn_to(&["127.0.0.2"]);
    let started = Instant::now();
    while new.heads().is_empty() {
        assert!(started.elapsed() < Duration::from_secs(30), "the old address is still used");
        assert_eq!(
            answered(&client.attempt(post(&url), &going(), ALWAYS).await),
            Some(202),
            "none may fail"
        );
    }
    assert_eq!(old.connections(), 1, "a young connection is used again");
}

#[tokio::test]
async fn a_stale_connection_brings_no_request_to_whom_asked_to_be_left_alone() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let url = format!("{base}/x");
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&requests);
    // The second request of each connection is read, and the connection closed.
    let _serving = AbortOnDropHandle::new(TaskTracker::new().spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            for nth in 0..2 {
                let (mut buffer, mut bytes) = ([0; 4096], Vec::new());
                while !bytes.ends_with(b"{}") {
                    let count = stream.read(&mut buffer).await.unwrap();
                    bytes.extend_from_slice(&buffer[..count]);
                }
                counted.fetch_add(1, Ordering::SeqCst);
                if nth == 0 {
                    stream.write_all(ACCEPTED.as_bytes()).await.unwrap();
                }
            }
        }
    }));
    let client = client(LIMITS, &network(&base));
    assert_eq!(answered(&client.attempt(post(&url), &going(), ALWAYS).await), Some(202));
    let waits = client.attempt(post(&url), &going(), &|| false).await;
    assert_eq!(waits, STALE);
    assert_eq!(requests.load(Ordering::SeqCst), 2, "it was not sent a second time");
    assert_eq!(answered(&client.attempt(post(&url), &going(), ALWAYS).await), Some(202));
    assert_eq!(answered(&client.attempt(post(&url), &going(), ALWAYS).await), Some(202));
    assert_eq!(requests.load(Ordering::SeqCst), 5, "one of the two met a stale connection");
}

#[tokio::test]
async fn a_connection_is_used_again_until_it_is_old() {
    let server = Server::start(ACCEPTED).await;
    let base = format!("http://{}", server.address);
    let client = client(LIMITS, &network(&base));
    for _ in 0..100 {
        assert_eq!(
            answered(&client.attempt(post(&format!("{base}/x")), &going(), ALWAYS).await),
            Some(202)
        );
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_thousand_attempts_under_steady_load_at_most_one_opens_a_connection() {
    const ATTEMPTS: usize = 20_000;
    const AT_ONCE: usize = 4;
    let server = Server::start(WITH_BODY).await;
    let base = format!("http://{}", server.address);
    let client = client(LIMITS, &network(&base));
    let tasks = TaskTracker::new();
    for _ in 0..AT_ONCE {
        let (client, url) = (client.clone(), format!("{base}/x"));
        tasks.spawn(async move {
            for _ in 0..ATTEMPTS / AT_ONCE {
                assert_eq!(
                    answered(&client.attempt(post(&url), &going(), ALWAYS).await),
                    Some(202)
                );
            }
        });
    }
    tasks.close();
    tasks.wait().await;
    assert_eq!(server.heads().len(), ATTEMPTS);
    assert!(server.connections() <= ATTEMPTS / 1000, "{} connections", server.connections());
}

fn through(proxy: &str, credentials: Option<&[u8]>) -> Network {
    let mut network = network("https://base.example");
    network.proxy = Some(Proxy::new(Origin::parse(proxy).unwrap(), credentials).unwrap());
    network.resolver = Names::of(&[]);
    network
}

/// Names that nobody ever tells the address of.
#[derive(Debug)]
struct Nobody;

impl Resolve for Nobody {
    fn resolve(&self, _name: &str) -> Resolving {
        Box::pin(std::future::pending())
    }
}

#[tokio::test]
async fn a_stop_tells_whether_what_it_breaks_off_may_have_arrived() {
    let server = Server::start("").await;
    let base = format!("http://{}", server.address);
    let mut unknown = network("https://base.example");
    unknown.resolver = Arc::new(Nobody);
    let cases = [
        (client(LIMITS, &network(&base)), format!("{base}/x"), Sent::Maybe),
        (client(LIMITS, &unknown), "http://events.example.net/x".to_owned(), Sent::No),
    ];
    for (client, url, sent) in cases {
        let stop = CancellationToken::new();
        let attempt = client.attempt(post(&url), &stop, ALWAYS);
        let cut = async {
            while sent == Sent::Maybe && server.heads().is_empty() {
                tokio::task::yield_now().await;
            }
            tokio::task::yield_now().await;
            stop.cancel();
        };
        assert_eq!(tokio::join!(attempt, cut).0, Attempt::Cut(sent), "{url}");
        let stopped = client.attempt(post(&url), &stop, ALWAYS).await;
        assert!(matches!(stopped, Attempt::Cut(_)), "what begins after the stop: {stopped:?}");
    }
}

#[tokio::test]
async fn a_dead_proxy_is_a_request_that_did_not_leave() {
    // Bound, so that nobody else is given the port, and not listening.
    let kept = tokio::net::TcpSocket::new_v4().unwrap();
    kept.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let closed = kept.local_addr().unwrap();
    let client = client(LIMITS, &through(&format!("http://{closed}"), None));
    for url in ["http://events.example.net/x", "https://events.example.net/x"] {
        assert_eq!(client.attempt(post(url), &going(), ALWAYS).await, UNCONNECTED, "{url}");
    }
}

#[tokio::test]
async fn a_proxy_reads_plain_requests_and_is_asked_for_tunnels() {
    let proxy =
        Server::start("HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n")
            .await;
    let network = through(&format!("http://{}", proxy.address), Some(b"user:pass"));
    let client = client(LIMITS, &network);
    // Its refusal is not the destination's answer, which would be final.
    for url in ["http://events.example.net/a'{b}?c|d", "https://events.example.net/x"] {
        assert_eq!(client.attempt(post(url), &going(), ALWAYS).await, UNCONNECTED, "{url}");
    }
    let heads = proxy.heads();
    let (plain, tunnel) = (&heads[0], &heads[1]);
    assert!(plain.starts_with("POST http://events.example.net/a'{b}?c|d HTTP/1.1\r\n"), "{plain}");
    assert!(tunnel.starts_with("CONNECT events.example.net:443 HTTP/1.1\r\n"), "{tunnel}");
    for head in &heads {
        assert!(
            head.to_lowercase().contains("proxy-authorization: basic dxnlcjpwyxnz\r\n"),
            "{head}"
        );
    }
    assert!(!format!("{network:?}").contains("pass"), "{network:?}");
}

#[tokio::test]
async fn a_private_address_is_none_by_way_of_a_proxy_either() {
    let proxy = Server::start(ACCEPTED).await;
    let client = client(LIMITS, &through(&format!("http://{}", proxy.address), None));
    for url in ["http://169.254.169.254/x", "https://[::1]/x"] {
        assert_eq!(client.attempt(post(url), &going(), ALWAYS).await, PRIVATE, "{url}");
    }
    assert_eq!(proxy.connections(), 0);
}

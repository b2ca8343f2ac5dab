//! A real Chromium posts from a page of another origin: `navigator.sendBeacon` in its three forms,
//! and `fetch`. `BEACON_BROWSER=1` runs it; `tests/run` sets that when there is a Chromium.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use axum::Router;
use axum::response::Html;
use axum::routing::{get, post};
use beacon_relay::sandbox::Filter;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::support::{FakeUpstream, TestRelay};

/// Longest that Chromium may take to start and to send everything, on a busy machine.
const WITHIN: Duration = Duration::from_secs(60);
const PAGE: &str = include_str!("browser/page.html");

/// A shop's page, on an origin of its own, which reports what its browser told it.
struct Shop {
    addr: SocketAddr,
    reports: mpsc::Receiver<Value>,
    _serving: AbortOnDropHandle<()>,
}

impl Shop {
    async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (sender, reports) = mpsc::channel(4);
        let report = move |body: String| async move {
            sender.send(serde_json::from_str(&body).unwrap()).await.unwrap();
        };
        let router =
            Router::new().route("/", get(|| async { Html(PAGE) })).route("/report", post(report));
        let serving = TaskTracker::new().spawn(async move {
            let connections = TaskTracker::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let service = hyper_util::service::TowerToHyperService::new(router.clone());
                connections.spawn(async move {
                    let stream = hyper_util::rt::TokioIo::new(stream);
                    let http = hyper::server::conn::http1::Builder::new();
                    let _gone = http.serve_connection(stream, service).await;
                });
            }
        });
        Self { addr, reports, _serving: AbortOnDropHandle::new(serving) }
    }

    /// Opens the page in Chromium and waits for its report.
    async fn visit(&mut self, relay: SocketAddr, profile: &std::path::Path) -> Value {
        let mut chromium = chromium(&format!("http://{}/?relay={relay}", self.addr), profile);
        let report = timeout(WITHIN, self.reports.recv()).await;
        chromium.kill().await.unwrap();
        report.expect("the page reports in time").expect("the shop is open")
    }
}

fn chromium(url: &str, profile: &std::path::Path) -> Child {
    let flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--remote-debugging-port=0",
    ];
    Command::new("chromium")
        .args(flags)
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(url)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("chromium, a Debian package")
}

fn is_asked_for() -> bool {
    let asked = std::env::var_os("BEACON_BROWSER").is_some();
    if !asked {
        eprintln!("NOT RUN: set BEACON_BROWSER=1 to post from Chromium");
    }
    asked
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_in_chromium_posts_beacons_and_reads_answers() {
    if !is_asked_for() {
        return;
    }
    let (upstream, mut shop) = (FakeUpstream::start().await, Shop::open().await);
    let key = format!("{:x}", beacon_relay::caller::KeyDigest::of(b"till-key"));
    let config = format!(
        "[[client]]\nname = \"page\"\norigins = [\"http://{}\"]\n\
         [[client]]\nname = \"till\"\nkey_sha256 = \"{key}\"\n",
        shop.addr
    );
    let relay = TestRelay::start_with(&config, &upstream).await;
    let profile = tempfile::tempdir().unwrap();
    let report = shop.visit(relay.addr(), profile.path()).await;
    assert_eq!(report["beacons"], json!([true, true, true]), "{report}");
    // What the page may read, it reads: status, our headers, the errors of a refusal.
    assert_eq!(report["fetched"]["status"], 202, "{report}");
    assert_eq!(report["fetched"]["id"].as_str().map(str::len), Some(36), "{report}");
    assert_eq!(report["keepalive"]["status"], 202, "{report}");
    assert_eq!(report["refused"]["status"], 422, "{report}");
    assert_eq!(report["refused"]["errors"], 3, "{report}");
    relay
        .until(|status| {
            let sources = status["sources"].as_array().unwrap();
            let accepted = sources.iter().map(|one| one["accepted"].as_u64().unwrap());
            accepted.sum::<u64>() == 5 && status["ledger"]["store"]["spooled"] == 0
        })
        .await;
    let arrivals = upstream.sandbox.events(&Filter::default());
    let arrived: BTreeSet<String> = arrivals
        .iter()
        .map(|one| format!("{} {}", one.target, String::from_utf8_lossy(&one.body)))
        .collect();
    let expected = [
        r#"/v1/beacon/click/blob {"user_id":"u","session_id":"s"}"#,
        r#"/v1/beacon/impression/text {"user_id":"u","session_id":"s"}"#,
        r#"/v1/beacon/view/form?pos=1 {"user_id":"u","session_id":"s"}"#,
        r#"/v1/beacon/click/fetch {"user_id":"u","session_id":"s"}"#,
        r#"/v1/beacon/click/keepalive {"user_id":"u","session_id":"s"}"#,
    ];
    assert_eq!(arrived, expected.map(str::to_owned).into());
    relay.finish().await;
}

/// The same page where its origin is not a client's: its browser sends what needs no leave, the
/// relay refuses it, and the page learns nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_origin_posts_nothing_and_reads_nothing() {
    if !is_asked_for() {
        return;
    }
    let (upstream, mut shop) = (FakeUpstream::start().await, Shop::open().await);
    let config = "[[client]]\nname = \"page\"\norigins = [\"https://shop.example\"]\n";
    let relay = TestRelay::start_with(config, &upstream).await;
    let profile = tempfile::tempdir().unwrap();
    let report = shop.visit(relay.addr(), profile.path()).await;
    for post in ["fetched", "keepalive", "refused"] {
        assert_eq!(report[post]["status"], "TypeError", "{report}");
    }
    let status = relay.status().await;
    assert!(status["sources"].as_array().unwrap().iter().all(|one| one["received"] == 0));
    relay.finish().await;
}

//! A relay of a test's own: real TCP, a real spool in a directory of its own, a fake upstream.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use beacon_relay::app::Relay;
use beacon_relay::clock::Clock;
use beacon_relay::config::{Layers, Plan};
use beacon_relay::forward::Forwarder;
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::timeout;

use super::{FakeUpstream, RawAnswer, RawClient, SOON, post};

/// A running relay; [`TestRelay::finish`] must end every test, for it checks the sums.
pub(crate) struct TestRelay {
    relay: Option<Relay>,
    config: String,
    upstream: String,
    dir: TempDir,
}

/// Waits longer for the store than callers do: a disk may be busy with other work.
pub(crate) fn patient(plan: &mut Plan) {
    for source in &mut plan.sources {
        source.answer_within = SOON;
    }
}

/// The vendor's own sample order.
pub(crate) const ORDER: &str = include_str!("../../corpus/vtex/order.json");

impl TestRelay {
    /// A relay with the defaults that sends to `upstream`.
    pub(crate) async fn start(upstream: &FakeUpstream) -> Self {
        Self::start_with("", upstream).await
    }

    /// The same with `config` laid over the defaults.
    pub(crate) async fn start_with(config: &str, upstream: &FakeUpstream) -> Self {
        let dir = TempDir::new().unwrap();
        let url = format!("http://{}", upstream.addr());
        let mut own = Self { relay: None, config: config.to_owned(), upstream: url, dir };
        own.relay = Some(own.open().await);
        own
    }

    fn plan(&self) -> Plan {
        let file = self.dir.path().join("relay.toml");
        std::fs::write(&file, &self.config).unwrap();
        let data = self.data_dir().display().to_string();
        // Less is laid out on the disk, which all tests share.
        let small = ("BEACON_RELAY_SPOOL__MAX_BYTES", "256 MiB");
        let layers = Layers {
            file: Some(file),
            environment: [
                ("ADMIN_TOKEN", "hush"),
                ("OLX_SECRET", "test-secret"),
                ("IMPACT_TOKEN", "impact-token"),
                ("OLX_API_KEY", "api-key"),
                ("OLX_CLIENT_ID", "client"),
                ("OLX_CLIENT_SECRET", "hush"),
            ]
            .into_iter()
            .chain((!self.config.contains("max_bytes")).then_some(small))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
            flags: vec![
                ("--listen", &["server", "listen"], "127.0.0.1:0".to_owned()),
                ("--data-dir", &["spool", "path"], data),
            ],
            upstream: Some(self.upstream.clone()),
        };
        let mut plan = layers.plan().unwrap_or_else(|faults| panic!("{faults}"));
        // A test that asks for another address keeps it; the rest get a free port.
        if plan.admin.listen.port() == 9090 {
            plan.admin.listen.set_port(0);
        }
        if !self.config.contains("answer_within") {
            patient(&mut plan);
        }
        plan
    }

    async fn open(&self) -> Relay {
        Relay::start(self.plan(), Clock::system()).await.unwrap()
    }

    /// The spool's directory.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn relay(&self) -> &Relay {
        self.relay.as_ref().expect("it runs until it is finished")
    }

    /// Where apps post.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.relay().listen()
    }

    /// Where operators look, reached over loopback.
    pub(crate) fn admin_addr(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.relay().admin_listen().port()))
    }

    /// Posts `body` as JSON on a new connection.
    pub(crate) async fn post(&self, target: &str, body: impl AsRef<[u8]>) -> RawAnswer {
        self.post_with(target, "Content-Type: application/json\r\n", body).await
    }

    /// Posts with header lines of the test's own, each with its CRLF.
    pub(crate) async fn post_with(
        &self,
        target: &str,
        head: &str,
        body: impl AsRef<[u8]>,
    ) -> RawAnswer {
        self.send(&post(target, head, body)).await
    }

    /// Sends exactly these bytes on a new connection and reads one answer.
    pub(crate) async fn send(&self, request: &[u8]) -> RawAnswer {
        RawClient::connect(self.addr()).await.exchange(request).await
    }

    /// Gets a path of the admin listener.
    pub(crate) async fn admin(&self, path: &str, head: &str) -> RawAnswer {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{head}\r\n");
        RawClient::connect(self.admin_addr()).await.exchange(request.as_bytes()).await
    }

    /// Asks the admin listener with another method, and a JSON body where there is one.
    pub(crate) async fn steer(
        &self,
        method: &str,
        path: &str,
        head: &str,
        body: &str,
    ) -> RawAnswer {
        let typed = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\n{typed}{head}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        RawClient::connect(self.admin_addr()).await.exchange(request.as_bytes()).await
    }

    /// The report of `GET /api/status`.
    pub(crate) async fn status(&self) -> Value {
        self.relay().status().report().await.unwrap()
    }

    /// The forwarder of a destination, as the admin API steers it.
    pub(crate) fn forwarder(&self, name: &str) -> Arc<Forwarder> {
        Arc::clone(self.relay().status().forwarder(name).unwrap())
    }

    /// The metrics as text.
    pub(crate) async fn metrics(&self) -> String {
        self.admin("/metrics", "").await.text().to_owned()
    }

    /// Waits until nothing is owed to anyone, and everything is counted.
    pub(crate) async fn settled(&self) {
        self.until(|status| {
            let destinations = status["destinations"].as_array().unwrap();
            let in_hand = destinations.iter().any(|one| one["leases"]["in_hand"] != 0);
            status["ledger"]["store"]["spooled"] == 0 && !in_hand
        })
        .await;
    }

    /// Waits until the report says so.
    pub(crate) async fn until(&self, says: impl Fn(&Value) -> bool) {
        let waiting = async {
            while !says(&self.status().await) {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        let said = timeout(SOON, waiting).await;
        assert!(said.is_ok(), "not so within {SOON:?}: {:#}", self.status().await);
    }

    /// Checks the sums, stops, and opens the same directory again.
    pub(crate) async fn restart(&mut self) {
        self.balance().await;
        self.relay.take().expect("it runs").stop().await.unwrap();
        self.relay = Some(self.open().await);
    }

    async fn balance(&self) {
        let status = self.status().await;
        let differences = &status["ledger"]["differences"];
        for sum in ["items", "leases", "store", "letters"] {
            assert_eq!(differences[sum], 0, "the sum of {sum} does not balance: {status:#}");
        }
    }

    /// Checks the sums and stops.
    pub(crate) async fn finish(mut self) {
        self.balance().await;
        self.relay.take().expect("it runs").stop().await.unwrap();
    }
}

impl Drop for TestRelay {
    fn drop(&mut self) {
        let checked = self.relay.is_none() || std::thread::panicking();
        assert!(checked, "a test ends with `finish`, which checks the sums");
    }
}

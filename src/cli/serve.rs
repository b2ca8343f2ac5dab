//! `serve`: run the relay until it is told to stop.

use std::net::SocketAddr;

use anyhow::Context;
use clap::Args;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{ConfigFile, sandbox};
use crate::app::{Relay, Reloaded};
use crate::clock::Clock;
use crate::config::Layers;
use crate::shutdown::Told;
use crate::{log, shutdown};

/// Runs the relay; what happens without a subcommand.
#[derive(Debug, Args)]
#[command(after_help = "Example: beacon-relay serve --sandbox\n\
    Exit codes: 0 after a clean stop, 1 after a fault, 2 when the configuration is refused")]
pub(super) struct Serve {
    #[command(flatten)]
    file: ConfigFile,
    /// Where apps and tills post [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Where operators look [default: 127.0.0.1:9090]
    #[arg(long, value_name = "ADDRESS")]
    admin_listen: Option<String>,
    /// Directory of the store [default: data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Where events go, in place of the base URL of destination events-api
    #[arg(long, value_name = "URL", conflicts_with = "sandbox")]
    upstream: Option<String>,
    /// Sends to a fake events API that is started beside the relay, and takes events from anyone
    #[arg(long)]
    sandbox: bool,
}

impl Serve {
    pub(super) fn run(self) -> anyhow::Result<()> {
        super::runtime()?.block_on(self.serve())
    }

    async fn serve(self) -> anyhow::Result<()> {
        // From the first moment on: whoever tells us to stop is not to kill us.
        let mut signals = shutdown::Signals::listen()?;
        let fake = if self.sandbox { Some(Fake::start().await?) } else { None };
        let layers = self.layers(fake.as_ref().map(|fake| fake.address));
        let plan = layers.plan()?;
        log::start(&plan.log);
        log::crash::leave_nothing();
        for warning in plan.warnings(Clock::system().now()) {
            tracing::warn!("{warning}");
        }
        let is_tls = plan.server.tls.is_some();
        let data = plan.spool.path.display().to_string();
        // Cancel-safe: what was begun of a start is dropped, and recovery knows how to go on.
        let relay = tokio::select! {
            started = Relay::start(plan, Clock::system()) => started?,
            signal = signals.stop() => {
                tracing::info!(signal, "stopped before it was ready");
                return Ok(());
            }
        };
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"), listen = %relay.listen(),
            admin = %relay.admin_listen(), data, "ready"
        );
        if let Some(fake) = &fake {
            greet(&relay, is_tls, fake.address);
        }
        let fault = loop {
            // Both are cancel-safe; a fault is remembered by the spool.
            let told = tokio::select! {
                told = signals.next() => told,
                fault = relay.fault() => break Some(fault),
            };
            match told {
                Told::Stop(signal) => {
                    tracing::info!(signal, "stopping");
                    break None;
                }
                Told::Reload => reload(&relay, layers.clone()).await,
            }
        };
        let closed = relay.stop().await;
        if let Some(fake) = fake {
            fake.stop().await;
        }
        if let Some(fault) = fault {
            return Err(fault)
                .context("the store broke: what was answered 202 is kept, start again");
        }
        closed.context("the store did not close cleanly: what was answered 202 is kept")?;
        tracing::info!("stopped");
        Ok(())
    }

    fn layers(&self, fake: Option<SocketAddr>) -> Layers {
        let mut layers = self.file.layers();
        let mut flag = |flag, path: &'static [&'static str], value: Option<&String>| {
            layers.flags.extend(value.map(|value| (flag, path, value.clone())));
        };
        flag("--listen", &["server", "listen"], self.listen.as_ref());
        flag("--admin-listen", &["admin", "listen"], self.admin_listen.as_ref());
        flag("--data-dir", &["spool", "path"], self.data_dir.as_ref());
        layers.upstream = self.upstream.clone();
        if let Some(fake) = fake {
            layers.upstream = Some(format!("http://{fake}"));
            layers.flags.push(("--sandbox", &["server", "auth"], "open".to_owned()));
        }
        layers
    }
}

/// Reads the configuration again, and says what changed; a fault changes nothing.
async fn reload(relay: &Relay, layers: Layers) {
    // Files are read and schemas compiled: not where requests are answered.
    let planned = tokio::task::spawn_blocking(move || layers.plan()).await;
    let plan = match planned {
        Ok(Ok(plan)) => plan,
        Ok(Err(faults)) => {
            for fault in &faults.0 {
                tracing::error!(%fault, "the configuration was read again and refused");
            }
            tracing::error!(faults = faults.0.len(), "nothing was changed");
            return;
        }
        Err(_panicked) => {
            tracing::error!("reading the configuration broke off: nothing was changed");
            return;
        }
    };
    for warning in plan.warnings(Clock::system().now()) {
        tracing::warn!("{warning}");
    }
    let Reloaded { changed, waiting } = relay.reload(plan);
    tracing::info!(changed = changed.join(", "), "the configuration was read again");
    if !waiting.is_empty() {
        tracing::warn!(settings = waiting.join(", "), "a restart is needed for some settings");
    }
}

/// The fake events API beside a relay.
struct Fake {
    address: SocketAddr,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Fake {
    async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let fake = Self { address, stop: CancellationToken::new(), tasks: TaskTracker::new() };
        let (sandbox, stop) = (sandbox::sandbox()?, fake.stop.clone());
        fake.tasks.spawn(async move {
            if let Err(error) = sandbox.serve(listener, stop).await {
                tracing::error!(%error, "the sandbox ended");
            }
        });
        Ok(fake)
    }

    async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// The vendor's sample order on one line, to paste into a shell.
const ORDER: &str = r#"{"channel":"ecommerce","publisher_id":"xxx","user_id":"6f92d1e9-00b6-4f8b-9645-faeab321e1cc","session_id":"5898b8d1-c250-4bb5-931b-8b9d0ee7b499","order_id":"123","email_hashed":"xyz","items":[{"sku":"12221","seller_id":"1234","product_id":"4567","quantity":1,"price":2000.00,"promotional_price":1899.00}],"created_at":"2023-01-01T09:20:00Z"}"#;
const AD_EVENT: &str = r#"{"session_id":"5898b8d1-c250-4bb5-931b-8b9d0ee7b499"}"#;
const AD: &str = "4a94bc6e-7db1-425f-8430-cb4d17488b3b?pos=1";

/// Three lines to paste: an order, an impression, and what arrived. The address is in no
/// certificate, so curl is not to look for it there.
fn greet(relay: &Relay, is_tls: bool, fake: SocketAddr) {
    let (scheme, curl) = if is_tls { ("https", "curl -ik") } else { ("http", "curl -i") };
    let json = "-H 'Content-Type: application/json'";
    let url = format!("{scheme}://{}", relay.listen());
    super::say(&format!(
        "An order, an impression, and what the sandbox received:\n\n\
         {curl} {url}/v1/beacon/conversion {json} -d '{ORDER}'\n\n\
         {curl} '{url}/v1/beacon/impression/{AD}' {json} -d '{AD_EVENT}'\n\n\
         curl -s http://{fake}/_sandbox/events\n\n\
         Metrics: http://{admin}/metrics, state: http://{admin}/api/status",
        admin = relay.admin_listen()
    ));
}

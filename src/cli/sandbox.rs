//! `sandbox`: the fake events API alone.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config;
use crate::event::EventKind;
use crate::sandbox::{Judge, Judgement};
use crate::schema::Schema;
use crate::{json, log, shutdown};

/// Runs the fake events API alone.
#[derive(Debug, Args)]
#[command(after_help = "Example: beacon-relay sandbox --listen 127.0.0.1:8090\n\
    Faults: curl -X PUT http://127.0.0.1:8090/_sandbox/faults -d '{\"status\":503,\"share\":0.2}'")]
pub(super) struct Sandbox {
    /// Where it listens
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8090")]
    listen: SocketAddr,
}

impl Sandbox {
    pub(super) fn run(self) -> anyhow::Result<()> {
        super::runtime()?.block_on(self.serve())
    }

    async fn serve(self) -> anyhow::Result<()> {
        log::start(&log::Settings::default());
        let mut signals = shutdown::Signals::listen()?;
        let listener = TcpListener::bind(self.listen).await;
        let listener = listener.with_context(|| format!("cannot listen on {}", self.listen))?;
        let address = listener.local_addr()?;
        super::say(&format!(
            "The sandbox answers as the events API on http://{address}\n\
             What arrived: http://{address}/_sandbox/events, counts: http://{address}/_sandbox/stats"
        ));
        let stop = CancellationToken::new();
        let sandbox = sandbox()?;
        let serving = sandbox.serve(listener, stop.clone());
        let mut serving = std::pin::pin!(serving);
        // Cancel-safe: serving goes on below.
        tokio::select! {
            ended = serving.as_mut() => return Ok(ended?),
            _signal = signals.next() => {}
        };
        stop.cancel();
        Ok(serving.await?)
    }
}

/// A fake that judges bodies by the shipped schemas.
pub(super) fn sandbox() -> anyhow::Result<crate::sandbox::Sandbox> {
    let order = config::shipped_schema("schemas/conversion-documented.json")?;
    let ad_event = config::shipped_schema("schemas/ad-event.json")?;
    let judge: Judge = Arc::new(move |kind, body: &[u8]| match kind {
        EventKind::Conversion => judge(&order, body),
        EventKind::Impression | EventKind::View | EventKind::Click | EventKind::Notification => {
            judge(&ad_event, body)
        }
    });
    Ok(crate::sandbox::Sandbox::new(judge, Clock::system()))
}

/// Levels of nesting that the fake takes.
const DEPTH_MAX: usize = 100;

fn judge(schema: &Schema, body: &[u8]) -> Judgement {
    let Ok(document) = json::parse(body, DEPTH_MAX) else { return Judgement::Malformed };
    let violations = schema.check(&document);
    if violations.is_empty() { Judgement::Valid } else { Judgement::Invalid(violations.to_json()) }
}

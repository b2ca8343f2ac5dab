//! `health`: is a running relay ready?

use std::time::Duration;

use anyhow::bail;
use clap::Args;

use super::ConfigFile;
use super::remote::reachable;

/// Asks a running relay whether it is ready; for a container's health check.
#[derive(Debug, Args)]
#[command(after_help = "Example: beacon-relay health --url http://127.0.0.1:9090\n\
    Exit codes: 0 ready, 1 not")]
pub(super) struct Health {
    /// Base URL of the admin listener [default: that of the configuration]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    #[command(flatten)]
    file: ConfigFile,
}

/// A relay that answers later than this is not well.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

impl Health {
    pub(super) fn run(self) -> anyhow::Result<()> {
        super::runtime()?.block_on(self.ask())
    }

    async fn ask(self) -> anyhow::Result<()> {
        let base = match self.url {
            Some(url) => url,
            None => {
                // A fault of the configuration is a relay that is not ready, not a refusal: exit 1.
                let admin = self.file.layers().admin();
                let admin = admin.map_err(|faults| anyhow::anyhow!("{faults}"))?;
                format!("http://{}", reachable(admin.listen))
            }
        };
        let url = format!("{}/readyz", base.trim_end_matches('/'));
        let client = reqwest::Client::builder().timeout(ANSWER_WITHIN).no_proxy().build()?;
        let answer = client.get(&url).send().await;
        let answer = answer.map_err(|error| {
            let (base, root) = (base.trim_end_matches('/'), super::web::root(&error));
            anyhow::anyhow!(
                "nothing answers on {base} ({root}): is `beacon-relay serve` running, and is this \
                 its admin.listen? --config and --url name another"
            )
        })?;
        let (status, body) = (answer.status(), answer.text().await.unwrap_or_default());
        super::say(&body);
        if !status.is_success() {
            bail!("not ready: {status}");
        }
        Ok(())
    }
}

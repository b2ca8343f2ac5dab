//! A running relay's admin API, from a terminal.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use clap::Args;
use http::Method;
use http::header::AUTHORIZATION;
use serde_json::Value;

use super::ConfigFile;
use crate::http::admin::Token;

/// Which relay is asked, and how its answer is printed.
#[derive(Clone, Debug, Args)]
pub(super) struct Remote {
    /// Base URL of the admin listener [default: that of the configuration]
    #[arg(long, value_name = "URL", global = true)]
    url: Option<String>,
    /// Configuration file, laid over the compiled-in defaults
    #[arg(long, value_name = "FILE", env = "BEACON_RELAY_CONFIG", global = true)]
    config: Option<PathBuf>,
    /// Prints the answer as JSON, for programs
    #[arg(long, global = true)]
    pub(super) json: bool,
}

/// Longer than the API looks, or waits for a job, before it answers.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// A relay that can be asked.
#[derive(Debug)]
pub(super) struct Api {
    base: String,
    token: Option<Token>,
    reveal: Option<Token>,
    client: reqwest::Client,
}

impl Remote {
    /// The relay of the configuration, or of `--url`; the tokens are the configuration's.
    pub(super) fn api(&self) -> anyhow::Result<Api> {
        let file = ConfigFile { config: self.config.clone() };
        let plan = file.layers().plan().map_err(|faults| anyhow!("{faults}"))?;
        let base = match &self.url {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => format!("http://{}", reachable(plan.admin.listen)),
        };
        let client = reqwest::Client::builder().timeout(ANSWER_WITHIN).no_proxy().build()?;
        Ok(Api { base, token: plan.admin.token, reveal: plan.admin.reveal, client })
    }
}

impl Api {
    /// What a path answers.
    pub(super) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.ask(Method::GET, path, None, self.token.as_ref().or(self.reveal.as_ref())).await
    }

    /// The same with the token of those who may see values.
    pub(super) async fn get_revealed(&self, path: &str) -> anyhow::Result<Value> {
        self.ask(Method::GET, path, None, self.reveal.as_ref()).await
    }

    /// What a path answers to a body.
    pub(super) async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let token = self.token.as_ref().or(self.reveal.as_ref());
        self.ask(Method::POST, path, Some(body), token).await
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        token: Option<&Token>,
    ) -> anyhow::Result<Value> {
        let mut request = self.client.request(method, format!("{}{path}", self.base));
        if let Some(bearer) = token.and_then(Token::bearer) {
            request = request.header(AUTHORIZATION, bearer);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = answer.status();
        let text = answer.text().await.context("the answer broke off: ask again")?;
        let read = serde_json::from_str::<Value>(&text);
        if status.is_success() {
            return read.with_context(|| format!("{} is no admin listener of a relay", self.base));
        }
        match read.ok().and_then(|problem| problem["detail"].as_str().map(str::to_owned)) {
            Some(detail) => bail!("{detail}"),
            None => bail!("{} answers {status}, as no relay does: check --url", self.base),
        }
    }

    fn unreachable(&self, error: &reqwest::Error) -> anyhow::Error {
        let base = &self.base;
        if error.is_builder() {
            anyhow!("{base} is no URL to ask: write it as http://127.0.0.1:9090")
        } else if error.is_timeout() {
            anyhow!("{base} did not answer within {} s: look at its log", ANSWER_WITHIN.as_secs())
        } else {
            anyhow!(
                "nothing answers on {base}: is `beacon-relay serve` running, and is this its \
                 admin.listen? --config and --url name another"
            )
        }
    }
}

/// Where a listener on every address is reached from the same machine.
pub(super) fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// A text as it may stand in a path or a query.
pub(super) fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        other => format!("%{other:02X}"),
    };
    text.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_url_cannot_carry_is_encoded() {
        assert_eq!(encoded("a-1 &é+"), "a-1%20%26%C3%A9%2B");
    }

    #[test]
    fn a_listener_on_every_address_is_asked_on_loopback() {
        let reached = |listen: &str| reachable(listen.parse().unwrap()).to_string();
        assert_eq!(reached("0.0.0.0:9090"), "127.0.0.1:9090");
        assert_eq!(reached("[::]:9090"), "[::1]:9090");
        assert_eq!(reached("192.0.2.1:9090"), "192.0.2.1:9090");
    }
}

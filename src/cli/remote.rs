//! A running relay's admin API, from a terminal.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use clap::Args;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use serde_json::Value;

use super::ConfigFile;
use super::web::{self, Web};
use crate::http::admin::Token;

/// Which relay is asked, and how its answer is printed.
#[derive(Clone, Debug, Args)]
pub(super) struct Remote {
    /// Base URL of the admin listener [default: that of the configuration]
    #[arg(long, value_name = "URL", global = true)]
    url: Option<String>,
    /// Configuration file, laid over the compiled-in defaults
    #[arg(long, value_name = "FILE", env = "BEACON_RELAY_CONFIG", global = true)]
    pub(super) config: Option<PathBuf>,
    /// Certificate authorities of an https URL, PEM [default: those that browsers trust]
    #[arg(long, value_name = "FILE", global = true)]
    ca: Option<PathBuf>,
    /// Prints the answer as JSON, for programs
    #[arg(long, global = true)]
    pub(super) json: bool,
}

/// Longer than the API looks, or waits for a job, before it answers.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// Bytes of an answer: a page of a thousand letters with large bodies.
const ANSWER_BYTES_MAX: usize = 512 << 20;

/// A relay that can be asked.
#[derive(Debug)]
pub(super) struct Api {
    base: String,
    token: Option<Token>,
    reveal: Option<Token>,
    web: Web,
}

impl Remote {
    /// The relay of the configuration, or of `--url`; the tokens are the configuration's.
    pub(super) fn api(&self) -> anyhow::Result<Api> {
        let file = ConfigFile { config: self.config.clone() };
        let admin = file.layers().admin().map_err(|faults| anyhow!("{faults}"))?;
        let base = match &self.url {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => format!("http://{}", reachable(admin.listen)),
        };
        let is_url = base.parse::<Uri>().is_ok_and(|uri| {
            uri.authority().is_some() && matches!(uri.scheme_str(), Some("http" | "https"))
        });
        if !is_url {
            bail!("{base} is no URL to ask: write it as http://127.0.0.1:9090");
        }
        let web = web::client(&web::trust(self.ca.as_deref())?);
        Ok(Api { base, token: admin.token, reveal: admin.reveal, web })
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
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        if let Some(bearer) = token.and_then(Token::bearer) {
            request = request.header(AUTHORIZATION, bearer);
        }
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let body = body.map_or_else(Bytes::new, |body| body.to_string().into());
        let request = request.body(Full::new(body)).context("no request can be made of this")?;
        let exchange = async {
            let answer =
                self.web.request(request).await.map_err(|error| self.unreachable(&error))?;
            let (status, body) = (answer.status(), answer.into_body());
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|_| anyhow!("the answer broke off: ask again"))?.to_bytes();
            Ok::<_, anyhow::Error>((status, body))
        };
        let (status, body) =
            tokio::time::timeout(ANSWER_WITHIN, exchange).await.unwrap_or_else(|_elapsed| {
                let within = ANSWER_WITHIN.as_secs();
                Err(anyhow!("{} did not answer within {within} s: look at its log", self.base))
            })?;
        let read = serde_json::from_slice::<Value>(&body);
        if status.is_success() {
            return read.with_context(|| format!("{} is no admin listener of a relay", self.base));
        }
        let detail = read.ok().and_then(|it| it["detail"].as_str().map(str::to_owned));
        let Some(detail) = detail else {
            bail!("{} answers {status}, as no relay does: check --url", self.base)
        };
        match status {
            StatusCode::UNAUTHORIZED if token.is_none() => bail!(
                "{} asks for a token: name its variable in admin.token_env of the configuration, or \
                 in BEACON_RELAY_ADMIN__TOKEN_ENV, and export it",
                self.base
            ),
            StatusCode::UNAUTHORIZED => bail!(
                "{} knows no such token: look whether the variable of admin.token_env, or of \
                 admin.reveal_token_env for --reveal, holds what the relay was started with",
                self.base
            ),
            // These paths are there on any admin listener.
            StatusCode::NOT_FOUND if path == "/api/status" || path.starts_with("/api/dead?") => {
                bail!("{} is no admin listener: is it the public one? check --url", self.base)
            }
            _ => bail!("{detail}"),
        }
    }

    fn unreachable(&self, error: &(dyn std::error::Error + 'static)) -> anyhow::Error {
        let (base, root) = (&self.base, web::root(error));
        if web::is_about_tls(error) {
            anyhow!("no TLS with {base}: {root}; --ca names a file of authorities to believe")
        } else {
            anyhow!(
                "nothing answers on {base} ({root}): is `beacon-relay serve` running, and is this \
                 its admin.listen? --config and --url name another"
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

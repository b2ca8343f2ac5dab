//! Batches on their way to a relay: each until it is answered for good.

use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use serde::Deserialize;
use tokio::time::Instant;

use super::outcome::{Told, printable};
use crate::cli::Refused;
use crate::cli::web::{self, Web};
use crate::clock::Clock;
use crate::forward::backoff::Backoff;
use crate::forward::client::Trust;
use crate::forward::verdict::asked_wait;
use crate::origin::Origin;

/// Longest wait for the answer to one batch; the relay syncs it within seconds.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// Bytes of an answer: 10 000 results with some errors each.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Waits after a batch that was not taken; a `Retry-After` is heeded as far as patience goes.
const BACKOFF: Backoff = Backoff {
    wait_first: Duration::from_millis(500),
    wait_max: Duration::from_secs(30),
    retry_after_max: Duration::from_secs(3600),
};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The relay.
pub(super) struct Relay {
    client: Web,
    uri: Uri,
    key: Option<HeaderValue>,
    /// How long one batch is tried.
    patience: Duration,
    clock: Clock,
    random: fastrand::Rng,
}

/// What a relay said to a batch, for good.
pub(super) enum Answer {
    /// A result for each order.
    Results(Vec<Told>),
    /// More or larger than it takes at once.
    TooLarge,
}

/// One try.
enum Tried {
    Answer(Answer),
    /// Worth trying again, not before `hint`.
    Again {
        why: String,
        hint: Option<Duration>,
    },
}

#[derive(Deserialize)]
struct Many {
    results: Vec<Told>,
}

#[derive(Default, Deserialize)]
struct Problem {
    code: Option<String>,
    detail: Option<String>,
}

/// The address of orders behind a base URL.
pub(super) fn orders_at(base: &str) -> Result<Uri, Refused> {
    let refused = |what: &str| Refused(format!("--to {what}, as in http://127.0.0.1:8080"));
    let uri: Uri = base.parse().map_err(|_| refused("is no URL: give the relay's base URL"))?;
    let authority = uri.authority().map(http::uri::Authority::as_str);
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), authority) else {
        return Err(refused("is no URL: give the relay's base URL"));
    };
    Origin::parse(&format!("{scheme}://{authority}"))
        .map_err(|fault| refused(&fault.to_string()))?;
    if uri.query().is_some() {
        return Err(refused("has a query: give the relay's base URL"));
    }
    let path = uri.path().trim_end_matches('/');
    format!("{scheme}://{authority}{path}/v1/beacon/conversion?lane=backlog")
        .parse()
        .map_err(|_| refused("is no URL: give the relay's base URL"))
}

/// Whether what is sent there crosses a network without TLS.
pub(super) fn is_in_clear(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let is_here = host == "localhost"
        || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback());
    uri.scheme_str() == Some("http") && !is_here
}

/// The header that carries a client's key.
pub(super) fn bearer(key: &str) -> Result<HeaderValue, Refused> {
    let value = HeaderValue::try_from(format!("Bearer {}", key.trim()));
    let mut value =
        value.map_err(|_| Refused("the key holds signs that no header may".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

impl Relay {
    pub(super) fn new(
        uri: Uri,
        key: Option<HeaderValue>,
        trust: &Trust,
        patience: Duration,
    ) -> Self {
        let (clock, random) = (Clock::system(), fastrand::Rng::new());
        Self { client: web::client(trust), uri, key, patience, clock, random }
    }

    /// Posts lines of orders until they are answered for good. `waiting` is told why it is not yet.
    ///
    /// Dropped before its end, the batch may have arrived: the same lines with the same
    /// `idempotency_key` are answered as the first time.
    ///
    /// # Errors
    /// What a person must mend, and the end of patience.
    pub(super) async fn post(
        &mut self,
        lines: &Bytes,
        count: usize,
        idempotency_key: &str,
        waiting: impl Fn(&str, Duration),
    ) -> anyhow::Result<Answer> {
        let until = Instant::now() + self.patience;
        let mut attempts = 0;
        loop {
            attempts += 1;
            match self.attempt(lines, count, idempotency_key).await? {
                Tried::Answer(answer) => return Ok(answer),
                Tried::Again { why, hint } => {
                    let wait = BACKOFF.wait(attempts, hint, &mut self.random);
                    if Instant::now() + wait > until {
                        let patience = self.patience.as_secs();
                        bail!(
                            "{why}, and the next try would be behind the {patience} s of \
                             --patience; the same command goes on later"
                        );
                    }
                    waiting(&why, wait);
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }

    async fn attempt(&self, lines: &Bytes, count: usize, key: &str) -> anyhow::Result<Tried> {
        let again = |why: String, hint| Ok(Tried::Again { why, hint });
        let mut request = Request::post(self.uri.clone())
            .header(CONTENT_TYPE, "application/x-ndjson")
            .header(IDEMPOTENCY_KEY, key);
        if let Some(key) = &self.key {
            request = request.header(AUTHORIZATION, key.clone());
        }
        let request = request.body(Full::new(lines.clone())).context("no request can be made")?;
        let exchange = async {
            let answer = self
                .client
                .request(request)
                .await
                .map_err(|error| web::root(&error).to_string())?;
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|_| "the answer broke off".to_owned())?;
            Ok::<_, String>((head.status, head.headers, body.to_bytes()))
        };
        let (status, headers, body) = match tokio::time::timeout(ANSWER_WITHIN, exchange).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(why)) => return again(format!("the relay does not answer: {why}"), None),
            Err(_elapsed) => return again("the relay does not answer in time".to_owned(), None),
        };
        let problem: Problem = serde_json::from_slice(&body).unwrap_or_default();
        let code = problem.code.map_or_else(String::new, |code| format!(" {}", printable(&code)));
        match status {
            StatusCode::ACCEPTED | StatusCode::MULTI_STATUS | StatusCode::UNPROCESSABLE_ENTITY => {
                let results = serde_json::from_slice::<Many>(&body).ok().map(|many| many.results);
                let is_each = |results: &Vec<Told>| {
                    results.len() == count
                        && results.iter().enumerate().all(|(at, told)| told.index == at)
                };
                match results.filter(is_each) {
                    Some(results) => Ok(Tried::Answer(Answer::Results(results))),
                    None => bail!(
                        "the answer has no result for each order: is --to a relay, and does its \
                         source of orders take many at once?"
                    ),
                }
            }
            StatusCode::PAYLOAD_TOO_LARGE => Ok(Tried::Answer(Answer::TooLarge)),
            // 500, 502 and 504 are those of a proxy in between, or a bug: no answer from the relay.
            StatusCode::REQUEST_TIMEOUT
            | StatusCode::TOO_MANY_REQUESTS
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::INTERNAL_SERVER_ERROR
            | StatusCode::BAD_GATEWAY
            | StatusCode::GATEWAY_TIMEOUT => {
                again(format!("the relay answers {}{code}", status.as_u16()), self.hint(&headers))
            }
            other => {
                let remedy = match other.as_u16() {
                    401 => "; name the environment variable that holds the key in --key-env",
                    403 => "; the key's client may not post these orders",
                    404 | 405 => "; is --to the base URL of the public listener?",
                    415 => "; does its source of orders take many at once?",
                    _ => "",
                };
                let detail = problem.detail.map_or_else(String::new, |detail| {
                    format!(": {}", printable(&detail.chars().take(200).collect::<String>()))
                });
                bail!("the relay answers {}{code}{detail}{remedy}", other.as_u16());
            }
        }
    }

    fn hint(&self, headers: &HeaderMap) -> Option<Duration> {
        asked_wait(headers, self.clock.now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_posted_below_the_base_url() {
        let orders = |base: &str| orders_at(base).map(|uri| uri.to_string()).ok();
        let below = |base: &str| Some(format!("{base}/v1/beacon/conversion?lane=backlog"));
        assert_eq!(orders("http://127.0.0.1:8080"), below("http://127.0.0.1:8080"));
        assert_eq!(orders("https://relay.example/"), below("https://relay.example"));
        assert_eq!(orders("https://relay.example/shop/"), below("https://relay.example/shop"));
        for base in ["relay.example", "ftp://relay.example", "http://u:p@h", "http://h?x=1", ""] {
            assert_eq!(orders(base), None, "{base}");
        }
    }

    #[test]
    fn what_leaves_this_machine_without_tls_is_in_clear() {
        let of = |base: &str| is_in_clear(&orders_at(base).unwrap());
        assert!(of("http://relay.example") && of("http://10.0.0.1:8080") && of("http://[fd00::1]"));
        for base in
            ["http://127.0.0.1:8080", "http://[::1]", "http://localhost", "https://r.example"]
        {
            assert!(!of(base), "{base}");
        }
    }
}

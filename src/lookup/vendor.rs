//! The request to a vendor, and the token that it asks for. Neither is ever printed.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, Uri, response};
use http_body_util::{BodyExt, Full, Limited};
use serde::Deserialize;
use serde_json::Value;

use super::Outcome;
use crate::clock::{Clock, Timestamp};
use crate::forward::client::{Proxy, Trust, Web};
use crate::forward::verdict::asked_wait;

/// A token of which nobody says how long it lasts is asked for anew after this, or at a 401.
const TOKEN_LASTS: Duration = Duration::from_secs(3600);
/// A token is asked for anew a tenth of its time before its end, but not earlier than this.
const TOKEN_MARGIN_MAX: Duration = Duration::from_secs(60);

/// How a vendor is asked.
#[derive(Clone)]
pub struct Settings {
    /// The URL, with `{id}` for the awaited id.
    pub url: String,
    /// What each request carries.
    pub headers: HeaderMap,
    /// Where tokens come from; without it the headers are all that is shown.
    pub grant: Option<Grant>,
    /// Whose certificates are believed.
    pub trust: Trust,
    /// What its requests go through.
    pub proxy: Option<Proxy>,
    /// Longest that one lookup may take, tokens included.
    pub within: Duration,
    /// Bytes of an answer.
    pub answer_bytes_max: usize,
}

/// The client credentials grant of OAuth 2 (RFC 6749, section 4.4).
#[derive(Clone)]
pub struct Grant {
    /// The token endpoint.
    pub url: Uri,
    /// The client's id and secret, for HTTP Basic.
    pub authorization: HeaderValue,
    /// What each request for a token carries beside.
    pub headers: HeaderMap,
}

/// Why there is no answer that could be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What came instead.
    pub outcome: Outcome,
    /// How long the vendor asks to be left alone.
    pub wait: Option<Duration>,
}

impl From<Outcome> for Failure {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, wait: None }
    }
}

/// A vendor that can be asked.
pub(super) struct Vendor {
    settings: Settings,
    web: Web,
    token: Mutex<Option<Token>>,
    clock: Clock,
}

struct Token {
    bearer: HeaderValue,
    /// By the clock that nobody sets.
    until: Timestamp,
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    /// Seconds; some servers write them as a text.
    expires_in: Option<Value>,
}

impl Vendor {
    pub(super) fn new(settings: Settings, clock: Clock) -> Self {
        let web = Web::new(&settings.trust, settings.proxy.clone());
        Self { settings, web, token: Mutex::default(), clock }
    }

    /// What the vendor says of `id`. Redirects are not followed: credentials stay where they belong.
    pub(super) async fn ask(&self, id: &str) -> Result<Bytes, Failure> {
        let asked = tokio::time::timeout(self.settings.within, self.asked(id));
        asked.await.unwrap_or_else(|_elapsed| Err(Outcome::Failed.into()))
    }

    async fn asked(&self, id: &str) -> Result<Bytes, Failure> {
        let url = self.settings.url.replace("{id}", &encoded(id));
        let bearer = self.bearer().await?;
        let had_token = bearer.is_some();
        match self.get(&url, bearer).await {
            // It was taken back before its end, once: a fresh one that is refused is no use either.
            Err(Failure { outcome: Outcome::Unauthorized, .. }) if had_token => {
                *self.token.lock().unwrap_or_else(PoisonError::into_inner) = None;
                let bearer = self.bearer().await?;
                self.get(&url, bearer).await
            }
            answered => answered,
        }
    }

    async fn get(&self, url: &str, bearer: Option<HeaderValue>) -> Result<Bytes, Failure> {
        let mut headers = self.settings.headers.clone();
        headers.extend(bearer.map(|bearer| (AUTHORIZATION, bearer)));
        let (head, body) = self.exchange(Method::GET, url, headers, Bytes::new()).await?;
        let outcome = match head.status.as_u16() {
            200..=299 => return Ok(body),
            401 => Outcome::Unauthorized,
            404 => Outcome::NotFound,
            429 => Outcome::Throttled,
            400..=499 if ![408, 425].contains(&head.status.as_u16()) => Outcome::Refused,
            _ => Outcome::Failed,
        };
        Err(Failure { outcome, wait: asked_wait(&head.headers, self.clock.now()) })
    }

    /// The token in force, or a fresh one; nothing where none is asked for.
    async fn bearer(&self) -> Result<Option<HeaderValue>, Failure> {
        let Some(grant) = &self.settings.grant else { return Ok(None) };
        let now = self.clock.steady();
        let known = {
            let token = self.token.lock().unwrap_or_else(PoisonError::into_inner);
            token.as_ref().filter(|token| now < token.until).map(|token| token.bearer.clone())
        };
        if known.is_some() {
            return Ok(known);
        }
        let mut headers = grant.headers.clone();
        headers.insert(AUTHORIZATION, grant.authorization.clone());
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.insert(CONTENT_TYPE, form);
        let body = Bytes::from_static(b"grant_type=client_credentials");
        let url = grant.url.to_string();
        let (head, body) = self.exchange(Method::POST, &url, headers, body).await?;
        if !head.status.is_success() {
            let wait = asked_wait(&head.headers, self.clock.now());
            return Err(Failure { outcome: Outcome::NoToken, wait });
        }
        let granted = serde_json::from_slice::<Granted>(&body);
        let Granted { access_token, expires_in } = granted.map_err(|_| Outcome::NoToken)?;
        let bearer = bearer_of(&access_token).ok_or(Outcome::NoToken)?;
        let token =
            Token { bearer: bearer.clone(), until: now.after(lasting(expires_in.as_ref())) };
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = Some(token);
        Ok(Some(bearer))
    }

    async fn exchange(
        &self,
        method: Method,
        url: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<(response::Parts, Bytes), Failure> {
        let request = Request::builder().method(method).uri(url).body(Full::new(body));
        let mut request = request.map_err(|_| Outcome::Refused)?;
        *request.headers_mut() = headers;
        let agent = concat!("beacon-relay/", env!("CARGO_PKG_VERSION"));
        // Who says nothing of codings takes any (RFC 9110, section 12.5.3).
        let plain = (ACCEPT_ENCODING, "identity");
        for (name, value) in [(ACCEPT, "application/json"), plain, (USER_AGENT, agent)] {
            // An operator's own header stays.
            request.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
        }
        let answer = self.web.request(request).await.map_err(|_| Outcome::Failed)?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, self.settings.answer_bytes_max).collect().await;
        Ok((head, body.map_err(|_| Outcome::Failed)?.to_bytes()))
    }
}

/// What shows a token; nothing of one that is none.
fn bearer_of(token: &str) -> Option<HeaderValue> {
    let written = (!token.is_empty()).then(|| format!("Bearer {token}"))?;
    let mut bearer = HeaderValue::try_from(written).ok()?;
    bearer.set_sensitive(true);
    Some(bearer)
}

/// How long a token is used that lasts for so many seconds.
fn lasting(expires_in: Option<&Value>) -> Duration {
    let said = expires_in
        .and_then(|said| said.as_f64().or_else(|| said.as_str().and_then(|it| it.parse().ok())));
    let lasts = said.and_then(|said| Duration::try_from_secs_f64(said).ok());
    let lasts = lasts.unwrap_or(TOKEN_LASTS);
    lasts.saturating_sub((lasts / 10).min(TOKEN_MARGIN_MAX))
}

/// A text as one segment of a path, or one value of a query.
fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        other => format!("%{other:02X}"),
    };
    text.bytes().map(byte).collect()
}

/// Never says what is in a header.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("within", &self.within).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_token_is_renewed_before_its_end() {
        for (said, seconds) in [
            (Some(json!(86_400)), 86_340),
            (Some(json!("100")), 90),
            (Some(json!(0)), 0),
            (Some(json!(100.0)), 90),
            (Some(json!("100.0")), 90),
            (Some(json!(1e30)), 3_540),
            (Some(json!(1e10)), 9_999_999_940),
            (Some(json!(-5)), 3_540),
            (Some(json!("soon")), 3_540),
            (None, 3_540),
            (Some(json!(null)), 3_540),
        ] {
            assert_eq!(lasting(said.as_ref()), Duration::from_secs(seconds), "{said:?}");
        }
    }

    #[test]
    fn a_token_is_shown_or_is_none() {
        let bearer = bearer_of("t1").unwrap();
        assert!(bearer == "Bearer t1" && bearer.is_sensitive());
        for token in ["", "a\nb", "\u{7f}"] {
            assert_eq!(bearer_of(token), None, "{token:?}");
        }
    }

    #[test]
    fn an_id_leaves_its_place_in_a_url_by_no_character() {
        assert_eq!(encoded("a/../b?c#d%é"), "a%2F..%2Fb%3Fc%23d%25%C3%A9");
    }
}

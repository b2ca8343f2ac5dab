//! Refusals as answers: the bare Ajv array for 422, RFC 9457 problem documents for the rest.
//!
//! No answer quotes a value from a body.

use std::fmt;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use serde_json::json;

use crate::json::JsonFault;
use crate::schema::Violations;
use crate::source::items::TooMany;
use crate::source::{PairsFault, Reject};
use crate::spool::AppendError;

/// A refusal that is no 422.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    code: Code,
    detail: String,
    /// Content codings that would be taken instead.
    codings: Option<String>,
    /// Seconds to wait, when they are known better than from the code.
    wait_s: Option<u64>,
}

/// The stable words of refusals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// Not one JSON document.
    MalformedJson,
    /// An object names a key twice.
    DuplicateKey,
    /// The body is not what its content coding says, or a form that is not UTF-8.
    BadEncoding,
    /// The key of a client, or the admin token, is missing or wrong.
    Unauthorized,
    /// More items than the caller's rate allows.
    RateLimited,
    /// The client may not post to this source.
    SourceNotAllowed,
    /// The client may not speak for the publisher.
    PublisherNotAllowed,
    /// Events are not sent to such a URL.
    EventUrlNotAllowed,
    /// The idempotency key is empty or too long.
    BadIdempotencyKey,
    /// A request of an operator says something that cannot be.
    BadRequest,
    /// Values of bodies are not shown to this operator.
    RevealNotAllowed,
    /// What a web page of another origin could have sent.
    CrossSite,
    /// More work in the background than is taken at once.
    TooManyJobs,
    /// The admin API needs a token on this address, and none is configured.
    TokenNotSet,
    /// No such path.
    NotFound,
    /// The path does not take this method.
    MethodNotAllowed,
    /// The body did not come in time.
    BodyTimeout,
    /// The idempotency key was used with another body.
    IdempotencyKeyReused,
    /// The body is over the limit.
    BodyTooLarge,
    /// The request brings more items than the limit.
    TooManyItems,
    /// The body is of a type or coding that is not taken here.
    UnsupportedMediaType,
    /// A bug of ours.
    Internal,
    /// The spool has no room.
    SpoolFull,
    /// The store gave no answer in time, or is broken.
    StoreUnavailable,
    /// More requests than the relay takes at once.
    Overloaded,
    /// The relay is stopping.
    Draining,
}

impl Code {
    /// The word that clients may branch on.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MalformedJson => "malformed_json",
            Self::DuplicateKey => "duplicate_key",
            Self::BadEncoding => "bad_encoding",
            Self::Unauthorized => "unauthorized",
            Self::RateLimited => "rate_limited",
            Self::SourceNotAllowed => "source_not_allowed",
            Self::PublisherNotAllowed => "publisher_not_allowed",
            Self::EventUrlNotAllowed => "event_url_not_allowed",
            Self::BadIdempotencyKey => "bad_idempotency_key",
            Self::BadRequest => "bad_request",
            Self::RevealNotAllowed => "reveal_not_allowed",
            Self::CrossSite => "cross_site",
            Self::TooManyJobs => "too_many_jobs",
            Self::TokenNotSet => "token_not_set",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::BodyTimeout => "body_timeout",
            Self::IdempotencyKeyReused => "idempotency_key_reused",
            Self::BodyTooLarge => "body_too_large",
            Self::TooManyItems => "too_many_items",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::Internal => "internal",
            Self::SpoolFull => "spool_full",
            Self::StoreUnavailable => "store_unavailable",
            Self::Overloaded => "overloaded",
            Self::Draining => "draining",
        }
    }

    /// The status it is answered with.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        match self {
            Self::MalformedJson
            | Self::DuplicateKey
            | Self::BadEncoding
            | Self::BadIdempotencyKey
            | Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            Self::SourceNotAllowed
            | Self::PublisherNotAllowed
            | Self::EventUrlNotAllowed
            | Self::RevealNotAllowed
            | Self::CrossSite
            | Self::TokenNotSet => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::IdempotencyKeyReused | Self::TooManyJobs => StatusCode::CONFLICT,
            Self::BodyTooLarge | Self::TooManyItems => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::SpoolFull | Self::StoreUnavailable | Self::Overloaded | Self::Draining => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }

    /// Seconds after which sending it again makes sense.
    const fn retry_after(self) -> Option<u64> {
        match self {
            Self::SpoolFull => Some(10),
            Self::StoreUnavailable | Self::Draining => Some(5),
            Self::Overloaded | Self::RateLimited => Some(1),
            Self::MalformedJson
            | Self::DuplicateKey
            | Self::BadEncoding
            | Self::Unauthorized
            | Self::SourceNotAllowed
            | Self::PublisherNotAllowed
            | Self::EventUrlNotAllowed
            | Self::BadIdempotencyKey
            | Self::TokenNotSet
            | Self::BadRequest
            | Self::RevealNotAllowed
            | Self::CrossSite
            | Self::TooManyJobs
            | Self::NotFound
            | Self::MethodNotAllowed
            | Self::BodyTimeout
            | Self::IdempotencyKeyReused
            | Self::BodyTooLarge
            | Self::TooManyItems
            | Self::UnsupportedMediaType
            | Self::Internal => None,
        }
    }

    /// Whether unread bytes may be left on the connection, which then cannot be used again.
    const fn closes(self) -> bool {
        matches!(self, Self::BodyTimeout | Self::BodyTooLarge)
    }
}

impl Problem {
    /// Its stable word.
    #[must_use]
    pub const fn code(&self) -> Code {
        self.code
    }

    /// A refusal with a sentence for whoever mends it.
    #[must_use]
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), codings: None, wait_s: None }
    }

    /// Says how long to wait, in whole seconds and never too short.
    #[must_use]
    pub(super) fn after(self, wait: Duration) -> Self {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        Self { wait_s: Some(seconds.max(1)), ..self }
    }

    /// A refusal of an item whose publisher its caller may not speak for.
    pub(super) fn publisher() -> Self {
        let detail = "this client may not speak for the publisher of `publisher_id`";
        Self::new(Code::PublisherNotAllowed, detail)
    }

    /// A refusal of what its caller may not post there.
    pub(super) fn source() -> Self {
        Self::new(Code::SourceNotAllowed, "this client may not post to this source")
    }

    /// A refusal of who did not show to be the partner. What was wrong is for the partner to know.
    pub(super) fn unknown_sender() -> Self {
        Self::new(Code::Unauthorized, "the request does not show that it comes from the partner")
    }

    /// The problem of a refused item.
    ///
    /// # Errors
    /// Its [`Violations`] when it breaks the schema, which is no problem but a 422.
    pub fn of(reject: Reject) -> Result<Self, Violations> {
        match reject {
            Reject::Unauthorized => Ok(Self::unknown_sender()),
            Reject::Syntax(fault) => Ok(fault.into()),
            Reject::Pairs(fault) => Ok(fault.into()),
            Reject::Publisher => Ok(Self::publisher()),
            Reject::EventUrl(fault) => Ok(Self::new(Code::EventUrlNotAllowed, fault.to_string())),
            Reject::SourceNotAllowed => Ok(Self::source()),
            Reject::TooLarge { most } => Ok(Self::too_large(most)),
            Reject::Invalid(violations) => Err(violations),
        }
    }

    /// A body of more than `most` bytes.
    pub(super) fn too_large(most: usize) -> Self {
        Self::new(Code::BodyTooLarge, format!("the body is over {most} bytes"))
    }

    /// The same, said of one item of many.
    pub(super) fn of_item(self, index: usize) -> Self {
        Self { detail: format!("item {index}: {}", self.detail), ..self }
    }

    /// Names the content codings that would be taken. Only for a refusal on account of them: RFC
    /// 9110, section 12.5.3, lets clients tell it from one of the media type by this header.
    #[must_use]
    pub(super) fn accepting(self, codings: String) -> Self {
        Self { codings: Some(codings), ..self }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.as_str(), self.detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.code.status();
        let body = json!({
            "type": "about:blank",
            "title": status.canonical_reason(),
            "status": status.as_u16(),
            "code": self.code.as_str(),
            "detail": self.detail,
        });
        let mut response = Response::new(Body::from(body.to_string()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.wait_s.or(self.code.retry_after()) {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(codings) = self.codings.and_then(|names| HeaderValue::try_from(names).ok()) {
            headers.insert(ACCEPT_ENCODING, codings);
        }
        if self.code == Code::Unauthorized {
            // RFC 9110, section 11.6.1: a 401 names a way to say who one is.
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.code.closes() {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

impl From<JsonFault> for Problem {
    fn from(fault: JsonFault) -> Self {
        let code = match fault {
            JsonFault::Malformed { .. } | JsonFault::TooDeep { .. } => Code::MalformedJson,
            JsonFault::DuplicateKey { .. } => Code::DuplicateKey,
        };
        Self::new(code, fault.to_string())
    }
}

impl From<PairsFault> for Problem {
    fn from(fault: PairsFault) -> Self {
        let code = match fault {
            PairsFault::RepeatedKey(_) => Code::DuplicateKey,
            PairsFault::NotUtf8(_) => Code::BadEncoding,
        };
        Self::new(code, fault.to_string())
    }
}

impl From<TooMany> for Problem {
    fn from(fault: TooMany) -> Self {
        Self::new(Code::TooManyItems, fault.to_string())
    }
}

impl From<AppendError> for Problem {
    fn from(error: AppendError) -> Self {
        let code = match &error {
            AppendError::Full { .. } => Code::SpoolFull,
            AppendError::KeyReused => Code::IdempotencyKeyReused,
            AppendError::Busy => Code::Overloaded,
            AppendError::Closed => Code::Draining,
            AppendError::TooLarge { .. } => Code::BodyTooLarge,
            AppendError::Unsure | AppendError::Fault(_) => Code::StoreUnavailable,
        };
        let detail = if code == Code::StoreUnavailable {
            // What a store's fault says is for the log, not for callers.
            "nothing is promised: send the request again".to_owned()
        } else {
            error.to_string()
        };
        Self::new(code, detail)
    }
}

impl IntoResponse for Reject {
    fn into_response(self) -> Response {
        match Problem::of(self) {
            Ok(problem) => problem.into_response(),
            Err(violations) => json_answer(StatusCode::UNPROCESSABLE_ENTITY, violations.to_json()),
        }
    }
}

/// A JSON answer; an empty body has no content type.
pub(super) fn json_answer(status: StatusCode, body: Bytes) -> Response {
    let typed = !body.is_empty();
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    if typed {
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(CONTENT_TYPE, json);
    }
    response
}

//! An answer of the fake events API, and what faults make of its form.

use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode, Version};
use http_body_util::Full;

use super::injector::Strike;
use super::line::Line;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const POST: HeaderValue = HeaderValue::from_static("POST");
const CLOSE: HeaderValue = HeaderValue::from_static("close");
/// Where a fault answer of 301 to 308 points: whoever follows it is listed as an arrival there.
const ELSEWHERE: HeaderValue = HeaderValue::from_static("/redirected-by-the-sandbox");

const PAGE: &[u8] = b"<!DOCTYPE html>\n<html><head><title>Sandbox</title></head>\
<body><h1>Fault injected by the sandbox</h1></body></html>\n";

/// An answer before it is put into a [`Response`].
pub(super) struct Answer {
    pub(super) status: StatusCode,
    body: Bytes,
    content_type: Option<HeaderValue>,
}

impl Answer {
    /// An answer without a body.
    pub(super) fn empty(status: StatusCode) -> Self {
        Self { status, body: Bytes::new(), content_type: None }
    }

    /// An answer whose body is the JSON text `body`.
    pub(super) fn json(status: StatusCode, body: Bytes) -> Self {
        Self { status, body, content_type: Some(JSON) }
    }

    /// The response, after which `closed` ends.
    pub(super) fn respond(
        self,
        strike: &Strike,
        version: Version,
        closed: Option<&Line>,
    ) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(self.body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        if let Some(content_type) = self.content_type {
            headers.insert(CONTENT_TYPE, content_type);
        }
        if self.status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(ALLOW, POST);
        }
        if self.status.is_redirection() && self.status != StatusCode::NOT_MODIFIED {
            headers.insert(LOCATION, ELSEWHERE);
        }
        if strike.status == Some(self.status)
            && let Some(wait) = &strike.retry_after
        {
            headers.insert(RETRY_AFTER, wait.clone());
        }
        if let Some(line) = closed {
            if version == Version::HTTP_2 {
                line.closing.cancel();
            } else {
                headers.insert(CONNECTION, CLOSE);
            }
        }
        response
    }

    /// The same with another status.
    pub(super) fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    /// The same with the body that the faults ask for, or with none where HTTP allows none.
    pub(super) fn disguised(self, strike: &Strike) -> Self {
        let bare = [StatusCode::NO_CONTENT, StatusCode::RESET_CONTENT, StatusCode::NOT_MODIFIED];
        if bare.contains(&self.status) {
            Self::empty(self.status)
        } else if strike.html {
            Self { body: Bytes::from_static(PAGE), content_type: Some(HTML), ..self }
        } else {
            self
        }
    }
}

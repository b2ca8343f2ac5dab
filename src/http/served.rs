//! What a listener serves, replaced whole while it listens.

use std::sync::Arc;

use axum::Router;
use tokio::sync::watch;

use super::listener::Limits;
use super::tls::Tls;

/// What a listener serves. A request looks at it when it comes, a connection when it is opened.
#[derive(Clone, Debug)]
pub struct Served {
    /// Who answers.
    pub router: Router,
    /// What connections may cost.
    pub limits: Limits,
    /// Certificates; nothing where connections are plain.
    pub tls: Option<Tls>,
}

/// The place where it lies. Requests under way end with what they began with.
#[derive(Clone, Debug)]
pub struct Serving(Arc<watch::Sender<Arc<Served>>>);

impl Serving {
    /// Serves this from the start.
    #[must_use]
    pub fn new(served: Served) -> Self {
        Self(Arc::new(watch::Sender::new(Arc::new(served))))
    }

    /// What is served now.
    #[must_use]
    pub fn now(&self) -> Arc<Served> {
        Arc::clone(&self.0.borrow())
    }

    /// Serves this from now on, on connections that are open too.
    pub fn replace(&self, served: Served) {
        self.0.send_replace(Arc::new(served));
    }

    /// Puts other certificates in front of what is served, for connections to come.
    pub fn replace_tls(&self, tls: Tls) {
        self.0.send_modify(|served| {
            *served = Arc::new(Served { tls: Some(tls), ..Served::clone(served) });
        });
    }

    pub(super) fn changes(&self) -> watch::Receiver<Arc<Served>> {
        self.0.subscribe()
    }
}

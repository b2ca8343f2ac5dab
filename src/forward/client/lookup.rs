//! Names to addresses, and which of them may be connected to.
//!
//! Asked anew for every connection, so a name that turns to another address later (DNS rebinding)
//! is judged again.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use tower::Service;

use crate::origin::is_public;

/// The addresses of a name, some time.
pub type Resolving = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

/// Knows the addresses of names.
pub trait Resolve: Send + Sync + std::fmt::Debug {
    /// Every address of `name`.
    fn resolve(&self, name: &str) -> Resolving;
}

/// The system's resolver.
#[derive(Clone, Copy, Debug)]
pub struct System;

impl Resolve for System {
    fn resolve(&self, name: &str) -> Resolving {
        let name = name.parse::<Name>();
        Box::pin(async move {
            let name = name.map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
            let found = GaiResolver::new().call(name).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }
}

/// Every address of a name is on this machine, in a private network or reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the host leads to a private address")]
pub struct Private;

/// Which addresses may be connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Any.
    Any,
    /// Those on the open internet.
    Public,
}

impl Reach {
    pub(super) fn allows(self, address: IpAddr) -> bool {
        match self {
            Self::Any => true,
            Self::Public => is_public(address),
        }
    }
}

/// A resolver that keeps back what may not be connected to.
#[derive(Clone, Debug)]
pub(super) struct Lookup {
    pub(super) resolver: Arc<dyn Resolve>,
    pub(super) reach: Reach,
}

impl Service<Name> for Lookup {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let (resolving, reach) = (self.resolver.resolve(name.as_str()), self.reach);
        Box::pin(async move {
            let found = resolving.await?;
            let any = !found.is_empty();
            let allowed = found.into_iter().filter(|address| reach.allows(*address));
            // The connector sets the port.
            let allowed: Vec<_> = allowed.map(|address| SocketAddr::new(address, 0)).collect();
            if any && allowed.is_empty() {
                Err(io::Error::other(Private))
            } else {
                Ok(allowed.into_iter())
            }
        })
    }
}

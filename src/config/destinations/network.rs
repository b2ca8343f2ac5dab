//! What lies between a destination's client and those it speaks to.

use crate::config::egress;
use crate::config::reader::Reader;
use crate::config::secret::Outside;
use crate::forward::client::Network;
use crate::forward::request::Target;
use crate::origin::{Origin, is_public};

/// Reads the network of a destination at `base`, if that could be read, which sends to the origins
/// of `target` too.
pub(super) fn read(
    reader: &Reader<'_>,
    outside: &dyn Outside,
    base: Option<&Origin>,
    target: Option<&Target>,
) -> Option<Network> {
    let allow_private = reader.flag("allow_private").unwrap_or_default();
    if let Some(Target::Verbatim(by_url)) = target
        && !allow_private
    {
        for origin in by_url.origins.iter().filter(|origin| Some(*origin) != base) {
            if origin.address().is_some_and(|address| !is_public(address)) {
                let what = format!("holds {origin}, a private address");
                reader.fault("origins", what, "remove it, or write allow_private = true");
            }
        }
    }
    let proxy = egress::proxy(reader, outside);
    let trust = egress::trust(reader).unwrap_or_default();
    Some(Network { allow_private, proxy, trust, ..Network::open(base?.clone()) })
}

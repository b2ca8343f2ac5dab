//! Impressions, views and clicks.

use super::{Lint, Place, Warnings, identity};
use crate::json::Node;

/// What the vendor's pages show where an ad's id belongs.
const SAMPLE_ADS: &[&str] = &[
    "4a94bc6e-7db1-425f-8430-cb4d17488b3b",
    "8c293205-52f4-45cf-9a01-37e7c26a5abc",
    "123456",
    "AD_EVENT_TOKEN",
    "ad_id",
    ":ad_id",
];

/// Looks over one ad event. An id that only the URL names is there: the ad server wrote it.
pub(super) fn lint(document: &Node<'_>, target: &str, warnings: &mut Warnings) {
    let Node::Object(members) = document else { return };
    let (mut has_session, mut has_user) = (false, false);
    for (name, value) in members {
        let Some(text) = value.as_str() else { continue };
        match name.as_ref() {
            // A blank id is a missing one, unless the URL has it.
            "session_id" if !identity::is_blank(text) => {
                has_session = true;
                identity::session(text, warnings);
            }
            "user_id" if !identity::is_blank(text) => {
                has_user = true;
                identity::user(text, warnings);
            }
            _ => {}
        }
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if !has_session && !names(query, "session_id") {
        warnings.add(Lint::SessionIdMissing, Place::Root);
    }
    if !has_user && !names(query, "user_id") {
        warnings.add(Lint::UserIdMissing, Place::Root);
    }
    if is_sample_ad(path) {
        warnings.add(Lint::PlaceholderValue, Place::Root);
    }
}

/// Whether a query gives `name` a value.
fn names(query: &str, name: &str) -> bool {
    query.split('&').any(|pair| {
        let value = pair.strip_prefix(name).and_then(|rest| rest.strip_prefix('='));
        value.is_some_and(|value| !value.is_empty())
    })
}

/// Whether the ad's id in `/v1/beacon/click/{ad_id}` was never filled in.
fn is_sample_ad(path: &str) -> bool {
    let mut steps = path.rsplit('/');
    let (Some(ad), Some(_event), Some("beacon")) = (steps.next(), steps.next(), steps.next())
    else {
        return false;
    };
    // Braces may travel encoded.
    let bare = |open: &str, close: &str| {
        let inside = ad.strip_prefix(open).and_then(|rest| rest.strip_suffix(close));
        inside.is_some_and(|inside| !inside.is_empty())
    };
    let is_template = bare("%7B", "%7D") || bare("%7b", "%7d") || bare("%3C", "%3E");
    is_template || identity::is_placeholder(ad, SAMPLE_ADS)
}

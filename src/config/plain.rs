//! Whether the schemas in force refuse plain identity, of which `check` and the log warn.
//!
//! The shipped ones do; one of the operator's own may have forgotten. Nothing can be asked of a
//! schema but what it says of a body, so it is shown bodies that it should refuse.

use super::profiles::finds_fault;
use crate::event::EventKind;
use crate::source::Settings;
use crate::source::auth::Auth;

/// Members of an order in which a schema should take nothing at all.
const RAW: [&str; 5] = ["email", "phone", "social_id", "first_name", "last_name"];

/// Members of an order for digests.
const HASHED: [&str; 5] =
    ["email_hashed", "phone_hashed", "social_id_hashed", "first_name_hashed", "last_name_hashed"];

/// What must not stand where a digest belongs.
const PLAIN: [&str; 7] = [
    "maria@example.com",
    "+55 11 98765-4321",
    "11987654321",
    "529.982.247-25",
    "52998224725",
    "12.ABC.345/01DE-35",
    "12ABC34501DE35",
];

/// What must not stand for a customer; bare digits may be a customer's number.
const PLAIN_USER: [&str; 3] = ["maria@example.com", "+55 11 98765-4321", "529.982.247-25"];

/// What may harm in a source, one sentence a thing.
pub(super) fn warnings(source: &Settings) -> Vec<String> {
    let mut warnings = schema_warnings(source);
    if matches!(&source.auth, Auth::Own(proofs) if proofs.is_empty()) {
        warnings.push(format!(
            "source {:?}: anyone who reaches the listener may post to it, for its auth is \"none\"",
            source.name
        ));
    }
    warnings
}

/// What is wrong with its schema.
fn schema_warnings(source: &Settings) -> Vec<String> {
    let schema = &source.schema;
    let takes =
        |member: &str, texts: &[&str]| texts.iter().any(|text| !finds_fault(schema, member, text));
    let is_order = match source.kind {
        EventKind::Conversion => true,
        EventKind::Impression | EventKind::View | EventKind::Click => false,
        // What a partner's notification holds, nobody here can say.
        EventKind::Notification => return Vec::new(),
    };
    let of_orders = |members: &'static [&'static str]| if is_order { members } else { &[] };
    let raw: Vec<&str> =
        of_orders(&RAW).iter().copied().filter(|member| takes(member, &["x", PLAIN[0]])).collect();
    let mut plain: Vec<&str> =
        of_orders(&HASHED).iter().copied().filter(|member| takes(member, &PLAIN)).collect();
    if takes("user_id", &PLAIN_USER) {
        plain.push("user_id");
    }
    let (name, schema) = (&source.name, source.schema.name());
    let mut warnings = Vec::new();
    if !raw.is_empty() {
        let end = match &source.pii {
            Some(profile) => format!("; [pii.{}] turns away what it names", profile.name),
            None => ", and they would be stored and sent".to_owned(),
        };
        let members = raw.join(", ");
        warnings.push(format!(
            "source {name:?}: {schema:?} does not refuse raw identity in {members}{end}: \
             write \"{}\": false among its properties",
            raw[0]
        ));
    }
    if !plain.is_empty() {
        warnings.push(format!(
            "source {name:?}: {schema:?} does not refuse plain e-mails, phones and tax ids in {}, \
             which would be stored and sent: copy the patterns of the shipped schemas",
            plain.join(", ")
        ));
    }
    warnings
}

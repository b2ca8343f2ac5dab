//! The edge cases of `docs/EDGE_CASES.md` by their numbers: requests in `tests/corpus/edge`, each
//! with the whole answer that it must get.
//!
//! A line's request and answer are described in `corpus.rs`, the upstream's behaviour in
//! `upstream.rs`. The clock stands at noon of 21 November 2026 until a line moves it.

mod corpus;
mod notifications;
mod page;
mod stage;
mod upstream;

use beacon_relay::event::EventKind;

use self::corpus::Line;
use self::stage::Stage;

/// Lines of one file, and the relay that they are sent to.
struct Group {
    lines: &'static str,
    /// Laid over the defaults.
    config: &'static str,
    /// What the lines without a target are.
    kinds: &'static [EventKind],
    /// The schema in force.
    schema: &'static str,
}

const ORDERS: Group = Group {
    lines: include_str!("../corpus/edge/orders.ndjson"),
    config: "[[source]]\nname = \"beacon-conversion\"\nmulti_site = [\"pub-9\"]\n",
    kinds: &[EventKind::Conversion],
    schema: include_str!("../../config/schemas/conversion-documented.json"),
};

const WIRE: Group = Group {
    lines: include_str!("../corpus/edge/wire.ndjson"),
    config: "[[source]]\nname = \"beacon-conversion\"\nmulti_site = [\"pub-9\"]\n\
             schema = \"schemas/conversion-wire.json\"\n",
    kinds: &[EventKind::Conversion],
    schema: include_str!("../../config/schemas/conversion-wire.json"),
};

/// Orders of a client that may speak for one publisher.
const CLIENTS: Group = Group {
    lines: include_str!("../corpus/edge/clients.ndjson"),
    // The digest is that of `till-key`.
    config: "[[client]]\nname = \"till\"\npublishers = [\"pub-1\"]\nkey_sha256 = \
             \"4aa7ffda4afa9454cffc982d6b7cbad83ab477341d6127cbbecd4cd9f866a279\"\n",
    kinds: &[EventKind::Conversion],
    schema: include_str!("../../config/schemas/conversion-documented.json"),
};

/// A source that mends what known clients send.
const MENDED: Group = Group {
    lines: include_str!("../corpus/edge/mended.ndjson"),
    config: "[[source]]\nname = \"beacon-conversion\"\nutc = true\naliases = [\n\
             { rename = \"/items/*/product_sku\", to = \"sku\" },\n\
             { copy = \"/items/*/price\", to = \"promotional_price\" },\n]\n",
    kinds: &[EventKind::Conversion],
    schema: include_str!("../../config/schemas/conversion-documented.json"),
};

const AD_EVENTS: &[EventKind] = &[EventKind::Impression, EventKind::View, EventKind::Click];

const BEACONS: Group = Group {
    lines: include_str!("../corpus/edge/beacons.ndjson"),
    config: "",
    kinds: AD_EVENTS,
    schema: include_str!("../../config/schemas/ad-event.json"),
};

const SESSION: Group = Group {
    lines: include_str!("../corpus/edge/session.ndjson"),
    config: "[[source]]\nname = \"beacon-impression\"\nschema = \"schemas/ad-event-session.json\"\n\
             [[source]]\nname = \"beacon-view\"\nschema = \"schemas/ad-event-session.json\"\n\
             [[source]]\nname = \"beacon-click\"\nschema = \"schemas/ad-event-session.json\"\n",
    kinds: AD_EVENTS,
    schema: include_str!("../../config/schemas/ad-event-session.json"),
};

/// An operator's own schema, whose errors name members that the sender chose.
const NAMES: Group = Group {
    lines: include_str!("../corpus/edge/names.ndjson"),
    config: "[[source]]\nname = \"beacon-click\"\nschema = \"own.json\"\n",
    kinds: &[EventKind::Click],
    schema: include_str!("../corpus/edge/names.schema.json"),
};

/// Sends each line and tells every answer that is another than written.
async fn hold(group: &Group) {
    let mut stage = Stage::open(group.config, group.schema).await;
    let mut wrong = Vec::new();
    for (number, line) in (1..).zip(corpus::lines(group.lines)) {
        for kind in group.kinds {
            for fault in stage.hold(&line, *kind, number).await {
                wrong.push(format!("line {number}, case {}, {}: {fault}", line.case, line.says));
            }
            if line.ask.target.is_some() {
                break;
            }
        }
    }
    stage.close().await;
    assert!(wrong.is_empty(), "{} answers differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test]
async fn an_order_gets_its_written_answer() {
    hold(&ORDERS).await;
}

#[tokio::test]
async fn an_order_gets_its_written_answer_under_the_wire_schema() {
    hold(&WIRE).await;
}

#[tokio::test]
async fn an_order_of_a_client_gets_its_written_answer() {
    hold(&CLIENTS).await;
}

#[tokio::test]
async fn an_order_gets_its_written_answer_where_it_is_mended() {
    hold(&MENDED).await;
}

#[tokio::test]
async fn an_ad_event_gets_its_written_answer() {
    hold(&BEACONS).await;
}

#[tokio::test]
async fn an_ad_event_gets_its_written_answer_where_a_session_is_required() {
    hold(&SESSION).await;
}

#[tokio::test]
async fn an_error_names_any_member_as_a_pointer_does() {
    hold(&NAMES).await;
}

/// The cases that the default configuration answers, each with a status that it gives.
fn held() -> impl Iterator<Item = (String, u16)> {
    let groups = [ORDERS.lines, CLIENTS.lines, MENDED.lines, BEACONS.lines, NAMES.lines];
    let lines = groups.into_iter().flat_map(corpus::lines);
    let held = lines.map(|Line { case, answer, .. }| (case.to_owned(), answer.status));
    held.chain(upstream::held()).chain(notifications::held())
}

//! Dead letters: listed, shown, put back in line, dropped.

use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::{Request, StatusCode};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::Admin;
use super::access::Operator;
use super::audit::{self, limit, unreadable};
use super::input::{bad, body, flag, members, query, text, unknown};
use super::jobs::{Action, Counts};
use super::letter::{Shown, Values};
use super::selection::{Selection, id};
use crate::caller::Rate;
use crate::http::problem::{Code, Problem, json_answer};
use crate::json::Node;
use crate::spool::{DeadQuery, DeliveryId};

/// Letters of one page,
const PAGE: usize = 100;
/// and at most.
const PAGE_MAX: usize = 1_000;
/// Bytes of bodies in one page, above which it ends early.
const PAGE_BYTES_MAX: usize = 4 << 20;
/// Ids that one request may name.
const IDS_MAX: usize = 1_000;
/// How long a listing or a dry run looks before it says how far it came.
const LOOK_WITHIN: Duration = Duration::from_secs(10);
/// How long a request waits for the job it began.
const JOB_WITHIN: Duration = Duration::from_secs(5);
/// Letters that a dry run looks at in one go.
const STEP: usize = 256;

type Answer = Result<Response, Problem>;

fn answered(answer: Answer) -> Response {
    answer.unwrap_or_else(IntoResponse::into_response)
}

fn ok(value: &impl serde::Serialize) -> Answer {
    let body = serde_json::to_vec(value)
        .map_err(|_| Problem::new(Code::Internal, "an answer could not be written"))?;
    Ok(json_answer(StatusCode::OK, body.into()))
}

/// `GET /api/dead`
pub(super) async fn list(
    State(admin): State<Admin>,
    Extension(who): Extension<Operator>,
    RawQuery(asked): RawQuery,
) -> Response {
    answered(page(&admin, who, asked.as_deref().unwrap_or_default()).await)
}

async fn page(admin: &Admin, who: Operator, asked: &str) -> Answer {
    let (mut selection, mut after, mut most, mut reveal) =
        (Selection::default(), None, PAGE, false);
    for (name, value) in query(asked)? {
        match name.as_str() {
            "after" => after = Some(id(&value)?),
            "limit" => most = limit(&value, PAGE_MAX)?,
            "reveal" => reveal = truth("reveal", &value)?,
            _ if selection.set(&name, &value, admin.jobs.forwarders())? => {}
            _ => {
                let mut known = Selection::NAMES.to_vec();
                known.extend(["after", "limit", "reveal"]);
                return Err(unknown(&name, &known));
            }
        }
    }
    let values = values(admin, who, reveal, || selection.shown()).await?;
    let (mut letters, mut bytes, deadline) = (Vec::new(), 0, Instant::now() + LOOK_WITHIN);
    loop {
        let (filter, max) = (selection.filter(None), (most - letters.len()).min(STEP));
        let found = admin.jobs.spool().dead(DeadQuery { after, max, filter }).await;
        let found = found.map_err(|fault| unreadable(&fault))?;
        after = found.next;
        for letter in found.letters {
            bytes += letter.event.body.bytes().len();
            let expired = admin.jobs.has_expired(&letter).unwrap_or(false);
            letters.push(Shown::of(&letter, expired, values));
        }
        let is_enough = letters.len() >= most || bytes > PAGE_BYTES_MAX;
        if after.is_none() || is_enough || Instant::now() >= deadline {
            break;
        }
    }
    let next = after.map(|next| next.0.to_string());
    #[derive(serde::Serialize)]
    struct Page {
        letters: Vec<Shown>,
        next: Option<String>,
    }
    ok(&Page { letters, next })
}

/// `GET /api/dead/{id}`
pub(super) async fn show(
    State(admin): State<Admin>,
    Extension(who): Extension<Operator>,
    Path(asked): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    answered(one(&admin, who, &asked, query.as_deref().unwrap_or_default()).await)
}

async fn one(admin: &Admin, who: Operator, asked: &str, asked_how: &str) -> Answer {
    let (asked, mut reveal) = (id(asked)?, false);
    for (name, value) in query(asked_how)? {
        match name.as_str() {
            "reveal" => reveal = truth("reveal", &value)?,
            _ => return Err(unknown(&name, &["reveal"])),
        }
    }
    let found = admin.jobs.spool().dead_letter(asked).await;
    let Some(letter) = found.map_err(|fault| unreadable(&fault))? else {
        let detail = "no dead letter has this id: it was replayed or dropped, or never was one";
        return Err(Problem::new(Code::NotFound, detail));
    };
    let values = values(admin, who, reveal, || audit::ids(&[asked])).await?;
    let expired = admin.jobs.has_expired(&letter).unwrap_or(false);
    ok(&Shown::of(&letter, expired, values))
}

/// What may be shown. That values were shown goes on the record.
async fn values(
    admin: &Admin,
    who: Operator,
    reveal: bool,
    what: impl FnOnce() -> Value,
) -> Result<Values, Problem> {
    if !reveal {
        return Ok(Values::Masked);
    }
    if !who.may_reveal() {
        let detail = "values are shown to the token of admin.reveal_token_env alone: set it, start \
                      again, and send that token";
        return Err(Problem::new(Code::RevealNotAllowed, detail));
    }
    let entry = admin.jobs.audit().begin(who, "reveal", what()).await?;
    admin.jobs.audit().end(entry, json!({ "state": "done" })).await;
    Ok(Values::Revealed)
}

fn truth(name: &str, value: &str) -> Result<bool, Problem> {
    match value {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(bad(format!("{name:?} is neither true nor false"))),
    }
}

/// `POST /api/dead/replay`
pub(super) async fn replay(
    State(admin): State<Admin>,
    Extension(who): Extension<Operator>,
    request: Request<Body>,
) -> Response {
    answered(act(&admin, who, Action::Replay, request).await)
}

/// `POST /api/dead/drop`
pub(super) async fn drop_letters(
    State(admin): State<Admin>,
    Extension(who): Extension<Operator>,
    request: Request<Body>,
) -> Response {
    answered(act(&admin, who, Action::Drop, request).await)
}

/// Which letters.
#[derive(Debug)]
enum Which {
    Ids(Vec<DeliveryId>),
    Filter(Selection),
}

/// What a body asks for.
#[derive(Debug)]
struct Order {
    which: Which,
    dry_run: bool,
    rate: Option<Rate>,
}

impl Order {
    const NAMES: [&str; 5] = ["ids", "filter", "all", "dry_run", "rate"];

    fn read(admin: &Admin, body: &[u8]) -> Result<Self, Problem> {
        let (mut ids, mut filter, mut all, mut dry_run, mut rate) =
            (None, None, false, false, None);
        for (name, node) in members(body)? {
            match &*name {
                "ids" => ids = Some(id_list(&node)?),
                "filter" => filter = Some(Selection::read(&node, admin.jobs.forwarders())?),
                "all" => all = flag("all", &node)?,
                "dry_run" => dry_run = flag("dry_run", &node)?,
                "rate" => {
                    let read = text("rate", &node)?.parse::<Rate>();
                    rate = Some(read.map_err(|fault| bad(format!("\"rate\" {fault}")))?);
                }
                _ => return Err(unknown(&name, &Self::NAMES)),
            }
        }
        let which = match (ids, filter) {
            (Some(_), Some(_)) => return Err(bad("\"ids\" and \"filter\" exclude each other")),
            (Some(_), None) if all => return Err(bad("\"ids\" and \"all\" exclude each other")),
            (Some(_), None) if rate.is_some() => {
                return Err(bad("\"rate\" goes with \"filter\": ids are put back at once"));
            }
            (Some(ids), None) => Which::Ids(ids),
            (None, filter) => {
                let filter = filter.unwrap_or_default();
                if filter.is_all() != all {
                    let detail = "say which letters: \"ids\", or a \"filter\" that says something, \
                                  or \"all\": true for every one";
                    return Err(bad(detail));
                }
                Which::Filter(filter)
            }
        };
        Ok(Self { which, dry_run, rate })
    }
}

fn id_list(node: &Node<'_>) -> Result<Vec<DeliveryId>, Problem> {
    let Node::Array(items) = node else { return Err(bad("\"ids\" is not a list")) };
    if items.is_empty() || items.len() > IDS_MAX {
        return Err(bad(format!("\"ids\" names 1 to {IDS_MAX} letters; for more use \"filter\"")));
    }
    let read = |item: &Node<'_>| match item {
        // Whole numbers that a double holds exactly are written without a fraction.
        Node::Number(number) => id(&number.to_string()),
        Node::String(text) => id(text),
        Node::Null | Node::Bool(_) | Node::Array(_) | Node::Object(_) => id(""),
    };
    let mut ids = items.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

async fn act(admin: &Admin, who: Operator, action: Action, request: Request<Body>) -> Answer {
    let (parts, sent) = request.into_parts();
    if let Some(query) = parts.uri.query() {
        return Err(bad(format!("{} bytes of query: say it in the body", query.len())));
    }
    let sent = body(&parts, sent).await?;
    let order = Order::read(admin, &sent)?;
    match (order.which, order.dry_run) {
        (which, true) => foresee(admin, action, &which).await,
        (Which::Ids(ids), false) => act_on_ids(admin, who, action, &ids).await,
        (Which::Filter(filter), false) => begin_job(admin, who, action, filter, order.rate).await,
    }
}

/// Says what would become of letters, as far as it gets in time.
async fn foresee(admin: &Admin, action: Action, which: &Which) -> Answer {
    let (mut counts, mut complete, jobs) = (Counts::default(), true, &admin.jobs);
    match which {
        Which::Ids(ids) => on_ids(admin, action, ids, true, &mut counts).await?,
        Which::Filter(filter) => {
            let (mut after, deadline) = (None, Instant::now() + LOOK_WITHIN);
            loop {
                let query = DeadQuery { after, max: STEP, filter: filter.filter(None) };
                let page = jobs.spool().dead(query).await.map_err(|fault| unreadable(&fault))?;
                jobs.act_on(action, &page.letters, true, &mut counts).await?;
                after = page.next;
                complete = after.is_none();
                if complete || Instant::now() >= deadline {
                    break;
                }
            }
        }
    }
    let mut answer = counts.json();
    answer["action"] = json!(action.as_str());
    answer["dry_run"] = json!(true);
    answer["complete"] = json!(complete);
    ok(&answer)
}

async fn on_ids(
    admin: &Admin,
    action: Action,
    ids: &[DeliveryId],
    dry_run: bool,
    counts: &mut Counts,
) -> Result<(), Problem> {
    for ids in ids.chunks(STEP) {
        let mut letters = Vec::with_capacity(ids.len());
        for id in ids {
            let found = admin.jobs.spool().dead_letter(*id).await;
            match found.map_err(|fault| unreadable(&fault))? {
                Some(letter) => letters.push(letter),
                None => counts.missing += 1,
            }
        }
        admin.jobs.act_on(action, &letters, dry_run, counts).await?;
    }
    Ok(())
}

async fn act_on_ids(admin: &Admin, who: Operator, action: Action, ids: &[DeliveryId]) -> Answer {
    let audit = admin.jobs.audit();
    let entry = audit.begin(who, action.as_str(), audit::ids(ids)).await?;
    let mut counts = Counts::default();
    let done = on_ids(admin, action, ids, false, &mut counts).await;
    let mut outcome = counts.json();
    outcome["state"] = json!(if done.is_ok() { "done" } else { "failed" });
    let mut answer = outcome.clone();
    audit.end(entry, outcome).await;
    done?;
    answer["action"] = json!(action.as_str());
    answer["dry_run"] = json!(false);
    answer["complete"] = json!(true);
    ok(&answer)
}

async fn begin_job(
    admin: &Admin,
    who: Operator,
    action: Action,
    filter: Selection,
    rate: Option<Rate>,
) -> Answer {
    admin.jobs.has_room()?;
    let mut what = json!({ "filter": filter.shown() });
    if let Some(rate) = rate {
        what["rate"] = json!(rate.to_string());
    }
    let entry = admin.jobs.audit().begin(who, action.as_str(), what).await?;
    let running = admin.jobs.begin(action, filter, rate, entry).await?;
    // A paced one takes its time.
    running.ended(if rate.is_some() { Duration::ZERO } else { JOB_WITHIN }).await;
    let mut answer = running.report();
    let is_done = running.is_done();
    answer["dry_run"] = json!(false);
    answer["complete"] = json!(is_done);
    let status = if is_done { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok(json_answer(status, answer.to_string().into()))
}

/// `DELETE /api/jobs/{id}`
pub(super) async fn stop_job(
    State(admin): State<Admin>,
    Extension(who): Extension<Operator>,
    Path(asked): Path<String>,
) -> Response {
    answered(stop(&admin, who, &asked).await)
}

async fn stop(admin: &Admin, who: Operator, asked: &str) -> Answer {
    let Some(running) = admin.jobs.stop(asked) else {
        let detail = "no job of this id is under way: GET /api/status names them";
        return Err(Problem::new(Code::NotFound, detail));
    };
    let audit = admin.jobs.audit();
    running.ended(JOB_WITHIN).await;
    // It is stopped, whether or not that could be written down.
    match audit.begin(who, "stop_job", json!({ "job": asked })).await {
        Ok(entry) => audit.end(entry, json!({ "state": "done" })).await,
        Err(problem) => tracing::error!(%problem, "the audit record lacks that a job was stopped"),
    }
    ok(&running.report())
}

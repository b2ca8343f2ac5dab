//! A relay without doors or sockets: the intake, a spool in memory, the forwarders.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use beacon_relay::caller::Caller;
use beacon_relay::config::{Layers, Plan};
use beacon_relay::event::{
    ClientHeaders, DestinationName, Event, EventId, EventKind, Scrubbed, SourceName,
};
use beacon_relay::forward::{self, Forwarder, Stop};
use beacon_relay::intake::{Intake, Item, Request, Taken, Unity};
use beacon_relay::ledger::Ledger;
use beacon_relay::metrics::Metrics;
use beacon_relay::source::media::Media;
use beacon_relay::source::sent_at::SentAt;
use beacon_relay::source::{Raw, Received, Source};
use beacon_relay::spool::memory::{Disk, Memory, Settings};
use beacon_relay::spool::{
    Appended, Batch, Cause, DeadFilter, DeadLetter, DeadQuery, DeliveryId, DestinationStats, Lane,
    NewEvent, Spool,
};
use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::wire::Wire;

/// The vendor's own sample order.
const ORDER: &str = include_str!("../corpus/vtex/order.json");

/// What was configured.
pub(crate) struct Site {
    destinations: Vec<forward::Settings>,
    sources: BTreeMap<EventKind, Arc<Source>>,
    owed: BTreeMap<EventKind, Vec<DestinationName>>,
}

impl Site {
    /// The defaults with `config` laid over them.
    pub(crate) fn new(config: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("relay.toml");
        std::fs::write(&file, config).unwrap();
        let layers = Layers { file: Some(file), ..Layers::default() };
        let plan: Plan = layers.plan().unwrap_or_else(|faults| panic!("{faults}"));
        let destinations = plan.destinations;
        let (mut sources, mut owed) = (BTreeMap::new(), BTreeMap::new());
        for settings in plan.sources {
            if settings.name.as_str().starts_with("beacon-") {
                owed.insert(settings.kind, settings.to.clone());
                sources.insert(settings.kind, Arc::new(Source::new(settings, 64)));
            }
        }
        Self { destinations, sources, owed }
    }

    /// The destinations.
    pub(crate) fn destinations(&self) -> impl Iterator<Item = &forward::Settings> {
        self.destinations.iter()
    }

    /// Whom an event of that kind is owed to.
    pub(crate) fn owed(&self, kind: EventKind) -> &[DestinationName] {
        &self.owed[&kind]
    }
}

/// A relay from its start to its kill or stop.
pub(crate) struct Relay {
    pub(crate) spool: Arc<Memory>,
    ledger: Arc<Ledger>,
    intake: Intake,
    forwarders: BTreeMap<DestinationName, Arc<Forwarder>>,
    tasks: TaskTracker,
    stop: Stop,
    life: CancellationToken,
    wire: Wire,
}

impl Relay {
    pub(crate) fn start(site: &Site, disk: &Disk, wire: &Wire) -> Self {
        let clock = wire.clock.clone();
        let settings =
            Settings { limit_bytes: 1 << 40, dead_bytes_max: 1 << 39, ..Settings::default() };
        let spool = Arc::new(Memory::open(disk, settings, clock.clone()));
        let sources = || site.sources.values().map(|source| source.settings().name.clone());
        let names = || site.destinations.iter().map(|one| one.name.clone());
        let ledger = Arc::new(Ledger::new(sources(), names()));
        let metrics = Arc::new(Metrics::new(&[], sources(), names()));
        let life = CancellationToken::new();
        let stop = Stop { leasing: CancellationToken::new(), attempts: CancellationToken::new() };
        let (mut forwarders, tasks) = (BTreeMap::new(), TaskTracker::new());
        for settings in site.destinations() {
            let name = settings.name.clone();
            let end = wire.end(name.as_str(), settings.limits, life.clone());
            let forwarder = Forwarder::over(
                Arc::new(end),
                settings.clone(),
                Arc::clone(&spool) as Arc<dyn Spool>,
                Arc::clone(&ledger),
                Arc::clone(&metrics),
                clock.clone(),
            );
            tasks.spawn(Arc::clone(&forwarder).run(stop.clone()));
            forwarders.insert(name, forwarder);
        }
        let intake =
            Intake::new(Arc::clone(&spool) as Arc<dyn Spool>, Arc::clone(&ledger), metrics);
        let wire = wire.clone();
        Self { spool, ledger, intake, forwarders, tasks, stop, life, wire }
    }

    /// A kill: nothing is settled any more, and nobody hears of what was under way.
    pub(crate) fn kill(self, disk: &Disk) {
        self.life.cancel();
        self.stop.leasing.cancel();
        // What still runs has lost its disk from here on.
        drop(Memory::open(disk, Settings::default(), self.wire.clock.clone()));
        self.wire.seen().forget_acks();
        self.wire.seen().forget();
    }

    /// A stop as the operators do it: what is under way gets a grace.
    pub(crate) async fn stop(self, grace: Duration) {
        self.stop.leasing.cancel();
        self.tasks.close();
        if tokio::time::timeout(grace, self.tasks.wait()).await.is_err() {
            self.stop.attempts.cancel();
            self.tasks.wait().await;
        }
        self.spool.close().await.unwrap();
        self.check_sums(true).await;
        self.wire.seen().forget();
    }

    /// Posts one event of a kind by its number; answers whether it was stored anew.
    pub(crate) async fn post(&self, site: &Site, kind: EventKind, n: u64) -> bool {
        let (path, body) = match kind {
            EventKind::Conversion => {
                ("conversion".to_owned(), ORDER.replace(r#""123""#, &format!("\"{n}\"")))
            }
            EventKind::Impression
            | EventKind::View
            | EventKind::Click
            | EventKind::Notification => {
                (format!("{}/{n}", kind.as_str()), format!(r#"{{"user_id":"u{n}"}}"#))
            }
        };
        let source = &site.sources[&kind];
        let received = Received {
            target: format!("/v1/beacon/{path}?n={n}").into(),
            at: self.wire.clock.now(),
            caller: Caller::stranger(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            sent_at: SentAt::Unsaid,
            headers: ClientHeaders::default(),
        };
        let raw = Raw { body: body.into(), media: Media::Json };
        let item = Item { source: Arc::clone(source), received: Arc::new(received), raw };
        let request = Request {
            door: &source.settings().name,
            items: vec![Ok(item)],
            lane: Lane::Live,
            unity: Unity::Each,
            key: None,
            answer_by: tokio::time::Instant::now() + Duration::from_secs(2),
        };
        let Taken::Each(results) = self.intake.accept(request).await.unwrap() else {
            panic!("nothing was stored")
        };
        let appended = results.into_iter().next().unwrap().unwrap().appended;
        matches!(appended, Appended::Stored(_))
    }

    /// Stores events that name their URL, or were imported; `at` is where each goes.
    pub(crate) async fn import(&self, to: &str, lane: Lane, at: impl Iterator<Item = String>) {
        let now = self.wire.clock.now();
        let event = |target: String| Event {
            id: EventId::new(now),
            source: SourceName::new("import"),
            kind: EventKind::Notification,
            target: target.into(),
            accepted_at: now,
            body: Scrubbed::vouch(Bytes::from_static(b"{}")),
            headers: ClientHeaders::default(),
            fault: None,
        };
        let events = at.map(|target| NewEvent {
            event: Arc::new(event(target)),
            to: vec![DestinationName::new(to)],
            dedupe: None,
            lane,
        });
        let batch = Batch { events: events.collect(), request: None };
        self.spool.append(batch).await.unwrap();
    }

    pub(crate) fn forwarder(&self, to: &str) -> &Forwarder {
        &self.forwarders[&DestinationName::new(to)]
    }

    /// What the spool holds, each destination's.
    pub(crate) async fn standing(&self) -> Vec<DestinationStats> {
        self.spool.stats().await.unwrap().destinations
    }

    pub(crate) async fn spooled(&self) -> u64 {
        self.spool.stats().await.unwrap().spooled()
    }

    pub(crate) async fn dead(&self) -> Vec<DeadLetter> {
        let query = DeadQuery { after: None, max: usize::MAX, filter: DeadFilter::all() };
        self.spool.dead(query).await.unwrap().letters
    }

    /// Replays what may be mended by it; answers the numbers of events that may come twice now.
    pub(crate) async fn replay(&self) {
        let letters = self.dead().await;
        let ids: Vec<DeliveryId> = letters.iter().map(|letter| letter.id).collect();
        self.spool.replay(&ids).await.unwrap();
        let mut seen = self.wire.seen();
        for letter in letters.iter().filter(|letter| letter.refusal.cause != Cause::Expired) {
            let key = (letter.to.as_str().into(), number(&letter.event));
            // It is the operator's word that it may be sent again.
            if let Some(owed) = seen.owed.get_mut(&key) {
                owed.unsure_from = None;
            }
        }
    }

    /// Every sum balances; once nothing runs, nothing is in hand.
    pub(crate) async fn check_sums(&self, at_rest: bool) {
        let stats = self.spool.stats().await.unwrap();
        let items = self.ledger.item_sums().map(|(_, sums)| (sums.difference(), sums.in_hand));
        let leases = self.ledger.lease_sums().map(|(_, sums)| (sums.difference(), sums.in_hand));
        let sums: Vec<(i64, u64)> = items.chain(leases).collect();
        let mut seen = self.wire.seen();
        if sums.iter().any(|(difference, in_hand)| *difference != 0 || (at_rest && *in_hand > 0)) {
            seen.fail(format!("the ledger does not balance: {sums:?}"));
        }
        if stats.difference() != 0 || stats.letters_difference() != 0 {
            seen.fail(format!("the spool does not balance: {stats:?}"));
        }
        let held: u64 = stats.destinations.iter().map(|one| one.in_flight).sum();
        if at_rest && held > 0 {
            seen.fail(format!("{held} leases were not settled"));
        }
    }
}

/// An event's number, from its target's query.
pub(crate) fn number(event: &Event) -> u64 {
    let target = std::str::from_utf8(&event.target).unwrap();
    target.split_once("?n=").unwrap().1.parse().unwrap()
}

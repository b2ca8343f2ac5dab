//! Wiring: open the spool, start the forwarders, open the doors; and all of it backwards to stop.

mod certificates;
mod reload;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::caller::{Access, Limiter};
use crate::clock::Clock;
use crate::config::plan::Server;
use crate::config::{Admin, Plan};
use crate::event::SourceName;
use crate::forward::{Forwarder, Stop};
use crate::http::admin::Jobs;
use crate::http::auth::Guard;
use crate::http::receive::Door;
use crate::http::served::{Served, Serving};
use crate::http::status::Status;
use crate::http::{self, admin, listener};
use crate::intake::{Arrivals, Intake};
use crate::ledger::Ledger;
use crate::lookup::Lookups;
use crate::metrics::Metrics;
use crate::shutdown::Shutdown;
use crate::source::Source;
use crate::source::keep::Keep;
use crate::spool::embedded::{self, Embedded, KeyMissing};
use crate::spool::{Spool, StoreFault};

pub use reload::Reloaded;
use reload::Running;

/// What settling may take beyond an attempt before a lease would return by itself.
const SETTLE_MARGIN: Duration = Duration::from_secs(30);
/// How often what the histograms gathered is put into their buckets.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// A running relay.
pub struct Relay {
    listen: SocketAddr,
    admin_listen: SocketAddr,
    spool: Arc<Embedded>,
    status: Arc<Status>,
    jobs: Arc<Jobs>,
    lookups: Arc<Lookups>,
    shutdown: Shutdown,
    doors: TaskTracker,
    forwarders: TaskTracker,
    rest: TaskTracker,
    server: Server,
    public: Doors,
    serving: Serving,
    running: Arc<Mutex<Running>>,
}

/// Why a relay did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error(
        "cannot listen on {address}, set by {setting}: choose another, or stop what listens there"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The setting that names it.
        setting: &'static str,
        /// The system's words.
        #[source]
        cause: std::io::Error,
    },
    /// The spool was encrypted with a key that is not configured.
    #[error("refused: the spool cannot be read")]
    Key(#[from] KeyMissing),
    /// The spool cannot be opened.
    #[error("cannot open the spool")]
    Spool(#[from] StoreFault),
    /// Opening the spool panicked: a bug.
    #[error("opening the spool broke off")]
    Broken,
}

impl Relay {
    /// Starts everything a plan asks for; returns when it takes events.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running.
    pub async fn start(plan: Plan, clock: Clock) -> Result<Self, StartError> {
        embedded::check_keys(&plan.spool.path, &plan.spool.keys)?;
        let door = bind(plan.server.listen, "server.listen").await?;
        let admin_door = bind(plan.admin.listen, "admin.listen").await?;
        let listen = address(&door, plan.server.listen);
        let admin_listen = address(&admin_door, plan.admin.listen);

        let sources = plan.sources.into_iter();
        let sources: Vec<Arc<Source>> =
            sources.map(|one| Arc::new(Source::new(one, plan.server.depth_max))).collect();
        let by_url = SourceName::new(http::by_url::NAME);
        let source_names = || {
            let names = sources.iter().map(|source| source.settings().name.clone());
            names.chain([by_url.clone()])
        };
        let names = || plan.destinations.iter().map(|one| one.name.clone());
        let ledger = Arc::new(Ledger::new(source_names(), names()));
        let metrics = Arc::new(Metrics::new(http::ROUTES, source_names(), names()));

        let attempt_max = plan.destinations.iter().map(|one| one.limits.attempt_within).max();
        let mut settings = embedded::Settings::at(&plan.spool.path);
        settings.max_bytes = plan.spool.max_bytes;
        settings.dead_max_bytes = plan.spool.dead_max_bytes;
        settings.dead_max_age = plan.spool.dead_max_age;
        settings.keys = plan.spool.keys.clone();
        settings.due_max = plan.spool.retrying_max;
        let waits = plan.destinations.iter().map(|one| &one.backoff);
        let longest = waits.map(|waits| waits.wait_max.max(waits.retry_after_max)).max();
        settings.due_within = longest.unwrap_or(settings.due_within);
        settings.lease_for = attempt_max.unwrap_or_default() + SETTLE_MARGIN;
        let observed = Arc::clone(&metrics);
        settings.observer = embedded::Observer::new(move |took, records| {
            observed.committed(took.as_secs_f64(), records);
        });
        let own_clock = clock.clone();
        let opening = tokio::task::spawn_blocking(move || Embedded::open(settings, own_clock));
        let embedded = Arc::new(opening.await.map_err(|_| StartError::Broken)??);
        let spool: Arc<dyn Spool> = Arc::clone(&embedded) as Arc<dyn Spool>;

        let forwarders = plan.destinations.into_iter().map(|settings| {
            let (spool, ledger) = (Arc::clone(&spool), Arc::clone(&ledger));
            Forwarder::new(settings, spool, ledger, Arc::clone(&metrics), clock.clone())
        });
        let forwarders: Vec<Arc<Forwarder>> = forwarders.collect();
        let status = Arc::new(Status::new(
            Arc::clone(&spool),
            Arc::clone(&ledger),
            Arc::clone(&metrics),
            forwarders.clone(),
            clock.clone(),
        ));
        let shutdown = Shutdown::default();
        let jobs = Jobs::new(
            Arc::clone(&spool),
            forwarders.clone(),
            clock.clone(),
            shutdown.leasing.clone(),
        );
        jobs.resume().await?;
        let lookups = Lookups::new(plan.lookups, &spool, &sources, &metrics, &clock);
        let intake = Intake::new(spool, ledger, Arc::clone(&metrics));
        let intake = intake.telling(Arc::clone(&lookups) as Arc<dyn Arrivals>);
        lookups.start(&intake, &shutdown.leasing).await?;
        let limiter = Arc::new(Limiter::new(plan.server.addresses_max));
        let doors = Doors { intake, limiter, metrics: Arc::clone(&metrics), clock };
        let serving = Serving::new(Served {
            router: doors.public(&sources, plan.access, plan.server.requests),
            limits: plan.server.connections,
            tls: plan.server.tls.as_ref().map(|opened| opened.tls.clone()),
        });
        if let Some(opened) = &plan.server.tls {
            certificates::show(&doors.metrics, Some(&opened.tls));
        }
        let running = Running { sources, written: plan.written, tls: plan.server.tls.clone() };
        let relay = Self {
            listen,
            admin_listen,
            spool: embedded,
            status,
            jobs,
            lookups,
            shutdown,
            doors: TaskTracker::new(),
            forwarders: TaskTracker::new(),
            rest: TaskTracker::new(),
            server: plan.server,
            public: doors,
            serving,
            running: Arc::new(Mutex::new(running)),
        };
        relay.forward(forwarders);
        relay.open_door(door);
        relay.open_admin(admin_door, &plan.admin);
        relay.keep_up(metrics);
        relay.watch_certificates();
        Ok(relay)
    }

    fn forward(&self, forwarders: Vec<Arc<Forwarder>>) {
        for forwarder in forwarders {
            let (leasing, attempts) =
                (self.shutdown.leasing.clone(), self.shutdown.attempts.clone());
            self.forwarders.spawn(forwarder.run(Stop { leasing, attempts }));
        }
    }

    fn open_door(&self, listener: TcpListener) {
        let (stop, cut) = (self.shutdown.door.clone(), self.shutdown.door_cut.clone());
        self.doors.spawn(listener::serve(listener, self.serving.clone(), stop, cut));
    }

    fn open_admin(&self, listener: TcpListener, settings: &Admin) {
        let admin = admin::Admin {
            status: Arc::clone(&self.status),
            jobs: Arc::clone(&self.jobs),
            lookups: Arc::clone(&self.lookups),
            access: admin::Access {
                token: settings.token.clone(),
                reveal: settings.reveal.clone(),
                listen: self.admin_listen,
            },
            draining: self.shutdown.draining.clone(),
        };
        let (router, last) = (http::admin(admin), self.shutdown.last.clone());
        let serving = Serving::new(Served { router, limits: self.server.connections, tls: None });
        self.rest.spawn(listener::serve(listener, serving, last.clone(), last));
    }

    fn keep_up(&self, metrics: Arc<Metrics>) {
        let last = self.shutdown.last.clone();
        self.rest.spawn(async move {
            let upkeep = async {
                loop {
                    tokio::time::sleep(UPKEEP_EVERY).await;
                    metrics.upkeep();
                }
            };
            last.run_until_cancelled(upkeep).await;
        });
    }

    /// Where apps and tills post.
    #[must_use]
    pub const fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// Where operators look.
    #[must_use]
    pub const fn admin_listen(&self) -> SocketAddr {
        self.admin_listen
    }

    /// What is in hand.
    #[must_use]
    pub const fn status(&self) -> &Arc<Status> {
        &self.status
    }

    /// Waits for a fault of the store, after which the process must end: recovery decides.
    pub async fn fault(&self) -> StoreFault {
        self.spool.faulted().await
    }

    /// Stops in order: readiness, door, forwarders, spool. What is under way gets the grace period.
    ///
    /// # Errors
    /// [`StoreFault`] when the spool could not be closed cleanly.
    pub async fn stop(self) -> Result<(), StoreFault> {
        let Self { shutdown, server, .. } = &self;
        shutdown.draining.cancel();
        if !server.drain_delay.is_zero() {
            tokio::time::sleep(server.drain_delay).await;
        }
        shutdown.door.cancel();
        shutdown.leasing.cancel();
        // One grace for both: they end beside each other.
        let deadline = Instant::now() + server.grace;
        tokio::join!(
            end(&self.doors, deadline, &shutdown.door_cut),
            end(&self.forwarders, deadline, &shutdown.attempts),
            self.jobs.ended(),
            self.lookups.ended(),
        );
        let closed = self.spool.close().await;
        shutdown.last.cancel();
        self.rest.close();
        self.rest.wait().await;
        closed
    }
}

/// What every door of the public listener is made of, now and at each reload.
struct Doors {
    intake: Intake,
    limiter: Arc<Limiter>,
    metrics: Arc<Metrics>,
    clock: Clock,
}

impl Doors {
    fn public(
        &self,
        sources: &[Arc<Source>],
        access: Access,
        limits: http::receive::Limits,
    ) -> axum::Router {
        let guard = Arc::new(Guard::new(access, Arc::clone(&self.limiter)));
        let (intake, metrics) = (self.intake.clone(), Arc::clone(&self.metrics));
        let door = Door::new(intake, guard, Arc::clone(&metrics), self.clock.clone(), limits);
        let keep = Keep::any(sources.iter().map(|one| &one.settings().keep));
        let door = door.keeping(keep.and(sources.iter().flat_map(|one| one.reads())));
        http::public(sources, door, metrics)
    }
}

/// Waits until `deadline` for tasks to end by themselves, then cuts them off.
async fn end(tasks: &TaskTracker, deadline: Instant, cut: &CancellationToken) {
    tasks.close();
    if tokio::time::timeout_at(deadline, tasks.wait()).await.is_err() {
        cut.cancel();
        tasks.wait().await;
    }
}

async fn bind(address: SocketAddr, setting: &'static str) -> Result<TcpListener, StartError> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|cause| StartError::Listen { address, setting, cause })
}

/// The address that was bound, with the port the system chose for port 0.
fn address(listener: &TcpListener, asked: SocketAddr) -> SocketAddr {
    listener.local_addr().unwrap_or(asked)
}

impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relay").field("listen", &self.listen).finish_non_exhaustive()
    }
}

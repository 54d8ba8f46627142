//! `kedge serve`: puts everything together, runs until told to stop, and stops cleanly.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use futures::FutureExt as _;
use futures::future::{BoxFuture, join3, select};
use kedge_drivers::secrets::FileSecrets;
use kedge_engine::executor::{Engine, Limits, Parts, Recovery, Sweep};
use kedge_engine::journal::Journal;
use kedge_engine::ports::{Clock, Random};
use kedge_engine::store::{Health, Store};
use kedge_stores::{FileLogs, Options, SledStore};
use kedge_webhooks::api::Links;
use kedge_webhooks::{
    Access, App, Approvals, Deliverer, EndpointComposer, Endpoints, HttpConfig, Master, Metrics, Mistake,
    Ports, Secret, Server, SharedTls,
};
use kedge_workflows::ports::{SecretRef, Secrets as _, World};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::again;
use crate::between::Between;
use crate::config::{self, Config};
use crate::custody::HostCustody;
use crate::descriptors;
use crate::desk::LiveDesk;
use crate::facts::KnownFacts;
use crate::logs::MaskedLogs;
use crate::runtime::{SystemClock, SystemRandom, TokioSpawner};
use crate::schedules::{Schedule, Scheduler};
use crate::upkeep;
use crate::world::LiveWorld;

/// How long steps in flight may go on after the signal to stop; what is not done then is taken up at the next start.
const DRAIN_LIMIT: Duration = Duration::from_secs(20);
/// Exit code when the journal failed and starting anew in the same place did not help.
const EXIT_FAILED: u8 = 70;

/// Serves until a signal says stop.
///
/// # Errors
/// A configuration that does not hold together, a journal that does not open, an address that is taken.
pub(crate) async fn serve(file: &Path) -> Result<ExitCode> {
    let config = Arc::new(config::load(file)?);
    let service = again::open(&config).await?;
    let mut http = http(&config)?;
    http.max_connections = descriptors::connections(http.max_connections);
    let metrics = Metrics::default();
    let desk = LiveDesk::new(service.world.clone(), service.facts.clone(), Arc::new(service.engine.clone()));
    let desk = Arc::new(desk);
    let ports = Ports {
        store: service.store.clone(),
        tasks: Arc::new(service.engine.clone()),
        outbox: Arc::new(service.engine.outbox()),
        inbox: Arc::new(service.engine.inbox()),
        clock: Arc::new(SystemClock),
        random: Arc::new(SystemRandom),
        desk: desk.clone(),
    };
    let tls = http.tls.clone();
    let signals = Signals::take()?;
    let access = access(&config);
    let master = master(&config).await?;
    service.endpoints.open(service.store.clone(), master)?;
    let app = App::new(ports, access, service.endpoints.clone(), &http, metrics.clone()).map_err(mistakes)?;
    // Bound before anything runs: a second instance ends here, or at the journal's lock.
    let server = Server::bind(http, app.clone())
        .await
        .with_context(|| format!("cannot listen on {}", config.listen))?;
    let (sweep, recovery) = match begin(&service).await {
        Ok(begun) => begun,
        Err(error) if matches!(service.store.health(), Health::Failed(_)) => {
            tracing::error!("the journal failed at the start: {error:#}");
            drop((server, app, service));
            return Ok(anew());
        }
        Err(error) => return Err(error),
    };
    app.tell_chats().context("the unfinished tasks cannot be read")?;
    tracing::info!(
        address = %server.address(), resumed = recovery.resumed.len(), quarantined = recovery.quarantined.len(),
        "kedge serves"
    );
    let stop = CancellationToken::new();
    let deliverer = service.deliverer(metrics).with_desk(desk);
    let delivering = tokio::spawn(deliverer.run(stop.clone().cancelled_owned()));
    let inbox = service.engine.inbox();
    let tending =
        tokio::spawn(stop.clone().run_until_cancelled_owned(inbox.clone().tend(Arc::new(SystemClock))));
    let serving = tokio::spawn(server.run(stop.clone().cancelled_owned()));
    let upkeep = tokio::spawn(stop.clone().run_until_cancelled_owned(service.upkeep(&config, sweep)));
    let ended = until_stopped(signals, file, &app, tls.as_ref(), &service).await?;
    stop.cancel();
    serving.await.context("the HTTP server ended badly")?;
    tending.await.context("the keeping of messages ended badly")?;
    inbox.flush().await;
    if tokio::time::timeout(DRAIN_LIMIT, service.engine.drain()).await.is_err() {
        tracing::warn!("steps are still in flight; they are taken up at the next start");
    }
    delivering.await.context("the deliverer ended badly")?;
    upkeep.await.context("the upkeep or the schedules ended badly")?;
    tracing::info!("kedge has stopped");
    match ended {
        Ended::Stopped => Ok(ExitCode::SUCCESS),
        Ended::Failed => {
            drop((app, service));
            Ok(anew())
        }
    }
}

/// Who may come in.
pub(crate) fn access(config: &Config) -> Access {
    Access {
        tokens: config.tokens.clone(),
        certificates: config.certificates.clone(),
        hooks: config.hooks.clone(),
        chats: config.chats.clone(),
        trusted_proxies: config.trusted_proxies.clone(),
        endpoint_networks: config.endpoint_networks.clone(),
    }
}

fn http(config: &Config) -> Result<HttpConfig> {
    let public_url = config.public_url.as_ref().map(|url| url.parse()).transpose();
    Ok(HttpConfig {
        listen: config.listen,
        public_url: public_url.context("http.public_url")?,
        rates: config.rates,
        tls: config.tls.clone().map(SharedTls::new),
        ..HttpConfig::default()
    })
}

/// What comes before the first step.
async fn begin(service: &Service) -> Result<(Sweep, Recovery)> {
    let sweep = service.engine.begin_sweep().await?;
    Ok((sweep, service.engine.recover()?))
}

/// The next life, in the place of this one: only what is durable counts from here on, and what kept the journal from writing may be over,
/// or is waited for. Returns only when that cannot be.
fn anew() -> ExitCode {
    let error = match again::start_anew() {
        Ok(never) => match never {},
        Err(error) => error,
    };
    tracing::error!("the process ends, so that its supervisor starts it anew: {error:#}");
    ExitCode::from(EXIT_FAILED)
}

/// Signals, taken from the first moment on: whoever sees the address answer may send one.
struct Signals {
    term: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn take() -> Result<Self> {
        let take = |kind| signal(kind).context("signals cannot be taken");
        Ok(Self {
            term: take(SignalKind::terminate())?,
            interrupt: take(SignalKind::interrupt())?,
            hangup: take(SignalKind::hangup())?,
        })
    }
}

/// How a life of the service ended.
enum Ended {
    /// By a signal.
    Stopped,
    /// The journal failed.
    Failed,
}

/// The secret from which those of endpoints are derived: made once, kept encrypted beside the sites' own.
async fn master(config: &Config) -> Result<Master> {
    let secrets =
        FileSecrets::open(config.data_dir.join("secrets")).context("the secrets cannot be opened")?;
    let secret = secrets
        .ensure(&SecretRef("webhooks/master".to_owned()))
        .await
        .context("the master secret of webhooks")?;
    Ok(Master::new(Secret::new(secret.expose())))
}

/// Resolves when nothing can be written any more, with the reason.
async fn journal_failed(service: &Service) -> String {
    let (engine, store) = (pin!(service.engine.failed()), pin!(again::failed(|| service.store.health())));
    select(engine, store).await.factor_first().0
}

/// Waits for a signal to stop or for the journal to fail; reloads on SIGHUP.
async fn until_stopped(
    signals: Signals,
    file: &Path,
    app: &App,
    tls: Option<&SharedTls>,
    service: &Service,
) -> Result<Ended> {
    let Signals { mut term, mut interrupt, mut hangup } = signals;
    loop {
        tokio::select! {
            why = journal_failed(service) => {
                tracing::error!(why, "the journal failed; this life ends, so that the next one starts from what is durable");
                return Ok(Ended::Failed);
            }
            _ = term.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => reload(file, app, tls, service),
        }
    }
    tracing::info!("stopping; a second signal ends at once");
    tokio::spawn(async move {
        tokio::select! { _ = term.recv() => {}, _ = interrupt.recv() => {} }
        std::process::exit(1);
    });
    Ok(Ended::Stopped)
}

/// Takes over what can change while tasks run of a changed file; a broken one changes nothing.
fn reload(file: &Path, app: &App, tls: Option<&SharedTls>, service: &Service) {
    if let Err(error) = take_over(file, app, tls, service) {
        tracing::error!("not reloaded: {error:#}");
    }
}

fn take_over(file: &Path, app: &App, tls: Option<&SharedTls>, service: &Service) -> Result<()> {
    let _alone = service.world.changing();
    let (config, stay) = config::load_again(file, &service.world.now().config)?;
    let config = Arc::new(config);
    let reached = service.world.with(config.clone())?;
    app.reload(access(&config), config.endpoints.clone()).map_err(mistakes)?;
    service.world.replace(reached);
    service.approvals.replace(config.approvals.clone());
    service.schedules.send_replace(config.schedules.clone());
    match (tls, config.tls.clone()) {
        (Some(tls), Some(fresh)) => tls.replace(fresh),
        (None, None) => {}
        (Some(_), None) | (None, Some(_)) => {
            tracing::warn!("http.tls is there now or is not any more: that needs a restart");
        }
    }
    for setting in stay {
        tracing::warn!("{setting} has changed: that needs a restart");
    }
    tracing::info!("the configuration is reloaded");
    Ok(())
}

/// The engine on its journal and world.
pub(crate) struct Service {
    pub(crate) engine: Engine<dyn World>,
    pub(crate) endpoints: Endpoints,
    /// Where its own pages are.
    links: Links,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) world: Arc<LiveWorld>,
    pub(crate) facts: Arc<KnownFacts>,
    pub(crate) approvals: Approvals,
    pub(crate) schedules: watch::Sender<Vec<Schedule>>,
}

impl Service {
    /// Opens the journal and puts the engine together; nothing runs yet.
    ///
    /// # Errors
    /// See [`serve`].
    pub(crate) fn open(config: &Arc<Config>, between: &dyn Between) -> Result<Self> {
        make_dir(&config.data_dir)?;
        make_dir(&config.backup_dir)?;
        let store =
            between.store(Arc::new(SledStore::open(&config.data_dir.join("journal"), Options::default())?));
        let world = Arc::new(LiveWorld::new(config.clone(), &instance(&config.data_dir)?, between)?);
        let endpoints = Endpoints::new(config.endpoints.clone()).map_err(mistakes)?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let random: Arc<dyn Random> = Arc::new(SystemRandom);
        let base = config.public_url.clone().unwrap_or_else(|| format!("http://{}", config.listen));
        let links = Links::new(Some(&base.parse().context("http.public_url")?));
        let custody = HostCustody { world: world.clone(), journal: Journal::new(store.clone()) };
        let facts = Arc::new(KnownFacts::new(world.clone(), store.clone()));
        let approvals = Approvals::new(config.approvals.clone());
        let engine = Engine::new(Parts {
            store: store.clone(),
            clock: clock.clone(),
            spawner: Arc::new(TokioSpawner(tokio::runtime::Handle::current())),
            random,
            logs: Arc::new(MaskedLogs::new(FileLogs::new(&config.data_dir), world.clone())),
            custody: Arc::new(custody),
            composer: Arc::new(EndpointComposer::new(endpoints.clone(), links.clone(), clock)),
            facts: facts.clone(),
            kinds: between.kinds(kedge_workflows::step_kinds()),
            workflows: kedge_workflows::workflows(),
            ports: world.clone(),
            gates: Arc::new(approvals.clone()),
            limits: Limits::default(),
        });
        let schedules = watch::Sender::new(config.schedules.clone());
        Ok(Self { engine, endpoints, links, store, world, facts, approvals, schedules })
    }
}

impl Service {
    fn deliverer(&self, metrics: Metrics) -> Deliverer {
        let outbox = Arc::new(self.engine.outbox());
        let to = (self.endpoints.clone(), self.links.clone());
        Deliverer::new(outbox, to, Arc::new(SystemClock), Arc::new(SystemRandom), metrics)
    }

    /// What goes on beside the tasks: old ones are packed and forgotten, secrets end, schedules become tasks.
    fn upkeep(&self, config: &Config, sweep: Sweep) -> BoxFuture<'static, ()> {
        let Self { engine, facts, store, world, .. } = self;
        let scheduler =
            Scheduler::new(self.schedules.subscribe(), engine.clone(), facts.clone(), store.clone());
        let forgetting = upkeep::forget_secrets(world.secret_files().clone());
        join3(upkeep::run(engine.clone(), config.ages, sweep), forgetting, scheduler.run()).map(drop).boxed()
    }
}

/// This installation's id, by which processes of an earlier life are known: made once, kept beside the journal.
pub(crate) fn instance(data_dir: &Path) -> Result<String> {
    let file = data_dir.join("instance");
    match fs::read_to_string(&file) {
        Ok(text) if text.trim().len() == 32 => return Ok(text.trim().to_owned()),
        Ok(_) => bail!("{} is damaged; remove it when no command of Kedge runs on any host", file.display()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("{} cannot be read", file.display())),
    }
    let id = hex::encode(SystemRandom.id());
    let temporary = data_dir.join("instance.new");
    let mut out =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    out.write_all(id.as_bytes())?;
    out.sync_all()?;
    fs::rename(&temporary, &file).with_context(|| format!("{} cannot be written", file.display()))?;
    Ok(id)
}

pub(crate) fn make_dir(dir: &Path) -> Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder.create(dir).with_context(|| format!("the directory {} cannot be made", dir.display()))
}

fn mistakes(list: Vec<Mistake>) -> anyhow::Error {
    let lines: Vec<String> = list.iter().map(ToString::to_string).collect();
    anyhow!("{}", lines.join("\n"))
}

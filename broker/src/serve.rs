//! One broker process: takes its directories and addresses, starts a shard on each core, serves until told to stop.
//!
//! ```text
//!   shard 0: directories, metadata log, controller ─┐
//!   every shard: opens its partitions ◀─ image ─────┘─▶ listens ─▶ "ready" ─▶ … ─▶ drains ─▶ closes its logs
//! ```

use crate::broker::{Broker, Parts, Recovery, remove_leftovers};
use crate::calls::MeshEnds;
use crate::cluster::{Controller, DataDirs, Disks, MetadataLog, Request, metadata_is_there};
use crate::config::{BrokerConfig, ListenAddress};
use crate::http;
use crate::kafka::is_kafkas;
use crate::metrics::Scrapes;
use crate::net::ConnectionQuotas;
use crate::supervisor::Supervisor;
use ringlog_engine::io::give_back_memory;
use ringlog_engine::io::host::{self, Host, IoChoice, Reservation};
use ringlog_engine::log::Cache;
use ringlog_engine::shard::{self, Mesh, Placement, Shard, ShardId, Stop, mesh_ends};
use std::cell::Cell;
use std::fmt;
use std::io::Write;
use std::net::{SocketAddr, ToSocketAddrs};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Serves until `stop` is asked. Writes one line to `ready` when clients can connect.
pub fn serve(
    mut config: BrokerConfig,
    stop: &Stop,
    ready: impl Write + Send + 'static,
) -> Result<(), ServeError> {
    if let Some(why) = is_kafkas(&config.data_dirs) {
        return Err(ServeError(why));
    }
    let placement = placement(&config.cores)?;
    let (addresses, reservations) = reserve(&config.listeners)?;
    let choice = match config.io.as_str() {
        "uring" => IoChoice::Uring,
        "poll" => IoChoice::Poll,
        _ => IoChoice::Auto,
    };
    let files_max = host::raise_file_limit();
    let host = Host::open(&config.data_dirs, choice).map_err(|error| ServeError(error.to_string()))?;
    let ports: Vec<u16> = addresses.iter().map(SocketAddr::port).collect();
    config.set_bound(&ports, &host_name());
    report(&config, &host, &placement);
    eprintln!("connections: {} at most, of {files_max} files", connections_max(files_max));

    let scrapes = Scrapes::new(placement.shards());
    let http = match &config.http {
        Some(address) => Some(http::Server::start(address, scrapes.clone()).map_err(|error| {
            ServeError(format!(
                "listen on {address} for HTTP: {error}; set http.listen to another address or to none"
            ))
        })?),
        None => None,
    };
    let supervisor = Supervisor::of_environment()
        .map_err(|error| ServeError(format!("NOTIFY_SOCKET names no socket: {error}")))?;
    let process = Process {
        quotas: ConnectionQuotas::new(&config, connections_max(files_max)),
        config: Arc::new(config),
        addresses,
        stop: stop.clone(),
        gate: Gate::new(placement.shards()),
        reservations: Mutex::new(reservations),
        scrapes,
        ready: Mutex::new(ready),
        supervisor,
        http: http.as_ref().map(http::Server::address),
    };
    let ends = mesh_ends(placement.shards());
    let process = Arc::new(process);
    let results = shard::run(
        &placement,
        ends,
        |_| host.driver(),
        |shard, ends| serve_shard(shard, ends, process.clone()),
    )
    .map_err(|error| ServeError(error.to_string()))?;
    results.into_iter().collect()
}

/// Of the files that the process may open, a part is for its logs: without them nothing could be stored.
fn connections_max(files_max: usize) -> usize {
    files_max - files_max / 4
}

/// What the shards of the process share while they start and stop.
struct Process<W> {
    config: Arc<BrokerConfig>,
    addresses: Vec<SocketAddr>,
    stop: Stop,
    gate: Gate,
    quotas: Arc<ConnectionQuotas>,
    /// Hold the ports until every shard listens.
    reservations: Mutex<Vec<Reservation>>,
    scrapes: Arc<Scrapes>,
    ready: Mutex<W>,
    supervisor: Supervisor,
    http: Option<SocketAddr>,
}

async fn serve_shard<W: Write + Send + 'static>(
    shard: Shard,
    ends: MeshEnds,
    process: Arc<Process<W>>,
) -> Result<(), ServeError> {
    let id = shard.id();
    let mesh = Mesh::open(&shard, ends);
    let cache = Cache::new(process.config.cache_bytes / usize::from(mesh.shards()));
    let (config, quotas) = (process.config.clone(), process.quotas.clone());
    let broker = Broker::start(Parts { shard, mesh, config, cache, quotas });
    process.scrapes.serve(&broker);
    let began = broker.shard().now();
    let opening = Rc::new(Cell::new(true));
    broker.shard().spawn(report_progress(broker.clone(), opening.clone()));
    let mut result = match id {
        ShardId(0) => lead(&broker).await,
        _ => Ok(()),
    };
    // Who connects meets a shard that knows the topics and whom to ask for more.
    process.gate.pass(result.is_ok()).await;
    opening.set(false);
    if process.gate.all_well() {
        report_recovery(&broker, broker.shard().now().since(began));
        if id == ShardId(0) {
            // To open thousands of logs takes much for a moment.
            give_back_memory();
        }
        result = listen(&broker, &process.addresses);
    }
    process.gate.pass(result.is_ok()).await;
    if process.gate.all_well() {
        if id == ShardId(0) {
            process.reservations.lock().expect("no shard panics").clear();
            process.scrapes.set_ready(true);
            announce(&process);
        }
        process.stop.wait().await;
        if id == ShardId(0) {
            process.supervisor.stopping();
        }
        process.scrapes.set_ready(false);
    }
    broker.drain().await;
    process.gate.pass(true).await;
    broker.close().await;
    process.gate.pass(true).await;
    result
}

/// While a shard opens its logs: how far it has come, now and then.
async fn report_progress(broker: Broker, opening: Rc<Cell<bool>>) {
    loop {
        broker.shard().sleep(PROGRESS_EVERY).await;
        if !opening.get() {
            return;
        }
        let Recovery { opened, waiting, scanned_bytes, .. } = broker.recovery();
        let all = opened + waiting;
        let shard = broker.shard().id().0;
        eprintln!("shard {shard}: {opened} of {all} partitions open, {scanned_bytes} bytes of log scanned");
    }
}

const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// One line for each shard that has logs.
fn report_recovery(broker: &Broker, took: Duration) {
    let Recovery { opened, scanned_bytes, cut_bytes, segments_removed, .. } = broker.recovery();
    if opened > 0 {
        let shard = broker.shard().id().0;
        eprintln!(
            "recovered shard {shard}: partitions={opened} ms={} scanned_bytes={scanned_bytes} cut_bytes={cut_bytes} segments_removed={segments_removed}",
            took.as_millis()
        );
    }
}

fn listen(broker: &Broker, addresses: &[SocketAddr]) -> Result<(), ServeError> {
    addresses.iter().enumerate().try_for_each(|(index, address)| {
        let listening = broker.listen(index, *address);
        listening.map(drop).map_err(|error| ServeError(format!("listen on {address}: {error}")))
    })
}

/// What shard 0 does before anybody may connect: the directories, the metadata, the partitions of every shard.
pub async fn lead(broker: &Broker) -> Result<(), ServeError> {
    let config = broker.config().clone();
    let io = broker.shard().io().clone();
    let mut dirs = DataDirs::open(&io, &config.data_dirs, config.node_id)
        .await
        .map_err(|error| ServeError(error.to_string()))?;
    metadata_is_there(&io, &dirs).await.map_err(ServeError)?;
    let first = &dirs.dirs[0];
    let (mut log, image) = MetadataLog::open(&io, first.dir, &first.path)
        .await
        .map_err(|error| ServeError(error.to_string()))?;
    // Before anything is compacted away: the log knows which topics were deleted.
    remove_leftovers(&io, &mut dirs, &log.take_deleted()).await;
    let dirs = Arc::new(dirs);
    broker.use_directories(dirs.clone()).await;
    let publisher = broker.clone();
    let publish: crate::cluster::Publish = Box::new(move |image| {
        let broker = publisher.clone();
        Box::pin(async move { broker.publish(image).await })
    });
    let (asked, of_all) = (broker.clone(), broker.clone());
    let disks = Disks {
        usable: Box::new(move |id| !asked.is_directory_offline(id)),
        all_open: Box::new(move || !of_all.is_any_offline()),
    };
    let controller = Controller::start(&io, config, dirs.clone(), (log, image), publish, disks)
        .await
        .map_err(|error| ServeError(error.to_string()))?;
    broker.publish(controller.image()).await;
    broker.sync_directories(&dirs).await;
    broker.begin_journals(&dirs).await;
    // Where that fails it is said; the next start tries again.
    controller.handle(Request::NoteOpened).await;
    broker.lead_cluster(move |request| {
        let controller = controller.clone();
        Box::pin(async move { controller.handle(request).await })
    });
    Ok(())
}

fn announce<W: Write>(process: &Process<W>) {
    let endpoints: Vec<String> = process.addresses.iter().map(|address| format!("kafka={address}")).collect();
    let http = process.http.map_or_else(String::new, |address| format!(" http={address}"));
    let mut ready = process.ready.lock().expect("no shard panics");
    let line = format!("ringlog ready: {}{http}\n", endpoints.join(" "));
    // Whoever started the broker may not care to read; it serves all the same.
    let _ = ready.write_all(line.as_bytes()).and_then(|()| ready.flush());
    process.supervisor.ready();
}

/// One line for each thing that was chosen by itself.
fn report(config: &BrokerConfig, host: &Host, placement: &Placement) {
    eprintln!("io: {} ({})", host.driver_name(), host.reason());
    for facts in host.facts() {
        eprintln!("data: {facts}");
    }
    let without_effect = config.settings.without_effect();
    if !without_effect.is_empty() {
        eprintln!("config: without effect in ringlog: {}", without_effect.join(", "));
    }
    eprintln!("shards: {}", placement.shards());
}

fn placement(cores: &str) -> Result<Placement, ServeError> {
    let allowed = host::cores().map_err(|error| ServeError(format!("ask for the cores: {error}")))?;
    let wanted = host::parse_cores(cores).map_err(|why| ServeError(format!("cores: {why}")))?;
    if let Some(core) = wanted.iter().find(|core| !allowed.contains(core)) {
        return Err(ServeError(format!(
            "cores: this process may not run on core {core}; it may on {allowed:?}"
        )));
    }
    Ok(Placement::Pinned(if wanted.is_empty() { allowed } else { wanted }))
}

/// Takes the listeners' addresses, so that nobody else gets them before the shards listen.
fn reserve(listeners: &[ListenAddress]) -> Result<(Vec<SocketAddr>, Vec<Reservation>), ServeError> {
    let mut addresses = Vec::new();
    let mut reservations = Vec::new();
    for listener in listeners {
        let host = (listener.host_or_any(), listener.port);
        let mut resolved =
            host.to_socket_addrs().map_err(|error| ServeError(format!("listener {listener}: {error}")))?;
        let address =
            resolved.next().ok_or_else(|| ServeError(format!("listener {listener}: no such host")))?;
        let reservation = Reservation::take(address).map_err(|error| {
            ServeError(format!(
                "listen on {address}: {error}; is another broker running? `--listen HOST:PORT` chooses another address, port 0 a free one"
            ))
        })?;
        addresses.push(reservation.address());
        reservations.push(reservation);
    }
    Ok((addresses, reservations))
}

/// What this machine calls itself, for listeners on every address that advertise none.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "localhost".into(),
        name => name.into(),
    }
}

/// Where the shards wait for each other.
struct Gate {
    shards: usize,
    arrived: AtomicUsize,
    failed: AtomicBool,
    rounds: Vec<Stop>,
}

/// Ready to listen, listening, drained, closed.
const ROUNDS: usize = 4;

impl Gate {
    fn new(shards: u16) -> Self {
        let rounds = (0..ROUNDS).map(|_| Stop::default()).collect();
        Self {
            shards: usize::from(shards),
            arrived: AtomicUsize::new(0),
            failed: AtomicBool::new(false),
            rounds,
        }
    }

    /// Waits until every shard has come as far. A shard that is not well says so, for the others to see.
    async fn pass(&self, well: bool) {
        if !well {
            self.failed.store(true, Ordering::SeqCst);
        }
        let arrival = self.arrived.fetch_add(1, Ordering::SeqCst);
        let round = &self.rounds[arrival / self.shards];
        if arrival % self.shards == self.shards - 1 {
            round.ask();
        }
        round.wait().await;
    }

    fn all_well(&self) -> bool {
        !self.failed.load(Ordering::SeqCst)
    }
}

/// Why the broker does not serve, in words for whoever started it.
#[derive(Debug)]
pub struct ServeError(pub String);

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ServeError {}

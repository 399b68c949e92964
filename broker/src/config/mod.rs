//! Configuration: Kafka's names, checked once, then typed.
//!
//! [`Settings`] holds what was set and where; [`BrokerConfig`] is what the broker runs with; [`TopicConfig`] is what one
//! topic runs with: what was set on it, else the broker's default for it, else Kafka's.

mod broker_keys;
mod changeable;
mod cleaning;
mod connections;
mod group_keys;
mod groups;
mod kept_keys;
mod kind;
mod listeners;
mod properties;
mod settings;
mod topic;
mod topic_keys;

pub use broker_keys::{BROKER_KEYS, BrokerKey, broker_key, listener_key};
pub use changeable::{Changeable, changeable};
pub use cleaning::CleanerConfig;
pub use connections::{ConnectionLimits, ListenerLimits};
pub use group_keys::{GROUP_KEYS, GroupKey, group_key};
pub use groups::GroupConfig;
pub use kind::{Kind, Refusal, list};
pub use listeners::{Advertised, ListenAddress};
pub use settings::{ConfigError, Dynamic, Settings, Source};
pub use topic::{CleanupPolicy, Durability, Origin, TimestampType, TopicConfig, broker_names};
pub use topic_keys::{TOPIC_KEYS, TopicKey, topic_key};

use std::path::PathBuf;
use std::time::Duration;

/// What a broker runs with. Valid from the start.
#[derive(Debug, Clone, PartialEq)]
pub struct BrokerConfig {
    /// Every value, for DescribeConfigs and the topics' defaults.
    pub settings: Settings,
    /// This broker's number in its cluster.
    pub node_id: i32,
    /// Where to listen.
    pub listeners: Vec<ListenAddress>,
    /// Where clients are told to connect, one for each listener; see [`BrokerConfig::endpoint`].
    pub advertised: Vec<Advertised>,
    /// Where metrics and health are served: `None` for nowhere.
    pub http: Option<String>,
    /// The data directories.
    pub data_dirs: Vec<PathBuf>,
    /// Which cores get a shard, as written; empty for all.
    pub cores: String,
    /// `auto`, `uring` or `poll`.
    pub io: String,
    /// Whether a topic asked for by name is created.
    pub auto_create_topics: bool,
    /// Whether topics may be deleted.
    pub delete_topics: bool,
    /// Partitions of a topic that does not say how many.
    pub partitions_default: i32,
    /// Replicas of a topic that does not say how many.
    pub replication_factor_default: i16,
    /// The largest request, in bytes.
    pub request_bytes_max: usize,
    /// Memory for requests in hand, in bytes, over all shards.
    pub requests_bytes_budget: usize,
    /// Memory for replies that wait to be sent, in bytes, over all shards.
    pub replies_bytes_budget: usize,
    /// Memory for the tail caches, in bytes, over all shards.
    pub cache_bytes: usize,
    /// What each shard's journal in each data directory takes, in bytes; 0 for none.
    pub journal_bytes: u64,
    /// The most one fetch returns, in bytes.
    pub fetch_bytes_max: usize,
    /// Fetch sessions kept, over all shards.
    pub fetch_sessions_max: usize,
    /// After how long without a request a connection is closed, in milliseconds; `None` for never.
    pub connection_idle_ms: Option<u64>,
    /// After how long without its first request a connection is closed, in milliseconds; `None` for never.
    pub handshake_ms: Option<u64>,
    /// How often segments past their retention are looked for.
    pub retention_check: Duration,
    /// What consumer groups go by.
    pub groups: GroupConfig,
    endpoints: Vec<Endpoint>,
}

/// What `queued.max.request.bytes=-1` stands for.
const REQUESTS_BYTES_BUDGET: usize = 256 << 20;

/// Where clients of one listener connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The host.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl BrokerConfig {
    /// What clients that came in by this listener are told.
    ///
    /// # Panics
    /// Before [`BrokerConfig::set_bound`], which every start calls.
    pub fn endpoint(&self, listener: usize) -> &Endpoint {
        self.endpoints.get(listener).expect("listeners are bound before they are asked about")
    }

    /// Takes note of the ports that the listeners got, in their order; `host_name` is this machine's, for listeners on
    /// every address that advertise none.
    pub fn set_bound(&mut self, ports: &[u16], host_name: &str) {
        assert_eq!(ports.len(), self.listeners.len(), "one port for each listener");
        let endpoint = |(advertised, port): (&Advertised, &u16)| Endpoint {
            host: advertised.host.clone().unwrap_or_else(|| host_name.to_owned()),
            port: if advertised.port == 0 { *port } else { advertised.port },
        };
        self.endpoints = self.advertised.iter().zip(ports).map(endpoint).collect();
        for (listener, port) in self.listeners.iter_mut().zip(ports) {
            listener.port = *port;
        }
    }

    /// Checks what the values say together.
    pub fn new(settings: Settings) -> Result<Self, ConfigError> {
        refuse_unsafe(&settings)?;
        let listeners = listeners::parse_listeners(&settings)?;
        let advertised = listeners::parse_advertised(&settings, &listeners)?;
        let node_id = match (settings.explicit("node.id"), settings.explicit("broker.id")) {
            (Some((node, _)), Some((broker, _))) if node != broker => {
                return Err(ConfigError::Conflict(format!(
                    "node.id={node} and broker.id={broker} must be the same"
                )));
            }
            (None, Some(_)) => settings.parse("broker.id"),
            _ => settings.parse("node.id"),
        };
        let dirs = if settings.get("log.dirs").is_empty() { "log.dir" } else { "log.dirs" };
        let data_dirs: Vec<PathBuf> = list(settings.get(dirs)).map(PathBuf::from).collect();
        if data_dirs.is_empty() {
            return Err(ConfigError::Conflict(format!("{dirs} names no directory")));
        }
        let http = match settings.get("http.listen") {
            "none" => None,
            "" => Some(format!("{}:0", listeners[0].host_or_any())),
            address => Some(address.to_owned()),
        };
        let budget: i64 = number(&settings, "queued.max.request.bytes");
        let request_bytes_max: usize = number(&settings, "socket.request.max.bytes");
        let requests_bytes_budget =
            usize::try_from(budget).unwrap_or(REQUESTS_BYTES_BUDGET).max(request_bytes_max);
        Ok(Self {
            node_id: node_id.unwrap_or(1),
            listeners,
            advertised,
            http,
            data_dirs,
            cores: settings.get("cores").to_owned(),
            io: settings.get("io").to_owned(),
            auto_create_topics: number(&settings, "auto.create.topics.enable"),
            delete_topics: number(&settings, "delete.topic.enable"),
            partitions_default: number(&settings, "num.partitions"),
            replication_factor_default: i16::try_from(number::<i32>(&settings, "default.replication.factor"))
                .map_err(|_| ConfigError::Conflict("default.replication.factor is above 32767".into()))?,
            request_bytes_max,
            requests_bytes_budget,
            replies_bytes_budget: number(&settings, "queued.max.reply.bytes"),
            cache_bytes: number(&settings, "cache.bytes"),
            journal_bytes: number(&settings, "journal.bytes"),
            fetch_bytes_max: number(&settings, "fetch.max.bytes"),
            fetch_sessions_max: number(&settings, "max.incremental.fetch.session.cache.slots"),
            connection_idle_ms: u64::try_from(number::<i64>(&settings, "connections.max.idle.ms")).ok(),
            handshake_ms: u64::try_from(number::<i64>(&settings, "connections.max.handshake.ms")).ok(),
            retention_check: Duration::from_millis(number(&settings, "log.retention.check.interval.ms")),
            groups: GroupConfig::new(&settings)?,
            endpoints: Vec::new(),
            settings,
        })
    }
}

/// The value of a key whose default is not empty.
fn number<T: std::str::FromStr>(settings: &Settings, name: &str) -> T {
    settings.parse(name).expect("keys read this way have a default")
}

/// Refuses configs of Kafka that protect data and that this broker does not have: dropping them in silence would
/// open what its owner believes closed.
fn refuse_unsafe(settings: &Settings) -> Result<(), ConfigError> {
    match settings.explicit("authorizer.class.name") {
        Some((class, source)) if !class.is_empty() => Err(ConfigError::Conflict(format!(
            "{source}: authorizer.class.name={class}: ringlog has no authorizer; remove it only if every client may do everything"
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(pairs: &[&str]) -> Result<BrokerConfig, ConfigError> {
        let mut settings = Settings::default();
        for pair in pairs {
            settings.set_pair(pair, Source::CommandLine)?;
        }
        BrokerConfig::new(settings)
    }

    #[test]
    fn without_settings_there_is_one_node_on_loopback() {
        let config = config(&[]).expect("the defaults are valid");
        assert_eq!(config.node_id, 1);
        assert_eq!(config.data_dirs, [PathBuf::from("./data")]);
        assert_eq!(config.listeners[0].to_string(), "PLAINTEXT://127.0.0.1:9092");
        assert_eq!(config.http.as_deref(), Some("127.0.0.1:0"));
        assert_eq!(config.requests_bytes_budget, REQUESTS_BYTES_BUDGET);
    }

    #[test]
    fn values_that_do_not_go_together_are_refused() {
        let check = |pairs: &[&str], part: &str| {
            let error = config(pairs).expect_err(part).to_string();
            assert!(error.contains(part), "{error}");
        };
        check(&["node.id=1", "broker.id=2"], "must be the same");
        check(&["log.dirs=,"], "names no directory");
        check(&["group.min.session.timeout.ms=7", "group.max.session.timeout.ms=6"], "is above");
        check(&["authorizer.class.name=org.example.A"], "no authorizer");
        check(&["listeners=SSL://:9093"], "PLAINTEXT");
        check(&["listeners=A://:9093,A://:9094", "listener.security.protocol.map=A:PLAINTEXT"], "twice");
    }

    #[test]
    fn clients_are_told_what_was_configured_or_else_what_was_bound() {
        let check = |pairs: &[&str], expected: &[&str]| {
            let mut config = config(pairs).expect("right");
            config.set_bound(&vec![1234; config.listeners.len()], "machine");
            let told = |at| format!("{}:{}", config.endpoint(at).host, config.endpoint(at).port);
            assert_eq!((0..config.listeners.len()).map(told).collect::<Vec<_>>(), expected, "{pairs:?}");
        };
        check(&[], &["127.0.0.1:1234"]);
        check(&["listeners=PLAINTEXT://:0"], &["machine:1234"]);
        check(
            &["listeners=PLAINTEXT://0.0.0.0:0", "advertised.listeners=PLAINTEXT://a.example:9"],
            &["a.example:9"],
        );
        let map = "listener.security.protocol.map=IN:PLAINTEXT,OUT:PLAINTEXT";
        let two = "listeners=IN://10.0.0.1:0,OUT://:0";
        check(&[map, two, "advertised.listeners=OUT://o:9"], &["10.0.0.1:1234", "o:9"]);
    }

    #[test]
    fn the_older_name_of_the_node_id_counts() {
        assert_eq!(config(&["broker.id=7"]).map(|c| c.node_id), Ok(7));
    }
}

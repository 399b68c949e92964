//! Settings: config values by Kafka's names, and where each came from.
//!
//! Later sources go before earlier ones: defaults, a file, the environment, `--set`, the command's own options.

use super::broker_keys::{BROKER_KEYS, broker_key, listener_key};
use super::kept_keys::is_kept;
use super::properties::{self, Property};
use super::topic_keys::topic_key;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A config file.
    File(PathBuf),
    /// An environment variable.
    Environment(String),
    /// The command line.
    CommandLine,
    /// The cluster's metadata: set for this broker while it ran.
    ThisBroker,
    /// The cluster's metadata: set for all brokers while they ran.
    AllBrokers,
}

/// Values that were set, by name, with their source. What was not set has its key's default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    values: BTreeMap<String, (String, Source)>,
    dynamic: Dynamic,
}

/// Values that were set while brokers ran. They go before those the broker was started with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dynamic {
    /// For this broker; they go before those for all.
    pub this_broker: BTreeMap<String, String>,
    /// For all brokers.
    pub all_brokers: BTreeMap<String, String>,
}

/// What begins the environment variables that are read: `RINGLOG_SET_NUM_PARTITIONS` sets `num.partitions`.
const ENVIRONMENT_PREFIX: &str = "RINGLOG_SET_";

impl Settings {
    /// Sets one value, checked against its key.
    pub fn set(&mut self, name: &str, value: &str, source: Source) -> Result<(), ConfigError> {
        if let Some(key) = broker_key(name).or_else(|| listener_key(name)) {
            key.kind.check(value).map_err(|refusal| ConfigError::Value {
                name: name.into(),
                value: value.into(),
                wanted: refusal.wanted,
                source: source.clone(),
            })?;
        } else if !is_kept(name) {
            return Err(ConfigError::unknown(name, source));
        }
        self.values.insert(name.into(), (value.trim().into(), source));
        Ok(())
    }

    /// Reads `NAME=VALUE`.
    pub fn set_pair(&mut self, pair: &str, source: Source) -> Result<(), ConfigError> {
        match pair.split_once('=') {
            Some((name, value)) => self.set(name.trim(), value, source),
            None => Err(ConfigError::Pair { pair: pair.into(), source }),
        }
    }

    /// Reads a file: TOML when it is called `.toml`, else Java properties as Kafka's `server.properties`.
    pub fn read_file(&mut self, path: &Path, text: &str) -> Result<(), ConfigError> {
        let source = Source::File(path.to_owned());
        if path.extension().is_some_and(|extension| extension == "toml") {
            let table: toml::Table = text.parse().map_err(|error: toml::de::Error| ConfigError::Syntax {
                source: source.clone(),
                why: error.to_string(),
            })?;
            return self.set_table("", &table, &source);
        }
        let all =
            properties::parse(text).map_err(|why| ConfigError::Syntax { source: source.clone(), why })?;
        for Property { name, value } in all {
            self.set(&name, &value, source.clone())?;
        }
        Ok(())
    }

    /// Reads the environment's variables that begin with `RINGLOG_SET_`.
    pub fn read_environment(
        &mut self,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<(), ConfigError> {
        for (variable, value) in variables {
            let Some(rest) = variable.strip_prefix(ENVIRONMENT_PREFIX) else { continue };
            let name = rest.to_ascii_lowercase().replace('_', ".");
            self.set(&name, &value, Source::Environment(variable.clone()))?;
        }
        Ok(())
    }

    /// The same, with these values in force that were set while brokers ran.
    pub fn with(&self, dynamic: Dynamic) -> Self {
        Self { values: self.values.clone(), dynamic }
    }

    /// What was set for this name, and is in force.
    pub fn explicit(&self, name: &str) -> Option<(&str, &Source)> {
        self.all_explicit(name).next()
    }

    /// All that was set for this name, the strongest first.
    pub fn all_explicit(&self, name: &str) -> impl Iterator<Item = (&str, &Source)> {
        let this_broker =
            self.dynamic.this_broker.get(name).map(|value| (value.as_str(), &Source::ThisBroker));
        let all_brokers =
            self.dynamic.all_brokers.get(name).map(|value| (value.as_str(), &Source::AllBrokers));
        let at_start = self.values.get(name).map(|(value, source)| (value.as_str(), source));
        [this_broker, all_brokers, at_start].into_iter().flatten()
    }

    /// What was set while brokers ran.
    pub fn dynamic(&self) -> &Dynamic {
        &self.dynamic
    }

    /// The value in force: what was set, else the key's default. Empty stands for Kafka's null.
    pub fn get(&self, name: &str) -> &str {
        match self.explicit(name) {
            Some((value, _)) => value,
            None => broker_key(name).expect("asked for a key of the table").default,
        }
    }

    /// A value in force as a number or `true`/`false`; `None` when empty.
    pub fn parse<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        let value = self.get(name);
        let parsed = value.to_ascii_lowercase().parse().ok();
        assert!(
            parsed.is_some() || value.is_empty(),
            "values were checked when they were set: {name}={value}"
        );
        parsed
    }

    /// Names that were set though they have no effect here, for one line at start.
    pub fn without_effect(&self) -> Vec<&str> {
        let without_effect = |name: &&str| broker_key(name).is_none() && listener_key(name).is_none();
        self.values.keys().map(String::as_str).filter(without_effect).collect()
    }

    /// Names that were set, now or at the start, and are not in the table: for one listener, or without an effect here.
    pub fn beyond_table(&self) -> BTreeSet<&str> {
        let Dynamic { this_broker, all_brokers } = &self.dynamic;
        let dynamic = this_broker.keys().chain(all_brokers.keys()).map(String::as_str);
        self.values
            .keys()
            .map(String::as_str)
            .chain(dynamic)
            .filter(|name| broker_key(name).is_none())
            .collect()
    }

    /// All names that were set at the start.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    fn set_table(&mut self, prefix: &str, table: &toml::Table, source: &Source) -> Result<(), ConfigError> {
        for (name, value) in table {
            let name = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
            match value {
                toml::Value::Table(inner) => self.set_table(&name, inner, source)?,
                value => self.set(&name, &plain(value), source.clone())?,
            }
        }
        Ok(())
    }
}

/// A TOML value as Kafka writes it: text without quotes, lists with commas.
fn plain(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Array(values) => values.iter().map(plain).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

/// Why a config cannot be used. Each says what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigError {
    /// No such config.
    Unknown {
        /// The name.
        name: String,
        /// The name that comes nearest, if any does.
        nearest: Option<&'static str>,
        /// Where it was set.
        source: Source,
    },
    /// A value its key does not take.
    Value {
        /// The name.
        name: String,
        /// The value.
        value: String,
        /// What would do.
        wanted: String,
        /// Where it was set.
        source: Source,
    },
    /// Not `NAME=VALUE`.
    Pair {
        /// What it was.
        pair: String,
        /// Where.
        source: Source,
    },
    /// A file that cannot be parsed.
    Syntax {
        /// Which.
        source: Source,
        /// Why.
        why: String,
    },
    /// Values that do not go together.
    Conflict(String),
}

impl ConfigError {
    fn unknown(name: &str, source: Source) -> Self {
        let nearest = BROKER_KEYS
            .iter()
            // No nearer than their lengths are.
            .filter(|key| name.len().abs_diff(key.name.len()) <= key.name.len() / 3)
            .map(|key| (strsim::damerau_levenshtein(name, key.name), key.name))
            .min()
            .filter(|(distance, near)| *distance <= near.len() / 3)
            .map(|(_, near)| near);
        // A topic config's name is an easy slip for its broker config's.
        let nearest = topic_key(name).and_then(|topic| topic.broker).or(nearest);
        Self::Unknown { name: name.into(), nearest, source }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Environment(variable) => write!(f, "environment variable {variable}"),
            Self::CommandLine => write!(f, "command line"),
            Self::ThisBroker => write!(f, "set for this broker"),
            Self::AllBrokers => write!(f, "set for all brokers"),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { name, nearest: Some(nearest), source } => {
                write!(f, "{source}: there is no config `{name}`; did you mean `{nearest}`?")
            }
            Self::Unknown { name, nearest: None, source } => {
                write!(f, "{source}: there is no config `{name}`")
            }
            Self::Value { name, value, wanted, source } => {
                write!(f, "{source}: {name}={value}: expected {wanted}")
            }
            Self::Pair { pair, source } => write!(f, "{source}: `{pair}`: expected NAME=VALUE"),
            Self::Syntax { source, why } => write!(f, "{source}: {why}"),
            Self::Conflict(why) => write!(f, "{why}"),
        }
    }
}

impl std::error::Error for ConfigError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, text: &str) -> Result<Settings, ConfigError> {
        let mut settings = Settings::default();
        settings.read_file(Path::new(name), text).map(|()| settings)
    }

    #[test]
    fn toml_and_properties_say_the_same() {
        let toml = "num.partitions = 4\n[log]\ndirs = [\"/a\", \"/b\"]\nretention.ms = -1\n";
        let properties = "# four\nnum.partitions:4\n\nlog.dirs = /a,\\\n    /b\nlog.retention.ms=-1\n";
        for settings in [file("x.toml", toml), file("server.properties", properties)] {
            let settings = settings.expect("both are right");
            assert_eq!(settings.get("num.partitions"), "4");
            assert_eq!(settings.get("log.dirs"), "/a,/b");
            assert_eq!(settings.parse("log.retention.ms"), Some(-1));
        }
    }

    #[test]
    fn later_sources_go_first() {
        let mut settings = file("x.toml", "num.partitions = 2\nmessage.max.bytes = 5").expect("right");
        let variables = [("RINGLOG_SET_NUM_PARTITIONS", "3"), ("OTHER", "x"), ("RINGLOG_SET_IO", "poll")];
        settings.read_environment(variables.map(|(k, v)| (k.into(), v.into())).into_iter()).expect("right");
        settings.set_pair("num.partitions=4", Source::CommandLine).expect("right");
        assert_eq!(settings.get("num.partitions"), "4");
        assert_eq!(settings.get("message.max.bytes"), "5");
        assert_eq!(settings.get("io"), "poll");
        assert_eq!(settings.get("node.id"), "1");
    }

    #[test]
    fn refusals_name_the_place_and_the_remedy() {
        let check = |pair: &str, message: &str| {
            let error = Settings::default().set_pair(pair, Source::CommandLine).expect_err(pair);
            assert_eq!(error.to_string(), format!("command line: {message}"));
        };
        check("num.partition=3", "there is no config `num.partition`; did you mean `num.partitions`?");
        check("retention.ms=3", "there is no config `retention.ms`; did you mean `log.retention.ms`?");
        check("zzz=1", "there is no config `zzz`");
        check("num.partitions=0", "num.partitions=0: expected a whole number from 1 to 2147483647");
        check("num.partitions", "`num.partitions`: expected NAME=VALUE");
        assert!(file("x.toml", "num.partitions = ").is_err());
        assert!(file("server.properties", "num.partitions").is_err());
    }

    #[test]
    fn what_was_set_while_brokers_ran_goes_first() {
        let settings = file("x.toml", "message.max.bytes = 5\nnum.partitions = 2").expect("right");
        let one = |value: &str| BTreeMap::from([("message.max.bytes".to_owned(), value.to_owned())]);
        let check = |dynamic: Dynamic, expected: &[&str]| {
            let settings = settings.with(dynamic);
            let all: Vec<&str> = settings.all_explicit("message.max.bytes").map(|(value, _)| value).collect();
            assert_eq!((all.as_slice(), settings.get("message.max.bytes")), (expected, expected[0]));
            assert_eq!(settings.get("num.partitions"), "2");
        };
        let none = Dynamic::default;
        check(none(), &["5"]);
        check(Dynamic { all_brokers: one("6"), ..none() }, &["6", "5"]);
        check(Dynamic { this_broker: one("7"), ..none() }, &["7", "5"]);
        check(Dynamic { this_broker: one("7"), all_brokers: one("6") }, &["7", "6", "5"]);
    }

    #[test]
    fn configs_of_kafka_without_effect_are_kept_and_named() {
        let settings = file("server.properties", "num.network.threads=3\nprocess.roles=broker,controller")
            .expect("right");
        assert_eq!(settings.without_effect(), ["num.network.threads", "process.roles"]);
    }

    #[test]
    fn a_listener_may_have_configs_of_its_own() {
        let name = "listener.name.internal.max.connections";
        let settings =
            file("server.properties", &format!("{name}=5\nlistener.name.internal.ssl.client.auth=none"));
        let settings = settings.expect("right");
        assert_eq!(settings.explicit(name).map(|(value, _)| value), Some("5"));
        assert_eq!(settings.without_effect(), ["listener.name.internal.ssl.client.auth"]);
        assert!(file("server.properties", &format!("{name}=many")).is_err());
    }
}

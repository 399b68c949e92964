//! DescribeConfigs: every config of a topic, of the broker or of a group, with where its value comes from.

use super::Context;
use super::config_resources::{
    BROKER, BROKER_LOGGER, DEFAULT, GROUP, NamedBroker, SET_ON_GROUP, TOPIC, named_broker, origin_number,
    source_number,
};
use crate::cluster::{Topic, check_name};
use crate::config::{
    BROKER_KEYS, BrokerKey, Changeable, GROUP_KEYS, GroupKey, Kind, Origin, Settings, Source, TOPIC_KEYS,
    TopicConfig, TopicKey, broker_names, changeable, listener_key,
};
use ringlog_wire::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResponse,
    DescribeConfigsResult, DescribeConfigsSynonym,
};
use ringlog_wire::{ByteString, ErrorCode};
use std::rc::Rc;
use std::sync::Arc;

pub(super) async fn handle(context: Rc<Context>, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    let tell = Tell {
        context: &context,
        settings: context.broker.settings(),
        synonyms: request.include_synonyms,
        documentation: request.include_documentation,
    };
    let results = request.resources.iter().map(|resource| tell.resource(resource));
    DescribeConfigsResponse { results: results.collect(), ..Default::default() }
}

/// What a request wants to be told.
struct Tell<'a> {
    context: &'a Context,
    settings: Arc<Settings>,
    synonyms: bool,
    documentation: bool,
}

impl Tell<'_> {
    fn resource(&self, asked: &DescribeConfigsResource) -> DescribeConfigsResult {
        let is_wanted = |name: &str| match &asked.configuration_keys {
            Some(keys) if !keys.is_empty() => keys.iter().any(|key| &**key == name),
            _ => true,
        };
        let result = match asked.resource_type {
            TOPIC => self.topic(&asked.resource_name, is_wanted),
            BROKER => self.broker(&asked.resource_name, is_wanted),
            GROUP => self.group(&asked.resource_name, is_wanted),
            BROKER_LOGGER => self.loggers(&asked.resource_name),
            other => Err((ErrorCode::InvalidRequest, format!("Unsupported resource type: {other}"))),
        };
        let (error_code, error_message, configs) = match result {
            Ok(configs) => (ErrorCode::None, None, configs),
            Err((code, message)) => (code, Some(message.into()), Vec::new()),
        };
        DescribeConfigsResult {
            error_code,
            error_message,
            resource_type: asked.resource_type,
            resource_name: asked.resource_name.clone(),
            configs,
        }
    }

    fn topic(&self, name: &str, is_wanted: impl Fn(&str) -> bool) -> Told {
        check_name(name).map_err(|refusal| (refusal.code, refusal.message))?;
        let image = self.context.broker.image();
        let Some(topic) = image.topic(name) else {
            return Err((
                ErrorCode::UnknownTopicOrPartition,
                "This server does not host this topic-partition.".into(),
            ));
        };
        Ok(TOPIC_KEYS
            .iter()
            .filter(|key| is_wanted(key.name))
            .map(|key| self.topic_config(topic, key))
            .collect())
    }

    fn topic_config(&self, topic: &Topic, key: &TopicKey) -> DescribeConfigsResourceResult {
        let settings = &self.settings;
        let (value, origin) = TopicConfig::value(settings, &topic.configs, key.name);
        let mut synonyms = Vec::new();
        if self.synonyms {
            if let Some(value) = topic.configs.get(key.name) {
                synonyms.push(synonym(key.name, value, origin_number(settings, Origin::Topic)));
            }
            let names: Vec<&str> = match broker_names(key.name) {
                Some(names) => names.collect(),
                None => key.broker.into_iter().collect(),
            };
            let set = |name: &&'static str| {
                let name = *name;
                settings.all_explicit(name).map(move |(value, source)| (name, value, source_number(source)))
            };
            let mut set: Vec<_> = names.iter().flat_map(set).collect();
            // What was set while brokers ran goes before what they were started with, whatever the unit.
            set.sort_by_key(|(_, _, source)| *source);
            synonyms.extend(set.into_iter().map(|(name, value, source)| synonym(name, value, source)));
            synonyms.push(synonym(key.broker.unwrap_or(key.name), key.default, DEFAULT));
        }
        let source = origin_number(settings, origin);
        self.config(key.name.into(), key.kind, key.doc, Some(&value), source, synonyms)
    }

    /// The configs of this broker; for all brokers, those that were set for them.
    fn broker(&self, name: &str, is_wanted: impl Fn(&str) -> bool) -> Told {
        let named = named_broker(name, self.context.broker.config().node_id)
            .map_err(|message| (ErrorCode::InvalidRequest, message))?;
        let shown = |name: &str| is_wanted(name) && (named == NamedBroker::This || self.is_set_for_all(name));
        let known =
            BROKER_KEYS.iter().filter(|key| shown(key.name)).map(|key| self.broker_config(key, named));
        let kept = self.settings.beyond_table().into_iter().filter(|name| shown(name));
        Ok(known.chain(kept.map(|name| self.kept_config(name, named))).collect())
    }

    fn is_set_for_all(&self, name: &str) -> bool {
        self.settings.dynamic().all_brokers.contains_key(name)
    }

    fn broker_config(&self, key: &'static BrokerKey, of: NamedBroker) -> DescribeConfigsResourceResult {
        let set = self.set(key.name, of);
        let source = set.first().map_or(DEFAULT, |(_, source)| *source);
        // Kafka's null is no value and no place of one.
        let default = (!key.default.is_empty()).then_some(key.default);
        let value = set.first().map(|(value, _)| *value).or(default);
        let mut synonyms: Vec<_> =
            set.iter().map(|(value, source)| synonym(key.name, value, *source)).collect();
        if of == NamedBroker::This {
            synonyms.extend(default.map(|default| synonym(key.name, default, DEFAULT)));
        }
        let config = self.config(key.name.into(), key.kind, key.doc, value, source, synonyms);
        DescribeConfigsResourceResult { read_only: changeable(key.name) == Changeable::Not, ..config }
    }

    /// A config of a listener, or one of Kafka's that was set and has no effect: what that holds may be secret.
    fn kept_config(&self, name: &str, of: NamedBroker) -> DescribeConfigsResourceResult {
        let set = self.set(name, of);
        let (value, source) = set.first().copied().expect("it was set");
        let (kind, doc) = match listener_key(name) {
            Some(key) => (key.kind, key.doc),
            None if may_be_secret(name) => (Kind::Password, KEPT),
            None => (Kind::Text, KEPT),
        };
        let synonyms = set.iter().map(|(value, source)| synonym(name, value, *source)).collect();
        let config = self.config(name.into(), kind, doc, Some(value), source, synonyms);
        DescribeConfigsResourceResult { read_only: changeable(name) == Changeable::Not, ..config }
    }

    /// What was set for a broker config, the strongest first.
    fn set(&self, name: &str, of: NamedBroker) -> Vec<(&str, i8)> {
        let set = self.settings.all_explicit(name);
        let set = set.filter(|(_, source)| of == NamedBroker::This || **source == Source::AllBrokers);
        set.map(|(value, source)| (value, source_number(source))).collect()
    }

    /// A group's configs, whether or not there is a group of this name.
    fn group(&self, name: &str, is_wanted: impl Fn(&str) -> bool) -> Told {
        if name.is_empty() {
            return Err((ErrorCode::InvalidRequest, "Group name must not be empty".into()));
        }
        let image = self.context.broker.image();
        let own = image.group_configs(name);
        let told = |key: &&'static GroupKey| {
            let set =
                own.and_then(|own| own.get(key.name)).map(|value| synonym(key.name, value, SET_ON_GROUP));
            let of_broker = key.broker.into_iter().flat_map(|name| {
                let set = self.settings.all_explicit(name);
                set.map(move |(value, source)| synonym(name, value, source_number(source)))
            });
            let default = synonym(key.broker.unwrap_or(key.name), key.default, DEFAULT);
            let synonyms: Vec<_> = set.into_iter().chain(of_broker).chain([default]).collect();
            let (value, source) = (synonyms[0].value.clone(), synonyms[0].source);
            self.config(key.name.into(), key.kind, KEPT, value.as_deref(), source, synonyms)
        };
        Ok(GROUP_KEYS.iter().filter(|key| is_wanted(key.name)).map(|key| told(&key)).collect())
    }

    /// There are no loggers whose levels could be changed.
    fn loggers(&self, name: &str) -> Told {
        match named_broker(name, self.context.broker.config().node_id) {
            Ok(NamedBroker::This) => Ok(Vec::new()),
            Ok(NamedBroker::All) => Err((ErrorCode::InvalidRequest, "Broker id must not be empty".into())),
            Err(message) => Err((ErrorCode::InvalidRequest, message)),
        }
    }

    fn config(
        &self,
        name: ByteString,
        kind: Kind,
        doc: &'static str,
        value: Option<&str>,
        config_source: i8,
        synonyms: Vec<DescribeConfigsSynonym>,
    ) -> DescribeConfigsResourceResult {
        let is_sensitive = kind == Kind::Password;
        DescribeConfigsResourceResult {
            name,
            value: value.filter(|_| !is_sensitive).map(ByteString::from),
            config_source,
            is_sensitive,
            synonyms: if is_sensitive || !self.synonyms { Vec::new() } else { synonyms },
            config_type: kind.wire_type(),
            documentation: self.documentation.then(|| ByteString::from_static(doc)),
            ..Default::default()
        }
    }
}

type Told = Result<Vec<DescribeConfigsResourceResult>, (ErrorCode, String)>;

fn synonym(name: &str, value: &str, source: i8) -> DescribeConfigsSynonym {
    DescribeConfigsSynonym { name: name.into(), value: Some(value.into()), source }
}

/// What configs of Kafka's say of themselves that were set and are not used.
const KEPT: &str = "Kept and shown for tools that set it; ringlog does not use it.";

/// Whether a config of this name may hold a key or a password.
fn may_be_secret(name: &str) -> bool {
    ["password", "secret", "jaas", "key", "credential"].iter().any(|word| name.contains(word))
}

//! DescribeConfigs: every config of a topic or of the broker, with where its value comes from.

use super::Context;
use super::create_topics::source;
use crate::cluster::{Topic, check_name};
use crate::config::{BROKER_KEYS, BrokerKey, Kind, Origin, TOPIC_KEYS, TopicConfig, TopicKey};
use ringlog_wire::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResponse,
    DescribeConfigsResult, DescribeConfigsSynonym,
};
use ringlog_wire::{ByteString, ErrorCode};
use std::rc::Rc;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
/// Kafka's number for a value nobody has set.
const DEFAULT: i8 = 5;
/// Kafka's number for a value of the broker's own configuration.
const STATIC_BROKER: i8 = 4;

pub(super) async fn handle(context: Rc<Context>, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    let tell = Tell {
        context: &context,
        synonyms: request.include_synonyms,
        documentation: request.include_documentation,
    };
    let results = request.resources.iter().map(|resource| tell.resource(resource));
    DescribeConfigsResponse { results: results.collect(), ..Default::default() }
}

/// What a request wants to be told.
struct Tell<'a> {
    context: &'a Context,
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
        let settings = &self.context.broker.config().settings;
        let (value, origin) = TopicConfig::value(settings, &topic.configs, key.name);
        let mut synonyms = Vec::new();
        if self.synonyms {
            if let Some(value) = topic.configs.get(key.name) {
                synonyms.push(synonym(key.name, value, source(Origin::Topic)));
            }
            let (value, origin) = TopicConfig::value(settings, &Default::default(), key.name);
            if let Origin::Broker(name) = origin {
                synonyms.push(synonym(name, &value, STATIC_BROKER));
            }
            synonyms.push(synonym(key.broker.unwrap_or(key.name), key.default, DEFAULT));
        }
        self.config(key.name, key.kind, key.doc, value, source(origin), synonyms)
    }

    fn broker(&self, name: &str, is_wanted: impl Fn(&str) -> bool) -> Told {
        let node_id = self.context.broker.config().node_id;
        // An empty name asks for what all brokers have in common and was set while they ran: nothing can be.
        if name.is_empty() {
            return Ok(Vec::new());
        }
        if name.parse() != Ok(node_id) {
            let message =
                format!("Unexpected broker id, expected {node_id} or empty string, but received {name}");
            return Err((ErrorCode::InvalidRequest, message));
        }
        Ok(BROKER_KEYS.iter().filter(|key| is_wanted(key.name)).map(|key| self.broker_config(key)).collect())
    }

    fn broker_config(&self, key: &BrokerKey) -> DescribeConfigsResourceResult {
        let settings = &self.context.broker.config().settings;
        let set = settings.explicit(key.name).is_some();
        let mut synonyms = Vec::new();
        if self.synonyms {
            if set {
                synonyms.push(synonym(key.name, settings.get(key.name), STATIC_BROKER));
            }
            synonyms.push(synonym(key.name, key.default, DEFAULT));
        }
        let source = if set { STATIC_BROKER } else { DEFAULT };
        let value = settings.get(key.name).to_owned();
        let config = self.config(key.name, key.kind, key.doc, value, source, synonyms);
        DescribeConfigsResourceResult { read_only: true, ..config }
    }

    fn config(
        &self,
        name: &'static str,
        kind: Kind,
        doc: &'static str,
        value: String,
        config_source: i8,
        synonyms: Vec<DescribeConfigsSynonym>,
    ) -> DescribeConfigsResourceResult {
        let is_sensitive = kind == Kind::Password;
        DescribeConfigsResourceResult {
            name: ByteString::from_static(name),
            value: (!is_sensitive).then(|| value.into()),
            config_source,
            is_sensitive,
            synonyms: if is_sensitive { Vec::new() } else { synonyms },
            config_type: kind.wire_type(),
            documentation: self.documentation.then(|| ByteString::from_static(doc)),
            ..Default::default()
        }
    }
}

type Told = Result<Vec<DescribeConfigsResourceResult>, (ErrorCode, String)>;

fn synonym(name: &'static str, value: &str, source: i8) -> DescribeConfigsSynonym {
    DescribeConfigsSynonym { name: ByteString::from_static(name), value: Some(value.into()), source }
}

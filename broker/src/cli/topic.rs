//! `ringlog topic`: create, list, describe, delete.

use super::client::{Client, refused};
use super::{BrokerAddress, Failure, Named};
use clap::{Args, Subcommand};
use ringlog_wire::ByteString;
use ringlog_wire::create_topics::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
use ringlog_wire::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use ringlog_wire::describe_configs::{DescribeConfigsRequest, DescribeConfigsResource};

/// How long a broker may take. Apache Kafka's gives up at once where it is told nothing.
const TIMEOUT_MS: i32 = 30_000;

#[derive(Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Create a topic
    Create {
        /// The topic's name
        name: String,
        /// How many partitions; the broker's default if not given
        #[arg(long, value_name = "N", default_value_t = -1, hide_default_value = true, allow_negative_numbers = true)]
        partitions: i32,
        /// A config of the topic, like retention.ms=60000; may be given several times
        #[arg(long = "config", value_name = "KEY=VALUE")]
        configs: Vec<String>,
        #[command(flatten)]
        broker: BrokerAddress,
    },
    /// List the topics' names
    List(BrokerAddress),
    /// Show a topic's partitions, and the configs set on it
    Describe(Named),
    /// Delete a topic and its data
    Delete(Named),
}

pub(super) fn run(arguments: Arguments) -> Result<(), Failure> {
    match arguments.action {
        Action::Create { name, partitions, configs, broker } => create(&name, partitions, &configs, &broker),
        Action::List(broker) => list(&broker),
        Action::Describe(topic) => describe(&topic),
        Action::Delete(topic) => delete(&topic),
    }
}

fn create(
    name: &str,
    num_partitions: i32,
    configs: &[String],
    broker: &BrokerAddress,
) -> Result<(), Failure> {
    let configs: Result<Vec<_>, Failure> = configs
        .iter()
        .map(|pair| {
            let (name, value) = pair
                .split_once('=')
                .ok_or_else(|| Failure(format!("--config {pair}: expected KEY=VALUE")))?;
            Ok(CreatableTopicConfig { name: ByteString::from(name), value: Some(ByteString::from(value)) })
        })
        .collect();
    let topic = CreatableTopic {
        name: ByteString::from(name),
        num_partitions,
        replication_factor: -1,
        configs: configs?,
        ..Default::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], ..Default::default() };
    let response = Client::connect(&broker.address)?.call(&request)?;
    let result = response.topics.into_iter().next().ok_or_else(|| Failure("an empty answer".into()))?;
    refused(result.error_code, result.error_message.as_deref())?;
    println!("created {name} with {} partitions", result.num_partitions);
    Ok(())
}

fn list(broker: &BrokerAddress) -> Result<(), Failure> {
    let response = Client::connect(&broker.address)?.metadata(None)?;
    for topic in response.topics {
        println!("{}", topic.name.unwrap_or_default());
    }
    Ok(())
}

fn describe(Named { name, broker }: &Named) -> Result<(), Failure> {
    let mut client = Client::connect(&broker.address)?;
    let topic = client.topic(name, false)?;
    println!("topic {name}, id {}, {} partitions", topic.topic_id, topic.partitions.len());
    for partition in &topic.partitions {
        println!(
            "  partition {}: leader {}, epoch {}, replicas {:?}, in sync {:?}",
            partition.partition_index,
            partition.leader_id,
            partition.leader_epoch,
            partition.replica_nodes,
            partition.isr_nodes
        );
    }
    let resource = DescribeConfigsResource {
        resource_type: 2,
        resource_name: ByteString::from(name.as_str()),
        configuration_keys: None,
    };
    let request = DescribeConfigsRequest { resources: vec![resource], ..Default::default() };
    let response = client.call(&request)?;
    let result = response.results.into_iter().next().ok_or_else(|| Failure("an empty answer".into()))?;
    refused(result.error_code, result.error_message.as_deref())?;
    // 1 is what was set on the topic itself.
    for config in result.configs.iter().filter(|config| config.config_source == 1) {
        println!("  {}={}", config.name, config.value.as_deref().unwrap_or_default());
    }
    Ok(())
}

fn delete(Named { name, broker }: &Named) -> Result<(), Failure> {
    let by_name = ByteString::from(name.as_str());
    let topic = DeleteTopicState { name: Some(by_name.clone()), ..Default::default() };
    let request =
        DeleteTopicsRequest { topics: vec![topic], topic_names: vec![by_name], timeout_ms: TIMEOUT_MS };
    let response = Client::connect(&broker.address)?.call(&request)?;
    let result = response.responses.into_iter().next().ok_or_else(|| Failure("an empty answer".into()))?;
    refused(result.error_code, result.error_message.as_deref())?;
    println!("deleted {name}");
    Ok(())
}

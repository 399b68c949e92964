//! `ringlog config`: show and change configs of topics and brokers, while they run.

use super::client::{Client, refused};
use super::group::print;
use super::{BrokerAddress, Failure};
use clap::{Args, Subcommand};
use ringlog_wire::ByteString;
use ringlog_wire::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult,
};
use ringlog_wire::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};

#[derive(Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Show configs: those that were set, where, and their values
    Get {
        /// Only these configs, whether set or not
        #[arg(value_name = "KEY")]
        keys: Vec<String>,
        /// Those that were not set too
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        of: Of,
        #[command(flatten)]
        broker: BrokerAddress,
    },
    /// Change configs; they count from now on, and after a start
    Set {
        /// Configs and their values, like retention.ms=60000
        #[arg(value_name = "KEY=VALUE", required_unless_present = "reset")]
        configs: Vec<String>,
        /// Take back what was set for this config; may be given several times
        #[arg(long, value_name = "KEY")]
        reset: Vec<String>,
        /// Only say whether it could be done
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        of: Of,
        #[command(flatten)]
        broker: BrokerAddress,
    },
}

/// What has the configs: the broker that is talked to, unless one of these is given.
#[derive(Args)]
#[group(multiple = false)]
struct Of {
    /// Those of this topic
    #[arg(long, value_name = "NAME")]
    topic: Option<String>,
    /// Those that all brokers have in common
    #[arg(long)]
    all_brokers: bool,
}

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const SET: i8 = 0;
const DELETE: i8 = 1;

pub(super) fn run(arguments: Arguments) -> Result<(), Failure> {
    match arguments.action {
        Action::Get { keys, all, of, broker } => get(&keys, all, &of, &broker),
        Action::Set { configs, reset, dry_run, of, broker } => set(&configs, &reset, dry_run, &of, &broker),
    }
}

fn get(keys: &[String], all: bool, of: &Of, broker: &BrokerAddress) -> Result<(), Failure> {
    let mut client = Client::connect(&broker.address)?;
    let (resource_type, resource_name) = of.resource(&mut client)?;
    let wanted = keys.iter().map(|key| ByteString::from(key.as_str())).collect();
    let resource = DescribeConfigsResource {
        resource_type,
        resource_name,
        configuration_keys: (!keys.is_empty()).then_some(wanted),
    };
    let request = DescribeConfigsRequest { resources: vec![resource], ..Default::default() };
    let response = client.call(&request)?;
    let result = response.results.into_iter().next().ok_or_else(|| Failure("an empty answer".into()))?;
    refused(result.error_code, result.error_message.as_deref())?;
    if let Some(missing) = keys.iter().find(|key| result.configs.iter().all(|config| config.name != **key)) {
        return Err(Failure(format!("there is no config `{missing}` here, or it was not set")));
    }
    let shown =
        |config: &&DescribeConfigsResourceResult| all || !keys.is_empty() || config.config_source != DEFAULT;
    let rows = result.configs.iter().filter(shown).map(|config| {
        let value =
            if config.is_sensitive { "(hidden)" } else { config.value.as_deref().unwrap_or_default() };
        vec![config.name.to_string(), value.to_owned(), source(config.config_source).to_owned()]
    });
    print(&["CONFIG", "VALUE", "SET"], rows.collect());
    Ok(())
}

/// Kafka's number for a value nobody has set.
const DEFAULT: i8 = 5;

/// Where a value was set, in words, from Kafka's number.
fn source(number: i8) -> &'static str {
    match number {
        1 => "on the topic",
        2 => "for this broker",
        3 => "for all brokers",
        4 => "at the start",
        DEFAULT => "-",
        _ => "elsewhere",
    }
}

fn set(
    configs: &[String],
    reset: &[String],
    validate_only: bool,
    of: &Of,
    broker: &BrokerAddress,
) -> Result<(), Failure> {
    let mut changes = Vec::new();
    for pair in configs {
        let (name, value) =
            pair.split_once('=').ok_or_else(|| Failure(format!("{pair}: expected KEY=VALUE")))?;
        let value = Some(ByteString::from(value));
        changes.push(AlterableConfig { name: ByteString::from(name), config_operation: SET, value });
    }
    changes.extend(reset.iter().map(|name| AlterableConfig {
        name: ByteString::from(name.as_str()),
        config_operation: DELETE,
        value: None,
    }));
    let mut client = Client::connect(&broker.address)?;
    let (resource_type, resource_name) = of.resource(&mut client)?;
    let resource = AlterConfigsResource { resource_type, resource_name, configs: changes };
    let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only };
    let response = client.call(&request)?;
    let result = response.responses.into_iter().next().ok_or_else(|| Failure("an empty answer".into()))?;
    refused(result.error_code, result.error_message.as_deref())?;
    let done = if validate_only { "could be changed" } else { "changed" };
    println!("{done}: {}", configs.iter().chain(reset).map(String::as_str).collect::<Vec<_>>().join(", "));
    Ok(())
}

impl Of {
    /// The resource's type and name in the protocol.
    fn resource(&self, client: &mut Client) -> Result<(i8, ByteString), Failure> {
        if let Some(topic) = &self.topic {
            return Ok((TOPIC, ByteString::from(topic.as_str())));
        }
        if self.all_brokers {
            return Ok((BROKER, ByteString::new()));
        }
        let metadata = client.metadata(Some(&[]))?;
        let node = metadata.brokers.first().ok_or_else(|| Failure("an empty answer".into()))?.node_id;
        Ok((BROKER, ByteString::from(node.to_string())))
    }
}

//! The command line: one binary that serves, administers, produces, consumes and checks its machine.
//!
//! Exit codes: 0 done, 1 it could not be done (the line on stderr says why and what to do), 2 the command is not understood.

mod check;
mod client;
mod config;
mod consume;
mod findings;
mod group;
mod kafka;
mod manual;
mod produce;
mod serve;
mod topic;
mod tune;

use clap::{Args, CommandFactory, Parser, Subcommand};
use std::process::ExitCode;

/// A Kafka-compatible event log for Linux bare metal.
#[derive(Parser)]
#[command(name = "ringlog", version, propagate_version = true, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start a broker; without options one node on 127.0.0.1:9092 that keeps its data in ./data
    Serve(serve::Arguments),
    /// Create, list, describe and delete topics
    Topic(topic::Arguments),
    /// List, describe, reset and delete consumer groups
    Group(group::Arguments),
    /// Show and change configs of topics, of the broker and of all brokers, while they run
    Config(config::Arguments),
    /// Write lines of standard input to a topic; each is on stable storage before the command ends
    Produce(produce::Arguments),
    /// Write a topic's records to standard output
    Consume(consume::Arguments),
    /// Find out whether this machine is fit: what a broker needs, and what makes it better
    Check(check::Arguments),
    /// Show what of this machine's settings could be better for a broker; change it when asked to, and put it back
    Tune(tune::Arguments),
    /// Take over the data directories of an Apache Kafka node that has been stopped
    FromKafka(kafka::Arguments),
    /// Give the data directories of a stopped ringlog to Apache Kafka
    ToKafka(kafka::Arguments),
    /// Print the completions of a shell, for it to load
    Completions(manual::Completions),
    /// Write the manual pages, one for each command
    Man(manual::Man),
}

/// Which broker to talk to.
#[derive(Args)]
struct BrokerAddress {
    /// The broker's address
    #[arg(
        long = "broker",
        visible_alias = "bootstrap-server",
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:9092"
    )]
    address: String,
}

/// What a command is about, by its name, and which broker to talk to.
#[derive(Args)]
struct Named {
    /// Its name
    name: String,
    #[command(flatten)]
    broker: BrokerAddress,
}

/// Runs the command that the process was started with.
pub fn run() -> ExitCode {
    ringlog_engine::io::look_up_hosts_without_plugins();
    let result = match Arguments::parse().command {
        Command::Serve(arguments) => serve::run(arguments),
        Command::Topic(arguments) => topic::run(arguments),
        Command::Group(arguments) => group::run(arguments),
        Command::Config(arguments) => config::run(arguments),
        Command::Produce(arguments) => produce::run(arguments),
        Command::Consume(arguments) => consume::run(arguments),
        Command::Check(arguments) => check::run(arguments),
        Command::Tune(arguments) => tune::run(arguments),
        Command::FromKafka(arguments) => kafka::take(arguments),
        Command::ToKafka(arguments) => kafka::give(arguments),
        Command::Completions(arguments) => manual::completions(arguments, Arguments::command()),
        Command::Man(arguments) => manual::man(arguments, Arguments::command()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(why)) => {
            eprintln!("ringlog: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Why a command could not be done, in words.
struct Failure(String);

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

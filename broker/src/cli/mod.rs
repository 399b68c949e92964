//! The command line: one binary that serves, administers, produces, consumes and checks its machine.
//!
//! Exit codes: 0 done, 1 it could not be done (the line on stderr says why and what to do), 2 the command is not understood.

mod serve;

use clap::{Parser, Subcommand};
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
}

/// Runs the command that the process was started with.
pub fn run() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Serve(arguments) => serve::run(arguments),
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

//! `ringlog serve`.

use super::Failure;
use crate::config::{BrokerConfig, ConfigError, Settings, Source};
use crate::serve::serve;
use clap::Args;
use ringlog_engine::shard::Stop;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::path::PathBuf;

/// Options of `ringlog serve`. Each goes before `--set`, which goes before the environment (`RINGLOG_SET_NUM_PARTITIONS`
/// sets `num.partitions`), which goes before the file.
#[derive(Args)]
pub(super) struct Arguments {
    /// Address to listen on, [NAME://]HOST:PORT; port 0 takes a free one; may be given several times
    #[arg(long, value_name = "ADDR")]
    listen: Vec<String>,
    /// Directory to keep data in; may be given several times
    #[arg(long, value_name = "DIR")]
    data: Vec<PathBuf>,
    /// Cores that get a shard, like 0,2-5; all of them by default
    #[arg(long, value_name = "LIST")]
    cores: Option<String>,
    /// How to reach the kernel: auto, uring or poll
    #[arg(long, value_name = "MODE")]
    io: Option<String>,
    /// Config file: TOML, or Java properties like Kafka's server.properties
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set one config by Kafka's name
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pairs: Vec<String>,
}

pub(super) fn run(arguments: Arguments) -> Result<(), Failure> {
    let config = BrokerConfig::new(settings(&arguments)?)?;
    let stop = Stop::default();
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    let asked = stop.clone();
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        let mut signals = signals.forever();
        signals.next();
        asked.ask();
        // Whoever asks twice does not want to wait: recovery will do what the clean stop did not.
        if signals.next().is_some() {
            std::process::exit(1);
        }
    })?;
    serve(config, &stop, std::io::stdout())?;
    Ok(())
}

fn settings(arguments: &Arguments) -> Result<Settings, Failure> {
    let mut settings = Settings::default();
    if let Some(path) = &arguments.config {
        let text = std::fs::read_to_string(path)
            .map_err(|error| Failure(format!("read {}: {error}", path.display())))?;
        settings.read_file(path, &text)?;
    }
    settings.read_environment(std::env::vars_os().filter_map(|(name, value)| {
        // A variable that is not text is none of ours.
        Some((name.into_string().ok()?, value.into_string().ok()?))
    }))?;
    for pair in &arguments.pairs {
        settings.set_pair(pair, Source::CommandLine)?;
    }
    let mut set = |name: &str, value: &str| settings.set(name, value, Source::CommandLine);
    if !arguments.listen.is_empty() {
        let listeners: Vec<String> = arguments.listen.iter().map(|text| with_name(text)).collect();
        set("listeners", &listeners.join(","))?;
    }
    if !arguments.data.is_empty() {
        let dirs: Vec<_> = arguments.data.iter().map(|dir| dir.to_str().map(str::to_owned)).collect();
        let dirs: Option<Vec<String>> = dirs.into_iter().collect();
        let dirs = dirs.ok_or_else(|| ConfigError::Conflict("--data: a path that is not UTF-8".into()))?;
        set("log.dirs", &dirs.join(","))?;
    }
    if let Some(cores) = &arguments.cores {
        set("cores", cores)?;
    }
    if let Some(io) = &arguments.io {
        set("io", io)?;
    }
    Ok(settings)
}

/// An address without a listener's name is that of `PLAINTEXT`.
fn with_name(address: &str) -> String {
    if address.contains("://") { address.to_owned() } else { format!("PLAINTEXT://{address}") }
}

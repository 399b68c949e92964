//! `floor_broker`: the least that a broker has to do for a Produce request, and nothing else. One thread and one ring receive the request, check the
//! CRC of each batch, write it where its partition goes on, and answer once it is written (`--durable`: once it is synced as well). What it
//! costs is the floor that ringlog is measured against: there are no topics, no offsets that outlive it, no memory bounds, no metrics,
//! nothing to read, and nothing is recovered.

mod broker;
mod memory;
mod partition;
mod wire;

use clap::Parser;
use std::net::SocketAddr;
use std::path::PathBuf;

/// The least a broker has to do for a Produce request.
#[derive(Debug, Parser)]
struct Options {
    /// Where to listen.
    #[arg(long)]
    listen: SocketAddr,
    /// An empty directory for the partitions' files.
    #[arg(long)]
    data: PathBuf,
    /// Partitions, of whatever topic.
    #[arg(long, default_value_t = 1)]
    partitions: usize,
    /// Megabytes of each partition's file, which is written again and again.
    #[arg(long, default_value_t = 64)]
    megabytes: u64,
    /// Answers once the device has it for good.
    #[arg(long)]
    durable: bool,
    /// Each byte of a file is written for the first time, as in a log that grows: its space is there, but not written before. Ends where the files do.
    #[arg(long, conflicts_with_all = ["durable", "buffered"])]
    fresh: bool,
    /// Writes through the page cache.
    #[arg(long)]
    buffered: bool,
}

fn main() {
    let options = Options::parse();
    let broker = broker::Broker::new(&options).expect("listen, and make the files");
    println!("listening on {}", options.listen);
    let error = broker.run();
    eprintln!("floor_broker: {error}");
    std::process::exit(1);
}

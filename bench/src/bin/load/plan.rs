//! What to do.

use clap::{Parser, ValueEnum};
use ringlog_engine::batch;
use std::net::SocketAddr;
use std::time::Duration;

/// Produces and consumes over the Kafka protocol, to measure a broker.
#[derive(Debug, Clone, Parser)]
pub(crate) struct Plan {
    /// The broker; it must lead all partitions.
    #[arg(long)]
    pub(crate) broker: SocketAddr,
    /// The topic, which must be there.
    #[arg(long)]
    pub(crate) topic: String,
    /// Its partitions.
    #[arg(long, default_value_t = 1)]
    pub(crate) partitions: i32,

    /// Connections that produce.
    #[arg(long, default_value_t = 0)]
    pub(crate) producers: u32,
    /// The number of the first of them, which its records tell: others than who has written to the topic before, or who verifies finds repetitions.
    #[arg(long, default_value_t = 0)]
    pub(crate) first_sender: u32,
    /// Records in a batch.
    #[arg(long, default_value_t = 150)]
    pub(crate) records: u32,
    /// Bytes of a record's value.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(20..))]
    pub(crate) size: u32,
    /// Batches in a request, each for another partition.
    #[arg(long, default_value_t = 1)]
    pub(crate) batches: u32,
    /// Gives every record a key.
    #[arg(long)]
    pub(crate) keyed: bool,
    /// How batches are compressed.
    #[arg(long, value_enum, default_value_t = Codec::None)]
    pub(crate) codec: Codec,
    /// What an answer waits for: 1 or -1.
    #[arg(long, default_value_t = 1, allow_hyphen_values = true)]
    pub(crate) acks: i16,
    /// Idempotent producers.
    #[arg(long)]
    pub(crate) idempotent: bool,
    /// Requests in flight on a connection, at most.
    #[arg(long, default_value_t = 5)]
    pub(crate) in_flight: usize,
    /// Requests a second on all connections together; without it, as fast as they are answered.
    #[arg(long)]
    pub(crate) rate: Option<f64>,

    /// Connections that consume, which share the partitions among them.
    #[arg(long, default_value_t = 0)]
    pub(crate) consumers: u32,
    /// So many times: each set of consumers reads everything.
    #[arg(long, default_value_t = 1)]
    pub(crate) fan_out: u32,
    /// Bytes a fetch asks for, at most; of one partition, too.
    #[arg(long, default_value_t = 1 << 20)]
    pub(crate) fetch_bytes: i32,
    /// Consumers that have read so many records of a partition begin again.
    #[arg(long)]
    pub(crate) again_at: Option<i64>,

    /// Consumers begin with what comes next, not with a partition's first record.
    #[arg(long, conflicts_with = "catch_up")]
    pub(crate) from_end: bool,
    /// Consumers begin with the oldest record there is, again where it was deleted under them, and the window ends once they have read what was there when
    /// they began.
    #[arg(long)]
    pub(crate) catch_up: bool,
    /// Consumers check every batch: its checksum, and that a producer's records are numbered without gap or repetition.
    #[arg(long)]
    pub(crate) verify: bool,

    /// Prints the latencies of each interval of so many seconds, too: a line of JSON each.
    #[arg(long)]
    pub(crate) every: Option<u64>,
    /// Seconds before the window.
    #[arg(long, default_value_t = 1.0)]
    pub(crate) warm_up: f64,
    /// Seconds of the window.
    #[arg(long, default_value_t = 5.0)]
    pub(crate) seconds: f64,
    /// Ends the window after so many megabytes of values, if that comes first.
    #[arg(long)]
    pub(crate) megabytes: Option<f64>,
}

/// Kafka's codecs.
#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
pub(crate) enum Codec {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Plan {
    pub(crate) fn codec(&self) -> batch::Codec {
        match self.codec {
            Codec::None => batch::Codec::None,
            Codec::Gzip => batch::Codec::Gzip,
            Codec::Snappy => batch::Codec::Snappy,
            Codec::Lz4 => batch::Codec::Lz4,
            Codec::Zstd => batch::Codec::Zstd,
        }
    }

    pub(crate) fn warm_up(&self) -> Duration {
        Duration::from_secs_f64(self.warm_up)
    }

    pub(crate) fn window(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }
}

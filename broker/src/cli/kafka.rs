//! `ringlog from-kafka` and `ringlog to-kafka`.

use super::Failure;
use crate::kafka::{from_kafka, to_kafka};
use clap::Args;
use ringlog_engine::io::host::IoChoice;
use std::path::PathBuf;

#[derive(Args)]
pub(super) struct Arguments {
    /// A data directory of the node (one of its log.dirs); may be given several times, in the order of log.dirs
    #[arg(long, value_name = "DIR", required = true)]
    data: Vec<PathBuf>,
}

pub(super) fn take(arguments: Arguments) -> Result<(), Failure> {
    let taken = from_kafka(&arguments.data, IoChoice::Auto)?;
    if taken.finished_only {
        println!("had been taken over before; Apache Kafka's own files are out of the way now");
        return Ok(());
    }
    println!(
        "taken over: topics={} partitions={} batches={} records={} bytes={} torn_bytes={} aborted_transactions={}",
        taken.topics,
        taken.partitions,
        taken.batches,
        taken.records,
        taken.bytes,
        taken.torn_bytes,
        taken.aborted,
    );
    left(&taken.notes);
    println!(
        "`ringlog serve` with these directories and the node's node.id goes on from here; Apache Kafka must not be started on them"
    );
    Ok(())
}

pub(super) fn give(arguments: Arguments) -> Result<(), Failure> {
    let returned = to_kafka(&arguments.data, IoChoice::Auto)?;
    println!(
        "given to Apache Kafka: topics={} partitions={} cluster.id={} node.id={}",
        returned.topics, returned.partitions, returned.cluster_id, returned.node_id,
    );
    left(&returned.notes);
    println!(
        "start Kafka 3.9 or newer with process.roles=broker,controller node.id={} controller.quorum.voters={}@... and these log.dirs; \
         ringlog must not be started on them",
        returned.node_id, returned.node_id,
    );
    Ok(())
}

fn left(notes: &[String]) {
    for note in notes {
        println!("left behind: {note}");
    }
}

//! `load`: produces and consumes over the Kafka protocol, to measure a broker of any kind. One thread, one core.
//!
//! Closed loop (as fast as the broker answers, a number of requests in flight on each connection) or open loop (`--rate`: request i
//! is due at i / rate, and its latency counts from then, whether or not it could be sent). After `--warm-up` seconds comes the
//! window that is measured. Its begin and its end are each a line of JSON on stdout, so that whoever measures the broker can look at it at
//! the same instants; the last line is the result. Progress goes to stderr.
//!
//! Every record says who sent it, its number and when it was due: consumers here take the end-to-end latency from it,
//! and whoever reads the topic back can tell what is missing, twice or out of order.

mod clock;
mod connection;
mod consumer;
mod histograms;
mod plan;
mod producer;
mod request;
mod run;
mod setup;

use clap::Parser;

fn main() {
    if let Err(error) = run::run(&plan::Plan::parse()) {
        eprintln!("load: {error}");
        std::process::exit(1);
    }
}

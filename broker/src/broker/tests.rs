//! The whole broker, spoken to over sockets in Kafka's bytes.

mod administering;
mod client;
mod configuring;
mod fetching;
mod grouping;
mod harness;
mod inspecting;
mod limiting;
mod producing;
mod recreating;
mod refusing;
mod sharing;
mod simulated;

//! The table of knobs, one file for each topic. In a file: first what is found on a machine, then the rows.

mod disk;
mod limits;
mod memory;
mod network;
mod processor;
mod queues;

use crate::machine::Machine;
use crate::place::Place;
use crate::want::Want;
use crate::{Knob, Seen};

/// All knobs, in the order in which they are shown and changed.
pub static KNOBS: &[Knob] = &[
    limits::NOFILE,
    limits::MEMLOCK,
    memory::SWAPPINESS,
    memory::DIRTY,
    memory::MAX_MAP_COUNT,
    memory::THP,
    memory::FREE_PAGE_REPORTING,
    processor::GOVERNOR,
    processor::C_STATES,
    processor::CLOCK_SOURCE,
    processor::NUMA,
    processor::ISOLATED_CORES,
    queues::IRQ_AFFINITY,
    queues::PACKET_STEERING,
    network::NIC_RINGS,
    network::NIC_COALESCING,
    network::TCP_BUFFERS,
    network::CONGESTION_CONTROL,
    network::SOMAXCONN,
    disk::SCHEDULER,
    disk::NR_REQUESTS,
    disk::READ_AHEAD,
    disk::WRITE_CACHE,
    disk::MOUNT_OPTIONS,
];

/// A file of the kernel's and what is wanted of it.
fn file(path: impl Into<String>, want: Want) -> Seen {
    Seen::Setting { place: Place::File(path.into()), want, along: Vec::new() }
}

/// What is wanted, where the profile wants it; else the place is shown and left as it is.
fn wanted(here: bool, want: Want) -> Want {
    if here { want } else { Want::Anything }
}

/// Files of one name, one for each processor that has it.
fn of_each_cpu(machine: &Machine, name: &str) -> Vec<String> {
    let paths = machine.cpus().into_iter().map(|cpu| format!("/sys/devices/system/cpu/cpu{cpu}/{name}"));
    paths.filter(|path| machine.at(path).exists()).collect()
}

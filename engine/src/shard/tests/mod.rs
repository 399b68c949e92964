//! The runtime's laws, over a Driver without operations whose clock jumps to the next timer.

mod executor;
mod mesh;
mod run;
mod sync;

use super::{Executor, ShardId};
use crate::io::{Completion, Counters, Driver, Instant, Listener, Notifier, Op, Token, Wait, WallTime};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex};

/// Sleeps for real only until it is notified.
#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    rang: Condvar,
}

impl Notifier for Bell {
    fn wake(&self) {
        *self.rung.lock().unwrap() = true;
        self.rang.notify_one();
    }
}

#[derive(Default)]
pub(super) struct BareDriver {
    bell: Arc<Bell>,
    now: u64,
}

impl Driver for BareDriver {
    fn submit(&mut self, _: Token, op: Op) {
        panic!("no operations here: {op:?}");
    }

    fn cancel(&mut self, _: Token) {}

    fn turn(&mut self, wait: Wait, _: &mut Vec<Completion>) {
        let mut rung = self.bell.rung.lock().unwrap();
        match wait {
            Wait::None => {}
            Wait::Until(at) if *rung => self.now = self.now.max(at.as_nanos().min(self.now + 1)),
            Wait::Until(at) => self.now = self.now.max(at.as_nanos()),
            Wait::Forever => {
                while !*rung {
                    rung = self.bell.rang.wait(rung).unwrap();
                }
            }
        }
        *rung = false;
    }

    fn listen(&mut self, _: SocketAddr) -> io::Result<(Listener, SocketAddr)> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn notifier(&self) -> Arc<dyn Notifier> {
        self.bell.clone()
    }

    fn now(&self) -> Instant {
        Instant::from_nanos(self.now)
    }

    fn wall_time(&self) -> WallTime {
        WallTime(0)
    }

    fn random(&mut self) -> u64 {
        4
    }

    fn name(&self) -> &'static str {
        "bare"
    }

    fn counters(&self) -> Counters {
        Counters::default()
    }
}

fn executor() -> Executor {
    Executor::new(ShardId(0), Box::new(BareDriver::default()))
}

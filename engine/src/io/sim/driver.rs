//! The Driver of one simulated shard: what it submits goes to the world, which decides when it ends and how.

use super::world::World;
use crate::io::{
    Completion, Counters, Driver, Instant, Listener, Notifier, Op, Socket, Token, Wait, WallTime,
};
use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Rung when a shard has been notified and has not had a turn since.
#[derive(Default)]
pub(super) struct Bell(AtomicBool);

impl Bell {
    pub(super) fn is_rung(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Notifier for Bell {
    fn wake(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What a turn takes of a shard that is alone in its world.
const TURN: Duration = Duration::from_micros(50);

pub(super) struct SimDriver {
    world: Rc<RefCell<World>>,
    index: usize,
    bell: Arc<Bell>,
    /// Nobody else lets time pass.
    alone: bool,
}

impl SimDriver {
    pub(super) fn new(world: Rc<RefCell<World>>, machine: usize, alone: bool) -> Self {
        let bell = Arc::<Bell>::default();
        let index = world.borrow_mut().add_driver(machine, bell.clone());
        Self { world, index, bell, alone }
    }

    pub(super) fn index(&self) -> usize {
        self.index
    }
}

impl Driver for SimDriver {
    fn submit(&mut self, token: Token, op: Op) {
        self.world.borrow_mut().submit(self.index, token, op);
    }

    fn unread(&self, socket: &Socket) -> usize {
        self.world.borrow().unread(socket.id())
    }

    fn cancel(&mut self, token: Token) {
        self.world.borrow_mut().cancel(self.index, token);
    }

    /// Under the runner a turn never sleeps. A shard driven without it that does so lets the world go on by itself.
    fn turn(&mut self, wait: Wait, done: &mut Vec<Completion>) {
        let mut world = self.world.borrow_mut();
        world.counters_of(self.index).turns += 1;
        if self.alone {
            world.pass(TURN);
            let now = world.now();
            while world.next_event().is_some_and(|at| at <= now) {
                world.advance(Some(now));
            }
        }
        let until = match wait {
            Wait::None => Some(world.now()),
            Wait::Until(at) => Some(at),
            Wait::Forever => None,
        };
        while wait != Wait::None && !world.has_completions(self.index) && !self.bell.is_rung() {
            if !world.advance(until) {
                assert!(until.is_some(), "parked for ever: nothing is under way in the simulated world");
                break;
            }
        }
        self.bell.0.store(false, Ordering::Relaxed);
        world.take_completions(self.index, done);
    }

    fn listen(&mut self, address: SocketAddr) -> io::Result<(Listener, SocketAddr)> {
        self.world.borrow_mut().listen(self.index, address)
    }

    fn notifier(&self) -> Arc<dyn Notifier> {
        self.bell.clone()
    }

    fn now(&self) -> Instant {
        self.world.borrow().now()
    }

    fn wall_time(&self) -> WallTime {
        self.world.borrow().wall_time()
    }

    fn random(&mut self) -> u64 {
        self.world.borrow_mut().random.bits()
    }

    fn name(&self) -> &'static str {
        "sim"
    }

    fn counters(&self) -> Counters {
        *self.world.borrow_mut().counters_of(self.index)
    }
}

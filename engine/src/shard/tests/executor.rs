//! Tasks and timers.

use super::executor;
use crate::shard::PORTION;
use crate::shard::sync::{Event, Watch};
use proptest::prelude::*;
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

#[test]
fn tasks_run_in_the_order_in_which_they_were_woken() {
    let mut executor = executor();
    let shard = executor.shard().clone();
    let order = Rc::new(RefCell::new(Vec::new()));
    for task in 0..100 {
        let (order, shard) = (order.clone(), shard.clone());
        executor.shard().spawn(async move {
            order.borrow_mut().push(task);
            shard.yield_now().await;
            order.borrow_mut().push(100 + task);
        });
    }
    while shard.task_count() > 0 {
        executor.turn(false);
    }
    assert_eq!(*order.borrow(), (0..200).collect::<Vec<_>>());
}

#[test]
fn a_task_that_never_waits_leaves_the_driver_its_turns() {
    let mut executor = executor();
    let shard = executor.shard().clone();
    let polls = Rc::new(Cell::new(0));
    let counted = polls.clone();
    executor.shard().spawn(async move {
        loop {
            counted.set(counted.get() + 1);
            shard.yield_now().await;
        }
    });
    assert!(executor.turn(true));
    let first = polls.get();
    assert!(first > 0);
    assert!(executor.turn(true), "with a task ready a turn may not sleep");
    assert!(polls.get() > first);
}

#[test]
fn between_two_goes_of_who_yields_the_driver_has_a_turn() {
    let mut executor = executor();
    let shard = executor.shard().clone();
    let turns = Rc::new(Cell::new(0));
    let counted = turns.clone();
    shard.on_turn(move || {
        counted.set(counted.get() + 1);
        0
    });
    let met = Rc::new(RefCell::new(Vec::new()));
    let noted = met.clone();
    executor.shard().spawn(async move {
        for _ in 0..4 {
            noted.borrow_mut().push(turns.get());
            shard.yield_now().await;
        }
    });
    while executor.shard().task_count() > 0 {
        executor.turn(false);
    }
    assert_eq!(*met.borrow(), [0, 1, 2, 3]);
}

#[test]
fn of_all_who_yield_one_goes_on_with_each_turn() {
    let mut executor = executor();
    let shard = executor.shard().clone();
    let done = Rc::new(Cell::new(0));
    for _ in 0..3 {
        let (shard, done) = (shard.clone(), done.clone());
        executor.shard().spawn(async move {
            let mut portions = shard.portions();
            for _ in 0..2 * PORTION {
                portions.next().await;
                done.set(done.get() + 1);
            }
        });
    }
    assert!(executor.turn(false));
    assert_eq!(done.get(), 3 * PORTION, "each has begun");
    for gone_on in 1..=3 {
        assert!(executor.is_ready());
        executor.turn(false);
        assert_eq!(done.get(), (3 + gone_on) * PORTION);
    }
    assert_eq!(shard.task_count(), 0);
}

#[test]
fn who_yields_keeps_its_place_in_the_line_whatever_wakes_it() {
    let mut executor = executor();
    let shard = executor.shard().clone();
    let order = Rc::new(RefCell::new(Vec::new()));
    let again = Event::default();
    for task in 0..3 {
        let (shard, order, again) = (shard.clone(), order.clone(), again.clone());
        executor.shard().spawn(async move {
            let mut yielding = std::pin::pin!(shard.yield_now());
            // Looked at without a waker first, as replies are, and then with every event.
            assert!(yielding.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            let mut next = again.next();
            poll_fn(|cx| {
                if std::pin::Pin::new(&mut next).poll(cx).is_ready() {
                    next = again.next();
                }
                yielding.as_mut().poll(cx)
            })
            .await;
            order.borrow_mut().push(task);
        });
    }
    while shard.task_count() > 0 {
        again.notify();
        executor.turn(false);
    }
    assert_eq!(*order.borrow(), [0, 1, 2]);
}

#[test]
fn timers_fire_in_order_of_their_instants() {
    let mut executor = executor();
    let shard = executor.shard().clone();
    let order = Rc::new(RefCell::new(Vec::new()));
    let left = Watch::new(6);
    for span in [30, 10, 20, 0, 25, 10] {
        let (order, inner, left) = (order.clone(), shard.clone(), left.clone());
        shard.spawn(async move {
            let start = inner.now();
            inner.sleep(Duration::from_millis(span)).await;
            assert!(inner.now().since(start) >= Duration::from_millis(span));
            order.borrow_mut().push(span);
            left.set(left.get() - 1);
        });
    }
    executor.block_on(async move { left.until(|left| left == 0).await });
    assert_eq!(*order.borrow(), [0, 10, 10, 20, 25, 30]);
}

#[test]
fn a_dropped_timer_wakes_nobody_and_no_longer_counts() {
    let mut executor = executor();
    let shard = executor.shard().clone();
    executor.block_on(async move {
        let mut sleep = Box::pin(shard.sleep(Duration::from_secs(60)));
        poll_fn(|cx| {
            assert!(sleep.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
    });
    assert_eq!(executor.next_timer(), None);
}

#[test]
fn a_task_woken_by_another_thread_runs() {
    let mut executor = executor();
    let done = Rc::new(Cell::new(false));
    let seen = done.clone();
    let (give, take) = std::sync::mpsc::channel::<Waker>();
    let other = std::thread::spawn(move || take.recv().unwrap().wake());
    executor.block_on(async move {
        let mut first = true;
        poll_fn(|cx| {
            if !std::mem::take(&mut first) {
                return Poll::Ready(());
            }
            give.send(cx.waker().clone()).unwrap();
            Poll::Pending
        })
        .await;
        seen.set(true);
    });
    other.join().unwrap();
    assert!(done.get());
}

#[test]
fn a_stale_waker_does_not_wake_the_task_that_took_the_place() {
    let mut executor = executor();
    let shard = executor.shard().clone();
    let stale: Rc<RefCell<Option<Waker>>> = Rc::default();
    let keep = stale.clone();
    shard.spawn(async move {
        poll_fn(|cx| {
            *keep.borrow_mut() = Some(cx.waker().clone());
            Poll::Ready(())
        })
        .await;
    });
    executor.turn(false);
    let polls = Rc::new(Cell::new(0));
    let counted = polls.clone();
    shard.spawn(poll_fn(move |_| {
        counted.set(counted.get() + 1);
        Poll::Pending
    }));
    executor.turn(false);
    stale.borrow_mut().take().unwrap().wake();
    executor.turn(false);
    assert!(polls.get() <= 2, "at most one poll too many");
    let before = polls.get();
    executor.turn(false);
    assert_eq!(polls.get(), before);
}

#[test]
fn an_executor_that_ends_drops_its_tasks_and_those_they_start_meanwhile() {
    struct SpawnsWhenDropped(crate::shard::Shard, Rc<Cell<u32>>);
    impl Drop for SpawnsWhenDropped {
        fn drop(&mut self) {
            let held = Held(self.1.clone());
            self.0.spawn(async move {
                let _held = held;
                std::future::pending::<()>().await;
            });
        }
    }
    struct Held(Rc<Cell<u32>>);
    impl Drop for Held {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }
    let mut executor = executor();
    let dropped = Rc::new(Cell::new(0));
    let guard = SpawnsWhenDropped(executor.shard().clone(), dropped.clone());
    executor.shard().spawn(async move {
        let _guard = guard;
        std::future::pending::<()>().await;
    });
    executor.turn(false);
    executor.finish();
    assert_eq!(dropped.get(), 1);
}

#[test]
fn the_load_counts_time_awake_and_not_time_asleep() {
    let mut executor = executor();
    let shard = executor.shard().clone();
    let load = shard.load();
    executor.block_on(async move { shard.sleep(Duration::from_secs(5)).await });
    assert!(load.until_nanos() >= 5_000_000_000);
    assert!(load.awake_nanos() < 1_000_000);
}

proptest! {
    /// Whatever the order of wakes, each task is polled for each wake that came after its last poll.
    #[test]
    fn no_wake_is_lost(wakes in prop::collection::vec((0_usize..8, any::<bool>()), 0..200)) {
        let mut executor = executor();
        let shard = executor.shard().clone();
        let events: Vec<(Event, Rc<Cell<u32>>)> = (0..8).map(|_| Default::default()).collect();
        for (event, seen) in events.clone() {
            shard.spawn(async move {
                loop {
                    event.next().await;
                    seen.set(seen.get() + 1);
                }
            });
        }
        executor.turn(false);
        let mut expected = [0_u32; 8];
        let mut dirty = [false; 8];
        for (task, turn) in wakes {
            // Two wakes between polls are one.
            expected[task] += u32::from(!std::mem::replace(&mut dirty[task], true));
            events[task].0.notify();
            if turn {
                executor.turn(false);
                dirty = [false; 8];
            }
        }
        executor.turn(false);
        let seen: Vec<u32> = events.iter().map(|(_, seen)| seen.get()).collect();
        prop_assert_eq!(seen, expected);
    }
}

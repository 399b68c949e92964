//! Events, watches, budgets and local replies.

use super::executor;
use crate::shard::sync::{Credits, Event, Permit, Turns, Watch, oneshot};
use proptest::prelude::*;
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

type Claim = std::pin::Pin<Box<dyn Future<Output = Permit>>>;

fn poll_once<F: Future + ?Sized>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn an_event_between_the_call_and_the_first_poll_is_seen() {
    let event = Event::default();
    let mut next = pin!(event.next());
    event.notify();
    assert!(poll_once(next.as_mut()).is_ready());
    let mut later = pin!(event.next());
    assert!(poll_once(later.as_mut()).is_pending());
}

#[test]
fn many_waiters_polled_again_and_again_take_one_place_each() {
    let event = Event::default();
    let mut waiters: Vec<_> = (0..100).map(|_| Box::pin(event.next())).collect();
    for _ in 0..50 {
        for waiter in &mut waiters {
            assert!(poll_once(waiter.as_mut()).is_pending());
        }
    }
    assert_eq!(event.waiting(), 100);
    waiters.truncate(10);
    assert_eq!(event.waiting(), 10);
    event.notify();
    assert_eq!(event.waiting(), 0);
    let mut next = pin!(event.next());
    assert!(poll_once(next.as_mut()).is_pending());
    // Those of the last round give up nothing that belongs to this one.
    drop(waiters);
    assert_eq!(event.waiting(), 1);
}

#[test]
fn a_watch_wakes_those_whose_wish_has_come_true() {
    let mut executor = executor();
    let shard = executor.shard().clone();
    let watch = Watch::new(0_u64);
    let reached: Rc<RefCell<Vec<u64>>> = Rc::default();
    for goal in [5, 3, 9] {
        let (watch, reached) = (watch.clone(), reached.clone());
        shard.spawn(async move {
            watch.until(|value| value >= goal).await;
            reached.borrow_mut().push(goal);
        });
    }
    executor.turn(false);
    watch.set(4);
    executor.turn(false);
    assert_eq!(*reached.borrow(), [3]);
    watch.set(9);
    executor.turn(false);
    reached.borrow_mut().sort_unstable();
    assert_eq!(*reached.borrow(), [3, 5, 9]);
}

#[test]
fn a_small_claim_does_not_overtake_a_large_one() {
    let credits = Credits::new(10);
    let held = credits.try_take(6).unwrap();
    let mut large = pin!(credits.take(8));
    assert!(poll_once(large.as_mut()).is_pending());
    assert!(credits.try_take(1).is_none());
    let mut small = pin!(credits.take(1));
    assert!(poll_once(small.as_mut()).is_pending());
    drop(held);
    assert!(poll_once(small.as_mut()).is_ready());
    assert!(poll_once(large.as_mut()).is_ready());
    assert_eq!(credits.left(), 10);
}

#[test]
fn a_claim_given_up_lets_the_next_one_through() {
    let credits = Credits::new(10);
    let _held = credits.try_take(6).unwrap();
    let mut large = Box::pin(credits.take(8));
    assert!(poll_once(large.as_mut()).is_pending());
    let mut small = pin!(credits.take(4));
    assert!(poll_once(small.as_mut()).is_pending());
    drop(large);
    assert!(poll_once(small.as_mut()).is_ready());
}

#[test]
fn more_than_the_whole_budget_counts_as_the_whole() {
    let credits = Credits::new(10);
    let Poll::Ready(permit) = poll_once(pin!(credits.take(1000))) else { panic!("the budget is full") };
    assert_eq!((permit.amount(), credits.left()), (10, 0));
}

#[test]
fn a_reply_comes_or_its_sender_is_gone() {
    let (sender, receiver) = oneshot();
    let mut receiver = pin!(receiver);
    assert!(poll_once(receiver.as_mut()).is_pending());
    sender.send(7);
    assert_eq!(poll_once(receiver.as_mut()), Poll::Ready(Some(7)));
    let (sender, receiver) = oneshot::<u32>();
    drop(sender);
    assert_eq!(poll_once(pin!(receiver)), Poll::Ready(None));
}

proptest! {
    /// Any mix of claims, drops of claims and drops of permits: first come first served, never more out than there
    /// is, and all back in the end.
    #[test]
    fn credits_are_never_lost_nor_doubled(
        steps in prop::collection::vec((0_u8..3, 1_usize..12, any::<prop::sample::Index>()), 0..100)
    ) {
        let credits = Credits::new(10);
        let mut waiting: Vec<Claim> = Vec::new();
        let mut held: Vec<Permit> = Vec::new();
        for (step, amount, which) in steps {
            match step {
                0 => {
                    let credits = credits.clone();
                    waiting.push(Box::pin(async move { credits.take(amount).await }));
                }
                1 if !waiting.is_empty() => drop(waiting.remove(which.index(waiting.len()))),
                2 if !held.is_empty() => drop(held.remove(which.index(held.len()))),
                _ => {}
            }
            // Polled in order, so that a later one is served only if all before it are.
            let mut blocked = false;
            waiting.retain_mut(|claim| match poll_once(claim.as_mut()) {
                Poll::Ready(permit) => {
                    assert!(!blocked, "a later claim was served before an earlier one");
                    held.push(permit);
                    false
                }
                Poll::Pending => {
                    blocked = true;
                    true
                }
            });
            let out: usize = held.iter().map(Permit::amount).sum();
            prop_assert_eq!(out + credits.left(), 10);
        }
        waiting.clear();
        held.clear();
        prop_assert_eq!(credits.left(), 10);
    }
}

#[test]
fn a_waiting_task_is_woken_not_just_able_to_go_on() {
    let mut executor = executor();
    let shard = executor.shard().clone();
    let credits = Credits::new(1);
    let permit = credits.try_take(1).unwrap();
    let served = Rc::new(Cell::new(false));
    let (budget, seen) = (credits.clone(), served.clone());
    shard.spawn(async move {
        let _permit = budget.take(1).await;
        seen.set(true);
        poll_fn(|_| Poll::Ready(())).await;
    });
    executor.turn(false);
    assert!(!served.get());
    drop(permit);
    executor.turn(false);
    assert!(served.get());
}

#[test]
fn turns_come_one_after_another() {
    let mut executor = executor();
    let shard = executor.shard().clone();
    let turns = Rc::new(Turns::default());
    let had: Rc<RefCell<Vec<(i32, Permit)>>> = Rc::default();
    for n in 0..3 {
        let (turns, had) = (turns.clone(), had.clone());
        shard.spawn(async move {
            let turn = turns.next().await;
            had.borrow_mut().push((n, turn));
        });
    }
    for n in 0..3 {
        executor.turn(false);
        let mut had = had.take();
        assert_eq!(had.iter().map(|(n, _)| *n).collect::<Vec<_>>(), [n]);
        had.clear();
    }
}

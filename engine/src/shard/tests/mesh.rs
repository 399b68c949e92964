//! Mailboxes: between executors stepped by one thread in any order, and between real threads.

use super::BareDriver;
use crate::shard::{CALLS_MAX, Executor, Mesh, Placement, Reply, ShardId, mesh_ends, run};
use proptest::prelude::*;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

type Net = Mesh<u64, u64>;
type Held = Vec<(u64, Reply<u64, u64>)>;

fn pair() -> (Vec<Executor>, Vec<Net>) {
    let executors: Vec<Executor> =
        (0..2).map(|id| Executor::new(ShardId(id), Box::new(BareDriver::default()))).collect();
    let ends = mesh_ends(2);
    let nets = executors.iter().zip(ends).map(|(executor, ends)| Net::open(executor.shard(), ends)).collect();
    (executors, nets)
}

proptest! {
    /// However the turns interleave and whenever replies are sent, requests arrive in call order, each call gets its
    /// own reply, and more calls than there are places wait without getting stuck.
    #[test]
    fn calls_arrive_in_order_and_get_their_own_replies(
        calls in 1_u64..3000,
        turns in prop::collection::vec((0_usize..2, 0_usize..2000), 1..40)
    ) {
        let (mut executors, nets) = pair();
        let arrived: Rc<RefCell<Vec<u64>>> = Rc::default();
        let held: Rc<RefCell<Held>> = Rc::default();
        let (seen, keep) = (arrived.clone(), held.clone());
        nets[1].serve(move |from, request, reply| {
            assert_eq!(from, ShardId(0));
            seen.borrow_mut().push(request);
            keep.borrow_mut().push((request, reply));
        });
        let answered = Rc::new(Cell::new(0_u64));
        for number in 0..calls {
            let call = nets[0].call(ShardId(1), number);
            let count = answered.clone();
            executors[0].shard().spawn(async move {
                assert_eq!(call.await, number * 2);
                count.set(count.get() + 1);
            });
        }
        let answer_some = |most: usize| {
            for _ in 0..most {
                // Last come first answered: the order of replies is free.
                let Some((request, reply)) = held.borrow_mut().pop() else { break };
                reply.send(request * 2);
            }
        };
        for (shard, replies) in turns {
            executors[shard].turn(false);
            answer_some(replies);
            prop_assert!(held.borrow().len() <= CALLS_MAX);
        }
        let mut rounds = 0;
        while answered.get() < calls {
            executors[0].turn(false);
            executors[1].turn(false);
            answer_some(CALLS_MAX);
            rounds += 1;
            prop_assert!(rounds < 1000, "stuck");
        }
        prop_assert_eq!(&*arrived.borrow(), &(0..calls).collect::<Vec<_>>());
        prop_assert_eq!(nets[0].unanswered(), 0);
    }
}

#[test]
fn requests_wait_until_they_are_served() {
    let (mut executors, nets) = pair();
    let call = nets[0].call(ShardId(1), 4);
    executors[1].turn(false);
    nets[1].serve(|_, request, reply| reply.send(request + 1));
    let answer = executors[0].block_on(call);
    assert_eq!(answer, 5);
}

#[test]
fn an_abandoned_call_is_served_and_its_place_comes_back() {
    let (mut executors, nets) = pair();
    nets[1].serve(|_, request, reply| reply.send(request));
    for round in 0..3 * CALLS_MAX as u64 {
        drop(nets[0].call(ShardId(1), round));
        executors[1].turn(false);
        executors[0].turn(false);
    }
    assert_eq!(nets[0].unanswered(), 0);
}

#[test]
#[should_panic(expected = "every request is answered")]
fn a_request_left_without_a_reply_is_a_mistake() {
    let (mut executors, nets) = pair();
    nets[1].serve(|_, _, reply| drop(reply));
    let _call = nets[0].call(ShardId(1), 1);
    executors[1].turn(false);
}

#[test]
fn an_executor_that_ends_may_leave_requests_unanswered() {
    let (mut executors, nets) = pair();
    let shard = executors[1].shard().clone();
    nets[1].serve(move |_, _, reply| {
        shard.spawn(async move {
            let _reply = reply;
            std::future::pending::<()>().await;
        });
    });
    let _call = nets[0].call(ShardId(1), 1);
    executors[1].turn(false);
    executors.pop().unwrap().finish();
}

#[test]
fn three_threads_ask_each_other_at_once_and_all_are_answered() {
    const CALLS: u64 = 20_000;
    let sums = run(
        &Placement::Floating(3),
        mesh_ends(3),
        |_| Ok(Box::new(BareDriver::default())),
        |shard, ends| {
            let net = Net::open(&shard, ends);
            async move {
                let expected = Cell::new([0_u64; 3]);
                let rest: Rc<Cell<u64>> = Rc::new(Cell::new(2 * CALLS));
                let served = crate::shard::sync::Event::default();
                let (left, done) = (rest.clone(), served.clone());
                net.serve(move |from, request, reply| {
                    let mut next = expected.get();
                    assert_eq!(request, next[usize::from(from.0)], "in call order");
                    next[usize::from(from.0)] += 1;
                    expected.set(next);
                    reply.send(request + 1);
                    left.set(left.get() - 1);
                    done.notify();
                });
                let mut sum = 0;
                let others = (0..3).map(ShardId).filter(|id| *id != shard.id());
                let mut calls = Vec::new();
                for request in 0..CALLS {
                    for to in others.clone() {
                        calls.push(net.call(to, request));
                    }
                }
                for call in calls {
                    sum += call.await;
                }
                while rest.get() > 0 {
                    served.next().await;
                }
                sum
            }
        },
    )
    .unwrap();
    assert_eq!(sums, [CALLS * (CALLS + 1); 3]);
}

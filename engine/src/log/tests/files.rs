//! What a log asks of its files, and what it makes of their failures.

use super::super::*;
use super::world::{World, batch};
use crate::io::Op;

#[test]
fn no_write_crosses_from_one_step_of_space_into_the_next() {
    let mut world = World::new();
    for round in 0..3 {
        world.run(LogConfig::default(), async move |log, world| {
            let edges = RefCell::new(Vec::new());
            let crossed = Rc::new(RefCell::new(Vec::new()));
            let seen = crossed.clone();
            world.control.borrow_mut().fails = Some(Box::new(move |op| {
                let mut edges = edges.borrow_mut();
                match op {
                    Op::Prepare { from, to, .. } => edges.extend([*from, *to]),
                    Op::Write { pos, bytes, .. } => {
                        let inside = pos + 1..pos + bytes.len() as u64;
                        seen.borrow_mut().extend(edges.iter().filter(|edge| inside.contains(edge)).copied());
                    }
                    _ => {}
                }
                None
            }));
            for n in 0..200 {
                world.append(&log, &batch(1, 3000 + 97 * n)).unwrap();
                if n % 9 == round {
                    log.wait_durable(log.marks().log_end).await.unwrap();
                }
            }
            log.wait_durable(log.marks().log_end).await.unwrap();
            assert_eq!(*crossed.borrow(), [0u64; 0], "round {round}");
            world.check_all(&log).await;
        });
    }
}

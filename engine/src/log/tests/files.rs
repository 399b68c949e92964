//! What a log asks of its files, and what it makes of their failures.

use super::super::*;
use super::world::{World, batch};
use crate::io::Op;

/// Batches of this many bytes, header included.
fn sized(bytes: i32) -> bytes::Bytes {
    batch(1, bytes - crate::batch::HEADER_LEN as i32)
}

#[test]
fn the_last_block_of_a_segment_is_filled_after_a_restart() {
    let config = LogConfig { segment_bytes: 16 << 10, ..LogConfig::default() };
    for clean in [true, false] {
        let mut world = World::new();
        world.run(config.clone(), async move |log, world| {
            world.append(&log, &sized((16 << 10) - 500)).unwrap();
            log.wait_durable(1).await.unwrap();
            if clean {
                log.close().await.unwrap();
            }
        });
        world.run(config.clone(), async move |log, world| {
            world.append(&log, &sized(200)).unwrap();
            log.wait_durable(2).await.expect("a batch that fits");
            world.append(&log, &sized(300)).unwrap();
            log.wait_durable(3).await.expect("another, up to the last byte");
            assert_eq!(world.segments(), 1);
            world.check_all(&log).await;
        });
    }
}

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

//! A toy log over the simulator: block writes, syncs, power cuts; what was acknowledged must be there. The same
//! check finds a toy that cheats, or it would prove nothing.

use super::{DIR, One, blocks};
use crate::io::{FileMode, Io, Space, SyncItem};
use std::cell::Cell;
use std::rc::Rc;

const BLOCKS: u64 = 64;

#[derive(Clone, Copy, PartialEq)]
enum Toy {
    Honest,
    /// Acknowledges before the sync has ended.
    Hasty,
    /// Says of blocks that were only allocated that they had been written.
    Mistaken,
}

/// Appends block after block, each filled with its number, and counts those acknowledged.
async fn append(io: Io, toy: Toy, acknowledged: Rc<Cell<u8>>) {
    let file = io.create(DIR, "/data/log".into(), FileMode::Blocks).await.unwrap();
    io.prepare(file.clone(), 0, BLOCKS * 4096, Space::Allocated).await.unwrap();
    io.sync_file(file.clone()).await.unwrap();
    io.sync_dir(DIR, "/data".into()).await.unwrap();
    for number in 1..=BLOCKS as u8 {
        io.write(file.clone(), u64::from(number - 1) * 4096, blocks(number, 1)).await.unwrap();
        if toy == Toy::Hasty {
            acknowledged.set(number);
        }
        let space = if toy == Toy::Mistaken { Space::Written } else { Space::Allocated };
        io.sync(vec![SyncItem { file: file.clone(), space }]).await.unwrap();
        acknowledged.set(number);
    }
}

/// Seeds for which an acknowledged block was not there after the cut.
fn losses(toy: Toy) -> u32 {
    let mut losses = 0;
    for seed in 0..300 {
        let mut one = One::new(seed);
        let acknowledged = Rc::<Cell<u8>>::default();
        let shard = one.sim.shard(one.actor);
        shard.spawn(append(shard.io().clone(), toy, acknowledged.clone()));
        for _ in 0..one.sim.random_below(800) {
            if one.sim.step().is_err() {
                break;
            }
        }
        one.power_cut();
        let content = one.content("/data/log").unwrap_or_default();
        let whole = content
            .chunks(4096)
            .zip(1_u8..)
            .take_while(|(block, number)| block.iter().all(|byte| byte == number))
            .count();
        losses += u32::from(whole < usize::from(acknowledged.get()));
    }
    losses
}

#[test]
fn an_honest_log_loses_nothing_and_cheats_are_found() {
    assert_eq!(losses(Toy::Honest), 0);
    assert!(losses(Toy::Hasty) > 20);
    assert!(losses(Toy::Mistaken) > 20);
}

//! A follower and answers that are rare.

use super::super::follow::{Answer, Follower, Taken, refusal};
use super::super::*;
use super::world::{World, batch, joined};
use crate::io::DirId;
use bytes::Bytes;

#[test]
fn a_log_that_ends_where_the_leaders_starts_within_a_batch_begins_anew_with_that_batch() {
    World::new().run(LogConfig::default(), async |log, world| {
        // Of an epoch that the leader knows nothing of: it has deleted what it had there.
        world.append(&log, &batch(4, 100)).unwrap();
        let place = LogDir { dir: DirId(0), path: world.path().with_file_name("topic-1") };
        let cache = Cache::new(1 << 20);
        let (leader, _) = Log::open(world.shard(), place, LogConfig::default(), &cache).await.unwrap();
        leader.append(&batch(10, 100), LeaderAppend { epoch: 1, ..world.leader() }).unwrap();
        leader.wait_durable(10).await.unwrap();
        leader.delete_before(4).await.unwrap();

        let mut follower = Follower::new(log.clone(), 1, 0);
        let ask = follower.ask().await.unwrap();
        assert_eq!((ask.fetch_offset, ask.last_fetched_epoch), (4, Some(0)));
        assert!(refusal(&leader, &ask).is_none(), "the leader says nothing against it");
        let limit = ReadLimit { up_to: 10, bytes_max: usize::MAX, at_least_one: true };
        let batches = Bytes::from(joined(&leader.read(4, limit).await.unwrap()));
        let answer = Answer::Records { batches: batches.clone(), high_watermark: 10, log_start: 4 };
        let taken = follower.take(&ask, answer).await.unwrap();
        assert_eq!(taken, Taken::Appended(10));
        assert!(follower.high_watermark() >= 4, "{}", follower.high_watermark());
        let marks = log.marks();
        assert_eq!((marks.log_start, marks.log_end, log.latest_epoch()), (4, 10, Some(1)));
        assert_eq!(joined(&log.read(4, limit).await.unwrap()), batches);
        leader.close().await.unwrap();
    });
}

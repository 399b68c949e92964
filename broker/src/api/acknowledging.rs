//! What members of share groups say of records, as ShareFetch and ShareAcknowledge carry it.

use super::Context;
use crate::broker::ShareAcknowledgements;
use crate::partition::PartitionId;
use crate::share::{Acknowledgement, Outcome, Place};
use ringlog_wire::{ErrorCode, Uuid};
use std::collections::BTreeMap;
use std::future::Future;

/// What is said of each partition, or why it cannot be taken in.
pub(super) type Said = BTreeMap<Place, Result<Vec<Acknowledgement>, ErrorCode>>;

/// A range of records, and what is said of them.
pub(super) struct Range<'a> {
    pub(super) first: i64,
    pub(super) last: i64,
    pub(super) types: &'a [i8],
}

/// Checks what is said of one partition, as Kafka does (`KafkaApis.validateAcknowledgementBatches`): ranges in order, one word for all of a
/// range or one for each of its records.
pub(super) fn read<'a>(
    ranges: impl Iterator<Item = Range<'a>>,
    renews: bool,
) -> Result<Vec<Acknowledgement>, ErrorCode> {
    let mut said = Vec::new();
    let mut next = 0;
    for Range { first, last, types } in ranges {
        let is_in_order = first >= next && last >= first && last < i64::MAX;
        let fits = match types.len() {
            0 => false,
            1 => true,
            count => i64::try_from(count) == Ok(last.wrapping_sub(first).wrapping_add(1)),
        };
        if !is_in_order || !fits {
            return Err(ErrorCode::InvalidRequest);
        }
        let outcome = |code: &i8| match Outcome::from_code(*code) {
            None => Err(ErrorCode::InvalidRequest),
            Some(Outcome::Renew) if !renews => Err(ErrorCode::InvalidRequest),
            Some(outcome) => Ok(outcome),
        };
        let outcomes: Vec<Outcome> = types.iter().map(outcome).collect::<Result<_, _>>()?;
        next = last + 1;
        said.push(Acknowledgement { first, last, outcomes });
    }
    Ok(said)
}

/// Whether a partition is there.
pub(super) fn find(context: &Context, (topic, index): Place) -> Result<PartitionId, ErrorCode> {
    let image = context.broker.image();
    let topic = image.topic_by_id(Uuid(topic)).ok_or(ErrorCode::UnknownTopicId)?;
    topic.partition(index).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    Ok(PartitionId::new(topic.id, index))
}

/// Hands over what is said; it is on its way, in order, when this returns.
pub(super) fn hand_over(
    context: &Context,
    group: &str,
    member: &str,
    said: Said,
) -> impl Future<Output = BTreeMap<Place, ErrorCode>> + use<> {
    let mut codes: BTreeMap<Place, ErrorCode> = BTreeMap::new();
    let mut partitions = Vec::new();
    for (place, said) in said {
        match said.and_then(|said| Ok((find(context, place)?, said))) {
            Ok((id, said)) => partitions.push((id, said)),
            Err(code) => {
                codes.insert(place, code);
            }
        }
    }
    let ids: Vec<PartitionId> = partitions.iter().map(|(id, _)| *id).collect();
    let handed = ShareAcknowledgements { group: group.to_owned(), member: member.to_owned(), partitions };
    let answered = context.broker.acknowledge_shared(handed);
    async move {
        for (id, result) in ids.into_iter().zip(answered.await) {
            codes.insert((id.topic, id.index), result.err().unwrap_or(ErrorCode::None));
        }
        codes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_make_sense_is_refused() {
        let check = |ranges: &[(i64, i64, &[i8])], renews: bool, expected: Option<usize>| {
            let ranges = ranges.iter().map(|&(first, last, types)| Range { first, last, types });
            let got = read(ranges, renews);
            assert_eq!(got.as_ref().ok().map(Vec::len), expected, "{got:?}");
        };
        check(&[], false, Some(0));
        check(&[(0, 9, &[1]), (10, 11, &[2, 3]), (20, 20, &[0])], false, Some(3));
        check(&[(5, 4, &[1])], false, None);
        check(&[(-1, 4, &[1])], false, None);
        check(&[(0, 4, &[1]), (4, 5, &[1])], false, None);
        check(&[(0, 4, &[])], false, None);
        check(&[(0, 4, &[1, 1])], false, None);
        check(&[(0, 4, &[5])], false, None);
        check(&[(0, 4, &[-1])], false, None);
        check(&[(0, i64::MAX, &[1])], false, None);
        check(&[(0, 4, &[4])], false, None);
        check(&[(0, 4, &[4])], true, Some(1));
    }
}

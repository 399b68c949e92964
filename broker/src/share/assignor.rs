//! Who reads what in a share group: Kafka's `SimpleAssignor`. Every partition has a member and, as far as there are partitions, every member
//! one; where there are more members than partitions, as many read each. What members have they keep, as far as that allows.

use super::group_record::Partitions;
use std::collections::{BTreeMap, BTreeSet};

/// A partition: its topic's id, and its index.
type Place = ([u8; 16], i32);

/// A member that is to get partitions.
#[derive(Debug, Clone, Default)]
pub(super) struct Reader {
    /// The topics it subscribes to.
    pub topics: BTreeSet<[u8; 16]>,
    /// What it is to have until now.
    pub before: Partitions,
}

/// What each of the members is to have. `partitions` counts those of each topic.
pub(super) fn assign(
    members: &BTreeMap<String, Reader>,
    partitions: &BTreeMap<[u8; 16], i32>,
) -> BTreeMap<String, Partitions> {
    let mut assigned: BTreeMap<String, Partitions> =
        members.keys().map(|id| (id.clone(), Partitions::new())).collect();
    let mut wanted = members.values().map(|member| &member.topics);
    let first = wanted.next();
    let places = |topics: &BTreeSet<[u8; 16]>| -> Vec<Place> {
        let known = topics.iter().filter_map(|topic| Some((*topic, *partitions.get(topic)?)));
        known.flat_map(|(topic, count)| (0..count).map(move |index| (topic, index))).collect()
    };
    // Where all want the same the balance is over all topics, else over each by itself.
    let rounds: Vec<(Vec<&String>, Vec<Place>)> = match first {
        None => Vec::new(),
        Some(topics) if wanted.all(|others| others == topics) => {
            vec![(members.keys().collect(), places(topics))]
        }
        Some(_) => {
            let topics: BTreeSet<[u8; 16]> =
                members.values().flat_map(|member| member.topics.iter().copied()).collect();
            let of = |topic: [u8; 16]| {
                let readers = members.iter().filter(|(_, member)| member.topics.contains(&topic));
                (readers.map(|(id, _)| id).collect(), places(&BTreeSet::from([topic])))
            };
            topics.into_iter().map(of).collect()
        }
    };
    for (readers, places) in rounds {
        let before: Vec<_> = readers.iter().map(|id| &members[*id].before).collect();
        for (id, has) in readers.iter().zip(balance(&before, &places)) {
            let partitions = assigned.get_mut(*id).expect("every member is there");
            for (topic, index) in has {
                partitions.entry(topic).or_default().insert(index);
            }
        }
    }
    assigned
}

/// Shares places among members, given what they had.
fn balance(before: &[&Partitions], places: &[Place]) -> Vec<BTreeSet<Place>> {
    let (members, count) = (before.len(), places.len());
    if members == 0 || count == 0 {
        return vec![BTreeSet::new(); members];
    }
    let sharing = members.div_ceil(count);
    // The members' counts differ by one at most, and add up to every place as often as it is shared.
    let up_to = |member: usize| (sharing * count * member).div_ceil(members);
    let quota = |member: usize| up_to(member + 1) - up_to(member);
    let had = |member: usize, (topic, index): &Place| {
        before[member].get(topic).is_some_and(|indexes| indexes.contains(index))
    };
    let mut has = vec![BTreeSet::new(); members];
    let mut readers: BTreeMap<Place, usize> = places.iter().map(|place| (*place, 0)).collect();
    for place in places {
        for (member, has) in has.iter_mut().enumerate() {
            if had(member, place) && readers[place] < sharing && has.len() < quota(member) {
                has.insert(*place);
                *readers.get_mut(place).expect("listed") += 1;
            }
        }
    }
    let mut short: Vec<usize> = (0..members).filter(|member| has[*member].len() < quota(*member)).collect();
    for place in places {
        let missing = sharing - readers[place];
        let mut given = 0;
        short.retain(|&member| {
            if given < missing && has[member].insert(*place) {
                given += 1;
            }
            has[member].len() < quota(member)
        });
        *readers.get_mut(place).expect("listed") += given;
    }
    // What nobody was left for goes to who has least.
    for place in readers.into_iter().filter(|(_, readers)| *readers == 0).map(|(place, _)| place) {
        let least = has.iter_mut().min_by_key(|has| has.len()).expect("there are members");
        least.insert(place);
    }
    // So does a member that is left without any: it takes part in one.
    for (at, has) in has.iter_mut().enumerate() {
        if has.is_empty() {
            has.insert(places[at % count]);
        }
    }
    has
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn readers(topics: &[&[u8]]) -> BTreeMap<String, Reader> {
        let reader = |topics: &&[u8]| Reader {
            topics: topics.iter().map(|topic| [*topic; 16]).collect(),
            before: Partitions::new(),
        };
        topics.iter().enumerate().map(|(n, topics)| (format!("m{n:03}"), reader(topics))).collect()
    }

    fn counts(assigned: &BTreeMap<String, Partitions>) -> Vec<usize> {
        assigned.values().map(|partitions| partitions.values().map(BTreeSet::len).sum()).collect()
    }

    #[test]
    fn members_share_partitions_as_kafka_shares_them() {
        let check = |topics: &[&[u8]], partitions: &[(u8, i32)], expected: &[usize]| {
            let partitions = partitions.iter().map(|(topic, count)| ([*topic; 16], *count)).collect();
            assert_eq!(counts(&assign(&readers(topics), &partitions)), expected, "{topics:?}");
        };
        check(&[&[1]], &[(1, 4)], &[4]);
        check(&[&[1], &[1]], &[(1, 4)], &[2, 2]);
        check(&[&[1], &[1]], &[(1, 1)], &[1, 1]);
        check(&[&[1], &[1], &[1]], &[(1, 2)], &[2, 1, 1]);
        check(&[&[1, 2], &[1, 2], &[1, 2]], &[(1, 2), (2, 2)], &[2, 1, 1]);
        check(&[&[1], &[2], &[1, 2]], &[(1, 2), (2, 2)], &[1, 1, 2]);
        check(&[&[9]], &[(1, 2)], &[0]);
        check(&[&[]], &[(1, 2)], &[0]);
    }

    proptest! {
        #[test]
        fn everything_is_read_evenly_and_what_need_not_move_does_not(
            members in 1_usize..20, more in 0_usize..5, partitions in 1_i32..20,
        ) {
            let topic: &[u8] = &[1];
            let partitions = BTreeMap::from([([1; 16], partitions)]);
            let mut group = readers(&vec![topic; members]);
            let first = assign(&group, &partitions);
            for (id, has) in &first {
                group.get_mut(id).expect("a member").before.clone_from(has);
            }
            prop_assert_eq!(&assign(&group, &partitions), &first, "nothing changed");
            for n in 0..more {
                group.insert(format!("n{n}"), Reader { topics: [[1; 16]].into(), before: Partitions::new() });
            }
            let second = assign(&group, &partitions);
            let counts = counts(&second);
            prop_assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1, "{:?}", counts);
            prop_assert!(counts.iter().all(|count| *count > 0));
            let read: BTreeSet<i32> = second.values().flat_map(|has| has[&[1; 16]].iter().copied()).collect();
            prop_assert_eq!(read.len(), partitions[&[1; 16]] as usize);
        }
    }
}

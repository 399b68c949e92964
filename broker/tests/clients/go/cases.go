// The cases: topics, produce, consume by assignment, codecs, protocol versions, times, configs and every refusal.

package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

func cases() {
	admin = kadm.NewClient(client())
	failed := 0
	all := []struct {
		name string
		run  func()
	}{
		{"topicsAreCreatedListedAndDeleted", topicsAreCreatedListedAndDeleted},
		{"eachCodecIsReturnedAsSent", eachCodecIsReturnedAsSent},
		{"eachAcksIsStored", eachAcksIsStored},
		{"eachReleasesProtocolIsSpoken", eachReleasesProtocolIsSpoken},
		{"idempotentProducerKeepsOrder", idempotentProducerKeepsOrder},
		{"keysHeadersNullsAndTimestampsComeBack", keysHeadersNullsAndTimestampsComeBack},
		{"appendTimeReplacesTheProducers", appendTimeReplacesTheProducers},
		{"offsetsAreFoundByTime", offsetsAreFoundByTime},
		{"earliestLatestAndMaximalTimeAreFound", earliestLatestAndMaximalTimeAreFound},
		{"offsetsInsideABatchStartThere", offsetsInsideABatchStartThere},
		{"epochsEndWhereTheLogDoes", epochsEndWhereTheLogDoes},
		{"addedPartitionsAreFetchedTogether", addedPartitionsAreFetchedTogether},
		{"configsAreDescribed", configsAreDescribed},
		{"theClusterIsDescribed", theClusterIsDescribed},
		{"tooLargeIsRefused", tooLargeIsRefused},
		{"timestampsFarAheadAreRefused", timestampsFarAheadAreRefused},
		{"unknownTopicsAreRefused", unknownTopicsAreRefused},
		{"unknownPartitionsAreRefused", unknownPartitionsAreRefused},
		{"invalidTopicsAreRefused", invalidTopicsAreRefused},
		{"offsetOutOfRangeIsRefused", offsetOutOfRangeIsRefused},
		{"membersShareAGroup", membersShareAGroup},
		{"groupsAreDescribedSetAndDeleted", groupsAreDescribedSetAndDeleted},
		{"transactionsWorkOrAreFatalAtOnce", transactionsWorkOrAreFatalAtOnce},
	}
	for _, one := range all {
		began := time.Now()
		if err := run(one.run); err != nil {
			failed++
			fmt.Printf("FAILED franz-go/%s\n%v\n", one.name, err)
		} else {
			fmt.Printf("ok franz-go/%s (%.1f s)\n", one.name, time.Since(began).Seconds())
		}
	}
	fmt.Printf("clients/franz-go: cases=%d records=%d\n", len(all)-failed, checked)
	if failed > 0 {
		os.Exit(1)
	}
}

func topicsAreCreatedListedAndDeleted() {
	name := fresh("t")
	created, err := admin.CreateTopic(bound, 3, 1, nil, name)
	must(err)
	equal(created.NumPartitions, int32(3), "partitions told at creation")
	topics, err := admin.ListTopics(bound)
	must(err)
	equal(topics.Has(name), true, "listed")
	equal(topics[name].ID, created.ID, "topic id")
	equal(topics[name].Partitions.Numbers(), []int32{0, 1, 2}, "partitions")
	equal(topics[name].Partitions[2].ISR, topics[name].Partitions[2].Replicas, "in-sync replicas")
	_, err = admin.DeleteTopic(bound, name)
	must(err)
	topics, err = admin.ListTopics(bound)
	must(err)
	equal(topics.Has(name), false, "listed after its deletion")
}

func eachCodecIsReturnedAsSent() {
	topic := create(1)
	var sent []string
	for _, name := range names {
		for index := 0; index < messages; index++ {
			sent = append(sent, strings.Repeat(fmt.Sprintf("%s %d ", name, index), index%40))
		}
		produce(valued(topic, 0, sent[len(sent)-messages:]), kgo.ProducerBatchCompression(codecs[name]), kgo.ProducerLinger(20*time.Millisecond))
	}
	equal(values(consume(topic, 0, kgo.NewOffset().AtStart(), len(sent))), sent, "values")
	committed := consume(topic, 0, kgo.NewOffset().AtStart(), len(sent), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	equal(values(committed), sent, "values, read committed")
	// The codec is kept: gzip, snappy, lz4 and zstd are 1 to 4.
	for index, record := range committed {
		equal(record.Attrs.CompressionType(), uint8(index/messages), fmt.Sprint("codec at ", index))
	}
}

func eachAcksIsStored() {
	topic := create(1)
	var sent []string
	for _, acks := range []kgo.Acks{kgo.NoAck(), kgo.LeaderAck(), kgo.AllISRAcks()} {
		more := numbered(fmt.Sprint(acks), messages)
		produce(valued(topic, 0, more), kgo.RequiredAcks(acks), kgo.DisableIdempotentWrite())
		// Without acks nothing is told: wait until the records are there before the next producer writes after them.
		sent = append(sent, more...)
		equal(values(consume(topic, 0, kgo.NewOffset().AtStart(), len(sent))), sent, "values")
	}
}

func eachReleasesProtocolIsSpoken() {
	for name, release := range map[string]*kversion.Versions{
		"0.11": kversion.V0_11_0(), "1.0": kversion.V1_0_0(), "1.1": kversion.V1_1_0(), "2.0": kversion.V2_0_0(), "2.1": kversion.V2_1_0(),
		"2.3": kversion.V2_3_0(), "2.4": kversion.V2_4_0(), "2.8": kversion.V2_8_0(), "3.1": kversion.V3_1_0(), "3.5": kversion.V3_5_0(),
	} {
		pinned := kgo.MaxVersions(release)
		topic := fresh("release-" + name)
		asking := kadm.NewClient(client(pinned))
		_, err := asking.CreateTopic(bound, 1, 1, nil, topic)
		must(err)
		sent := numbered(name+" ", 100)
		produce(valued(topic, 0, sent), pinned)
		equal(values(consume(topic, 0, kgo.NewOffset().AtStart(), len(sent), pinned)), sent, "values in "+name)
		equal(listed(asking.ListEndOffsets(bound, topic)), int64(len(sent)), "end offset in "+name)
		_, err = asking.DeleteTopic(bound, topic)
		must(err)
		asking.Close()
	}
}

func idempotentProducerKeepsOrder() {
	topic := create(1)
	sent := numbered("", 40*messages)
	made := valued(topic, 0, sent)
	produce(made, kgo.ProducerBatchMaxBytes(700))
	equal(made[len(made)-1].Offset, int64(len(made)-1), "last offset told")
	equal(made[0].ProducerID >= 0, true, "there is a producer id")
	equal(values(consume(topic, 0, kgo.NewOffset().AtStart(), len(sent))), sent, "values")
}

func keysHeadersNullsAndTimestampsComeBack() {
	topic := create(1)
	all := make([]byte, 256)
	for index := range all {
		all[index] = byte(index)
	}
	headers := []kgo.RecordHeader{{Key: "a", Value: []byte("1")}, {Key: "a", Value: []byte("2")}, {Key: "empty", Value: []byte{}}, {Key: "null"}, {Value: []byte("no name")}}
	sent := []*kgo.Record{
		{Key: []byte("k"), Value: []byte("v"), Headers: headers, Timestamp: instant(start)},
		{Value: []byte("no key"), Timestamp: instant(start + 1)},
		{Key: []byte("no value"), Timestamp: instant(start + 2)},
		{Key: []byte{}, Value: []byte{}, Timestamp: instant(start + 3)},
		{Key: []byte("schlüssel"), Value: all, Timestamp: instant(start - 100_000_000)},
	}
	for _, record := range sent {
		record.Topic = topic
		if record.Headers == nil {
			record.Headers = []kgo.RecordHeader{}
		}
	}
	produce(sent)
	for index, record := range consume(topic, 0, kgo.NewOffset().AtStart(), len(sent)) {
		equal(record.Key, sent[index].Key, "key")
		equal(record.Value, sent[index].Value, "value")
		equal(record.Headers, sent[index].Headers, "headers")
		equal(record.Timestamp.UnixMilli(), sent[index].Timestamp.UnixMilli(), "timestamp")
		equal(record.Attrs.TimestampType(), int8(0), "timestamp type")
	}
}

func appendTimeReplacesTheProducers() {
	topic := create(1, "message.timestamp.type", "LogAppendTime")
	produce([]*kgo.Record{timed(topic, 1000, "v")})
	record := consume(topic, 0, kgo.NewOffset().AtStart(), 1)[0]
	equal(record.Attrs.TimestampType(), int8(1), "timestamp type")
	equal(record.Timestamp.UnixMilli() > start, true, "append time is the broker's")
}

func offsetsAreFoundByTime() {
	topic := create(1)
	var sent []*kgo.Record
	for index := 0; index < messages; index++ {
		sent = append(sent, timed(topic, start+10*int64(index), strconv.Itoa(index)))
	}
	produce(sent, kgo.ProducerBatchMaxBytes(1000))
	for time, offset := range map[int64]int64{0: 0, start: 0, start + 1: 1, start + 2500: 250, start + 2501: 251, start + 10*messages: messages} {
		// After the last time kadm gives the end.
		equal(listed(admin.ListOffsetsAfterMilli(bound, time, topic)), offset, fmt.Sprint("offset for time ", time))
	}
	got := consume(topic, 0, kgo.NewOffset().AfterMilli(start+2501), messages-251)
	equal(values(got), numbered("", messages)[251:], "values from a time")
}

func earliestLatestAndMaximalTimeAreFound() {
	topic := create(1)
	maximal := func() int64 {
		request := kmsg.NewListOffsetsRequest()
		asked, partition := kmsg.NewListOffsetsRequestTopic(), kmsg.NewListOffsetsRequestTopicPartition()
		asked.Topic, partition.Timestamp = topic, -3
		asked.Partitions = append(asked.Partitions, partition)
		request.Topics = append(request.Topics, asked)
		answer := direct(&request).(*kmsg.ListOffsetsResponse).Topics[0].Partitions[0]
		must(code(answer.ErrorCode))
		return answer.Offset
	}
	equal(maximal(), int64(-1), "maximal time of an empty topic")
	var sent []*kgo.Record
	for _, time := range []int64{5, 70, 30, 90, 10, 90, 20} {
		sent = append(sent, timed(topic, start+time, ""))
	}
	produce(sent)
	equal(maximal(), int64(3), "first offset of the maximal time")
	equal(listed(admin.ListStartOffsets(bound, topic)), int64(0), "earliest")
	equal(listed(admin.ListEndOffsets(bound, topic)), int64(7), "latest")
	equal(listed(admin.ListCommittedOffsets(bound, topic)), int64(7), "latest, read committed")
}

func offsetsInsideABatchStartThere() {
	topic := create(1)
	sent := numbered("", 100)
	produce(valued(topic, 0, sent), kgo.ProducerLinger(50*time.Millisecond), kgo.ProducerBatchCompression(kgo.ZstdCompression()))
	for _, from := range []kgo.Offset{kgo.NewOffset().At(50), kgo.NewOffset().AtStart().Relative(50), kgo.NewOffset().AtEnd().Relative(-50)} {
		got := consume(topic, 0, from, 50)
		equal(values(got), sent[50:], "values")
		equal(got[0].Offset, int64(50), "offset")
	}
}

func epochsEndWhereTheLogDoes() {
	topic := create(1)
	produce(valued(topic, 0, numbered("", 9)))
	epoch := consume(topic, 0, kgo.NewOffset().AtStart(), 9)[0].LeaderEpoch
	equal(epoch >= 0, true, "there is a leader epoch")
	request := kadm.OffsetForLeaderEpochRequest{}
	request.Add(topic, 0, epoch)
	ends, err := admin.OffetForLeaderEpoch(bound, request)
	must(err)
	equal(ends[topic][0].EndOffset, int64(9), "end offset of the epoch")
	equal(ends[topic][0].LeaderEpoch, epoch, "epoch answered")
	// The client asks for the epoch's end itself before it fetches with one.
	equal(values(consume(topic, 0, kgo.NewOffset().At(4).WithEpoch(epoch), 5)), numbered("", 9)[4:], "values")
}

func addedPartitionsAreFetchedTogether() {
	topic := create(2)
	_, err := admin.UpdatePartitions(bound, 20, topic)
	must(err)
	from := map[int32]kgo.Offset{}
	for partition := int32(0); partition < 20; partition++ {
		produce(valued(topic, partition, numbered(fmt.Sprint(partition, "-"), 100)))
		from[partition] = kgo.NewOffset().AtStart()
	}
	got, err := tryConsume(map[string]map[int32]kgo.Offset{topic: from}, 20*100)
	must(err)
	byPartition := map[int32][]*kgo.Record{}
	for _, record := range got {
		byPartition[record.Partition] = append(byPartition[record.Partition], record)
	}
	for partition := int32(0); partition < 20; partition++ {
		equal(values(byPartition[partition]), numbered(fmt.Sprint(partition, "-"), 100), fmt.Sprint("values of partition ", partition))
	}
	fewer, err := admin.UpdatePartitions(bound, 3, topic)
	must(err)
	refused(kerr.InvalidPartitions, fewer.Error(), "fewer partitions")
}

func configsAreDescribed() {
	topic := create(1, "retention.ms", "123456")
	described, err := admin.DescribeTopicConfigs(bound, topic)
	must(err)
	found := map[string]kadm.Config{}
	for _, config := range described[0].Configs {
		found[config.Key] = config
	}
	equal(*found["retention.ms"].Value, "123456", "retention.ms")
	equal(found["retention.ms"].Source, kmsg.ConfigSourceDynamicTopicConfig, "retention.ms: source")
	equal(*found["cleanup.policy"].Value, "delete", "cleanup.policy")
	equal(found["cleanup.policy"].Source, kmsg.ConfigSourceDefaultConfig, "cleanup.policy: source")
	missing, err := admin.DescribeTopicConfigs(bound, fresh("missing"))
	must(err)
	refused(kerr.UnknownTopicOrPartition, missing[0].Err, "configs of no topic")
}

func theClusterIsDescribed() {
	request := kmsg.NewDescribeClusterRequest()
	cluster := direct(&request).(*kmsg.DescribeClusterResponse)
	metadata, err := admin.BrokerMetadata(bound)
	must(err)
	equal(len(cluster.Brokers), 1, "brokers")
	equal(fmt.Sprintf("%s:%d", cluster.Brokers[0].Host, cluster.Brokers[0].Port), bootstrap, "address")
	equal(cluster.ControllerID, metadata.Controller, "controller")
	equal(cluster.ClusterID, metadata.Cluster, "cluster id")
	served, err := admin.ApiVersions(bound)
	must(err)
	ours := served[metadata.Controller]
	highest, has := ours.KeyMaxVersion(kmsg.Fetch.Int16())
	equal(has && highest >= 13, true, "Fetch by topic id is served")
}

func tooLargeIsRefused() {
	topic := create(1)
	large := valued(topic, 0, []string{strings.Repeat("x", 1_500_000)})
	refused(kerr.MessageTooLarge, tryProduce(large, kgo.ProducerBatchMaxBytes(3_000_000), kgo.ProducerBatchCompression(kgo.NoCompression())), "1.5 MB")
	small := create(1, "max.message.bytes", "1000")
	uncompressed := kgo.ProducerBatchCompression(kgo.NoCompression())
	refused(kerr.MessageTooLarge, tryProduce(valued(small, 0, []string{strings.Repeat("x", 2000)}), uncompressed), "over the topic's own limit")
	equal(listed(admin.ListEndOffsets(bound, small)), int64(0), "end offset")
}

func timestampsFarAheadAreRefused() {
	topic := create(1, "message.timestamp.after.max.ms", "1000")
	ahead := timed(topic, time.Now().UnixMilli()+3_600_000, "v")
	refused(kerr.InvalidTimestamp, tryProduce([]*kgo.Record{ahead}), "an hour ahead")
}

func unknownTopicsAreRefused() {
	missing := fresh("missing")
	refused(kerr.UnknownTopicOrPartition, tryProduce(valued(missing, 0, []string{"x"}), kgo.UnknownTopicRetries(1)), "produce")
	from := map[string]map[int32]kgo.Offset{missing: {0: kgo.NewOffset().AtStart()}}
	_, err := tryConsume(from, 1, kgo.KeepRetryableFetchErrors())
	refused(kerr.UnknownTopicOrPartition, err, "consume")
	_, err = admin.DeleteTopic(bound, missing)
	refused(kerr.UnknownTopicOrPartition, err, "delete")
	more, err := admin.UpdatePartitions(bound, 3, missing)
	must(err)
	refused(kerr.UnknownTopicOrPartition, more.Error(), "create partitions")
	topics, err := admin.ListTopics(bound)
	must(err)
	equal(topics.Has(missing), false, "the topic was created")
}

// The client would not ask for a partition that its metadata lacks, so these requests are made by hand: a batch that one partition
// holds is fetched and sent to another that is none.
func unknownPartitionsAreRefused() {
	topic := create(1)
	produce(valued(topic, 0, []string{"x"}))
	topics, err := admin.ListTopics(bound)
	must(err)
	fetch := func(partition int32) kmsg.FetchResponseTopicPartition {
		request := kmsg.NewFetchRequest()
		asked, one := kmsg.NewFetchRequestTopic(), kmsg.NewFetchRequestTopicPartition()
		request.MaxBytes, request.ReplicaID = 1_000_000, -1
		one.Partition, one.PartitionMaxBytes = partition, 1_000_000
		asked.Topic, asked.TopicID = topic, topics[topic].ID
		asked.Partitions = append(asked.Partitions, one)
		request.Topics = append(request.Topics, asked)
		return direct(&request).(*kmsg.FetchResponse).Topics[0].Partitions[0]
	}
	send := func(topic string, partition int32, batch []byte) error {
		request := kmsg.NewProduceRequest()
		asked, one := kmsg.NewProduceRequestTopic(), kmsg.NewProduceRequestTopicPartition()
		request.Acks, request.TimeoutMillis = -1, 10_000
		one.Partition, one.Records = partition, batch
		asked.Topic = topic
		asked.Partitions = append(asked.Partitions, one)
		request.Topics = append(request.Topics, asked)
		return code(direct(&request).(*kmsg.ProduceResponse).Topics[0].Partitions[0].ErrorCode)
	}
	batch := fetch(0).RecordBatches
	equal(len(batch) > 61, true, "a batch was fetched")
	refused(kerr.UnknownTopicOrPartition, code(fetch(9).ErrorCode), "fetch")
	refused(kerr.UnknownTopicOrPartition, send(topic, 9, batch), "produce")
	refused(kerr.UnknownTopicOrPartition, send(topic, -1, batch), "produce to partition -1")
	refused(kerr.UnknownTopicOrPartition, send(fresh("missing"), 0, batch), "produce to no topic")
	batch[len(batch)-1] ^= 1
	refused(kerr.CorruptMessage, send(topic, 0, batch), "a changed bit")
	equal(listed(admin.ListEndOffsets(bound, topic)), int64(1), "end offset")
}

func invalidTopicsAreRefused() {
	for _, name := range []string{"bad/name", "..", strings.Repeat("x", 250), "a b", ""} {
		refused(kerr.InvalidTopicException, createNamed(name, 1, 1), "create "+name)
	}
	refused(kerr.InvalidTopicException, tryProduce(valued("bad/name", 0, []string{"x"})), "produce")
	topic, free := create(1), fresh("t")
	refused(kerr.TopicAlreadyExists, createNamed(topic, 1, 1), "exists")
	refused(kerr.InvalidPartitions, createNamed(free, 0, 1), "0 partitions")
	refused(kerr.InvalidReplicationFactor, createNamed(free, 1, 3), "3 replicas")
	refused(kerr.InvalidReplicationFactor, createNamed(free, 1, 0), "0 replicas")
	refused(kerr.InvalidConfig, createNamed(free, 1, 1, "no.such.setting", "1"), "an unknown setting")
	refused(kerr.InvalidConfig, createNamed(free, 1, 1, "retention.ms", "soon"), "a setting that is no number")
	validated, err := admin.ValidateCreateTopics(bound, 2, 1, nil, free)
	must(err)
	must(validated.Error())
	topics, err := admin.ListTopics(bound)
	must(err)
	equal(topics.Has(free), false, "a topic was created")
}

func offsetOutOfRangeIsRefused() {
	topic := create(1)
	produce(valued(topic, 0, numbered("", 3)))
	from := map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().At(1000)}}
	_, err := tryConsume(from, 1, kgo.ConsumeResetOffset(kgo.NoResetOffset()))
	refused(kerr.OffsetOutOfRange, err, "offset 1000 of 3")
	equal(values(consume(topic, 0, kgo.NewOffset().At(1000), 3)), numbered("", 3), "values after the reset")
}

const shared = 6

func member(topic, group string, options ...kgo.Opt) *kgo.Client {
	return client(append(options, kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit(), kgo.HeartbeatInterval(300*time.Millisecond),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(100*time.Millisecond))...)
}

// owners waits until this many members share all partitions.
func owners(group string, members int) kadm.DescribedGroup {
	for {
		described, err := admin.DescribeGroups(bound, group)
		must(err)
		one := described[group]
		if one.State == "Stable" && len(one.Members) == members {
			owned := 0
			for _, partitions := range one.AssignedPartitions() {
				owned += len(partitions)
			}
			if owned == shared {
				return one
			}
		}
		must(bound.Err())
		time.Sleep(50 * time.Millisecond)
	}
}

func membersShareAGroup() {
	topic, group := create(shared), fresh("g")
	for partition := int32(0); partition < shared; partition++ {
		produce(valued(topic, partition, numbered(fmt.Sprint(partition, ":"), 20)))
	}
	// The newest protocol of members, and all at once.
	members := []*kgo.Client{member(topic, group), member(topic, group), member(topic, group, kgo.InstanceID("static"))}
	for _, one := range members {
		go func(one *kgo.Client) {
			for !one.PollFetches(bound).IsClientClosed() && bound.Err() == nil {
			}
		}(one)
	}
	owners(group, 3)
	members[0].Close()
	owners(group, 2)
	for _, one := range members[1:] {
		must(one.CommitUncommittedOffsets(bound))
	}
	total := int64(0)
	for {
		offsets, err := admin.FetchOffsets(bound, group)
		must(err)
		total = 0
		offsets.Each(func(one kadm.OffsetResponse) { total += one.At })
		if total == shared*20 {
			break
		}
		must(bound.Err())
		time.Sleep(50 * time.Millisecond)
		for _, one := range members[1:] {
			must(one.CommitUncommittedOffsets(bound))
		}
	}
	checked += int(total)
	for _, one := range members[1:] {
		one.Close()
	}
	// A static member does not leave by itself.
	left, err := admin.LeaveGroup(bound, kadm.LeaveGroup(group).InstanceIDs("static"))
	must(err)
	must(left["static"].Err)
	lag, err := admin.Lag(bound, group)
	must(err)
	equal(lag[group].Lag.Total(), int64(0), "lag")
	equal(lag[group].State, "Empty", "state")
}

func groupsAreDescribedSetAndDeleted() {
	topic, group := create(shared), fresh("g")
	offsets := kadm.Offsets{}
	offsets.AddOffset(topic, 3, 7, 2)
	must(admin.CommitAllOffsets(bound, group, offsets))
	told, err := admin.FetchOffsets(bound, group)
	must(err)
	one, there := told.Lookup(topic, 3)
	equal([]interface{}{there, one.At, one.LeaderEpoch}, []interface{}{true, int64(7), int32(2)}, "the offset set")
	listed, err := admin.ListGroups(bound)
	must(err)
	equal(listed[group].State, "Empty", "the state listed")
	deleted, err := admin.DeleteGroup(bound, group)
	must(err)
	must(deleted.Err)
	again, err := admin.DeleteGroup(bound, group)
	if err == nil {
		err = again.Err
	}
	refused(kerr.GroupIDNotFound, err, "deleting it again")
	gone, err := admin.FetchOffsets(bound, group)
	must(err)
	equal(len(gone), 0, "offsets of a group deleted")
}

func transactionsWorkOrAreFatalAtOnce() {
	topic, id := create(1), fresh("x")
	producer := client(kgo.TransactionalID(id))
	defer producer.Close()
	began := producer.BeginTransaction()
	if transactions {
		must(began)
		must(producer.ProduceSync(bound, valued(topic, 0, []string{"x"})...).FirstErr())
		must(producer.EndTransaction(bound, kgo.TryCommit))
		return
	}
	// The client says only that it failed; the broker's answers say why.
	equal(began != nil && bound.Err() == nil, true, "refused before the time is over")
	refused(kerr.TransactionalIDAuthorizationFailed, admin.FindTxnCoordinators(bound, id)[id].Err, "find coordinator")
	request := kmsg.NewInitProducerIDRequest()
	request.TransactionalID, request.TransactionTimeoutMillis = &id, 60_000
	refused(kerr.TransactionalIDAuthorizationFailed, code(direct(&request).(*kmsg.InitProducerIDResponse).ErrorCode), "init producer id")
}

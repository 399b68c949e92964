// Apache Kafka's Java client against a broker with auto-creation off; the command lines, for a one-partition topic that held nothing:
//   cases BOOTSTRAP ringlog|kafka        write BOOTSTRAP TOPIC none|gzip|snappy|lz4|zstd COUNT        read BOOTSTRAP TOPIC,... COUNT

import static java.nio.charset.StandardCharsets.UTF_8;

import java.time.Duration;
import java.util.*;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.*;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.*;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.common.serialization.*;

public class JavaClient {
    static final List<String> CODECS = List.of("none", "gzip", "snappy", "lz4", "zstd");
    static final int MESSAGES = 500;
    static final long START = 1_700_000_000_000L;

    static String bootstrap;
    static boolean transactions;
    static Admin admin;
    static int records;

    interface Case {
        void run() throws Exception;
    }

    public static void main(String[] arguments) throws Exception {
        bootstrap = arguments[1];
        switch (arguments[0]) {
            case "write" -> write(arguments[2], arguments[3], Integer.parseInt(arguments[4]));
            case "read" -> {
                for (var topic : arguments[2].split(",")) {
                    read(topic, Integer.parseInt(arguments[3]));
                }
            }
            case "cases" -> cases(arguments[2].equals("kafka"));
            default -> throw new IllegalArgumentException(arguments[0]);
        }
    }

    static void cases(boolean kafka) {
        transactions = kafka;
        admin = Admin.create(Map.of("bootstrap.servers", bootstrap, "default.api.timeout.ms", 30000));
        var cases = new LinkedHashMap<String, Case>();
        cases.put("topicsAreCreatedDescribedAndDeleted", JavaClient::topicsAreCreatedDescribedAndDeleted);
        cases.put("eachCodecIsReturnedAsSent", JavaClient::eachCodecIsReturnedAsSent);
        cases.put("eachAcksIsStored", JavaClient::eachAcksIsStored);
        cases.put("idempotentProducerKeepsOrder", JavaClient::idempotentProducerKeepsOrder);
        cases.put("producersShareAPartition", JavaClient::producersShareAPartition);
        cases.put("batchesTooLargeAreSplitAndStoredInOrder", JavaClient::batchesTooLargeAreSplitAndStoredInOrder);
        cases.put("keysHeadersNullsAndTimestampsComeBack", JavaClient::keysHeadersNullsAndTimestampsComeBack);
        cases.put("appendTimeReplacesTheProducers", JavaClient::appendTimeReplacesTheProducers);
        cases.put("offsetsAreFoundByTime", JavaClient::offsetsAreFoundByTime);
        cases.put("offsetSpecsAreAnswered", JavaClient::offsetSpecsAreAnswered);
        cases.put("offsetsInsideABatchStartThere", JavaClient::offsetsInsideABatchStartThere);
        cases.put("oneBatchComesEvenOverTheFetchLimit", JavaClient::oneBatchComesEvenOverTheFetchLimit);
        cases.put("manyPartitionsAreFetchedInOneSession", JavaClient::manyPartitionsAreFetchedInOneSession);
        cases.put("partitionsCanBeAdded", JavaClient::partitionsCanBeAdded);
        cases.put("configsAreDescribed", JavaClient::configsAreDescribed);
        cases.put("theClusterIsDescribed", JavaClient::theClusterIsDescribed);
        cases.put("tooLargeIsRefused", JavaClient::tooLargeIsRefused);
        cases.put("timestampsFarAheadAreRefused", JavaClient::timestampsFarAheadAreRefused);
        cases.put("unknownTopicsAndPartitionsAreRefused", JavaClient::unknownTopicsAndPartitionsAreRefused);
        cases.put("invalidTopicsAreRefused", JavaClient::invalidTopicsAreRefused);
        cases.put("offsetOutOfRangeIsRefused", JavaClient::offsetOutOfRangeIsRefused);
        cases.put("membersShareAGroup", JavaClient::membersShareAGroup);
        cases.put("staticAndCooperativeMembersKeepTheirs", JavaClient::staticAndCooperativeMembersKeepTheirs);
        cases.put("groupsAreListedDescribedSetAndDeleted", JavaClient::groupsAreListedDescribedSetAndDeleted);
        cases.put("transactionsWorkOrAreFatalAtOnce", JavaClient::transactionsWorkOrAreFatalAtOnce);

        int failed = 0;
        for (var one : cases.entrySet()) {
            long started = System.nanoTime();
            try {
                one.getValue().run();
                System.out.printf("ok java/%s (%.1f s)%n", one.getKey(), (System.nanoTime() - started) / 1e9);
            } catch (Exception | AssertionError error) {
                failed++;
                System.out.printf("FAILED java/%s%n", one.getKey());
                error.printStackTrace(System.out);
            }
        }
        admin.close();
        System.out.printf("clients/java: cases=%d records=%d%n", cases.size() - failed, records);
        System.exit(failed == 0 ? 0 : 1);
    }

    // The messages that one library writes for another to read.

    static ProducerRecord<byte[], byte[]> message(String topic, int index) {
        var record = new ProducerRecord<>(topic, 0, bytes("k" + index), bytes("v" + index + "-" + "x".repeat(index % 200)));
        record.headers().add("h", bytes("" + index / 100));
        return record;
    }

    static void write(String topic, String codec, int count) throws Exception {
        produce(IntStream.range(0, count).mapToObj(index -> message(topic, index)).toList(), "compression.type", codec);
        System.out.printf("written=%d%n", count);
    }

    static void read(String topic, int count) throws Exception {
        var got = consume(topic, 0, 0, count);
        for (int index = 0; index < count; index++) {
            var sent = message(topic, index);
            var record = got.get(index);
            equal(record.offset(), (long) index, "offset");
            equal(text(record.key()), text(sent.key()), "key at " + index);
            equal(text(record.value()), text(sent.value()), "value at " + index);
            equal(record.headers(), sent.headers(), "headers at " + index);
        }
        try (var consumer = consumer()) {
            var partition = new TopicPartition(topic, 0);
            equal(consumer.endOffsets(List.of(partition)).get(partition), (long) count, "end offset");
        }
        System.out.printf("checked=%d%n", count);
    }

    // What the cases are made of.

    static byte[] bytes(String text) {
        return text.getBytes(UTF_8);
    }

    static String text(byte[] bytes) {
        return bytes == null ? null : new String(bytes, UTF_8);
    }

    static void equal(Object actual, Object expected, String what) {
        if (!Objects.deepEquals(actual, expected)) throw new AssertionError(what + ": expected " + shorten(expected) + ", got " + shorten(actual));
    }

    static String shorten(Object value) {
        String text = String.valueOf(value);
        return text.length() <= 400 ? text : text.substring(0, 400) + "... (" + text.length() + " characters)";
    }

    /** Creates a topic of its own for a case; `config` are names and values in turn. */
    static String create(int partitions, String... config) throws Exception {
        String name = "t-" + UUID.randomUUID();
        var settings = new HashMap<String, String>();
        for (int index = 0; index < config.length; index += 2) settings.put(config[index], config[index + 1]);
        admin.createTopics(List.of(new NewTopic(name, partitions, (short) 1).configs(settings))).all().get();
        return name;
    }

    static KafkaProducer<byte[], byte[]> producer(Object... config) {
        var settings = new HashMap<String, Object>(Map.of("bootstrap.servers", bootstrap, "linger.ms", 5, "max.block.ms", 20000));
        for (int index = 0; index < config.length; index += 2) settings.put((String) config[index], config[index + 1]);
        return new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer());
    }

    /** Sends the records, then waits for all of them and gives the offsets they were told. */
    static List<Long> produce(List<ProducerRecord<byte[], byte[]>> sent, Object... config) throws Exception {
        try (var producer = producer(config)) {
            var deliveries = new ArrayList<Future<RecordMetadata>>();
            for (var record : sent) deliveries.add(producer.send(record));
            var offsets = new ArrayList<Long>();
            for (var delivery : deliveries) offsets.add(delivery.get().offset());
            return offsets;
        }
    }

    static List<ProducerRecord<byte[], byte[]>> records(String topic, int partition, List<String> values) {
        return values.stream().map(value -> new ProducerRecord<byte[], byte[]>(topic, partition, null, bytes(value))).toList();
    }

    static List<String> numbered(String prefix, int count) {
        return IntStream.range(0, count).mapToObj(index -> prefix + index).toList();
    }

    static KafkaConsumer<byte[], byte[]> consumer(Object... config) {
        var settings = new HashMap<String, Object>(Map.of("bootstrap.servers", bootstrap, "auto.offset.reset", "none", "check.crcs", true));
        settings.put("allow.auto.create.topics", false);
        settings.put("default.api.timeout.ms", 30000);
        for (int index = 0; index < config.length; index += 2) settings.put((String) config[index], config[index + 1]);
        return new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    /** Reads exactly `count` records of a partition from an offset. */
    static List<ConsumerRecord<byte[], byte[]>> consume(String topic, int partition, long offset, int count, Object... config) {
        try (var consumer = consumer(config)) {
            var from = new TopicPartition(topic, partition);
            consumer.assign(List.of(from));
            consumer.seek(from, offset);
            var got = new ArrayList<ConsumerRecord<byte[], byte[]>>();
            poll(consumer, count, got);
            return got.subList(0, count);
        }
    }

    static void poll(KafkaConsumer<byte[], byte[]> consumer, int count, List<ConsumerRecord<byte[], byte[]>> into) {
        long deadline = System.nanoTime() + Duration.ofSeconds(30).toNanos();
        while (into.size() < count) {
            if (System.nanoTime() > deadline) throw new AssertionError("only " + into.size() + " of " + count + " records came");
            consumer.poll(Duration.ofSeconds(1)).forEach(into::add);
        }
        records += count;
    }

    static List<String> values(List<ConsumerRecord<byte[], byte[]>> got) {
        return got.stream().map(record -> text(record.value())).toList();
    }

    static long offset(String topic, OffsetSpec spec) throws Exception {
        var partition = new TopicPartition(topic, 0);
        return admin.listOffsets(Map.of(partition, spec)).partitionResult(partition).get().offset();
    }

    /** Fails unless the action is refused with exactly this exception. */
    static void refused(Class<? extends Exception> expected, Case action, String what) {
        Throwable error = null;
        try {
            action.run();
        } catch (Exception thrown) {
            error = thrown instanceof ExecutionException ? thrown.getCause() : thrown;
        }
        if (error == null || error.getClass() != expected) throw new AssertionError(what + ": expected " + expected.getName() + ", got " + error, error);
    }

    // The cases.

    static void topicsAreCreatedDescribedAndDeleted() throws Exception {
        String name = "t-" + UUID.randomUUID();
        var created = admin.createTopics(List.of(new NewTopic(name, 3, (short) 1).configs(Map.of("retention.ms", "123456"))));
        equal(created.numPartitions(name).get(), 3, "partitions told at creation");
        equal(created.config(name).get().get("retention.ms").value(), "123456", "config told at creation");
        Uuid id = created.topicId(name).get();
        var described = admin.describeTopics(List.of(name)).allTopicNames().get().get(name);
        equal(described.partitions().size(), 3, "partitions");
        equal(described.topicId(), id, "topic id");
        equal(described.partitions().get(2).isr(), described.partitions().get(2).replicas(), "in-sync replicas");
        equal(admin.describeTopics(TopicCollection.ofTopicIds(List.of(id))).allTopicIds().get().get(id).name(), name, "name of the id");
        equal(admin.listTopics().names().get().contains(name), true, "listed");
        admin.deleteTopics(TopicCollection.ofTopicIds(List.of(id))).all().get();
        equal(admin.listTopics().names().get().contains(name), false, "listed after its deletion");
        refused(UnknownTopicIdException.class, () -> admin.describeTopics(TopicCollection.ofTopicIds(List.of(id))).allTopicIds().get(), "deleted id");
    }

    static void eachCodecIsReturnedAsSent() throws Exception {
        String topic = create(1);
        var sent = new ArrayList<String>();
        for (String codec : CODECS) {
            var values = IntStream.range(0, MESSAGES).mapToObj(index -> (codec + " " + index + " ").repeat(index % 40)).toList();
            var offsets = produce(records(topic, 0, values), "compression.type", codec, "linger.ms", 50);
            equal(offsets, IntStream.range(0, MESSAGES).mapToObj(index -> (long) sent.size() + index).toList(), codec + ": offsets told");
            sent.addAll(values);
        }
        equal(values(consume(topic, 0, 0, sent.size())), sent, "values");
        equal(values(consume(topic, 0, 0, sent.size(), "isolation.level", "read_committed")), sent, "values, read committed");
    }

    static void eachAcksIsStored() throws Exception {
        String topic = create(1);
        var sent = new ArrayList<String>();
        for (String acks : List.of("0", "1", "all")) {
            var values = numbered(acks + " ", MESSAGES);
            produce(records(topic, 0, values), "acks", acks, "enable.idempotence", acks.equals("all"));
            // acks=0 is told nothing: wait until the records are there before the next producer writes after them.
            sent.addAll(values);
            equal(values(consume(topic, 0, 0, sent.size())), sent, "values after acks=" + acks);
        }
    }

    static void idempotentProducerKeepsOrder() throws Exception {
        String topic = create(1);
        var sent = numbered("", 40 * MESSAGES);
        var offsets = produce(records(topic, 0, sent), "batch.size", 500, "max.in.flight.requests.per.connection", 5, "linger.ms", 0);
        equal(offsets.get(sent.size() - 1), sent.size() - 1L, "last offset told");
        equal(values(consume(topic, 0, 0, sent.size())), sent, "values");
    }

    static void producersShareAPartition() throws Exception {
        String topic = create(1);
        int writers = 4;
        var failures = Collections.synchronizedList(new ArrayList<Exception>());
        var threads = new ArrayList<Thread>();
        for (int writer = 0; writer < writers; writer++) {
            var sent = records(topic, 0, numbered(writer + " ", 4 * MESSAGES));
            var thread = new Thread(() -> {
                try {
                    produce(sent, "batch.size", 2000, "linger.ms", 0);
                } catch (Exception error) {
                    failures.add(error);
                }
            });
            threads.add(thread);
            thread.start();
        }
        for (var thread : threads) thread.join();
        equal(failures, List.of(), "failures");
        var got = values(consume(topic, 0, 0, writers * 4 * MESSAGES));
        for (int writer = 0; writer < writers; writer++) {
            String prefix = writer + " ";
            equal(got.stream().filter(value -> value.startsWith(prefix)).toList(), numbered(prefix, 4 * MESSAGES), "values of one producer");
        }
    }

    static void batchesTooLargeAreSplitAndStoredInOrder() throws Exception {
        String topic = create(1, "max.message.bytes", "5000");
        var sent = numbered("y".repeat(100), 4 * MESSAGES);
        produce(records(topic, 0, sent), "batch.size", 20000, "linger.ms", 200);
        equal(values(consume(topic, 0, 0, sent.size())), sent, "values");
        equal(offset(topic, OffsetSpec.latest()), (long) sent.size(), "end offset");
    }

    static void keysHeadersNullsAndTimestampsComeBack() throws Exception {
        String topic = create(1);
        var all = new byte[256];
        for (int index = 0; index < all.length; index++) all[index] = (byte) index;
        var sent = List.of(
                new ProducerRecord<>(topic, 0, START, bytes("k"), bytes("v")),
                new ProducerRecord<byte[], byte[]>(topic, 0, START + 1, null, bytes("no key")),
                new ProducerRecord<byte[], byte[]>(topic, 0, START + 2, bytes("no value"), null),
                new ProducerRecord<>(topic, 0, START + 3, new byte[0], new byte[0]),
                new ProducerRecord<>(topic, 0, START - 100_000_000L, bytes("schlüssel"), all),
                new ProducerRecord<>(topic, 0, 0L, bytes("the epoch"), bytes("")));
        sent.get(0).headers().add("a", bytes("1")).add("a", bytes("2")).add("empty", bytes("")).add("null", null).add("", bytes("no name"));
        produce(sent);
        var got = consume(topic, 0, 0, sent.size());
        for (int index = 0; index < sent.size(); index++) {
            var expected = sent.get(index);
            var record = got.get(index);
            equal(record.key(), expected.key(), "key");
            equal(record.value(), expected.value(), "value");
            equal(record.timestamp(), expected.timestamp(), "timestamp");
            equal(record.timestampType(), TimestampType.CREATE_TIME, "timestamp type");
            equal(record.headers().toArray(), expected.headers().toArray(), "headers");
            equal(record.leaderEpoch().isPresent(), true, "leader epoch is told");
        }
    }

    static void appendTimeReplacesTheProducers() throws Exception {
        String topic = create(1, "message.timestamp.type", "LogAppendTime");
        try (var producer = producer()) {
            long told = producer.send(new ProducerRecord<>(topic, 0, 1000L, bytes("k"), bytes("v"))).get().timestamp();
            var record = consume(topic, 0, 0, 1).get(0);
            equal(record.timestampType(), TimestampType.LOG_APPEND_TIME, "timestamp type");
            equal(record.timestamp(), told, "append time read is the one told");
            equal(told > START, true, "append time " + told + " is the broker's");
        }
    }

    static void offsetsAreFoundByTime() throws Exception {
        String topic = create(1);
        var partition = new TopicPartition(topic, 0);
        for (String codec : CODECS.subList(0, 2)) {
            long start = START + (codec.equals("none") ? 0 : 10 * MESSAGES);
            var sent = IntStream.range(0, MESSAGES).mapToObj(index -> new ProducerRecord<byte[], byte[]>(topic, 0, start + 10 * index, null, bytes("" + index)));
            produce(sent.toList(), "batch.size", 1000, "compression.type", codec);
        }
        var offsets = new TreeMap<Long, Long>(Map.of(0L, 0L, START, 0L, START + 1, 1L, START + 2500, 250L, START + 2501, 251L, START + 7501, 751L));
        try (var consumer = consumer()) {
            for (var expected : offsets.entrySet()) {
                var found = consumer.offsetsForTimes(Map.of(partition, expected.getKey())).get(partition);
                equal(found.offset(), expected.getValue(), "offset for time " + expected.getKey());
                equal(found.timestamp(), START + 10 * expected.getValue(), "time of the record found");
            }
            equal(consumer.offsetsForTimes(Map.of(partition, START + 20 * MESSAGES)).get(partition), null, "offset after the last time");
        }
        equal(values(consume(topic, 0, 251, 1)), List.of("251"), "value at the offset found");
    }

    static void offsetSpecsAreAnswered() throws Exception {
        String topic = create(1);
        for (var spec : List.of(OffsetSpec.earliest(), OffsetSpec.latest(), OffsetSpec.earliestLocal())) equal(offset(topic, spec), 0L, "of an empty topic");
        equal(offset(topic, OffsetSpec.maxTimestamp()), -1L, "maximal time of an empty topic");
        long[] times = {5, 70, 30, 90, 10, 90, 20};
        for (String codec : List.of("none", "zstd")) {
            var sent = Arrays.stream(times).mapToObj(time -> new ProducerRecord<byte[], byte[]>(topic, 0, START + time, null, bytes("" + time))).toList();
            produce(sent, "compression.type", codec);
            equal(offset(topic, OffsetSpec.maxTimestamp()), 3L, "first offset of the maximal time");
        }
        produce(List.of(new ProducerRecord<>(topic, 0, START + 91, null, bytes("later"))));
        equal(offset(topic, OffsetSpec.maxTimestamp()), 14L, "offset of a new maximal time");
        equal(offset(topic, OffsetSpec.earliest()), 0L, "earliest");
        equal(offset(topic, OffsetSpec.earliestLocal()), 0L, "earliest local");
        equal(offset(topic, OffsetSpec.latest()), 15L, "latest");
        equal(offset(topic, OffsetSpec.latestTiered()), -1L, "latest tiered");
        try (var consumer = consumer("auto.offset.reset", "latest")) {
            var partition = new TopicPartition(topic, 0);
            consumer.assign(List.of(partition));
            consumer.seekToEnd(List.of(partition));
            equal(consumer.position(partition), 15L, "position at the end");
            consumer.seekToBeginning(List.of(partition));
            equal(consumer.position(partition), 0L, "position at the beginning");
        }
    }

    static void offsetsInsideABatchStartThere() throws Exception {
        String topic = create(1);
        produce(records(topic, 0, numbered("", 100)), "linger.ms", 500, "compression.type", "lz4");
        for (int offset : List.of(1, 50, 99)) {
            var got = consume(topic, 0, offset, 100 - offset);
            equal(values(got), numbered("", 100).subList(offset, 100), "values from " + offset);
            equal(got.get(0).offset(), (long) offset, "offset");
        }
    }

    static void oneBatchComesEvenOverTheFetchLimit() throws Exception {
        String topic = create(1);
        var sent = List.of("a".repeat(900_000), "b".repeat(900_000), "c");
        produce(records(topic, 0, sent), "linger.ms", 0, "batch.size", 0, "max.request.size", 2_000_000);
        equal(values(consume(topic, 0, 0, 3, "max.partition.fetch.bytes", 1000, "fetch.max.bytes", 1000)), sent, "values");
    }

    static void manyPartitionsAreFetchedInOneSession() throws Exception {
        int partitions = 40;
        String topic = create(partitions);
        var all = IntStream.range(0, partitions).mapToObj(partition -> new TopicPartition(topic, partition)).toList();
        var sent = new ArrayList<ProducerRecord<byte[], byte[]>>();
        for (int index = 0; index < MESSAGES; index++) sent.addAll(records(topic, index % partitions, List.of("" + index)));
        produce(sent);
        try (var consumer = consumer()) {
            var got = new ArrayList<ConsumerRecord<byte[], byte[]>>();
            consumer.assign(all);
            consumer.seekToBeginning(all);
            poll(consumer, MESSAGES, got);
            // A second half of the session: partitions leave it, others get records, and all of them come back.
            consumer.pause(all.subList(0, 20));
            produce(sent);
            poll(consumer, MESSAGES + MESSAGES / 2 - 10, got);
            consumer.resume(all.subList(0, 20));
            poll(consumer, 2 * MESSAGES, got);
            for (var partition : all) {
                var expected = sent.stream().filter(one -> one.partition() == partition.partition()).map(one -> text(one.value())).toList();
                var twice = new ArrayList<>(expected);
                twice.addAll(expected);
                equal(values(got.stream().filter(one -> one.partition() == partition.partition()).toList()), twice, "values of " + partition);
            }
        }
    }

    static void partitionsCanBeAdded() throws Exception {
        String topic = create(2);
        admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(4))).all().get();
        for (int partition = 0; partition < 4; partition++) {
            var sent = numbered(partition + "-", 50);
            produce(records(topic, partition, sent));
            equal(values(consume(topic, partition, 0, 50)), sent, "values of partition " + partition);
        }
        var fewer = Map.of(topic, NewPartitions.increaseTo(3));
        refused(InvalidPartitionsException.class, () -> admin.createPartitions(fewer).all().get(), "fewer partitions");
    }

    static void configsAreDescribed() throws Exception {
        var topic = new ConfigResource(ConfigResource.Type.TOPIC, create(1, "retention.ms", "123456", "max.message.bytes", "5000"));
        var node = new ConfigResource(ConfigResource.Type.BROKER, admin.describeCluster().controller().get().idString());
        var options = new DescribeConfigsOptions().includeSynonyms(true).includeDocumentation(true);
        var described = admin.describeConfigs(List.of(topic, node), options).all().get();
        var retention = described.get(topic).get("retention.ms");
        equal(retention.value(), "123456", "retention.ms");
        equal(retention.source(), ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG, "retention.ms: source");
        equal(retention.type(), ConfigEntry.ConfigType.LONG, "retention.ms: type");
        equal(retention.documentation().isEmpty(), false, "retention.ms: documentation is empty");
        equal(described.get(topic).get("max.message.bytes").value(), "5000", "max.message.bytes");
        equal(described.get(topic).get("cleanup.policy").isDefault(), true, "cleanup.policy is a default");
        equal(described.get(node).get("auto.create.topics.enable").value(), "false", "auto.create.topics.enable");
        var missing = new ConfigResource(ConfigResource.Type.TOPIC, "missing-" + UUID.randomUUID());
        refused(UnknownTopicOrPartitionException.class, () -> admin.describeConfigs(List.of(missing)).all().get(), "configs of no topic");
    }

    static void theClusterIsDescribed() throws Exception {
        var cluster = admin.describeCluster();
        equal(cluster.nodes().get().stream().map(node -> node.host() + ":" + node.port()).toList(), List.of(bootstrap), "nodes");
        equal(cluster.controller().get(), cluster.nodes().get().iterator().next(), "controller");
        equal(cluster.clusterId().get().length(), 22, "length of the cluster id");
        admin.describeFeatures().featureMetadata().get();
    }

    static void tooLargeIsRefused() throws Exception {
        String topic = create(1);
        var large = records(topic, 0, List.of("x".repeat(1_500_000)));
        refused(RecordTooLargeException.class, () -> produce(large, "max.request.size", 3_000_000), "1.5 MB");
        String small = create(1, "max.message.bytes", "1000");
        refused(RecordTooLargeException.class, () -> produce(records(small, 0, List.of("x".repeat(2000)))), "over the topic's own limit");
        equal(offset(small, OffsetSpec.latest()), 0L, "end offset");
    }

    static void timestampsFarAheadAreRefused() throws Exception {
        String topic = create(1, "message.timestamp.after.max.ms", "1000");
        var ahead = new ProducerRecord<>(topic, 0, System.currentTimeMillis() + 3_600_000, bytes("k"), bytes("v"));
        refused(InvalidTimestampException.class, () -> produce(List.of(ahead)), "an hour ahead");
    }

    static void unknownTopicsAndPartitionsAreRefused() throws Exception {
        String missing = "missing-" + UUID.randomUUID();
        refused(UnknownTopicOrPartitionException.class, () -> admin.describeTopics(List.of(missing)).allTopicNames().get(), "describe");
        refused(UnknownTopicOrPartitionException.class, () -> admin.deleteTopics(List.of(missing)).all().get(), "delete");
        var more = Map.of(missing, NewPartitions.increaseTo(4));
        refused(UnknownTopicOrPartitionException.class, () -> admin.createPartitions(more).all().get(), "create partitions");
        // The client asks for the metadata again until its own patience ends.
        var patience = new Object[] {"max.block.ms", 500};
        refused(org.apache.kafka.common.errors.TimeoutException.class, () -> produce(records(missing, 0, List.of("x")), patience), "produce");
        equal(admin.listTopics().names().get().contains(missing), false, "the topic was created");
        String topic = create(1);
        refused(org.apache.kafka.common.errors.TimeoutException.class, () -> produce(records(topic, 9, List.of("x")), patience), "partition 9");
    }

    static void invalidTopicsAreRefused() throws Exception {
        for (String name : List.of("bad/name", "..", "x".repeat(250), "a b", "")) {
            var invalid = List.of(new NewTopic(name, 1, (short) 1));
            refused(InvalidTopicException.class, () -> admin.createTopics(invalid).all().get(), "create " + name);
        }
        refused(InvalidTopicException.class, () -> produce(records("bad/name", 0, List.of("x"))), "produce");
        try (var consumer = consumer()) {
            refused(InvalidTopicException.class, () -> consumer.partitionsFor("a b"), "partitions");
        }
        String topic = create(1);
        String free = "t-" + UUID.randomUUID();
        var unknown = new NewTopic(free, 1, (short) 1).configs(Map.of("no.such.setting", "1"));
        var soon = new NewTopic(free, 1, (short) 1).configs(Map.of("retention.ms", "soon"));
        var nowhere = new NewTopic(free, Map.of(0, List.of(77)));
        refused(TopicExistsException.class, () -> admin.createTopics(List.of(new NewTopic(topic, 1, (short) 1))).all().get(), "exists");
        refused(InvalidPartitionsException.class, () -> admin.createTopics(List.of(new NewTopic(free, 0, (short) 1))).all().get(), "0 partitions");
        refused(InvalidReplicationFactorException.class, () -> admin.createTopics(List.of(new NewTopic(free, 1, (short) 3))).all().get(), "3 replicas");
        refused(InvalidReplicationFactorException.class, () -> admin.createTopics(List.of(new NewTopic(free, 1, (short) 0))).all().get(), "0 replicas");
        refused(InvalidConfigurationException.class, () -> admin.createTopics(List.of(unknown)).all().get(), "an unknown setting");
        refused(InvalidConfigurationException.class, () -> admin.createTopics(List.of(soon)).all().get(), "a setting that is no number");
        refused(InvalidReplicaAssignmentException.class, () -> admin.createTopics(List.of(nowhere)).all().get(), "a replica on no broker");
        var validated = admin.createTopics(List.of(new NewTopic(free, 2, (short) 1)), new CreateTopicsOptions().validateOnly(true));
        equal(validated.numPartitions(free).get(), 2, "partitions of a topic only validated");
        equal(admin.listTopics().names().get().contains(free), false, "a topic was created");
    }

    static void offsetOutOfRangeIsRefused() throws Exception {
        String topic = create(1);
        produce(records(topic, 0, numbered("", 3)));
        refused(org.apache.kafka.clients.consumer.OffsetOutOfRangeException.class, () -> consume(topic, 0, 1000, 1), "offset 1000 of 3");
        equal(values(consume(topic, 0, 1000, 3, "auto.offset.reset", "earliest")), numbered("", 3), "values after the reset");
    }

    static final int SHARED = 6;

    static KafkaConsumer<byte[], byte[]> member(String topic, String group, Object... config) {
        var settings = new ArrayList<Object>(List.of("group.id", group, "enable.auto.commit", false, "auto.offset.reset", "earliest"));
        settings.addAll(List.of("session.timeout.ms", 20000, "heartbeat.interval.ms", 300));
        settings.addAll(List.of(config));
        var consumer = consumer(settings.toArray());
        consumer.subscribe(List.of(topic));
        return consumer;
    }

    /** Polls until the members share all partitions evenly; gives what was read meanwhile. */
    static Set<String> settle(List<KafkaConsumer<byte[], byte[]>> members) {
        var read = new HashSet<String>();
        long deadline = System.nanoTime() + Duration.ofSeconds(50).toNanos();
        while (!members.stream().allMatch(one -> one.assignment().size() == SHARED / members.size())) {
            if (System.nanoTime() > deadline) throw new AssertionError("the members own " + members.stream().map(KafkaConsumer::assignment).toList());
            for (var one : members) one.poll(Duration.ofMillis(50)).forEach(record -> read.add(text(record.value())));
        }
        var owned = new TreeSet<Integer>();
        for (var one : members) one.assignment().forEach(partition -> owned.add(partition.partition()));
        equal(owned.size(), SHARED, "partitions owned");
        return read;
    }

    static Set<String> fill(String topic) throws Exception {
        var sent = new HashSet<String>();
        for (int partition = 0; partition < SHARED; partition++) {
            var values = numbered(partition + ":", 20);
            produce(records(topic, partition, values));
            sent.addAll(values);
        }
        return sent;
    }

    static void membersShareAGroup() throws Exception {
        String topic = create(SHARED), group = "g-" + UUID.randomUUID();
        var sent = fill(topic);
        var members = new ArrayList<>(List.of(member(topic, group), member(topic, group), member(topic, group)));
        var read = settle(members);
        long deadline = System.nanoTime() + Duration.ofSeconds(30).toNanos();
        while (read.size() < sent.size() && System.nanoTime() < deadline) {
            for (var one : members) one.poll(Duration.ofMillis(50)).forEach(record -> read.add(text(record.value())));
        }
        equal(read, sent, "what the members read");
        records += sent.size();
        for (var one : members) one.commitSync();
        members.remove(1).close();
        settle(members);
        members.remove(0).close();
        settle(members);
        var committed = members.get(0).committed(Set.of(new TopicPartition(topic, 0), new TopicPartition(topic, 5)));
        equal(committed.get(new TopicPartition(topic, 5)).offset(), 20L, "the offset committed");
        equal(members.get(0).poll(Duration.ofMillis(300)).count(), 0, "records read twice");
        members.get(0).close();
    }

    static void staticAndCooperativeMembersKeepTheirs() throws Exception {
        String topic = create(SHARED), group = "g-" + UUID.randomUUID();
        Object[] one = {"group.instance.id", "one", "partition.assignment.strategy", CooperativeStickyAssignor.class.getName()};
        Object[] two = {"group.instance.id", "two", "partition.assignment.strategy", CooperativeStickyAssignor.class.getName()};
        var first = member(topic, group, one);
        var second = member(topic, group, two);
        settle(List.of(first, second));
        var before = first.assignment();
        String generation = "" + first.groupMetadata().generationId();
        first.close();
        var again = member(topic, group, one);
        settle(List.of(again, second));
        equal(again.assignment(), before, "partitions of the static member that came back");
        equal("" + again.groupMetadata().generationId(), generation, "the generation");
        var members = List.of(new MemberToRemove("one"), new MemberToRemove("two"));
        again.close();
        second.close();
        admin.removeMembersFromConsumerGroup(group, new RemoveMembersFromConsumerGroupOptions(members)).all().get();
        equal(admin.describeConsumerGroups(List.of(group)).all().get().get(group).members().size(), 0, "members removed");
    }

    static void groupsAreListedDescribedSetAndDeleted() throws Exception {
        String topic = create(SHARED), group = "g-" + UUID.randomUUID();
        var consumer = member(topic, group, "client.id", "described");
        settle(List.of(consumer));
        var described = admin.describeConsumerGroups(List.of(group), new DescribeConsumerGroupsOptions().includeAuthorizedOperations(true)).all().get().get(group);
        equal(described.groupState(), GroupState.STABLE, "the state");
        equal(described.type(), GroupType.CLASSIC, "the type");
        var member = described.members().iterator().next();
        equal(List.of(member.clientId(), member.host(), member.assignment().topicPartitions().size()), List.of("described", "/127.0.0.1", SHARED), "the member");
        equal(admin.listGroups().all().get().stream().anyMatch(one -> one.groupId().equals(group)), true, "listed");
        refused(GroupNotEmptyException.class, () -> admin.deleteConsumerGroups(List.of(group)).all().get(), "deleting a group in use");
        var partition = new TopicPartition(topic, 2);
        refused(GroupSubscribedToTopicException.class, () -> admin.deleteConsumerGroupOffsets(group, Set.of(partition)).all().get(), "deleting an offset in use");
        consumer.close();
        admin.alterConsumerGroupOffsets(group, Map.of(partition, new OffsetAndMetadata(7, Optional.of(3), "note"))).all().get();
        var told = admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get();
        equal(told, Map.of(partition, new OffsetAndMetadata(7, Optional.of(3), "note")), "the offset set");
        admin.deleteConsumerGroupOffsets(group, Set.of(partition)).all().get();
        equal(admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get(), Map.of(), "offsets after their deletion");
        admin.deleteConsumerGroups(List.of(group)).all().get();
        refused(GroupIdNotFoundException.class, () -> admin.describeConsumerGroups(List.of(group)).all().get(), "describing a deleted group");
        refused(GroupIdNotFoundException.class, () -> admin.deleteConsumerGroups(List.of(group)).all().get(), "deleting it again");
    }

    static void transactionsWorkOrAreFatalAtOnce() throws Exception {
        String topic = create(1);
        try (var producer = producer("transactional.id", "x-" + UUID.randomUUID())) {
            if (transactions) {
                producer.initTransactions();
                producer.beginTransaction();
                producer.send(records(topic, 0, List.of("x")).get(0)).get();
                producer.commitTransaction();
            } else {
                refused(TransactionalIdAuthorizationException.class, producer::initTransactions, "a transactional id");
                refused(KafkaException.class, producer::beginTransaction, "a transaction after that");
            }
        }
    }
}

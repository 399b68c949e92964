// Apache Kafka's Java Admin, each of its calls about configs, records, directories, producers, leaders and access rules: cases BOOTSTRAP ringlog|kafka

import java.util.*;
import java.util.concurrent.ExecutionException;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.*;
import org.apache.kafka.common.acl.*;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.*;
import org.apache.kafka.common.resource.*;
import org.apache.kafka.common.serialization.StringSerializer;

public class JavaAdmin {
    static String bootstrap;
    static boolean isKafka;
    static Admin admin;
    static int node;
    static int records;

    interface Case {
        void run() throws Exception;
    }

    interface Asked<T> {
        KafkaFuture<T> ask() throws Exception;
    }

    public static void main(String[] arguments) throws Exception {
        bootstrap = arguments[1];
        isKafka = arguments[2].equals("kafka");
        admin = Admin.create(Map.of("bootstrap.servers", bootstrap, "default.api.timeout.ms", 30000));
        node = admin.describeCluster().nodes().get().iterator().next().id();
        var cases = new LinkedHashMap<String, Case>();
        cases.put("topicConfigsAreSetAppendedAndReset", JavaAdmin::topicConfigsAreSetAppendedAndReset);
        cases.put("brokerConfigsGiveTopicsTheirDefaults", JavaAdmin::brokerConfigsGiveTopicsTheirDefaults);
        cases.put("configsThatAreWrongAreRefused", JavaAdmin::configsThatAreWrongAreRefused);
        cases.put("theCatalogueIsComplete", JavaAdmin::theCatalogueIsComplete);
        cases.put("whatHasConfigsIsListed", JavaAdmin::whatHasConfigsIsListed);
        cases.put("recordsAreDeleted", JavaAdmin::recordsAreDeleted);
        cases.put("aKeylessRecordIsRefusedByItself", JavaAdmin::aKeylessRecordIsRefusedByItself);
        cases.put("directoriesAreDescribed", JavaAdmin::directoriesAreDescribed);
        cases.put("producersAreDescribed", JavaAdmin::producersAreDescribed);
        cases.put("manyPartitionsAreDescribedInParts", JavaAdmin::manyPartitionsAreDescribedInParts);
        cases.put("leadersNeedNoElection", JavaAdmin::leadersNeedNoElection);
        cases.put("partitionsStayWhereTheyAre", JavaAdmin::partitionsStayWhereTheyAre);
        cases.put("thereAreNoAccessRules", JavaAdmin::thereAreNoAccessRules);

        int failed = 0;
        for (var one : cases.entrySet()) {
            long started = System.nanoTime();
            try {
                one.getValue().run();
                System.out.printf("ok java-admin/%s (%.1f s)%n", one.getKey(), (System.nanoTime() - started) / 1e9);
            } catch (Exception | AssertionError error) {
                failed++;
                System.out.printf("FAILED java-admin/%s%n", one.getKey());
                error.printStackTrace(System.out);
            }
        }
        admin.close();
        System.out.printf("clients/java-admin: cases=%d records=%d%n", cases.size() - failed, records);
        System.exit(failed == 0 ? 0 : 1);
    }

    // What the cases are made of.

    static String create(int partitions, String... configs) throws Exception {
        var name = "a-" + UUID.randomUUID();
        var given = new HashMap<String, String>();
        for (int at = 0; at < configs.length; at += 2) {
            given.put(configs[at], configs[at + 1]);
        }
        admin.createTopics(List.of(new NewTopic(name, partitions, (short) 1).configs(given))).all().get();
        return name;
    }

    static void produce(String topic, int partition, int count) throws Exception {
        try (var producer = producer()) {
            for (int index = 0; index < count; index++) {
                producer.send(new ProducerRecord<>(topic, partition, "k", "v" + index));
            }
        }
    }

    static KafkaProducer<String, String> producer() {
        Map<String, Object> settings = Map.of("bootstrap.servers", bootstrap, "linger.ms", 20);
        return new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer());
    }

    static final ConfigResource.Type TOPIC = ConfigResource.Type.TOPIC;
    static final ConfigResource.Type BROKER = ConfigResource.Type.BROKER;

    static AlterConfigOp op(AlterConfigOp.OpType type, String name, String value) {
        return new AlterConfigOp(new ConfigEntry(name, value), type);
    }

    static AlterConfigOp set(String name, String value) {
        return op(AlterConfigOp.OpType.SET, name, value);
    }

    static AlterConfigOp reset(String name) {
        return op(AlterConfigOp.OpType.DELETE, name, "");
    }

    static KafkaFuture<Void> alter(ConfigResource.Type type, String name, AlterConfigOp... operations) {
        return admin.incrementalAlterConfigs(Map.of(new ConfigResource(type, name), List.of(operations))).all();
    }

    static Config configs(ConfigResource.Type type, String name) throws Exception {
        var resource = new ConfigResource(type, name);
        var options = new DescribeConfigsOptions().includeSynonyms(true).includeDocumentation(true);
        return admin.describeConfigs(List.of(resource), options).all().get().get(resource);
    }

    static String value(ConfigResource.Type type, String name, String key) throws Exception {
        var entry = configs(type, name).get(key);
        return entry.value() + " " + entry.source();
    }

    static void equal(Object actual, Object expected, String what) {
        records++;
        if (!Objects.equals(actual, expected)) {
            throw new AssertionError(what + ": expected " + expected + ", got " + actual);
        }
    }

    static <T> void refused(Class<? extends Exception> expected, Asked<T> asked, String what) throws Exception {
        try {
            asked.ask().get();
        } catch (ExecutionException error) {
            equal(error.getCause().getClass().getSimpleName(), expected.getSimpleName(), what + " (" + error.getCause().getMessage() + ")");
            return;
        }
        throw new AssertionError(what + ": not refused");
    }

    // The cases.

    static void topicConfigsAreSetAppendedAndReset() throws Exception {
        var topic = create(1, "retention.ms", "5000");
        alter(TOPIC, topic, set("retention.ms", "6000"), set("flush.ms", "7")).get();
        equal(value(TOPIC, topic, "retention.ms"), "6000 DYNAMIC_TOPIC_CONFIG", "what was set");
        equal(value(TOPIC, topic, "flush.ms"), "7 DYNAMIC_TOPIC_CONFIG", "what was set with it");
        alter(TOPIC, topic, op(AlterConfigOp.OpType.APPEND, "cleanup.policy", "compact")).get();
        equal(new TreeSet<>(List.of(configs(TOPIC, topic).get("cleanup.policy").value().split(","))).contains("compact"), true, "appended");
        alter(TOPIC, topic, op(AlterConfigOp.OpType.SUBTRACT, "cleanup.policy", "delete")).get();
        equal(value(TOPIC, topic, "cleanup.policy"), "compact DYNAMIC_TOPIC_CONFIG", "taken out");
        alter(TOPIC, topic, reset("cleanup.policy"), reset("retention.ms")).get();
        equal(value(TOPIC, topic, "cleanup.policy"), "delete DEFAULT_CONFIG", "reset");
        equal(value(TOPIC, topic, "retention.ms"), "604800000 DEFAULT_CONFIG", "reset");
        var only = Map.of(new ConfigResource(TOPIC, topic), (Collection<AlterConfigOp>) List.of(set("retention.ms", "1")));
        admin.incrementalAlterConfigs(only, new AlterConfigsOptions().validateOnly(true)).all().get();
        equal(value(TOPIC, topic, "retention.ms"), "604800000 DEFAULT_CONFIG", "only validated");
    }

    static void brokerConfigsGiveTopicsTheirDefaults() throws Exception {
        var topic = create(1);
        alter(BROKER, "", set("log.retention.bytes", "1000")).get();
        awaitValue(topic, "retention.bytes", "1000 DYNAMIC_DEFAULT_BROKER_CONFIG");
        alter(BROKER, "" + node, set("log.retention.bytes", "2000")).get();
        awaitValue(topic, "retention.bytes", "2000 DYNAMIC_BROKER_CONFIG");
        var places = configs(TOPIC, topic).get("retention.bytes").synonyms().stream().map(one -> one.value() + " " + one.source()).toList();
        equal(places, List.of("2000 DYNAMIC_BROKER_CONFIG", "1000 DYNAMIC_DEFAULT_BROKER_CONFIG", "-1 DEFAULT_CONFIG"), "all places of the value");
        equal(configs(BROKER, "" + node).get("log.retention.bytes").isReadOnly(), false, "it can be changed");
        equal(configs(BROKER, "" + node).get("num.partitions").isReadOnly(), true, "what cannot");
        alter(BROKER, "" + node, reset("log.retention.bytes")).get();
        alter(BROKER, "", reset("log.retention.bytes")).get();
        awaitValue(topic, "retention.bytes", "-1 DEFAULT_CONFIG");
        // It has no effect on ringlog, and is kept as Kafka keeps it.
        alter(BROKER, "" + node, set("num.replica.fetchers", "2")).get();
        alter(BROKER, "" + node, reset("num.replica.fetchers")).get();
    }

    // Kafka's brokers learn of a change after it is answered.
    static void awaitValue(String topic, String key, String expected) throws Exception {
        for (int tries = 0; isKafka && tries < 200 && !value(TOPIC, topic, key).equals(expected); tries++) {
            Thread.onSpinWait();
        }
        equal(value(TOPIC, topic, key), expected, key);
    }

    static void configsThatAreWrongAreRefused() throws Exception {
        var topic = create(1);
        for (var wrong : List.of(set("retention.ms", "soon"), set("retention.ms", "-2"), set("no.such", "1"), set("cleanup.policy", "keep"), set("segment.bytes", "1"), set("remote.storage.enable", "true"), op(AlterConfigOp.OpType.APPEND, "retention.ms", "1"), op(AlterConfigOp.OpType.APPEND, "no.such", "1"))) {
            refused(InvalidConfigurationException.class, () -> alter(TOPIC, topic, wrong), wrong.toString());
        }
        refused(InvalidConfigurationException.class, () -> alter(TOPIC, topic, set("min.compaction.lag.ms", "9"), set("max.compaction.lag.ms", "8")), "lags");
        refused(InvalidRequestException.class, () -> alter(TOPIC, topic, set("flush.ms", "1"), set("flush.ms", "2")), "twice");
        refused(UnknownTopicOrPartitionException.class, () -> alter(TOPIC, "no-such", set("flush.ms", "1")), "unknown topic");
        refused(InvalidTopicException.class, () -> alter(TOPIC, "a b", set("flush.ms", "1")), "bad topic");
        refused(InvalidRequestException.class, () -> alter(TOPIC, "", set("flush.ms", "1")), "no topic");
        for (var fixed : List.of("num.partitions", "broker.id", "log.retention.hours")) {
            refused(InvalidRequestException.class, () -> alter(BROKER, "" + node, set(fixed, "5")), fixed);
        }
        refused(InvalidRequestException.class, () -> alter(BROKER, "" + node, set("log.retention.ms", "soon")), "a value");
        refused(InvalidRequestException.class, () -> alter(BROKER, "", set("listeners", "PLAINTEXT://:1")), "listeners of all");
        refused(InvalidConfigurationException.class, () -> alter(BROKER, "" + node, op(AlterConfigOp.OpType.APPEND, "log.retention.ms", "1")), "no list");
        refused(InvalidConfigurationException.class, () -> alter(ConfigResource.Type.BROKER_LOGGER, "" + node, set("no.such.logger", "INFO")), "logger");
        equal(value(TOPIC, topic, "flush.ms"), "9223372036854775807 DEFAULT_CONFIG", "nothing has changed");
    }

    static void theCatalogueIsComplete() throws Exception {
        var topic = create(1);
        var told = new TreeMap<String, String>();
        for (var entry : configs(TOPIC, topic).entries()) {
            told.put(entry.name(), entry.type() + " " + entry.value());
            equal(entry.documentation() != null && !entry.documentation().isEmpty(), true, entry.name() + " is documented");
            equal(entry.isReadOnly() || entry.isSensitive(), false, entry.name() + " can be changed and read");
        }
        // Kafka's own table of topic configs, from the jar this client comes with.
        var log = new org.apache.kafka.storage.internals.log.LogConfig(Map.of());
        for (var name : org.apache.kafka.storage.internals.log.LogConfig.nonInternalConfigNames()) {
            var type = org.apache.kafka.storage.internals.log.LogConfig.configType(name).get();
            var value = org.apache.kafka.common.config.ConfigDef.convertToString(log.values().get(name), type);
            equal(told.remove(name), type + " " + value, name);
        }
        equal(told.keySet(), isKafka ? Set.of() : Set.of("durability"), "what Kafka does not have");
        equal(configs(BROKER, "" + node).entries().size() > 60, true, "configs of the broker");
    }

    static void whatHasConfigsIsListed() throws Exception {
        var topic = create(1);
        var all = admin.listConfigResources().all().get();
        for (var one : List.of(new ConfigResource(TOPIC, topic), new ConfigResource(BROKER, "" + node), new ConfigResource(ConfigResource.Type.BROKER_LOGGER, "" + node))) {
            equal(all.contains(one), true, one + " is listed");
        }
        var brokers = admin.listConfigResources(Set.of(BROKER), new ListConfigResourcesOptions()).all().get();
        equal(List.copyOf(brokers), List.of(new ConfigResource(BROKER, "" + node)), "brokers");
    }

    static KafkaFuture<DeletedRecords> delete(String topic, long before) {
        var partition = new TopicPartition(topic, 0);
        return admin.deleteRecords(Map.of(partition, RecordsToDelete.beforeOffset(before))).lowWatermarks().get(partition);
    }

    static void recordsAreDeleted() throws Exception {
        var topic = create(1);
        produce(topic, 0, 10);
        equal(delete(topic, 3).get().lowWatermark(), 3L, "before an offset");
        equal(delete(topic, 2).get().lowWatermark(), 3L, "before one that is gone");
        refused(OffsetOutOfRangeException.class, () -> delete(topic, 11), "past the end");
        refused(OffsetOutOfRangeException.class, () -> delete(topic, -2), "a negative offset");
        var partition = new TopicPartition(topic, 0);
        var first = admin.listOffsets(Map.of(partition, OffsetSpec.earliest())).partitionResult(partition).get();
        equal(first.offset(), 3L, "the first offset");
        equal(delete(topic, -1).get().lowWatermark(), 10L, "before the high watermark");
        produce(topic, 0, 1);
        equal(delete(topic, -1).get().lowWatermark(), 11L, "records go on behind it");
        var both = create(1, "cleanup.policy", "compact,delete");
        produce(both, 0, 10);
        equal(delete(both, 3).get().lowWatermark(), 3L, "compacted and deleted");
        var compacted = create(1, "cleanup.policy", "compact");
        produce(compacted, 0, 10);
        refused(PolicyViolationException.class, () -> delete(compacted, 3), "compacted only");
    }

    static void aKeylessRecordIsRefusedByItself() throws Exception {
        var topic = create(1, "cleanup.policy", "compact");
        try (var producer = producer()) {
            var good = producer.send(new ProducerRecord<>(topic, 0, "k", "v"));
            var keyless = producer.send(new ProducerRecord<String, String>(topic, 0, null, "v"));
            var other = producer.send(new ProducerRecord<>(topic, 0, "k2", "v"));
            producer.flush();
            try {
                keyless.get();
                throw new AssertionError("a record without a key was taken");
            } catch (ExecutionException error) {
                equal(error.getCause().getClass(), InvalidRecordException.class, "the record without a key");
                equal(error.getCause().getMessage().contains("without key"), true, error.getCause().getMessage());
            }
            // The others were in its batch: the producer learns that nothing was wrong with them.
            for (var sent : List.of(good, other)) {
                try {
                    sent.get();
                } catch (ExecutionException error) {
                    equal(error.getCause().getMessage().contains("part of a batch"), true, error.getCause().getMessage());
                }
            }
        }
    }

    static void directoriesAreDescribed() throws Exception {
        var topic = create(2);
        produce(topic, 1, 100);
        var all = admin.describeLogDirs(List.of(node)).allDescriptions().get().get(node);
        equal(all.size(), 1, "directories");
        var directory = all.values().iterator().next();
        equal(directory.error(), null, "error");
        equal(directory.totalBytes().getAsLong() > 0 && directory.usableBytes().getAsLong() <= directory.totalBytes().getAsLong(), true, "size of its file system");
        var full = directory.replicaInfos().get(new TopicPartition(topic, 1));
        var empty = directory.replicaInfos().get(new TopicPartition(topic, 0));
        equal(full.size() > 500 && full.size() < 100_000, true, "size " + full.size());
        equal(List.of(empty.size(), full.offsetLag(), empty.offsetLag()), List.of(0L, 0L, 0L), "empty, and no lag");
        var replica = new TopicPartitionReplica(topic, 1, node);
        var one = admin.describeReplicaLogDirs(List.of(replica)).all().get().get(replica);
        equal(one.getCurrentReplicaLogDir(), all.keySet().iterator().next(), "where a replica lies");
    }

    static void producersAreDescribed() throws Exception {
        var topic = create(2);
        produce(topic, 1, 10);
        var partitions = List.of(new TopicPartition(topic, 0), new TopicPartition(topic, 1));
        var told = admin.describeProducers(partitions).all().get();
        equal(told.get(partitions.get(0)).activeProducers().size(), 0, "nobody wrote there");
        var producers = told.get(partitions.get(1)).activeProducers();
        equal(producers.size(), 1, "one producer");
        var producer = producers.get(0);
        equal(List.of(producer.producerEpoch(), producer.lastSequence()), List.of(0, 9), "epoch and last sequence");
        equal(producer.currentTransactionStartOffset().isPresent() || producer.coordinatorEpoch().isPresent(), false, "no transaction");
        equal(System.currentTimeMillis() - producer.lastTimestamp() < 600_000, true, "time of its last batch");
    }

    static void manyPartitionsAreDescribedInParts() throws Exception {
        var topic = create(70);
        var options = new DescribeTopicsOptions().partitionSizeLimitPerResponse(16);
        var told = admin.describeTopics(List.of(topic), options).allTopicNames().get().get(topic);
        equal(told.partitions().stream().map(TopicPartitionInfo::partition).toList(), java.util.stream.IntStream.range(0, 70).boxed().toList(), "partitions");
        for (var partition : told.partitions()) {
            equal(List.of(partition.leader().id(), partition.replicas().size(), partition.isr().size()), List.of(node, 1, 1), "partition " + partition.partition());
        }
        refused(UnknownTopicOrPartitionException.class, () -> admin.describeTopics(List.of("no-such")).allTopicNames(), "unknown topic");
        refused(InvalidTopicException.class, () -> admin.describeTopics(List.of("a b")).allTopicNames(), "bad topic");
    }

    static void leadersNeedNoElection() throws Exception {
        var topic = create(1);
        var asked = Set.of(new TopicPartition(topic, 0), new TopicPartition(topic, 7), new TopicPartition("no-such", 0));
        for (var type : ElectionType.values()) {
            var told = admin.electLeaders(type, asked).partitions().get();
            equal(told.get(new TopicPartition(topic, 0)).get().getClass(), ElectionNotNeededException.class, "there is a leader");
            equal(told.get(new TopicPartition(topic, 7)).get().getClass(), UnknownTopicOrPartitionException.class, "unknown partition");
            equal(told.get(new TopicPartition("no-such", 0)).get().getClass(), UnknownTopicOrPartitionException.class, "unknown topic");
            equal(admin.electLeaders(type, null).partitions().get(), Map.of(), "all");
        }
    }

    static KafkaFuture<Void> reassign(String topic, int partition, Integer... replicas) {
        var wanted = Optional.of(new NewPartitionReassignment(List.of(replicas)));
        return admin.alterPartitionReassignments(Map.of(new TopicPartition(topic, partition), wanted)).all();
    }

    static void partitionsStayWhereTheyAre() throws Exception {
        var topic = create(1);
        reassign(topic, 0, node).get();
        refused(InvalidReplicaAssignmentException.class, () -> reassign(topic, 0, 77), "another broker");
        refused(InvalidReplicaAssignmentException.class, () -> reassign(topic, 0, node, 77), "two brokers");
        refused(InvalidReplicaAssignmentException.class, () -> reassign(topic, 0, node, node), "one broker twice");
        refused(UnknownTopicOrPartitionException.class, () -> reassign(topic, 7, node), "unknown partition");
        refused(UnknownTopicOrPartitionException.class, () -> reassign("no-such", 0, node), "unknown topic");
        var none = Optional.<NewPartitionReassignment>empty();
        refused(NoReassignmentInProgressException.class, () -> admin.alterPartitionReassignments(Map.of(new TopicPartition(topic, 0), none)).all(), "nothing to stop");
        equal(admin.listPartitionReassignments().reassignments().get(), Map.of(), "all");
        equal(admin.listPartitionReassignments(Set.of(new TopicPartition(topic, 0))).reassignments().get(), Map.of(), "one");
    }

    static void thereAreNoAccessRules() throws Exception {
        var rule = new AclBinding(new ResourcePattern(ResourceType.TOPIC, "t", PatternType.LITERAL), new AccessControlEntry("User:a", "*", AclOperation.READ, AclPermissionType.ALLOW));
        refused(SecurityDisabledException.class, () -> admin.describeAcls(AclBindingFilter.ANY).values(), "describe");
        refused(SecurityDisabledException.class, () -> admin.createAcls(List.of(rule)).all(), "create");
        refused(SecurityDisabledException.class, () -> admin.deleteAcls(List.of(AclBindingFilter.ANY)).all(), "delete");
    }
}

// Apache Kafka's Java share consumer (KIP-932), and what its Admin says of share groups and SCRAM credentials: cases BOOTSTRAP ringlog|kafka

import java.time.Duration;
import java.util.*;
import java.util.concurrent.ExecutionException;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.*;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.*;
import org.apache.kafka.common.serialization.*;

public class JavaShare {
    static String bootstrap;
    static Admin admin;
    static int records;

    interface Case {
        void run() throws Exception;
    }

    public static void main(String[] arguments) throws Exception {
        bootstrap = arguments[1];
        admin = Admin.create(Map.of("bootstrap.servers", bootstrap, "default.api.timeout.ms", 30000));
        var cases = new LinkedHashMap<String, Case>();
        cases.put("membersShareAPartition", JavaShare::membersShareAPartition);
        cases.put("whatIsReleasedComesAgainAndWhatIsAcceptedDoesNot", JavaShare::whatIsReleasedComesAgainAndWhatIsAcceptedDoesNot);
        cases.put("offsetsAreToldAndChanged", JavaShare::offsetsAreToldAndChanged);
        cases.put("credentialsAreToldWithoutSecrets", JavaShare::credentialsAreToldWithoutSecrets);
        int failed = 0;
        for (var one : cases.entrySet()) {
            long started = System.nanoTime();
            try {
                one.getValue().run();
                System.out.printf("ok java-share/%s (%.1f s)%n", one.getKey(), (System.nanoTime() - started) / 1e9);
            } catch (Exception | AssertionError error) {
                failed++;
                System.out.printf("FAILED java-share/%s%n", one.getKey());
                error.printStackTrace(System.out);
            }
        }
        admin.close();
        System.out.printf("clients/java-share: cases=%d records=%d%n", cases.size() - failed, records);
        System.exit(failed == 0 ? 0 : 1);
    }

    static void check(boolean holds, Object what) {
        if (!holds) {
            throw new AssertionError(what);
        }
    }

    static String topicWith(int count) throws Exception {
        var topic = "s-" + UUID.randomUUID();
        admin.createTopics(List.of(new NewTopic(topic, 1, (short) 1))).all().get();
        Map<String, Object> settings = Map.of("bootstrap.servers", bootstrap, "batch.size", 100);
        try (var producer = new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer())) {
            for (int index = 0; index < count; index++) {
                producer.send(new ProducerRecord<>(topic, "v" + index));
            }
        }
        return topic;
    }

    static String groupFromTheFirstRecord() throws Exception {
        var group = "g-" + UUID.randomUUID();
        var earliest = new AlterConfigOp(new ConfigEntry("share.auto.offset.reset", "earliest"), AlterConfigOp.OpType.SET);
        admin.incrementalAlterConfigs(Map.of(new ConfigResource(ConfigResource.Type.GROUP, group), List.of(earliest))).all().get();
        return group;
    }

    static KafkaShareConsumer<String, String> consumer(String group, String topic, String mode) {
        Map<String, Object> settings =
            Map.of("bootstrap.servers", bootstrap, "group.id", group, "share.acknowledgement.mode", mode, "max.poll.records", 10);
        var consumer = new KafkaShareConsumer<>(settings, new StringDeserializer(), new StringDeserializer());
        consumer.subscribe(List.of(topic));
        return consumer;
    }

    // Far more than it takes.
    static final long WAIT_NS = 60_000_000_000L;

    static void membersShareAPartition() throws Exception {
        int count = 200;
        var topic = topicWith(count);
        var group = groupFromTheFirstRecord();
        var seen = new TreeSet<String>();
        int[] each = new int[2];
        try (var first = consumer(group, topic, "implicit"); var second = consumer(group, topic, "implicit")) {
            long end = System.nanoTime() + WAIT_NS;
            while (seen.size() < count && System.nanoTime() < end) {
                int at = 0;
                for (var consumer : List.of(first, second)) {
                    for (var record : consumer.poll(Duration.ofMillis(100))) {
                        check(seen.add(record.value()), record.value() + " came twice");
                        each[at]++;
                    }
                    at++;
                }
            }
        }
        check(seen.size() == count, seen.size());
        check(each[0] > 0 && each[1] > 0, Arrays.toString(each));
        records += count;
    }

    static void whatIsReleasedComesAgainAndWhatIsAcceptedDoesNot() throws Exception {
        var topic = topicWith(30);
        var group = groupFromTheFirstRecord();
        var deliveries = new TreeMap<Long, Integer>();
        try (var consumer = consumer(group, topic, "explicit")) {
            long end = System.nanoTime() + WAIT_NS;
            while (deliveries.values().stream().mapToInt(count -> count).sum() < 40 && System.nanoTime() < end) {
                for (var record : consumer.poll(Duration.ofMillis(200))) {
                    int times = deliveries.merge(record.offset(), 1, Integer::sum);
                    check(record.deliveryCount().get() == times, record.offset() + ": " + record.deliveryCount());
                    // Every third is released once, others are accepted or rejected.
                    var said = record.offset() % 3 == 0 && times == 1 ? AcknowledgeType.RELEASE
                        : record.offset() % 3 == 1 ? AcknowledgeType.REJECT : AcknowledgeType.ACCEPT;
                    consumer.acknowledge(record, said);
                }
                consumer.commitSync().values().forEach(error -> check(error.isEmpty(), error));
            }
            check(consumer.poll(Duration.ofMillis(300)).isEmpty(), "more came");
        }
        check(deliveries.size() == 30, deliveries);
        deliveries.forEach((offset, times) -> check(times == (offset % 3 == 0 ? 2 : 1), offset + ": " + times));
        records += 30;
    }

    static void offsetsAreToldAndChanged() throws Exception {
        var topic = topicWith(10);
        var group = groupFromTheFirstRecord();
        var partition = new TopicPartition(topic, 0);
        try (var consumer = consumer(group, topic, "implicit")) {
            int count = 0;
            long end = System.nanoTime() + WAIT_NS;
            while (count < 10 && System.nanoTime() < end) {
                count += consumer.poll(Duration.ofMillis(200)).count();
            }
            var described = admin.describeShareGroups(List.of(group)).all().get().get(group);
            check(described.groupState() == GroupState.STABLE && described.members().size() == 1, described);
            consumer.commitSync();
        }
        check(start(group, partition) == 10, "all are accepted");
        var listed = admin.listGroups(ListGroupsOptions.forShareGroups()).all().get();
        check(listed.stream().anyMatch(one -> one.groupId().equals(group) && one.type().get() == GroupType.SHARE), listed);
        admin.alterShareGroupOffsets(group, Map.of(partition, 4L)).all().get();
        check(start(group, partition) == 4, "it starts elsewhere");
        var again = new ArrayList<Long>();
        try (var consumer = consumer(group, topic, "implicit")) {
            long end = System.nanoTime() + WAIT_NS;
            while (again.size() < 6 && System.nanoTime() < end) {
                consumer.poll(Duration.ofMillis(200)).forEach(record -> again.add(record.offset()));
            }
        }
        check(again.equals(List.of(4L, 5L, 6L, 7L, 8L, 9L)), again);
        admin.deleteShareGroupOffsets(group, Set.of(topic)).all().get();
        admin.deleteShareGroups(List.of(group)).all().get();
        try {
            admin.describeShareGroups(List.of(group)).all().get();
            check(false, "it is gone");
        } catch (ExecutionException error) {
            check(error.getCause() instanceof GroupIdNotFoundException, error);
        }
        records += 16;
    }

    static long start(String group, TopicPartition partition) throws Exception {
        var offsets = admin.listShareGroupOffsets(Map.of(group, new ListShareGroupOffsetsSpec()));
        return offsets.partitionsToOffsetInfo(group).get().get(partition).startOffset();
    }

    static void credentialsAreToldWithoutSecrets() throws Exception {
        var user = "u-" + UUID.randomUUID();
        var info = new ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 8192);
        admin.alterUserScramCredentials(List.of(new UserScramCredentialUpsertion(user, info, "secret"))).all().get();
        var told = admin.describeUserScramCredentials(List.of(user)).all().get().get(user).credentialInfos();
        check(told.equals(List.of(info)), told);
        var deletion = new UserScramCredentialDeletion(user, ScramMechanism.SCRAM_SHA_512);
        admin.alterUserScramCredentials(List.of(deletion)).all().get();
        try {
            admin.alterUserScramCredentials(List.of(deletion)).all().get();
            check(false, "there is none");
        } catch (ExecutionException error) {
            check(error.getCause() instanceof ResourceNotFoundException, error);
        }
    }
}

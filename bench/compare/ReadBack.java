// Reads a topic back with Apache Kafka's own consumer and checks what the load generator put into every record: none is missing, twice or
// out of its producer's order, and nothing else is there.

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

public class ReadBack {
    /** Who (4 bytes), which (8), when due (8). */
    static final int STAMPS = 20;

    public static void main(String[] args) throws InterruptedException {
        String address = args[0];
        String topic = args[1];
        int partitions = Integer.parseInt(args[2]);
        int size = Integer.parseInt(args[3]);
        long expected = Long.parseLong(args[4]);

        Map<String, Object> settings = Map.of(
            "bootstrap.servers", address,
            "check.crcs", true,
            "max.partition.fetch.bytes", 4 << 20,
            "max.poll.records", 50000);
        try (var consumer = new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            List<TopicPartition> all = new ArrayList<>();
            for (int number = 0; number < partitions; number++) all.add(new TopicPartition(topic, number));
            consumer.assign(all);
            long end = sum(consumer.endOffsets(all));
            if (end != expected) fail("the partitions end at " + end + " together, " + expected + " records were acknowledged");
            Map<TopicPartition, Long> starts = starts(consumer, all);
            starts.forEach(consumer::seek);
            long left = expected - sum(starts);
            read(consumer, left, starts, filler(size));
            String deleted = left == expected ? "" : ", " + sum(starts) + " were deleted";
            System.out.println("read back " + left + " records of " + partitions + " partitions: none missing, none twice, in order" + deleted);
        }
    }

    static long sum(Map<TopicPartition, Long> offsets) {
        return offsets.values().stream().mapToLong(Long::longValue).sum();
    }

    /** Where the partitions begin, once nothing more is being deleted. */
    static Map<TopicPartition, Long> starts(KafkaConsumer<byte[], byte[]> consumer, List<TopicPartition> all) throws InterruptedException {
        for (;;) {
            Map<TopicPartition, Long> starts = consumer.beginningOffsets(all);
            if (sum(starts) == 0) return starts;
            Thread.sleep(3000);
            if (starts.equals(consumer.beginningOffsets(all))) return starts;
        }
    }

    static void read(KafkaConsumer<byte[], byte[]> consumer, long expected, Map<TopicPartition, Long> starts, byte[] filler) {
        Map<TopicPartition, Long> offsets = new HashMap<>(starts);
        // By partition and producer.
        Map<Long, Long> numbers = new HashMap<>();
        int idle = 0;
        for (long count = 0; count < expected; ) {
            var records = consumer.poll(Duration.ofSeconds(1));
            idle = records.isEmpty() ? idle + 1 : 0;
            if (idle == 30) fail("nothing comes after " + count + " records");
            for (var partition : records.partitions()) {
                long next = offsets.get(partition);
                for (var record : records.records(partition)) {
                    String where = partition + " offset " + record.offset() + ": ";
                    if (record.offset() != next++) fail(where + "comes where " + (next - 1) + " should");
                    var value = ByteBuffer.wrap(record.value());
                    int producer = value.getInt();
                    long number = value.getLong();
                    long key = (long) partition.partition() << 32 | producer;
                    // What a producer wrote first may have been deleted.
                    long before = numbers.getOrDefault(key, starts.get(partition) > 0 ? number - 1 : -1L);
                    if (number != before + 1) fail(where + "number " + number + " of producer " + producer + " comes after " + before);
                    numbers.put(key, number);
                    if (!Arrays.equals(record.value(), STAMPS, record.value().length, filler, STAMPS, filler.length)) {
                        fail(where + "another content");
                    }
                }
                offsets.put(partition, next);
                count += records.records(partition).size();
            }
        }
    }

    static byte[] filler(int size) {
        byte[] of = "a record of the load generator, ".getBytes(StandardCharsets.US_ASCII);
        byte[] bytes = new byte[size];
        for (int i = 0; i < size; i++) bytes[i] = of[i % of.length];
        return bytes;
    }

    static void fail(String what) {
        System.err.println(what);
        System.exit(1);
    }
}

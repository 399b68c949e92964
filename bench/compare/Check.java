// Reads a partition back with Apache Kafka's own consumer and checks count, order and content of every record.

import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

public class Check {
    public static void main(String[] args) {
        String address = args[0];
        String topic = args[1];
        int partitions = Integer.parseInt(args[2]);
        long count = Long.parseLong(args[3]);
        byte[] pattern = repeated(args[5], Integer.parseInt(args[4]));
        long again = Long.parseLong(args[6]);

        Map<String, Object> settings = Map.of(
            "bootstrap.servers", address,
            "isolation.level", "read_committed",
            "check.crcs", true,
            "max.partition.fetch.bytes", 8 << 20,
            "max.poll.records", 20000);
        try (var consumer = new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            for (int number = 0; number < partitions; number++) {
                read(consumer, new TopicPartition(topic, number), count, again, pattern);
            }
        }
        System.out.println("read back " + partitions * count + " records: count, order and content are right");
    }

    /** Reads a partition of `count` records whose content begins again after so many. */
    static void read(KafkaConsumer<byte[], byte[]> consumer, TopicPartition partition, long count, long again, byte[] pattern) {
        consumer.assign(List.of(partition));
        consumer.seekToBeginning(List.of(partition));
        long end = consumer.endOffsets(List.of(partition)).get(partition);
        if (end != count) fail(partition + " ends at " + end + ", " + count + " records were acknowledged");
        byte[] expected = null;
        int idle = 0;
        for (long next = 0; next < count; ) {
            var records = consumer.poll(Duration.ofSeconds(1));
            idle = records.isEmpty() ? idle + 1 : 0;
            if (idle == 30) fail("nothing comes after offset " + next);
            for (var record : records) {
                if (next % again == 0) expected = pattern.clone();
                if (record.offset() != next) fail("offset " + record.offset() + " comes where " + next + " should");
                // The generator prints the record's number, a colon, a blank and a zero byte over the pattern.
                byte[] text = (next % again + ": \0").getBytes(StandardCharsets.US_ASCII);
                System.arraycopy(text, 0, expected, 0, text.length);
                if (!java.util.Arrays.equals(record.value(), expected)) fail("record " + next + " has another content");
                next++;
            }
        }
    }

    static byte[] repeated(String words, int size) {
        byte[] of = words.getBytes(StandardCharsets.US_ASCII);
        byte[] bytes = new byte[size];
        for (int i = 0; i < size; i++) bytes[i] = of[i % of.length];
        return bytes;
    }

    static void fail(String what) {
        System.err.println(what);
        System.exit(1);
    }
}

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
        TopicPartition partition = new TopicPartition(args[1], 0);
        long count = Long.parseLong(args[2]);
        byte[] expected = new byte[Integer.parseInt(args[3])];
        byte[] pattern = args[4].getBytes(StandardCharsets.US_ASCII);
        for (int i = 0; i < expected.length; i++) expected[i] = pattern[i % pattern.length];

        Map<String, Object> settings = Map.of(
            "bootstrap.servers", address,
            "isolation.level", "read_committed",
            "check.crcs", true,
            "max.partition.fetch.bytes", 8 << 20,
            "max.poll.records", 20000);
        long next = 0;
        try (var consumer = new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            consumer.assign(List.of(partition));
            consumer.seekToBeginning(List.of(partition));
            long end = consumer.endOffsets(List.of(partition)).get(partition);
            if (end != count) fail("the log ends at " + end + ", " + count + " records were acknowledged");
            int idle = 0;
            while (next < count) {
                var records = consumer.poll(Duration.ofSeconds(1));
                idle = records.isEmpty() ? idle + 1 : 0;
                if (idle == 30) fail("nothing comes after offset " + next);
                for (var record : records) {
                    if (record.offset() != next) fail("offset " + record.offset() + " comes where " + next + " should");
                    // The generator prints the record's number, a colon, a blank and a zero byte over the pattern.
                    byte[] number = (next + ": \0").getBytes(StandardCharsets.US_ASCII);
                    System.arraycopy(number, 0, expected, 0, number.length);
                    if (!java.util.Arrays.equals(record.value(), expected)) fail("record " + next + " has another content");
                    next++;
                }
            }
        }
        System.out.println("read back " + next + " records: count, order and content are right");
    }

    static void fail(String what) {
        System.err.println(what);
        System.exit(1);
    }
}

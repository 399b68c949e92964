// A member of a group with Apache Kafka's Java client: `JavaMember BOOTSTRAP TOPIC GROUP [range]`, told what to do and telling what it did as in group_clients.py.

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Collectors;
import org.apache.kafka.clients.consumer.CooperativeStickyAssignor;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.RangeAssignor;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;

public class JavaMember {
    static volatile boolean holding, leaving;

    public static void main(String[] arguments) {
        String bootstrap = arguments[0], topic = arguments[1], group = arguments[2];
        Thread listener = new Thread(JavaMember::listen);
        listener.setDaemon(true);
        listener.start();
        String assignor = (arguments.length > 3 ? RangeAssignor.class : CooperativeStickyAssignor.class).getName();
        Map<String, Object> settings = Map.of(
            "bootstrap.servers", bootstrap, "group.id", group, "enable.auto.commit", false, "auto.offset.reset", "earliest",
            "session.timeout.ms", 6000, "heartbeat.interval.ms", 300, "partition.assignment.strategy", assignor);
        try (var consumer = new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer())) {
            consumer.subscribe(List.of(topic));
            Set<Integer> owned = null;
            while (!leaving) {
                var polled = consumer.poll(Duration.ofMillis(100));
                var owns = consumer.assignment().stream().map(TopicPartition::partition).collect(Collectors.toCollection(TreeSet::new));
                if (!owns.equals(owned)) {
                    owned = owns;
                    say("owns " + owns.stream().map(String::valueOf).collect(Collectors.joining(" ")));
                }
                var next = new HashMap<TopicPartition, OffsetAndMetadata>();
                polled.forEach(record -> {
                    say("got " + record.partition() + " " + record.offset() + " " + record.value());
                    next.put(new TopicPartition(topic, record.partition()), new OffsetAndMetadata(record.offset() + 1));
                });
                if (!next.isEmpty() && !holding) {
                    consumer.commitSync(next);
                    next.forEach((partition, at) -> say("committed " + partition.partition() + " " + at.offset()));
                }
            }
        }
    }

    /** Commands come one a line; the end of them is one, too. */
    static void listen() {
        try (var commands = new BufferedReader(new InputStreamReader(System.in))) {
            while ("hold".equals(commands.readLine())) {
                holding = true;
                say("holding");
            }
        } catch (java.io.IOException gone) {
            // Who gave commands is gone.
        }
        leaving = true;
    }

    static void say(String line) {
        synchronized (System.out) {
            System.out.println(line);
            System.out.flush();
        }
    }
}

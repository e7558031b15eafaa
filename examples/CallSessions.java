// Call sessions with Java: read all there is, print the last revision of each as a line of JSON.
//   java -cp 'kafka-clients.jar:jackson-….jar:…' CallSessions.java 127.0.0.1:9092 threecx.call-sessions

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

public class CallSessions {
    static final Set<String> SESSION_EVENTS = Set.of("call.started", "call.ended", "call.end_missed", "call.corrected");

    public static void main(String[] args) throws Exception {
        Map<String, Object> options = Map.of(
                "bootstrap.servers", args[0],
                "isolation.level", "read_committed", // else events would be seen that were taken back
                "auto.offset.reset", "earliest",
                "enable.auto.commit", "false");
        ObjectMapper json = new ObjectMapper();
        Map<String, JsonNode> sessions = new LinkedHashMap<>();
        var bytes = new ByteArrayDeserializer();
        try (var consumer = new KafkaConsumer<>(options, bytes, bytes)) {
            List<TopicPartition> partitions = consumer.partitionsFor(args[1]).stream()
                    .map(one -> new TopicPartition(one.topic(), one.partition()))
                    .toList();
            consumer.assign(partitions);
            Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
            // The position passes what was aborted; the last record's offset would not: an end is a position.
            while (partitions.stream().anyMatch(one -> consumer.position(one) < ends.get(one))) {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(500))) {
                    Header type = record.headers().lastHeader("ce_type");
                    if (type == null || !SESSION_EVENTS.contains(new String(type.value(), StandardCharsets.UTF_8))) {
                        continue; // feed progress, or a type of the future
                    }
                    JsonNode session = json.readTree(record.value()).get("session");
                    JsonNode held = sessions.get(session.get("session_id").asText());
                    if (held == null || session.get("revision").asInt() > held.get("revision").asInt()) {
                        sessions.put(session.get("session_id").asText(), session);
                    }
                }
            }
        }
        for (JsonNode session : sessions.values()) {
            System.out.println(json.writeValueAsString(session));
        }
    }
}

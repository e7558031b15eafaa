import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewPartitionReassignment;
import org.apache.kafka.common.ElectionType;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.TopicPartition;

/**
 * Moves a partition: away from its first node, which deletes its copy, and back to it as the last one. Leads then whoever was second.
 *
 * <p>Arguments: bootstrap servers, partition, topics. aiokafka's admin client knows no reassignment.
 */
public final class Reassign {
  public static void main(String[] arguments) throws Exception {
    try (Admin admin = Admin.create(Map.of("bootstrap.servers", arguments[0]))) {
      int number = Integer.parseInt(arguments[1]);
      for (String topic : List.of(arguments).subList(2, arguments.length)) {
        var partition = new TopicPartition(topic, number);
        var described = admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic);
        List<Integer> nodes = new ArrayList<>(described.partitions().get(number).replicas().stream().map(Node::id).toList());
        int first = nodes.remove(0);
        move(admin, partition, nodes);
        nodes.add(first);
        move(admin, partition, nodes);
        System.out.println(partition + " " + nodes);
      }
    }
  }

  private static void move(Admin admin, TopicPartition partition, List<Integer> nodes) throws Exception {
    admin.alterPartitionReassignments(Map.of(partition, Optional.of(new NewPartitionReassignment(nodes)))).all().get();
    while (!admin.listPartitionReassignments(Set.of(partition)).reassignments().get().isEmpty()) {
      Thread.sleep(100);
    }
    // Of an election that is not needed the broker says so; the partition is where it should be.
    admin.electLeaders(ElectionType.PREFERRED, Set.of(partition)).partitions().get();
  }
}

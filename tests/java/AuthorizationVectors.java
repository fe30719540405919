import java.io.PrintStream;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;

import org.apache.activemq.command.ActiveMQDestination;
import org.apache.activemq.command.ActiveMQQueue;
import org.apache.activemq.command.ActiveMQTopic;
import org.apache.activemq.filter.DestinationMapEntry;
import org.apache.activemq.jaas.GroupPrincipal;
import org.apache.activemq.security.AuthorizationEntry;
import org.apache.activemq.security.DefaultAuthorizationMap;

/**
 * Records whom ActiveMQ's own map of authorization entries lets do what; broker-lite's test compares.
 *
 * See broker-lite/tests/data/README.md for how to run it.
 *
 * One JSON object a line: {"entries": [[DESTINATION, GROUPS], ..], "default": GROUPS or null, "asked": [[DESTINATION,
 * ALLOWED], ..]} where the groups are those that may read, and allowed has one letter for each of the groups a to d: T
 * if its members may, else F.
 */
public class AuthorizationVectors {
    static final Random RANDOM = new Random(20221116);
    static final String[] GROUPS = {"a", "b", "c", "d"};
    static final String[] PARTS = {"A", "B", "C", "*", ">"};
    static final String[] ODD = {"A..B", "A.", ".A", "A. B", ">.A", "A.>.B", "*.>", ">.>", "A.>.*", "a", "AB", "A.B*"};

    static String name(int wild) {
        if (RANDOM.nextInt(25) == 0) {
            return ODD[RANDOM.nextInt(ODD.length)];
        }
        StringBuilder name = new StringBuilder();
        int levels = 1 + RANDOM.nextInt(4);
        for (int level = 0; level < levels; level++) {
            String part = PARTS[RANDOM.nextInt(RANDOM.nextInt(100) < wild ? PARTS.length : 3)];
            name.append(level == 0 ? "" : ".").append(part);
            if (part.equals(">")) {
                break;
            }
        }
        return name.toString();
    }

    static ActiveMQDestination destination(String name, boolean topic) {
        return topic ? new ActiveMQTopic(name) : new ActiveMQQueue(name);
    }

    /** ActiveMQ leaves the prefix out where there are several. */
    static String qualified(ActiveMQDestination destination) {
        return (destination.isTopic() ? "topic://" : "queue://") + destination.getPhysicalName();
    }

    static String groups() {
        if (RANDOM.nextInt(20) == 0) {
            return "*";
        }
        StringBuilder groups = new StringBuilder();
        for (String group : GROUPS) {
            if (RANDOM.nextInt(4) == 0) {
                groups.append(groups.length() == 0 ? "" : ", ").append(group);
            }
        }
        return groups.toString();
    }

    static String json(String text) {
        return '"' + text + '"';
    }

    public static void main(String[] args) throws Exception {
        try (PrintStream out = new PrintStream(args[0], "UTF-8")) {
            for (int round = 0; round < 1000; round++) {
                out.println(round());
            }
        }
    }

    static String round() throws Exception {
        // The same destination twice would be two values of one node in the order of a hash.
        Map<ActiveMQDestination, String> wanted = new LinkedHashMap<>();
        int count = RANDOM.nextInt(7);
        for (int i = 0; i < count; i++) {
            wanted.put(destination(name(60), RANDOM.nextInt(4) == 0), groups());
        }
        List<DestinationMapEntry> entries = new ArrayList<>();
        StringBuilder line = new StringBuilder("{\"entries\": [");
        for (Map.Entry<ActiveMQDestination, String> each : wanted.entrySet()) {
            AuthorizationEntry entry = new AuthorizationEntry();
            entry.setDestination(each.getKey());
            entry.setRead(each.getValue());
            line.append(entries.isEmpty() ? "" : ", ");
            line.append("[" + json(qualified(each.getKey())) + ", " + json(each.getValue()) + "]");
            entries.add(entry);
        }
        DefaultAuthorizationMap map = new DefaultAuthorizationMap(entries);
        line.append("], \"default\": ");
        if (RANDOM.nextInt(5) == 0) {
            AuthorizationEntry entry = new AuthorizationEntry();
            String groups = groups();
            entry.setRead(groups);
            map.setDefaultEntry(entry);
            line.append(json(groups));
        } else {
            line.append("null");
        }
        line.append(", \"asked\": [");
        for (int i = 0; i < 12; i++) {
            String name = name(25);
            if (RANDOM.nextInt(10) == 0) {
                name = name + "," + name(25);
            }
            ActiveMQDestination asked = destination(name, RANDOM.nextInt(4) == 0);
            Set<Object> allowed = map.getReadACLs(asked);
            line.append(i == 0 ? "" : ", ").append("[" + json(qualified(asked)) + ", \"");
            for (String group : GROUPS) {
                line.append(allowed.contains(new GroupPrincipal(group)) ? 'T' : 'F');
            }
            line.append("\"]");
        }
        return line.append("]}").toString();
    }
}

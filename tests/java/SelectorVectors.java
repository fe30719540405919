import java.io.FileOutputStream;
import java.io.OutputStream;
import java.lang.reflect.Field;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.zip.GZIPOutputStream;

import javax.jms.InvalidSelectorException;

import org.apache.activemq.command.ActiveMQDestination;
import org.apache.activemq.command.ActiveMQMessage;
import org.apache.activemq.command.BrokerId;
import org.apache.activemq.command.ConnectionId;
import org.apache.activemq.command.LocalTransactionId;
import org.apache.activemq.command.MessageId;
import org.apache.activemq.filter.BinaryExpression;
import org.apache.activemq.filter.BooleanExpression;
import org.apache.activemq.filter.ComparisonExpression;
import org.apache.activemq.filter.ConstantExpression;
import org.apache.activemq.filter.Expression;
import org.apache.activemq.filter.FunctionCallExpression;
import org.apache.activemq.filter.LogicExpression;
import org.apache.activemq.filter.MessageEvaluationContext;
import org.apache.activemq.filter.NonCachedMessageEvaluationContext;
import org.apache.activemq.filter.UnaryExpression;
import org.apache.activemq.openwire.OpenWireFormat;
import org.apache.activemq.selector.SelectorParser;
import org.apache.activemq.util.ByteSequence;

/**
 * Records what ActiveMQ's own evaluator says of selectors and messages; broker-lite's test compares.
 *
 * See broker-lite/tests/data/README.md for how to run it.
 *
 * One JSON object a line. First the messages, in the stand-alone form of stores, as hexadecimal:
 * {"message": HEX}. Then the selectors: {"selector": TEXT, "matches": RESULTS} with one letter for each message, or
 * null if the selector is invalid. T is selected, F is not, E failed. The letter is small where the evaluator compares
 * numbers of two types which it does not know in this order, or a boolean with a text: broker-lite knows better there.
 * "beyond": true says that the selector has an integer beyond Long, which broker-lite refuses.
 */
public class SelectorVectors {
    static final List<ActiveMQMessage> MESSAGES = new ArrayList<>();
    /** An integer that becomes 1, without a trace in the expression. */
    static final String LOW_BITS_OF_ONE = "18446744073709551617";
    static final Random RANDOM = new Random(20220825);

    public static void main(String[] args) throws Exception {
        OpenWireFormat format = new OpenWireFormat();
        format.setVersion(11);
        format.setTightEncodingEnabled(false);
        format.setCacheEnabled(false);
        format.setSizePrefixDisabled(true);
        try (OutputStream out = new GZIPOutputStream(new FileOutputStream(args[0]))) {
            for (ActiveMQMessage message : messages()) {
                ByteSequence bytes = format.marshal(message);
                StringBuilder hex = new StringBuilder();
                for (int i = 0; i < bytes.length; i++) {
                    hex.append(String.format("%02x", bytes.data[bytes.offset + i]));
                }
                write(out, "{\"message\":\"" + hex + "\"}");
                MESSAGES.add((ActiveMQMessage) format.unmarshal(new ByteSequence(bytes.data, bytes.offset, bytes.length)));
            }
            Set<String> selectors = new LinkedHashSet<>();
            selectors.addAll(Arrays.asList(WRITTEN));
            systematic(selectors);
            List<String> random = new ArrayList<>();
            for (int i = 0; i < 1500; i++) {
                random.add(condition(RANDOM.nextInt(4)));
            }
            selectors.addAll(random);
            for (int i = 0; i < 1500; i++) {
                selectors.add(mutate(random.get(RANDOM.nextInt(random.size()))));
            }
            for (String selector : selectors) {
                write(out, vector(selector));
            }
            System.err.println(selectors.size() + " selectors, " + MESSAGES.size() + " messages");
        }
    }

    static void write(OutputStream out, String line) throws Exception {
        out.write((line + "\n").getBytes(StandardCharsets.UTF_8));
    }

    // What is recorded

    static String vector(String selector) throws Exception {
        // The cache would let a selector inherit the prefix of another one.
        SelectorParser.clearCache();
        String line = "{\"selector\":" + json(selector);
        BooleanExpression expression;
        try {
            expression = SelectorParser.parse(selector);
        } catch (InvalidSelectorException invalid) {
            return line + ",\"matches\":null}";
        }
        StringBuilder results = new StringBuilder();
        for (ActiveMQMessage message : MESSAGES) {
            MessageEvaluationContext context = new NonCachedMessageEvaluationContext();
            context.setMessageReference(message);
            String result;
            try {
                result = expression.matches(context) ? "T" : "F";
            } catch (Exception failed) {
                result = "E";
            }
            boolean unknown = comparesUnknown(expression, context, selector.startsWith("convert_string_expressions:"));
            results.append(unknown ? result.toLowerCase() : result);
        }
        line += ",\"matches\":\"" + results + "\"";
        boolean beyond = hasBeyond(expression) || selector.contains(LOW_BITS_OF_ONE);
        return line + (beyond ? ",\"beyond\":true}" : "}");
    }

    static String json(String text) {
        StringBuilder json = new StringBuilder("\"");
        for (char c : text.toCharArray()) {
            if (c == '"' || c == '\\') {
                json.append('\\').append(c);
            } else if (c < ' ' || c > '~') {
                json.append(String.format("\\u%04x", (int) c));
            } else {
                json.append(c);
            }
        }
        return json.append('"').toString();
    }

    @SuppressWarnings("unchecked")
    static List<Expression> parts(Expression expression) throws Exception {
        List<Expression> parts = new ArrayList<>();
        if (expression instanceof BinaryExpression) {
            parts.add(((BinaryExpression) expression).getLeft());
            parts.add(((BinaryExpression) expression).getRight());
        } else if (expression instanceof UnaryExpression) {
            parts.add(((UnaryExpression) expression).getRight());
        } else if (expression instanceof LogicExpression) {
            Field field = LogicExpression.class.getDeclaredField("expressions");
            field.setAccessible(true);
            parts.addAll((List<Expression>) field.get(expression));
        } else if (expression instanceof FunctionCallExpression) {
            FunctionCallExpression call = (FunctionCallExpression) expression;
            for (int i = 0; i < call.getNumArguments(); i++) {
                parts.add(call.getArgument(i));
            }
        }
        return parts;
    }

    static boolean comparesUnknown(Expression expression, MessageEvaluationContext context, boolean convert)
            throws Exception {
        List<Expression> parts = parts(expression);
        if (expression instanceof ComparisonExpression) {
            try {
                Object left = parts.get(0).evaluate(context);
                Object right = parts.get(1).evaluate(context);
                boolean small = right instanceof Byte || right instanceof Short;
                if (left instanceof Number && small && !left.getClass().equals(right.getClass())
                        && !(left instanceof Byte)) {
                    return true;
                }
                if (left instanceof Double && right instanceof Float) {
                    return true;
                }
                if (convert && left instanceof Boolean && right instanceof String) {
                    return true;
                }
            } catch (Exception failed) {
                // Then it compares nothing.
            }
        }
        for (Expression part : parts) {
            if (comparesUnknown(part, context, convert)) {
                return true;
            }
        }
        return false;
    }

    /** An integer that is no Long, unless it is the least one. */
    static boolean hasBeyond(Expression expression) throws Exception {
        if (expression instanceof ConstantExpression) {
            return ((ConstantExpression) expression).getValue() instanceof java.math.BigDecimal;
        }
        for (Expression part : parts(expression)) {
            boolean least = expression instanceof UnaryExpression && part.toString().equals("9223372036854775808");
            if (!least && hasBeyond(part)) {
                return true;
            }
        }
        return false;
    }

    // Messages

    static List<ActiveMQMessage> messages() throws Exception {
        List<ActiveMQMessage> messages = new ArrayList<>();
        messages.add(message());
        messages.add(message("bool", true, "byte", (byte) 5, "short", (short) 5, "int", 5, "long", 5L, "float", 5f,
                "double", 5.0, "text", "a", "digits", "5"));
        messages.add(message("bool", false, "byte", (byte) -1, "short", (short) 300, "int", Integer.MAX_VALUE,
                "long", 1L << 31, "float", 0.1f, "double", 0.1, "text", "abc", "digits", "7.5"));
        messages.add(message("x", 5, "y", 1, "int", 7, "text", "MSFT"));
        messages.add(message("x", "a", "y", "b", "int", -7, "bool", "true"));
        messages.add(message("x", (short) 5, "y", (byte) 5));
        messages.add(message("x", 5.0, "y", 5f));
        messages.add(message("x", true, "y", false));
        messages.add(message("x", "5", "y", "x"));
        messages.add(message("x", Long.MAX_VALUE, "y", Long.MIN_VALUE));
        messages.add(message("x", Double.NaN, "y", -0.0, "double", Double.POSITIVE_INFINITY));
        messages.add(message("x", "a\nb%_\\", "y", "", "text", "it's"));
        messages.add(message("x", "\u00e9\u6f22", "y", "a,b,,c,,", "text", "1,2/3"));
        messages.add(message("x", 0.1f, "y", 0.1, "float", 1e10f, "double", 1.5e-7));
        messages.add(message("x", new ArrayList<>(Arrays.asList("a", 5, "b")), "y", new LinkedHashMap<>()));
        messages.add(message("x", 8, "y", null));
        messages.add(message("x", 'a', "y", "a", "digits", "-5"));
        messages.add(message("x", 2147483647, "y", -16, "_x$1", 1, "X", 3));
        messages.add(message("x", "a_b", "y", "acb", "text", "true", "digits", "0x10"));

        ActiveMQMessage headers = message("x", 1, "JMSXUserID", "property");
        headers.setDestination(ActiveMQDestination.createDestination("queue://Q.one", (byte) 1));
        headers.setReplyTo(ActiveMQDestination.createDestination("temp-queue://ID:host-1-1:1:1", (byte) 1));
        headers.setMessageId(new MessageId("ID:host-1234-1:1:2:3"));
        headers.setPersistent(true);
        headers.setPriority((byte) 7);
        headers.setTimestamp(1234567890123L);
        headers.setExpiration(2234567890123L);
        headers.setType("car");
        headers.setCorrelationId("corr'1");
        headers.setGroupID("group");
        headers.setGroupSequence(2);
        headers.setJMSXGroupFirstForConsumer(true);
        headers.setUserID("user");
        headers.setRedeliveryCounter(2);
        headers.setBrokerInTime(5);
        headers.setBrokerOutTime(6);
        headers.setBrokerPath(new BrokerId[] {new BrokerId("one"), new BrokerId("two")});
        headers.setTransactionId(new LocalTransactionId(new ConnectionId("ID:c"), 4));
        messages.add(headers);
        ActiveMQMessage moved = message("JMSXUserID", "property", "jmspriority", 9);
        moved.setDestination(ActiveMQDestination.createDestination("queue://DLQ", (byte) 1));
        moved.setOriginalDestination(ActiveMQDestination.createDestination("topic://T", (byte) 1));
        moved.setPriority((byte) 3);
        messages.add(moved);
        return messages;
    }

    static ActiveMQMessage message(Object... properties) throws Exception {
        ActiveMQMessage message = new ActiveMQMessage();
        for (int i = 0; i < properties.length; i += 2) {
            message.setProperty((String) properties[i], properties[i + 1]);
        }
        message.beforeMarshall(null);
        return message;
    }

    // Selectors

    static final String[] FIELDS = {"bool", "byte", "short", "int", "long", "float", "double", "text", "digits", "none"};
    static final String[] LITERALS = {"5", "5.0", "2147483648", "-1", "0.1", "'a'", "'5'", "TRUE", "FALSE", "NULL"};
    static final String[] COMPARISONS = {"=", "<>", ">", ">=", "<", "<="};

    /** Every operator between every two types, plain, negated and with conversion. */
    static void systematic(Set<String> selectors) {
        List<String> operands = new ArrayList<>(Arrays.asList(FIELDS));
        operands.addAll(Arrays.asList(LITERALS));
        for (String left : operands) {
            for (String right : operands) {
                for (String operator : COMPARISONS) {
                    String comparison = left + " " + operator + " " + right;
                    selectors.add(comparison);
                    if (operator.equals("=") || operator.equals("<")) {
                        selectors.add("NOT (" + comparison + ")");
                        selectors.add("convert_string_expressions:" + comparison);
                    }
                }
                for (String operator : new String[] {"+", "-", "*", "/", "%"}) {
                    selectors.add(left + " " + operator + " " + right + " > 4");
                }
            }
            for (String test : new String[] {"", " IS NULL", " IS NOT NULL", " IS NULL = TRUE", " LIKE 'a%'",
                    " NOT LIKE '_'", " IN ('a', 'abc')", " NOT IN ('a')", " BETWEEN 1 AND 5", " NOT BETWEEN 1 AND 5",
                    " BETWEEN none AND 5", " NOT BETWEEN 0 AND none"}) {
                selectors.add(left + test);
                selectors.add("NOT " + left + test);
                selectors.add("NOT (" + left + test + ")");
            }
            selectors.add("-" + left + " < 0");
            selectors.add("+" + left + " = 5");
            selectors.add("'<' + " + left + " = '<5.0'");
            selectors.add("REGEX('^-?[0-9.]+$', " + left + ")");
            selectors.add("INLIST(MAKELIST('a', 5, 5.0, TRUE), " + left + ")");
        }
        String[] truths = {"TRUE", "FALSE", "NULL", "none", "none = 1", "1 = none", "text + none = 1", "5 - 'a' = 1"};
        for (String left : truths) {
            for (String right : truths) {
                for (String operator : new String[] {" AND ", " OR "}) {
                    selectors.add(left + operator + right);
                    selectors.add("NOT (" + left + operator + right + ")");
                    selectors.add("(" + left + operator + right + ") OR TRUE");
                }
            }
        }
    }

    static String pick(String... choices) {
        return choices[RANDOM.nextInt(choices.length)];
    }

    static String name() {
        return pick("x", "x", "x", "y", "y", "int", "double", "text", "bool", "long", "digits", "none", "JMSPriority",
                "JMSType", "JMSDeliveryMode", "JMSTimestamp", "JMSXDeliveryCount", "JMSRedelivered");
    }

    static String string() {
        return pick("'a'", "'b'", "'abc'", "'5'", "''", "'it''s'", "'MSFT'", "'a%'", "'%b%'", "'_'", "'a_b'", "'%'",
                "'car'", "'PERSISTENT'", "'a\\_b'", "'\u00e9_'");
    }

    static String value(int depth) {
        if (depth <= 0) {
            return pick(name(), name(), name(), string(), "5", "1", "0", "7.5", "-1", "010", "0x1F", "1e1", ".5", "5L",
                    "2147483647", "9223372036854775807");
        }
        switch (RANDOM.nextInt(6)) {
        case 0:
            return "-" + value(depth - 1);
        case 1:
            return "(" + value(depth - 1) + ")";
        case 2:
            return "REPLACE(" + pick(name(), string()) + ", '[a-c]', " + pick("'$0$0'", "'x'") + ")";
        default:
            return value(depth - 1) + pick(" + ", " - ", " * ", " / ", " % ", "+", "-") + value(depth - 1);
        }
    }

    static String condition(int depth) {
        if (depth > 0) {
            switch (RANDOM.nextInt(8)) {
            case 0:
            case 1:
                return condition(depth - 1) + pick(" AND ", " and ", "\nAND ") + condition(depth - 1);
            case 2:
            case 3:
                return condition(depth - 1) + pick(" OR ", " Or ", "/**/OR ") + condition(depth - 1);
            case 4:
                return "NOT (" + condition(depth - 1) + ")";
            case 5:
                return "(" + condition(depth - 1) + ") = " + pick("TRUE", "FALSE", "bool", "(" + condition(0) + ")");
            default:
                return "(" + condition(depth - 1) + ")";
            }
        }
        int size = RANDOM.nextInt(3);
        switch (RANDOM.nextInt(12)) {
        case 0:
            return name() + pick(" LIKE ", " NOT LIKE ") + string() + pick("", "", " ESCAPE '\\'", " ESCAPE '%'");
        case 1:
            return name() + pick(" IN (", " NOT IN (") + string() + pick("", ", " + string() + "," + string()) + ")";
        case 2:
            return value(size) + pick(" BETWEEN ", " NOT BETWEEN ") + value(0) + " AND " + value(0);
        case 3:
            return value(size) + pick(" IS NULL", " IS NOT NULL", " is null");
        case 4:
            return name();
        case 5:
            return "REGEX(" + pick("'a'", "'^[0-9]+$'", "'b?c'", "'^(a|b)'") + ", " + value(0) + ")";
        case 6:
            return "INLIST(" + pick("MAKELIST('a', 5, x)", "SPLIT(text, ',')", "SPLIT(y, ',', 2)", "x") + "," + value(0)
                    + ")";
        default:
            return value(size) + pick(" = ", " = ", " <> ", " > ", " < ", " >= ", " <= ", "=", "<") + value(size);
        }
    }

    /** Nearly a selector: something is missing, doubled, in the wrong place or of another kind. */
    static String mutate(String selector) {
        String mutated = mutateAny(selector);
        // Integers beyond Long are a matter of their own.
        boolean beyond = mutated.replaceAll("\\b9223372036854775807\\b", "").matches("(?s).*[1-9][0-9]{15,}.*");
        return beyond ? selector : mutated;
    }

    static String mutateAny(String selector) {
        if (selector.contains("REGEX") || selector.contains("REPLACE") || selector.contains("LIST")) {
            selector = condition(-1).replaceAll("REGEX.*|REPLACE.*|INLIST.*", "x = 1");
            if (selector.contains("REPLACE")) {
                selector = "x > 1 AND y LIKE 'a'";
            }
        }
        int from = RANDOM.nextInt(selector.length());
        int to = Math.min(selector.length(), from + 1 + RANDOM.nextInt(4));
        String piece = selector.substring(from, to);
        switch (RANDOM.nextInt(4)) {
        case 0:
            return selector.substring(0, from) + selector.substring(to);
        case 1:
            return selector.substring(0, to) + piece + selector.substring(to);
        case 2:
            return selector.substring(0, from) + pick("(", ")", "'", "=", "<>", "!", "\"", "NOT ", " IS ", ",", ".", "--",
                    "/*", "*/", "0", "e5", "L", "NULL", " AND ", "\u00e9", "%", ";") + selector.substring(from);
        default:
            return selector.substring(0, from) + pick("x", "1", "'a'", "TRUE", "NULL", "(x)", "x IS NULL")
                    + selector.substring(to);
        }
    }

    static final String[] WRITTEN = {
        "", " ", "TRUE", "FALSE", "NULL", "1 = 1", "5", "'a'", "x", "NOT x", "NOT NOT x", "TRUE = TRUE", "TRUE = 5",
        "5 = TRUE", "'a' = TRUE", "TRUE = 'a'", "TRUE <> FALSE", "x = NULL", "NULL = x", "x <> NULL", "x > NULL",
        "NULL IS NULL", "TRUE IS NULL", "NULL LIKE 'a'", "(NULL) = x", "(TRUE) = 5",
        "NOT x = 5", "NOT (x = 5)", "NOT x LIKE 'a%'", "Not x Is nUll", "NOT x IN ('a')", "NOT (x IN ('a'))",
        "x NOT LIKE 'a%'", "x NOT = 5", "x NOT 5", "NOT", "x IS", "x IS NOT", "x IS NOT x", "x IS TRUE",
        "a = b", "a <> b", "a <> 'q'", "'q' <> a", "x = none", "none = x", "x <> none", "none <> x", "NOT (none = x)",
        "NOT (x = none)", "x <> 5", "5 = x", "x = 5", "x = y", "y = x", "x > y", "y > x", "x IN ('a')", "x NOT IN ('a')",
        "x IN ()", "x IN (1,2)", "'a' IN ('a')", "(x) IN ('a')", "+x IN ('5')", "-x IN ('5')", "x IN ('a',)",
        "x IN ('a' 'b')", "x IN 'a'", "x IN ('a', 'b', 'c', 'd', 'e', '5', 'a')",
        "x = 010", "x = 08", "x = 0", "x = 00", "x = 0x1F", "y = -0x10", "x = 0x", "x = 0xG", "x = 0X8", "x = 5.",
        "x = .5e1", "x = 5e0", "x = 5E+0", "x = 5e", "x = 5f", "x = 5D", "x = 1.5f", "x = 5L", "x = 5l", "x = 0L",
        "x = 05.0", "x = 1e400", "x < 1e400", "x = 0xFFFFFFFFFFFFFFFF", "x = 0x7FFFFFFFFFFFFFFF",
        "x = 0777777777777777777777", "x = 01777777777777777777777", "x = 9223372036854775807",
        "y = -9223372036854775808", "x = -9223372036854775808", "y = - 9223372036854775808", "y = --9223372036854775808",
        "x = 9223372036854775808", "x = " + LOW_BITS_OF_ONE, "y = -9223372036854775809", "x = 2147483648",
        "x / 2 = 2.5", "x % 2 = 1", "x * 2 + 1 = 11", "x / 0 = 1", "x % 0 = 0", "x / 0 > 1", "x + 1 > 0", "x + 1L > 0",
        "x + 1.0 > 0", "x - y > 0", "x * x > 0", "2147483648 > 0", "1+2*3 = 7", "(1+2)*3 = 9", "1 + 2 - 3 * 4 = -9",
        "10 - 2 - 3 = 5", "10 - (2 - 3) = 11", "2 * 3 % 4 = 2", "8 / 4 / 2 = 1", "8 / (4 / 2) = 4", "5 --5 = 10", "5 - -5 = 10",
        "- -5 = 5", "-x = -5", "-(-x) = x", "+x = 5", "++x = 5", "+-+x = -5", "x+1=6", "x +1 = 6", "x -1 = 4", "x-1=4",
        "-'a' = 1", "-TRUE = 1", "-NULL IS NULL", "-x IS NULL", "-y IS NULL", "NOT 5", "NOT 'a'", "NOT NULL", "NOT (x)",
        "'a' + x = 'a5'", "x + 'a' = '5a'", "'a' + 'b' = 'ab'", "'a' - 'b' = 1", "'a' + 1 + 2 = 'a12'",
        "'a' + (1 + 2) = 'a3'", "'' + x = '5'", "'' + x = '5.0'", "'' + x = 'true'", "'' + x = 'NaN'", "'' + y = '-0.0'",
        "'' + double = 'Infinity'", "'' + double = '1.5E-7'", "'' + float = '1.0E10'", "'' + float = '0.1'",
        "'' + x = '[a, 5, b]'", "'' + (x = 5) = 'true'", "TRUE + 1 = 2", "1 + TRUE = 2",
        "x = TRUE", "TRUE = x", "x = 'true'", "x = FALSE", "x <> TRUE", "x > TRUE", "x > FALSE", "x > y = TRUE",
        "x = 'a' OR y = 1", "y = 1 AND x = 'a'", "x = 1 OR x = 2 AND y = 3", "(x = 1 OR x = 5) AND y = 1",
        "x = 1 = TRUE", "x = 5 = TRUE", "x = 5 = FALSE", "x = 5 <> TRUE", "x = (y = 1)", "x IS NULL = TRUE",
        "x IS NULL > 5", "x IS NULL + 1 = 1", "x IS NULL IS NULL", "x IS NULL LIKE 'a'", "x LIKE 'a' + 1", "x LIKE 'a' = TRUE",
        "x LIKE 'a' LIKE 'b'", "x LIKE 'a' > 1", "x IN ('a') = TRUE", "x BETWEEN 1 AND 5 = TRUE", "1 < 2 < 3", "1 < 2 = TRUE",
        "x > 'abc'", "'abc' > x", "x BETWEEN 'a' AND 'c'", "'a' BETWEEN x AND y", "x BETWEEN 5 AND 1", "x BETWEEN 1 AND",
        "x BETWEEN 1", "x BETWEEN 1 OR 5", "x NOT BETWEEN 1 AND 5", "5 BETWEEN y AND x", "x BETWEEN 1+1 AND 2*3",
        "x BETWEEN y AND 5 AND x = 5", "x BETWEEN (y = 1) AND 5", "x BETWEEN y AND TRUE",
        "x LIKE 'a%b'", "x LIKE 'a%b%'", "x LIKE '%'", "x LIKE ''", "y LIKE ''", "x LIKE '_'", "x LIKE '__'", "x LIKE 'A'",
        "x LIKE 'a\\_b' ESCAPE '\\'", "y LIKE 'a\\_b' ESCAPE '\\'", "x LIKE 'a\\b' ESCAPE '\\'", "x LIKE '%\\\\' ESCAPE '\\'",
        "x LIKE '%\\%%' ESCAPE '\\'", "x LIKE '%!__' ESCAPE '!'", "x LIKE 'a!' ESCAPE '!'", "x LIKE '%' ESCAPE '%'",
        "x LIKE '%' ESCAPE 'ab'", "x LIKE '%' ESCAPE ''", "x LIKE '%' ESCAPE", "x LIKE y", "x LIKE 5", "5 LIKE '5'",
        "'abc' LIKE 'a%'", "x = 5 LIKE 'a'", "x + y LIKE 'a%'", "('' + x) LIKE '5%'", "x LIKE 'a.b'", "x LIKE '.*'",
        "x LIKE '[a]'", "x LIKE '(a)'", "x LIKE 'a^$|?+{}'", "x LIKE '\u00e9_'", "x LIKE '__'", "text LIKE 'it''s'",
        "text = 'it''s'", "text = 'it's'", "text = 'it''s", "x = 'a\nb%_\\'", "x = \"a\"", "x = `a`", "x = 'a",
        "a-b = 1", "a.b = 1", "\"a b\" = 1", "x != 1", "x == 1", "x = = 1", "x => 1", "x =< 1", "x <>", "= 5", "x =",
        "x = 1 AND", "AND x = 1", "x = 1 x = 2", "x y", "(x = 1", "x = 1)", "()", "(x) = 5", "((x = 5))", "x = (5)",
        "_x$1 = 1", "$ = 1", "_ = 1", "1x = 1", "x# = 1", "\u00e9 = 1", "x>1 and X<5", "X = 3", "x=5 aNd y=1", "x=5 Or y=1",
        "between = 1", "Like = 1", "escape = 1", "xpath = 1", "x = true", "x = True", "x iN ('a')",
        "x = 5 -- comment\n", "x = 5 -- comment", "x = 5 -- y\n AND y = 1", "-- only\nx = 5", "x = 5--5", "x = /* five */ 5",
        "x = 5 /* open", "/* a */ x /* b **/ = 5 /***/", "x /**/ = 5", "x = 5 /", "x\t=\r\n5\f", "x\u00a0= 5", "x\u000b= 5",
        "REGEX('b',x)", "REGEX('^a$',x)", "regex('b',x)", "REGEX('b')", "REGEX('b',x,y)", "REGEX('5',x)", "REGEX('5[.]0',x)",
        "REGEX('true',x)", "REGEX('a.b',x)", "NOT REGEX('a',x)", "REGEX('a',x) = TRUE", "REGEX('a',x) > 1", "REGEX('a',NULL)",
        "REGEX('a', (x = 5))", "REGEX('a', x = 5)", "REGEX ('a', x)", "REGEX('[0-9]+', '' + x)", "REGEX('[0-9]+', ('' + x))",
        "INLIST(SPLIT(y,','),'b')", "INLIST(SPLIT(y,','),'')", "INLIST(SPLIT(y,',',2),'b,,c,,')", "INLIST(SPLIT(y,',',-1),'')",
        "INLIST(SPLIT(y,',',1),y)", "INLIST(SPLIT(y,',','2'),'b')", "INLIST(SPLIT(y,''),'a')", "INLIST(SPLIT(text,'[,/]'),'3')",
        "INLIST(SPLIT(y),'b')", "INLIST(x,'b')", "INLIST(x,5)", "INLIST(x,5.0)", "INLIST(y,'a')", "INLIST('a','a')",
        "INLIST(MAKELIST('a','b'),x)", "INLIST(MAKELIST(x),x)", "INLIST(MAKELIST(5),x)", "INLIST(MAKELIST(none),x)",
        "INLIST(MAKELIST('a',none),x)", "INLIST(MAKELIST(x,y),5)", "INLIST(MAKELIST(1, TRUE),(x = 5))", "INLIST(x)",
        "MAKELIST()", "MAKELIST(x)", "MAKELIST(x) = MAKELIST(5)", "MAKELIST(x, y) = x", "MAKELIST(x) > 5", "5 > MAKELIST(x)",
        "none > MAKELIST(x)", "MAKELIST(x) > none", "MAKELIST(x) IS NULL", "MAKELIST(x) LIKE 'a'", "MAKELIST(x) IN ('a')",
        "REPLACE(text,'[,/]',';') = '1;2;3'", "REPLACE(x,'a','b') = 'b'", "REPLACE(x,'a','b')", "REPLACE(x,'a') = 'b'",
        "REPLACE(y,'(a)(,)','$2$1') = ',ab,,c,,'", "REPLACE(y,'a','$1') = 'a'", "REPLACE(y,'b*','-') = '-a-,--,-,-c-,-,-'",
        "REPLACE(x,'a',none) = 'b'", "REPLACE('aaa','a','\\$') = '$$$'", "REPLACE('abc','x*','-') = '-a-b-c-'",
        "NOPE(x)", "NOPE()", "x(y)", "SPLIT(y,',') = MAKELIST('a','b','','c')", "SPLIT(y, ',') IS NULL",
        "x = y = (SPLIT(y, ',') = x)", "x > SPLIT(y, ',')", "y = y", "x = x", "none = none", "x > x", "x >= x",
        "XQUERY 'a'", "NOT XQUERY 'a'", "XQUERY x", "XQUERY", "XQUERY '' = FALSE",
        "convert_string_expressions:x = 5", "convert_string_expressions:x > 4", "convert_string_expressions:5 = x",
        "convert_string_expressions:5.0 = x", "convert_string_expressions:x = TRUE", "convert_string_expressions:x = '5'",
        "convert_string_expressions:x IN ('5')", "convert_string_expressions: x = 5", " convert_string_expressions:x = 5",
        "convert_string_expressions:", "CONVERT_STRING_EXPRESSIONS:x = 5", "convert_string_expressions:x LIKE '5'",
        "convert_string_expressions:x", "convert_string_expressions:digits > 7", "convert_string_expressions:digits < 0",
        "convert_string_expressions:text = TRUE", "convert_string_expressions:int > digits",
        "convert_string_expressions:digits >= int", "convert_string_expressions:double < digits",
        "convert_string_expressions:x BETWEEN 1 AND 9", "convert_string_expressions:x + 1 = 6",
        "no_convert_string_expressions:x = 5", "hyphenated_props:x = 5",
        "JMSDeliveryMode = 'NON_PERSISTENT'", "JMSDeliveryMode = 'PERSISTENT'", "JMSDeliveryMode = 2", "JMSPriority > 3",
        "jmspriority > 3", "JMSPriority = 7", "7 = JMSPriority", "JMSPriority = '7'", "JMSType = 'car'", "JMSType IS NULL",
        "JMSType LIKE 'c%'", "JMSCorrelationID = 'corr''1'", "JMSMessageID = 'ID:host-1234-1:1:2:3'", "JMSMessageID LIKE 'ID:%'",
        "JMSMessageID IS NULL", "JMSTimestamp = 1234567890123", "JMSTimestamp > 0", "JMSExpiration = 0", "JMSExpiration > 1",
        "JMSRedelivered", "JMSRedelivered = TRUE", "NOT JMSRedelivered", "JMSXDeliveryCount = 3", "JMSXDeliveryCount = 1",
        "JMSDestination = 'queue://Q.one'", "JMSDestination = 'topic://T'", "JMSDestination IS NULL", "JMSDestination = 'Q.one'",
        "JMSDestination LIKE 'queue://%'", "JMSDestination IN ('topic://T', 'queue://Q.one')",
        "JMSReplyTo = 'temp-queue://ID:host-1-1:1:1'", "JMSReplyTo IS NULL", "JMSXGroupID = 'group'", "JMSXGroupID IS NULL",
        "JMSXGroupSeq = 2", "JMSXGroupSeq = 0", "JMSXGroupFirstForConsumer", "JMSXGroupFirstForConsumer = FALSE",
        "JMSXUserID = 'user'", "JMSXUserID = 'property'", "JMSXUserID IS NULL", "JMSXProducerTXID = 'TX:ID:c:4'",
        "JMSXProducerTXID IS NULL", "JMSActiveMQBrokerInTime = 5", "JMSActiveMQBrokerOutTime = 6", "JMSActiveMQBrokerInTime = 0",
        "JMSActiveMQBrokerPath = '[one, two]'", "JMSActiveMQBrokerPath = 'null'", "JMSActiveMQBrokerPath IS NULL",
        "JMSXRcvTimestamp IS NULL", "JMSXState IS NULL",
    };
}

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.time.Instant;
import java.util.concurrent.atomic.AtomicBoolean;
import javax.jms.Connection;
import javax.jms.JMSException;
import javax.jms.MessageConsumer;
import javax.jms.MessageProducer;
import javax.jms.Session;
import org.apache.activemq.ActiveMQConnection;
import org.apache.activemq.ActiveMQConnectionFactory;
import org.apache.activemq.transport.TransportListener;

/** What failover_probe.rs does, with the Java client: FailoverProbe URI QUEUE. */
public final class FailoverProbe {
    private static final int FLOW = 50;
    private static final int PAUSE_MS = 1;

    public static void main(String[] argv) throws Exception {
        ActiveMQConnectionFactory factory = new ActiveMQConnectionFactory(argv[0]);
        BufferedReader commands = new BufferedReader(new InputStreamReader(System.in));
        while (commands.readLine() != null) {
            probe(factory, argv[1]);
        }
    }

    /** One break, of a new connection. */
    private static void probe(ActiveMQConnectionFactory factory, String queue) throws Exception {
        Connection connection = factory.createConnection();
        AtomicBoolean broken = new AtomicBoolean();
        ((ActiveMQConnection) connection).addTransportListener(new TransportListener() {
            @Override public void onCommand(Object command) { }
            @Override public void onException(IOException error) { }
            @Override public void transportInterupted() { broken.set(true); }
            @Override public void transportResumed() { }
        });
        connection.start();
        Session session = connection.createSession(false, Session.AUTO_ACKNOWLEDGE);
        MessageProducer producer = session.createProducer(session.createQueue(queue));
        Session receiving = connection.createSession(false, Session.AUTO_ACKNOWLEDGE);
        MessageConsumer consumer = receiving.createConsumer(receiving.createQueue(queue));
        AtomicBoolean sending = new AtomicBoolean(true);
        Thread sender = new Thread(() -> {
            while (sending.get()) {
                try {
                    producer.send(session.createTextMessage("probe"));
                    Thread.sleep(PAUSE_MS);
                } catch (JMSException | InterruptedException lost) {
                    // What a break has cost is seen by the consumer.
                }
            }
        });
        sender.start();
        for (int received = 1; ; received++) {
            consumer.receive();
            Instant now = Instant.now();
            if (broken.get()) {
                System.out.println("resumed " + (now.getEpochSecond() * 1_000_000 + now.getNano() / 1000));
                break;
            }
            if (received == FLOW) {
                System.out.println("ready");
            }
        }
        sending.set(false);
        sender.join();
        connection.close();
    }
}

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.time.Instant;
import java.util.concurrent.Semaphore;
import java.util.concurrent.atomic.AtomicInteger;
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

    private static volatile boolean sending;

    public static void main(String[] argv) throws Exception {
        Connection connection = new ActiveMQConnectionFactory(argv[0]).createConnection();
        AtomicInteger breaks = new AtomicInteger();
        ((ActiveMQConnection) connection).addTransportListener(new TransportListener() {
            @Override public void onCommand(Object command) { }
            @Override public void onException(IOException error) { }
            @Override public void transportInterupted() { breaks.incrementAndGet(); }
            @Override public void transportResumed() { }
        });
        connection.start();
        Session session = connection.createSession(false, Session.AUTO_ACKNOWLEDGE);
        MessageProducer producer = session.createProducer(session.createQueue(argv[1]));
        Session receiving = connection.createSession(false, Session.AUTO_ACKNOWLEDGE);
        MessageConsumer consumer = receiving.createConsumer(receiving.createQueue(argv[1]));

        Semaphore go = new Semaphore(0);
        Thread sender = new Thread(() -> {
            while (true) {
                go.acquireUninterruptibly();
                while (sending) {
                    try {
                        producer.send(session.createTextMessage("probe"));
                        Thread.sleep(PAUSE_MS);
                    } catch (JMSException | InterruptedException lost) {
                        // What a break has cost is seen by the consumer.
                    }
                }
            }
        });
        sender.setDaemon(true);
        sender.start();

        BufferedReader commands = new BufferedReader(new InputStreamReader(System.in));
        while (commands.readLine() != null) {
            int before = breaks.get();
            int received = 0;
            sending = true;
            go.release();
            while (true) {
                consumer.receive();
                Instant now = Instant.now();
                if (breaks.get() > before) {
                    System.out.println("resumed " + (now.getEpochSecond() * 1_000_000 + now.getNano() / 1000));
                    break;
                }
                if (++received == FLOW) {
                    System.out.println("ready");
                }
            }
            sending = false;
        }
        connection.close();
    }
}

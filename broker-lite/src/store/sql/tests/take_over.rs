//! Who else has the database: another broker-lite, an ActiveMQ, or nobody because it is gone.

use std::net::{Shutdown, TcpListener, TcpStream};

use super::super::connect::Database;
use super::*;

#[test]
fn a_connection_that_breaks_is_made_anew_and_nothing_is_lost() {
    if !is_here(
        "postgres",
        "a_connection_that_breaks_is_made_anew_and_nothing_is_lost",
    ) {
        return;
    }
    let url = POSTGRES.database();
    let (store, _) = open(&url).unwrap();
    ok(&store, vec![create(1)]);
    let mut beside = Beside::new(&url);
    for sequence in 1..20 {
        let first = append(&store, vec![put(1, 2 * sequence, 10)]);
        beside.run(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
        );
        ok(&store, vec![put(1, 2 * sequence + 1, 10)]);
        wait(first).unwrap();
        assert!(load(&store, vec![key(1, 2)]).unwrap()[0].1.is_some());
    }
    drop(store);
    let (_store, recovered) = open(&url).unwrap();
    assert!(sequences(&recovered, 1).into_iter().eq(2..40));
}

#[test]
fn a_broker_that_was_overtaken_writes_nothing_more() {
    if !is_here("postgres", "a_broker_that_was_overtaken_writes_nothing_more") {
        return;
    }
    let url = POSTGRES.database();
    let (first, _) = open(&url).unwrap();
    ok(&first, vec![create(1), put(1, 1, 10)]);
    let (second, recovered) = open(&url).unwrap();
    assert_eq!(sequences(&recovered, 1), [1]);
    let late = wait(append(&first, vec![put(1, 2, 10)]));
    assert!(matches!(late, Err(StoreError::NotMaster(_))), "{late:?}");
    assert!(first.close().is_err());
    ok(&second, vec![put(1, 3, 10)]);
    drop(second);
    let (_third, recovered) = open(&url).unwrap();
    assert_eq!(sequences(&recovered, 1), [1, 3]);
}

#[test]
fn a_file_is_for_one_broker() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", dir.path().join("db").display());
    let (_first, _) = open(&url).unwrap();
    assert!(matches!(open(&url), Err(StoreError::Locked(_))));
}

#[test]
fn what_the_columns_do_not_take_is_refused_and_the_store_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(&format!("sqlite:{}", dir.path().join("db").display())).unwrap();
    for name in ["x".repeat(251), "nul\0".to_owned()] {
        let long = Op::CreateDestination {
            key: DestinationKey(1),
            destination: StoredDestination::Queue(name.into()),
        };
        let refused = wait(append(&store, vec![long]));
        assert!(matches!(refused, Err(StoreError::Refused(_))), "{refused:?}");
    }
    ok(&store, vec![create(1), put(1, 1, 10)]);
}

#[test]
fn a_row_says_what_activemq_looks_for() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", dir.path().join("db").display());
    let (store, _) = open(&url).unwrap();
    let counted = Op::Redelivered {
        key: key(1, 1),
        count: 3,
    };
    ok(&store, vec![create(1), put(1, 1, 10)]);
    ok(&store, vec![counted]);
    // The message that is loaded has the counter it was put with; the row has what was counted.
    assert_eq!(
        load(&store, vec![key(1, 1)]).unwrap()[0]
            .1
            .as_ref()
            .unwrap()
            .redelivery_counter,
        0
    );
    let mut beside = Beside::new(&url.replace("sqlite:", "sqlite://"));
    let rows = beside.rows(
        "SELECT ID, CONTAINER, MSGID_PROD, MSGID_SEQ, EXPIRATION, PRIORITY, MSG, XID FROM ACTIVEMQ_MSGS",
    );
    let [row] = &rows[..] else {
        panic!("{} rows", rows.len());
    };
    assert_eq!(row.get::<String, _>(1), "queue://q1");
    assert_eq!(row.get::<String, _>(2), "ID:host-1-2-3:4:1:1");
    assert_eq!((row.get::<i64, _>(0), row.get::<i64, _>(3)), (1, 1));
    assert_eq!(row.get::<Option<String>, _>(7), None);
    let stored = body::decode(bytes::Bytes::from(row.get::<Vec<u8>, _>(6))).unwrap();
    assert_eq!(stored.redelivery_counter, 3);
}

#[test]
fn activemq_is_told_up_to_where_a_subscription_has_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", dir.path().join("db").display());
    let (store, _) = open(&url).unwrap();
    ok(
        &store,
        vec![
            subscription(1, "a", "topic://t"),
            subscription(2, "b", "topic://>"),
        ],
    );
    let mut beside = Beside::new(&url.replace("sqlite:", "sqlite://"));
    let acked = |beside: &mut Beside| {
        beside
            .numbers("SELECT LAST_ACKED_ID FROM ACTIVEMQ_ACKS WHERE CONTAINER='topic://t' ORDER BY SUB_NAME")
    };
    assert_eq!(acked(&mut beside), [0]);
    for sequence in [1, 3, 5] {
        let ops = vec![
            put_on_topic(1, sequence),
            share(key(2, sequence + 1), key(1, sequence)),
        ];
        ok(&store, ops);
    }
    assert_eq!(
        beside.numbers("SELECT ID FROM ACTIVEMQ_MSGS ORDER BY ID"),
        [1, 3, 5]
    );
    assert_eq!(acked(&mut beside), [0, 0]);
    // Out of order, ActiveMQ cannot be told.
    ok(&store, vec![remove(1, 3), remove(2, 2)]);
    assert_eq!(acked(&mut beside), [0, 2]);
    ok(&store, vec![remove(1, 1), remove(2, 4), remove(2, 6)]);
    assert_eq!(acked(&mut beside), [4, 5]);
    assert_eq!(beside.numbers("SELECT ID FROM ACTIVEMQ_MSGS ORDER BY ID"), [5]);
    let gone = Op::RemoveDestination {
        key: DestinationKey(2),
    };
    ok(&store, vec![gone, remove(1, 5)]);
    assert_eq!(acked(&mut beside), [5]);
    assert!(beside.numbers("SELECT ID FROM ACTIVEMQ_MSGS").is_empty());
}

/// Messages as an ActiveMQ puts them, as copies of one that is there.
fn as_activemq(beside: &mut Beside, id: u64, container: &str, of: u64) {
    let put = format!(
        "INSERT INTO ACTIVEMQ_MSGS(ID, CONTAINER, MSGID_PROD, MSGID_SEQ, EXPIRATION, PRIORITY, MSG, XID) \
         SELECT {id}, '{container}', MSGID_PROD, MSGID_SEQ, EXPIRATION, 0, MSG, XID FROM ACTIVEMQ_MSGS WHERE ID={of}"
    );
    assert_eq!(beside.run(&put), 1);
}

#[test]
fn what_activemq_did_meanwhile_is_what_counts() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", dir.path().join("db").display());
    let counted = |sequence| Op::Redelivered {
        key: key(1, sequence),
        count: 3,
    };
    {
        let (store, _) = open(&url).unwrap();
        ok(
            &store,
            vec![create(1), put(1, 1, 10), put(1, 2, 20), put(1, 3, 30)],
        );
        ok(&store, vec![counted(1), counted(2), counted(3)]);
        // Marks are ahead.
        let dispatched = Op::Dispatched {
            destination: DestinationKey(1),
            sequence: 3,
        };
        ok(&store, vec![dispatched]);
        ok(
            &store,
            vec![
                subscription(2, "a", "topic://t"),
                subscription(3, "b", "topic://t"),
                subscription(4, "gone", "topic://t"),
            ],
        );
        for sequence in [11, 14] {
            ok(
                &store,
                vec![
                    put_on_topic(2, sequence),
                    share(key(3, sequence + 1), key(2, sequence)),
                    share(key(4, sequence + 2), key(2, sequence)),
                ],
            );
        }
        ok(&store, vec![remove(3, 15)]);
        store.close().unwrap();
    }
    let mut beside = Beside::new(&url.replace("sqlite:", "sqlite://"));
    // It delivered one message, and gave its number to another one.
    as_activemq(&mut beside, 99, "queue://q1", 1);
    beside.run("DELETE FROM ACTIVEMQ_MSGS WHERE ID IN (1, 3)");
    beside.run("UPDATE ACTIVEMQ_MSGS SET ID=3, MSGID_SEQ=77, MSG=(SELECT MSG FROM ACTIVEMQ_MSGS WHERE ID=11) WHERE ID=99");
    as_activemq(&mut beside, 40, "queue://new", 2);
    // One subscription went on, one began, one ended.
    beside.run("UPDATE ACTIVEMQ_ACKS SET LAST_ACKED_ID=11 WHERE SUB_NAME='a'");
    beside.run("DELETE FROM ACTIVEMQ_ACKS WHERE SUB_NAME='gone'");
    beside.run(
        "INSERT INTO ACTIVEMQ_ACKS(CONTAINER, SUB_DEST, CLIENT_ID, SUB_NAME, SELECTOR, LAST_ACKED_ID, PRIORITY) \
         VALUES ('topic://t', 'topic://t', 'other', 'begun', NULL, 40, 0)",
    );
    as_activemq(&mut beside, 41, "topic://t", 14);
    let (store, recovered) = open(&url).unwrap();
    let counters = |destination: u32| -> Vec<(u64, u32)> {
        let found = recovered
            .destinations
            .iter()
            .find(|found| found.key.0 == destination);
        let messages = found.into_iter().flat_map(|found| &found.messages);
        messages
            .map(|found| (found.sequence, found.redelivered))
            .collect()
    };
    assert_eq!(counters(1), [(2, 3), (3, 0)]);
    assert_eq!(recovered.destinations[0].dispatched, 2);
    assert_eq!(counters(2), [(14, 0), (41, 0)]);
    assert_eq!(counters(3), [(12, 0), (41, 0)]);
    assert!(recovered.destinations.iter().all(|found| found.key.0 != 4));
    let find = |wanted: &dyn Fn(&StoredDestination) -> bool| {
        let found = recovered
            .destinations
            .iter()
            .find(|found| wanted(&found.destination));
        found.expect("ActiveMQ made it").key.0
    };
    let queue = find(&|found| *found == StoredDestination::Queue("queue://new".into()));
    assert_eq!(counters(queue), [(40, 3)]);
    let begun = find(
        &|found| matches!(found, StoredDestination::Subscription(found) if &*found.name == "begun" && &*found.client_id == "other"),
    );
    assert_eq!(counters(begun), [(41, 0)]);
    assert_eq!(recovered.next_sequence, 42);
    // Everything of it is in our tables now.
    ok(&store, vec![remove(2, 14), remove(2, 41), remove(queue, 40)]);
    drop(store);
    let (_store, again) = open(&url).unwrap();
    assert_eq!(sequences(&again, 1), [2, 3]);
    assert_eq!(sequences(&again, 2), [0; 0]);
    assert_eq!(sequences(&again, 3), [12, 41]);
    assert_eq!(sequences(&again, begun), [41]);
    let notes = beside.numbers("SELECT COUNT(*) FROM BROKERLITE_NOTES");
    assert_eq!(notes, [4], "of one counter and three messages of subscriptions");
}

#[test]
fn a_message_that_activemq_stored_goes_to_whom_it_is_for() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", dir.path().join("db").display());
    {
        let (store, _) = open(&url).unwrap();
        ok(
            &store,
            vec![
                subscription(1, "a", "topic://t"),
                subscription(2, "b", "topic://t"),
            ],
        );
        ok(&store, vec![create(3), put(3, 1, 1)]);
    }
    let mut beside = Beside::new(&url.replace("sqlite:", "sqlite://"));
    as_activemq(&mut beside, 2, "topic://t", 1);
    as_activemq(&mut beside, 3, "topic://t", 1);
    as_activemq(&mut beside, 4, "temp-queue://x", 1);
    beside.run("UPDATE ACTIVEMQ_ACKS SET LAST_ACKED_ID=2 WHERE SUB_NAME='a'");
    let url = url.parse().unwrap();
    let opened = SqlStore::open(
        &url,
        SqlOptions::default(),
        Box::new(|subscription, _| &*subscription.name == "a"),
    );
    let (_store, recovered) = block_on(opened).unwrap();
    assert_eq!(sequences(&recovered, 1), [3]);
    assert_eq!(sequences(&recovered, 2), [0; 0]);
    // What is for nobody any more is gone; what nobody understands stays.
    assert_eq!(
        beside.numbers("SELECT ID FROM ACTIVEMQ_MSGS ORDER BY ID"),
        [1, 3, 4]
    );
}

#[test]
fn prepared_transactions_of_activemq_are_not_overlooked() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", dir.path().join("db").display());
    {
        let (store, _) = open(&url).unwrap();
        ok(&store, vec![create(1), put(1, 1, 1)]);
    }
    let mut beside = Beside::new(&url.replace("sqlite:", "sqlite://"));
    beside.run("UPDATE ACTIVEMQ_MSGS SET XID='KwAA'");
    let error = open(&url).unwrap_err();
    assert!(error.to_string().contains("prepared"), "{error}");
}

/// A broker that was stopped in the middle of a transaction, and is not heard of any more.
fn a_transaction_without_an_end_keeps_nobody_out(url: &str) {
    let (first, _) = open(url).unwrap();
    ok(&first, vec![create(1), put(1, 1, 10)]);
    let database = Database::parse(url).unwrap();
    let mut stopped = block_on(database.connect_writer()).unwrap();
    block_on(async {
        let mut session = database.session(&mut stopped);
        session.command(database.dialect.begin()).await.unwrap();
        session
            .command("UPDATE BROKERLITE_STORE SET COMMITS=COMMITS WHERE ID=1")
            .await
            .unwrap();
    });
    let (_second, recovered) = open(url).unwrap();
    assert_eq!(sequences(&recovered, 1), [1]);
    let late = block_on(async { database.session(&mut stopped).command("COMMIT").await });
    assert!(late.is_err_and(|error| database.is_passing(&error)));
}

#[test]
fn a_transaction_without_an_end_keeps_nobody_out_of_postgres() {
    if is_here(
        "postgres",
        "a_transaction_without_an_end_keeps_nobody_out_of_postgres",
    ) {
        a_transaction_without_an_end_keeps_nobody_out(&POSTGRES.database());
    }
}

#[test]
fn a_transaction_without_an_end_keeps_nobody_out_of_mariadb() {
    if is_here(
        "mariadb",
        "a_transaction_without_an_end_keeps_nobody_out_of_mariadb",
    ) {
        a_transaction_without_an_end_keeps_nobody_out(&MARIADB.database());
    }
}

/// Leads to a server until it is dropped.
struct Wire {
    port: u16,
    sockets: Arc<Mutex<Vec<TcpStream>>>,
}

impl Wire {
    /// Its thread ends with the first connection that comes after it was cut.
    fn to(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let sockets = Arc::<Mutex<Vec<TcpStream>>>::default();
        let open = Arc::downgrade(&sockets);
        std::thread::spawn(move || {
            for near in listener.incoming() {
                let (near, far) = (near.unwrap(), TcpStream::connect(&server).unwrap());
                let Some(sockets) = open.upgrade() else { return };
                sockets
                    .lock()
                    .extend([near.try_clone().unwrap(), far.try_clone().unwrap()]);
                for (mut from, mut to) in [(near.try_clone().unwrap(), far.try_clone().unwrap()), (far, near)]
                {
                    std::thread::spawn(move || std::io::copy(&mut from, &mut to));
                }
            }
        });
        Self { port, sockets }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        for socket in self.sockets.lock().iter() {
            // The other end may have gone first.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

#[test]
fn a_broker_that_is_not_master_any_more_does_not_wait_for_the_database() {
    if !is_here(
        "postgres",
        "a_broker_that_is_not_master_any_more_does_not_wait_for_the_database",
    ) {
        return;
    }
    let direct = url::Url::parse(&POSTGRES.database()).unwrap();
    let wire = Wire::to(format!("127.0.0.1:{}", direct.port().unwrap()));
    let mut url = direct;
    url.set_port(Some(wire.port)).unwrap();
    let mut settings = SqlSettings::new(url.as_str().parse().unwrap());
    settings.options.reconnect = Duration::from_secs(3600);
    let lease = ha::Lease::endless(0);
    let opened = SqlStore::open_as(settings, "one", Box::new(|_, _| true), lease.clone());
    let (store, _) = block_on(opened).unwrap();
    ok(&store, vec![create(1), put(1, 1, 10)]);
    drop(wire);
    let (told, answer) = std::sync::mpsc::channel();
    store.load(
        vec![key(1, 1)],
        Box::new(move |found| told.send(found.is_ok()).unwrap()),
    );
    lease.lose("another has it");
    let (closed, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || closed.send(store.close()));
    let ended = ended.recv_timeout(super::super::super::suite::DEADLINE).unwrap();
    assert!(matches!(ended, Err(StoreError::NotMaster(_))), "{ended:?}");
    assert_eq!(answer.recv(), Ok(false));
}

//! The tables: ActiveMQ's, with its names, and what its schema cannot say in others beside them.

use super::super::StoredDestination;
use super::dialect::Dialect;

/// ActiveMQ's messages.
pub(super) const MESSAGES: &str = "ACTIVEMQ_MSGS";
/// ActiveMQ's durable subscriptions, and up to where each has acknowledged.
pub(super) const ACKS: &str = "ACTIVEMQ_ACKS";
/// ActiveMQ's lock of the master.
pub(super) const LOCK: &str = "ACTIVEMQ_LOCK";
/// The one row of what holds for the store.
pub(super) const STORE: &str = "BROKERLITE_STORE";
/// Destinations by their keys.
pub(super) const DESTINATIONS: &str = "BROKERLITE_DESTS";
/// Messages of destinations that ActiveMQ has not: open transactions, schedules, retained messages.
pub(super) const OWN_MESSAGES: &str = "BROKERLITE_MSGS";
/// What is to be known of single messages.
pub(super) const NOTES: &str = "BROKERLITE_NOTES";
/// What prepared transactions have acknowledged.
pub(super) const HELD: &str = "BROKERLITE_HELD";
/// The producers seen last.
pub(super) const PRODUCERS: &str = "BROKERLITE_PRODUCERS";
/// The transactions committed lately.
pub(super) const OUTCOMES: &str = "BROKERLITE_OUTCOMES";

/// The longest text of ActiveMQ's columns, in characters.
pub(super) const LONGEST_TEXT: usize = 250;

pub(super) const QUEUE: i64 = 1;
pub(super) const SUBSCRIPTION: i64 = 2;
pub(super) const TRANSACTION: i64 = 3;
pub(super) const SCHEDULE: i64 = 4;
pub(super) const RETAINED: i64 = 5;

/// `KIND` of a destination; the numbers are those of the journal.
pub(super) fn kind_of(destination: &StoredDestination) -> i64 {
    match destination {
        StoredDestination::Queue(_) => QUEUE,
        StoredDestination::Subscription(_) => SUBSCRIPTION,
        StoredDestination::Transaction => TRANSACTION,
        StoredDestination::Schedule => SCHEDULE,
        StoredDestination::Retained(_) => RETAINED,
    }
}

/// A table and how it is made.
pub(super) struct Table {
    pub(super) name: &'static str,
    columns: &'static str,
    /// What is made or put in after it.
    then: &'static [&'static str],
}

/// ActiveMQ's lock, which is there before anything else is touched.
pub(super) const LOCK_TABLE: Table = Table {
    name: LOCK,
    columns: "ID BIGINT NOT NULL, TIME BIGINT, BROKER_NAME VARCHAR(250), PRIMARY KEY (ID)",
    then: &["INSERT INTO ACTIVEMQ_LOCK(ID) VALUES (1)"],
};

/// All others.
pub(super) const TABLES: [Table; 9] = [
    Table {
        name: MESSAGES,
        columns: "ID BIGINT NOT NULL, CONTAINER VARCHAR(250) NOT NULL, MSGID_PROD VARCHAR(250), \
                  MSGID_SEQ BIGINT, EXPIRATION BIGINT, MSG {binary}, PRIORITY BIGINT, XID VARCHAR(250), \
                  PRIMARY KEY (ID)",
        then: &[
            "CREATE INDEX ACTIVEMQ_MSGS_MIDX ON ACTIVEMQ_MSGS (MSGID_PROD,MSGID_SEQ)",
            "CREATE INDEX ACTIVEMQ_MSGS_CIDX ON ACTIVEMQ_MSGS (CONTAINER)",
            "CREATE INDEX ACTIVEMQ_MSGS_EIDX ON ACTIVEMQ_MSGS (EXPIRATION)",
            "CREATE INDEX ACTIVEMQ_MSGS_PIDX ON ACTIVEMQ_MSGS (PRIORITY)",
            "CREATE INDEX ACTIVEMQ_MSGS_XIDX ON ACTIVEMQ_MSGS (XID)",
            "CREATE INDEX ACTIVEMQ_MSGS_IIDX ON ACTIVEMQ_MSGS (ID, XID, CONTAINER)",
        ],
    },
    Table {
        name: ACKS,
        columns: "CONTAINER VARCHAR(250) NOT NULL, SUB_DEST VARCHAR(250), CLIENT_ID VARCHAR(250) NOT NULL, \
                  SUB_NAME VARCHAR(250) NOT NULL, SELECTOR VARCHAR(250), LAST_ACKED_ID BIGINT, \
                  PRIORITY BIGINT DEFAULT 5 NOT NULL, XID VARCHAR(250), \
                  CONSTRAINT PK_ACTIVEMQ_ACKS PRIMARY KEY (CONTAINER, CLIENT_ID, SUB_NAME, PRIORITY)",
        then: &["CREATE INDEX ACTIVEMQ_ACKS_XIDX ON ACTIVEMQ_ACKS (XID)"],
    },
    Table {
        name: STORE,
        columns: "ID BIGINT NOT NULL, LAYOUT BIGINT NOT NULL, IDENTITY_TEXT VARCHAR(250) NOT NULL, \
                  OPENER VARCHAR(250) NOT NULL, COMMITS BIGINT NOT NULL, CLEAN BIGINT NOT NULL, \
                  NEXT_SEQUENCE BIGINT NOT NULL, NEXT_DEST BIGINT NOT NULL, FORGOTTEN BIGINT NOT NULL, \
                  PRIMARY KEY (ID)",
        then: &[],
    },
    Table {
        name: DESTINATIONS,
        columns: "DEST BIGINT NOT NULL, KIND BIGINT NOT NULL, NAME VARCHAR(250), CLIENT_ID VARCHAR(250), \
                  SUB_NAME VARCHAR(250), SELECTOR VARCHAR(250), NO_LOCAL BIGINT NOT NULL, \
                  ACKS BIGINT NOT NULL, DISPATCHED BIGINT NOT NULL, XID_FORMAT BIGINT, XID_GLOBAL {binary}, \
                  XID_BRANCH {binary}, PRIMARY KEY (DEST)",
        then: &[],
    },
    Table {
        name: OWN_MESSAGES,
        columns: "DEST BIGINT NOT NULL, ID BIGINT NOT NULL, MSGID_PROD VARCHAR(250), MSGID_SEQ BIGINT, \
                  EXPIRATION BIGINT, MSG {binary}, PRIORITY BIGINT, PRIMARY KEY (DEST, ID)",
        then: &[],
    },
    Table {
        name: NOTES,
        columns: "DEST BIGINT NOT NULL, SEQ BIGINT NOT NULL, ID BIGINT NOT NULL, MARK BIGINT NOT NULL, \
                  REDELIVERED BIGINT NOT NULL, AT_FIRST BIGINT NOT NULL, DUE BIGINT, FIRED BIGINT, \
                  PRIMARY KEY (DEST, SEQ)",
        then: &[],
    },
    Table {
        name: HELD,
        columns: "DEST BIGINT NOT NULL, HELD_DEST BIGINT NOT NULL, HELD_SEQ BIGINT NOT NULL, \
                  MARK BIGINT NOT NULL, PRIMARY KEY (DEST, HELD_DEST, HELD_SEQ)",
        then: &[],
    },
    Table {
        name: PRODUCERS,
        columns: "ID BIGINT NOT NULL, CONNECTION_ID VARCHAR(250) NOT NULL, SESSION_ID BIGINT NOT NULL, \
                  PRODUCER BIGINT NOT NULL, SEQ BIGINT NOT NULL, SEEN BIGINT NOT NULL, PRIMARY KEY (ID)",
        then: &[],
    },
    Table {
        name: OUTCOMES,
        columns: "ID BIGINT NOT NULL, CONNECTION_ID VARCHAR(250) NOT NULL, TX BIGINT NOT NULL, \
                  AT_TIME BIGINT NOT NULL, PRIMARY KEY (ID)",
        then: &["CREATE INDEX BROKERLITE_OUTCOMES_TIDX ON BROKERLITE_OUTCOMES (AT_TIME)"],
    },
];

impl Table {
    /// Fails if the table is not there, and finds nothing if it is.
    pub(super) fn probe(&self) -> String {
        format!("SELECT 1 FROM {} WHERE 1=0", self.name)
    }

    /// What makes it.
    pub(super) fn create(&self, dialect: Dialect) -> Vec<String> {
        let columns = self.columns.replace("{binary}", dialect.binary());
        let table = format!("CREATE TABLE {}({columns}){}", self.name, dialect.table_options());
        let then = self.then.iter().map(|&statement| statement.to_owned());
        std::iter::once(table).chain(then).collect()
    }
}

//! What is particular to stores in databases. What every store does, the suite of all stores asks.

use std::sync::Arc;

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Connection, Row};

use super::super::suite::sql::{MARIADB, POSTGRES, block_on, is_here, open};
use super::super::suite::{
    append, create, key, load, message, move_to, put, remove, sequences, share, transaction, wait,
};
use super::super::{
    DestinationKey, MessageKey, Op, Recovered, Store, StoreError, StoredDestination, StoredSubscription,
};
use super::*;

mod locks;
mod random;
mod take_over;
mod tls;

/// A connection beside those of the store.
struct Beside(AnyConnection);

impl Beside {
    fn new(url: &str) -> Self {
        Self(block_on(AnyConnection::connect(url)).unwrap())
    }

    fn run(&mut self, statement: &str) -> u64 {
        let done = sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut self.0);
        block_on(done).unwrap().rows_affected()
    }

    fn rows(&mut self, query: &str) -> Vec<AnyRow> {
        block_on(sqlx::query(AssertSqlSafe(query)).fetch_all(&mut self.0)).unwrap()
    }

    fn numbers(&mut self, query: &str) -> Vec<i64> {
        let rows = self.rows(query);
        rows.iter().map(|row| row.get::<i64, _>(0)).collect()
    }
}

fn ok(store: &SqlStore, ops: Vec<Op>) {
    wait(append(store, ops)).unwrap();
}

fn subscription(number: u32, name: &str, topic: &str) -> Op {
    Op::CreateDestination {
        key: DestinationKey(number),
        destination: StoredDestination::Subscription(Arc::new(StoredSubscription {
            client_id: "client".into(),
            name: name.into(),
            destination: topic.into(),
            selector: None,
            no_local: false,
        })),
    }
}

fn put_on_topic(destination: u32, sequence: u64) -> Op {
    let mut message = message(1, sequence as i64, 10);
    message.destination = Some(openwire_client::wire::Destination::topic("t"));
    Op::Put {
        key: key(destination, sequence),
        message: Arc::new(message),
    }
}

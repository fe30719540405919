//! Reads bodies back.

use std::sync::Arc;
use std::time::Duration;

use openwire_client::wire::Message;
use rustc_hash::FxHashMap;
use sqlx::AnyPool;
use tokio::time::{Instant, timeout};

use super::super::{Bodies, DestinationKey, MessageKey, StoreError};
use super::body::decode;
use super::changes::Row;
use super::connect::Database;
use super::index::Index;
use super::schema::{MESSAGES, OWN_MESSAGES};
use super::statements::{Value, bytes, id};

/// How many bodies are asked for with one statement.
const AT_ONCE: usize = 64;

/// What is wanted, and where it lies.
pub(super) struct Wanted {
    /// The key, its row, and the redelivery counter the message was put with.
    messages: Vec<(MessageKey, Option<(Row, u32)>)>,
}

impl Wanted {
    pub(super) fn new(index: &Index, keys: &[MessageKey]) -> Self {
        let messages = keys.iter().map(|&key| {
            let at = index.state.get(key);
            let counter = index.state.counter(key).initial;
            (key, at.map(|at| (at.row, counter)))
        });
        Self {
            messages: messages.collect(),
        }
    }
}

/// Reads what is wanted. A connection that breaks is made anew, for so long.
pub(super) async fn read(
    database: &Database,
    readers: &AnyPool,
    wanted: Wanted,
    patience: Duration,
) -> Bodies {
    let until = Instant::now() + patience;
    loop {
        let Ok(attempted) = timeout(patience, attempt(database, readers, &wanted)).await else {
            let why = format!("{} does not answer", database.name);
            return Err(StoreError::Io(why));
        };
        match attempted {
            Ok(found) => return Ok(found),
            Err(Failure::Database(error)) if database.is_passing(&error) && Instant::now() < until => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(Failure::Database(error)) => {
                return Err(StoreError::Io(format!("{}: {error}", database.name)));
            }
            Err(Failure::Unreadable(why)) => return Err(StoreError::Io(why)),
        }
    }
}

enum Failure {
    Database(sqlx::Error),
    Unreadable(String),
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

async fn attempt(
    database: &Database,
    readers: &AnyPool,
    wanted: &Wanted,
) -> Result<Vec<(MessageKey, Option<Arc<Message>>)>, Failure> {
    let mut rows: Vec<_> = wanted
        .messages
        .iter()
        .filter_map(|(_, at)| at.map(|(row, _)| row))
        .collect();
    rows.sort_unstable();
    rows.dedup();
    let mut found = FxHashMap::default();
    if !rows.is_empty() {
        let mut connection = readers.acquire().await?;
        let mut session = database.session(&mut connection);
        let mut messages = Vec::new();
        let mut own: FxHashMap<DestinationKey, Vec<u64>> = FxHashMap::default();
        for row in rows {
            match row {
                Row::Message(id) => messages.push(id),
                Row::Own(key) => own.entry(key.destination).or_default().push(key.sequence),
            }
        }
        for ids in messages.chunks(AT_ONCE) {
            let head = format!("SELECT ID, MSG FROM {MESSAGES} WHERE ID IN");
            for row in session.rows_for_ids(&head, &[], ids).await? {
                let id = id(&row, 0)?;
                found.insert(Row::Message(id), decoded(MESSAGES, id, bytes(&row, 1)?)?);
            }
        }
        for (destination, ids) in own {
            let of = [Value::Int(destination.0.into())];
            for ids in ids.chunks(AT_ONCE) {
                let head = format!("SELECT ID, MSG FROM {OWN_MESSAGES} WHERE DEST=? AND ID IN");
                for row in session.rows_for_ids(&head, &of, ids).await? {
                    let sequence = id(&row, 0)?;
                    let key = MessageKey {
                        destination,
                        sequence,
                    };
                    found.insert(Row::Own(key), decoded(OWN_MESSAGES, sequence, bytes(&row, 1)?)?);
                }
            }
        }
    }
    let messages = wanted.messages.iter().map(|&(key, at)| {
        let message = at.and_then(|(row, counter)| Some((found.get(&row)?.clone(), counter)));
        (key, message.map(|(message, counter)| as_put(message, counter)))
    });
    Ok(messages.collect())
}

fn decoded(table: &str, id: u64, body: Option<bytes::Bytes>) -> Result<Arc<Message>, Failure> {
    decode(body.unwrap_or_default()).map_err(|error| {
        Failure::Unreadable(format!(
            "{table}: the message with ID {id} cannot be read: {error}"
        ))
    })
}

/// The message with the redelivery counter it was put with: what was counted since is kept beside it, and stands in
/// the row only for ActiveMQ.
fn as_put(mut message: Arc<Message>, counter: u32) -> Arc<Message> {
    let counter = i32::try_from(counter).unwrap_or(i32::MAX);
    if message.redelivery_counter.max(0) != counter {
        Arc::make_mut(&mut message).redelivery_counter = counter;
    }
    message
}

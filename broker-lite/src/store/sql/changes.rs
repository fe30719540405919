//! What a group of batches changes in the tables: the difference between the index before it and after it.
//!
//! A message that is put and removed within one group is in none of the tables, ever.

use std::sync::Arc;

use openwire_client::wire::ProducerId;
use rustc_hash::{FxHashMap, FxHashSet};

use super::super::{Committed, DestinationKey, MessageKey};
use super::body::Body;
use super::index::Topic;

/// Where a message lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Row {
    /// In ActiveMQ's table, by its `ID`.
    Message(u64),
    /// In the table for destinations that ActiveMQ has not.
    Own(MessageKey),
}

/// What is to be in a row.
#[derive(Debug, Clone)]
pub(super) struct Content {
    /// `CONTAINER`: the destination ActiveMQ finds it by; none in the table of our own.
    pub(super) container: Option<Arc<str>>,
    /// `PRIORITY`, if it is not that of the message.
    pub(super) priority: Option<i64>,
    pub(super) source: Source,
}

/// Where the content of a row is from.
#[derive(Debug, Clone)]
pub(super) enum Source {
    New(Arc<Body>),
    /// From another row, as it was before the group.
    Copy(Row),
}

/// What becomes of a row.
#[derive(Debug)]
pub(super) struct RowChange {
    /// It is in the table before the group.
    pub(super) existed: bool,
    /// What is in it after the group; none if it is not there.
    pub(super) content: Option<Content>,
}

/// The acknowledgements of one subscription on one topic: a row of ActiveMQ's, or ten if priorities count.
pub(super) type AckKey = (DestinationKey, Topic);

/// What a subscription is called.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct SubscriptionName {
    pub(super) client_id: Arc<str>,
    pub(super) name: Arc<str>,
}

/// Everything that a group changes. Whether something is there after it, the index says.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) rows: FxHashMap<Row, RowChange>,
    /// Destinations that lost all they had; they may be there again.
    pub(super) emptied: Vec<DestinationKey>,
    /// Messages of which something changed, and whether something is noted of them before the group.
    pub(super) notes: FxHashMap<MessageKey, bool>,
    /// Destinations that changed, and whether they are there before the group.
    pub(super) destinations: FxHashMap<DestinationKey, bool>,
    pub(super) prepared: FxHashSet<DestinationKey>,
    pub(super) acks: FxHashSet<AckKey>,
    /// Subscriptions that are gone from these topics.
    pub(super) unsubscribed: Vec<(SubscriptionName, Arc<str>)>,
    /// Subscriptions whose selector changed.
    pub(super) reselected: FxHashSet<DestinationKey>,
    pub(super) producers: FxHashSet<ProducerId>,
    pub(super) outcomes: Vec<Committed>,
    /// Outcomes were forgotten.
    pub(super) forgets: bool,
}

impl Changes {
    /// The content of a row as it is now.
    pub(super) fn source(&self, row: Row) -> Source {
        match self.rows.get(&row) {
            Some(RowChange {
                content: Some(content),
                ..
            }) => content.source.clone(),
            _ => Source::Copy(row),
        }
    }

    /// This is in the row from here on. What was there before has been erased.
    pub(super) fn write(&mut self, row: Row, content: Content) {
        let change = self.rows.entry(row).or_insert(RowChange {
            existed: false,
            content: None,
        });
        change.content = Some(content);
    }

    /// The row is gone from here on. It was there.
    pub(super) fn erase(&mut self, row: Row) {
        let change = self.rows.entry(row).or_insert(RowChange {
            existed: true,
            content: None,
        });
        change.content = None;
        if !change.existed {
            self.rows.remove(&row);
        }
    }
}

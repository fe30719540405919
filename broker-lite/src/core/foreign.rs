//! Whom the messages are for that another broker stored for a topic.

use std::collections::HashMap;
use std::sync::Arc;

use openwire_client::wire::Message;
use parking_lot::Mutex;

use crate::selector::Selector;
use crate::store::StoredSubscription;

/// Tells whether a subscription's selector matches a message. Each selector is read once.
pub(crate) fn matches() -> impl Fn(&StoredSubscription, &Message) -> bool + Send {
    let known: Mutex<HashMap<Arc<str>, Option<Selector>>> = Mutex::default();
    move |subscription, message| {
        let Some(text) = &subscription.selector else {
            return true;
        };
        let mut known = known.lock();
        let selector = known
            .entry(text.clone())
            .or_insert_with(|| Selector::parse(text).ok());
        // Of one that is not understood is told when the subscription is recovered: it gets everything.
        selector
            .as_ref()
            .is_none_or(|selector| selector.matches(message).unwrap_or(false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selector_says_whom_a_message_is_for() {
        let matches = matches();
        let subscription = |selector: Option<&str>| StoredSubscription {
            client_id: "c".into(),
            name: "n".into(),
            destination: "topic://t".into(),
            selector: selector.map(Into::into),
            no_local: false,
        };
        let message = Message {
            priority: 7,
            ..Message::default()
        };
        for (selector, expected) in [
            (None, true),
            (Some("JMSPriority > 5"), true),
            (Some("JMSPriority > 8"), false),
            (Some("no selector at all"), true),
        ] {
            assert_eq!(
                matches(&subscription(selector), &message),
                expected,
                "{selector:?}"
            );
        }
    }
}

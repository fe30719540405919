//! Messages that bear the broker's time rather than the client's: ActiveMQ's `timeStampingBrokerPlugin`.

use std::time::Duration;

use openwire_client::wire::Message;

use super::fields::{FieldError, Fields, flag, millis};

/// `timeStampingBrokerPlugin`: `JMSTimestamp` and `JMSExpiration` are set anew when a message comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timestamping {
    /// `ttlCeiling`, in milliseconds: no message lives longer. Default 0: as long as its sender wants.
    pub ttl_ceiling: Duration,
    /// `zeroExpirationOverride`, in milliseconds: how long one lives that would live without end. Default 0: without end.
    pub zero_expiration_override: Duration,
    /// `futureOnly`: nothing is set back, only forward. Default false.
    pub future_only: bool,
    /// `processNetworkMessages`: messages from other brokers as well. Default false.
    pub process_network_messages: bool,
}

impl Timestamping {
    /// The new `JMSTimestamp` and `JMSExpiration` of a message that comes in now, in milliseconds since 1970; `None` if
    /// it keeps those it has. A message without a timestamp keeps them, and so does one that is on its way to the dead
    /// letters.
    pub fn restamp(&self, message: &Message, to_dead_letters: bool, now: i64) -> Option<(i64, i64)> {
        let from_network = message.broker_path.as_ref().is_some_and(|path| !path.is_empty());
        if message.timestamp <= 0 || to_dead_letters || (from_network && !self.process_network_messages) {
            return None;
        }
        let mut to_live = if message.expiration > 0 {
            message.expiration.saturating_sub(message.timestamp)
        } else {
            in_millis(self.zero_expiration_override)
        };
        let ceiling = in_millis(self.ttl_ceiling);
        if ceiling > 0 && to_live > ceiling {
            to_live = ceiling;
        }
        let expiration = to_live.saturating_add(now);
        if self.future_only && expiration <= message.expiration {
            return None;
        }
        let expires = to_live > 0 && expiration > 0;
        Some((now, if expires { expiration } else { message.expiration }))
    }

    /// Reads the attributes of the plugin.
    ///
    /// # Errors
    ///
    /// A [`FieldError`] for what cannot be.
    pub fn read(mut fields: Fields) -> Result<Self, FieldError> {
        let mut stamping = Self::default();
        fields.take_into("ttlCeiling", &mut stamping.ttl_ceiling, millis)?;
        fields.take_into(
            "zeroExpirationOverride",
            &mut stamping.zero_expiration_override,
            millis,
        )?;
        fields.take_into("futureOnly", &mut stamping.future_only, flag)?;
        fields.take_into(
            "processNetworkMessages",
            &mut stamping.process_network_messages,
            flag,
        )?;
        fields.finish()?;
        Ok(stamping)
    }
}

fn in_millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamped(stamping: &Timestamping, timestamp: i64, expiration: i64) -> Option<(i64, i64)> {
        let message = Message {
            timestamp,
            expiration,
            ..Message::default()
        };
        stamping.restamp(&message, false, 5000)
    }

    #[test]
    fn new_times() {
        let plain = Timestamping::default();
        let bounded = Timestamping {
            ttl_ceiling: Duration::from_millis(100),
            zero_expiration_override: Duration::from_millis(70),
            ..plain
        };
        let future = Timestamping {
            future_only: true,
            ..plain
        };
        for (stamping, timestamp, expiration, expected) in [
            (plain, 1000, 1500, Some((5000, 5500))),
            (plain, 1000, 0, Some((5000, 0))),
            (plain, 0, 1500, None),
            // It was over before it was sent.
            (plain, 1000, 900, Some((5000, 900))),
            (bounded, 1000, 1500, Some((5000, 5100))),
            (bounded, 1000, 0, Some((5000, 5070))),
            (future, 9000, 9500, None),
            (future, 1000, 1500, Some((5000, 5500))),
            (plain, 1, i64::MAX, Some((5000, i64::MAX))),
        ] {
            assert_eq!(
                stamped(&stamping, timestamp, expiration),
                expected,
                "{stamping:?}"
            );
        }
        let mut message = Message {
            timestamp: 1000,
            ..Message::default()
        };
        assert_eq!(plain.restamp(&message, true, 5000), None);
        message.broker_path = Some(vec![None]);
        assert_eq!(plain.restamp(&message, false, 5000), None);
        let network = Timestamping {
            process_network_messages: true,
            ..plain
        };
        assert_eq!(network.restamp(&message, false, 5000), Some((5000, 0)));
    }
}

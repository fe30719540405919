//! JMS MessageConsumer.

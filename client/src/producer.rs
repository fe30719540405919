//! JMS MessageProducer.

//! JMS Session.

//! JMS Connection.

//! What happens to a connection.

//! ConnectionFactory.

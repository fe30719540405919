//! jms.* options.

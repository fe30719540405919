//! One grammar for simple, composite and nested URIs, typed into what the transports need.

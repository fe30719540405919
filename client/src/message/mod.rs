//! What users send and receive.

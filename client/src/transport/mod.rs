//! Bytes only: tcp, tls, in-process pipes (vm).

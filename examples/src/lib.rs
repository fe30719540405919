//! Samples; see the `examples/` folder.

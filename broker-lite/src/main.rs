//! The `broker-lite` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    broker_lite::cli::main()
}

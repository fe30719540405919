//! What a person types: the commands of the binary.

mod bench;
mod log;
mod start;

use std::fmt;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

/// A compact OpenWire message broker.
///
/// Without a command it starts a broker.
#[derive(Debug, Parser)]
#[command(name = "broker-lite", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    start: start::Options,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a broker until SIGTERM or Ctrl-C
    Start(start::Options),
    /// Puts load on a broker, this one or any other that speaks OpenWire, and measures
    Bench(bench::Options),
}

/// What every command has.
#[derive(Debug, Args)]
struct Common {
    /// What is logged to stderr: a level, or target=level pairs, separated by commas
    #[arg(long, value_name = "FILTER", default_value = "info")]
    log: String,
}

/// `NAME:PASSWORD`; any text is taken here, so that an error of the command line does not show it.
#[derive(Clone)]
struct User(String);

impl User {
    fn parts(&self) -> Result<(&str, &str), &'static str> {
        self.0
            .split_once(':')
            .ok_or("--user takes NAME:PASSWORD, and there is no colon")
    }
}

impl From<&str> for User {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Runs the binary: parses the command line and does what it says.
///
/// Errors are one line on stderr. What cannot be understood on the command line ends with status 2, anything
/// else that fails with 1.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        None => start::run(cli.start),
        Some(Command::Start(options)) => start::run(options),
        Some(Command::Bench(options)) => bench::run(options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // One line, whatever the cause had to say.
            eprintln!("broker-lite: {}", error.replace(['\r', '\n'], " "));
            ExitCode::FAILURE
        }
    }
}

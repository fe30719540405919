//! What a person types: the commands of the binary.

mod access;
mod bench;
mod health;
mod journal;
mod log;
pub mod soak;
mod start;

use std::fmt;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::BrokerError;

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
    Start(Box<start::Options>),
    /// Puts load on a broker, this one or any other that speaks OpenWire, and measures
    Bench(bench::Options),
    Soak(soak::Options),
    /// Looks at a journal that no broker has open, and moves what it holds
    #[command(subcommand)]
    Journal(journal::Command),
    /// Reads a password from the first line of stdin and writes a hash of it, to be kept in its place
    HashPassword,
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

/// The largest body: what fits into a frame by default, with room for the rest of a message.
const LARGEST_BODY: usize = 100 * 1024 * 1024;

/// The size of a body such as `100`, `1k` or `2m`, from `least` bytes.
fn size(text: &str, least: usize) -> Result<usize, String> {
    let (digits, factor) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 1024),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 1024 * 1024),
        _ => (text, 1),
    };
    let size = digits
        .parse::<usize>()
        .ok()
        .and_then(|number| number.checked_mul(factor))
        .ok_or("not a number of bytes")?;
    if (least..=LARGEST_BODY).contains(&size) {
        Ok(size)
    } else {
        Err(format!("from {least} to {LARGEST_BODY} bytes"))
    }
}

/// What a process ends with, whatever the command. 2 is clap's.
mod status {
    pub(super) const OTHER: u8 = 1;
    /// Another process has the store, and this one was not to wait.
    pub(super) const LOCKED: u8 = 3;
    /// This broker was master of the store, and is not any more.
    pub(super) const MASTERSHIP_LOST: u8 = 4;
    /// The store is damaged.
    pub(super) const DAMAGED: u8 = 5;
}

/// Why a command did not do what it was to do.
#[derive(Debug)]
struct Failure {
    status: u8,
    text: String,
}

impl Failure {
    fn is_mastership_lost(&self) -> bool {
        self.status == status::MASTERSHIP_LOST
    }
}

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Self {
            status: status::OTHER,
            text,
        }
    }
}

impl From<BrokerError> for Failure {
    fn from(error: BrokerError) -> Self {
        Self {
            status: match () {
                () if error.is_locked() => status::LOCKED,
                () if error.is_mastership_lost() => status::MASTERSHIP_LOST,
                () if error.is_damaged() => status::DAMAGED,
                () => status::OTHER,
            },
            text: error.to_string(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Runs the binary: parses the command line and does what it says.
///
/// Errors are one line on stderr. What cannot be understood on the command line ends with status 2. Any command ends with 3
/// if another process has the store and it was not to wait, and with 5 if the store is damaged. `start` ends with 4 if it
/// was master and is not any more and was not to stand by again: then it is to be started again. Anything else that fails
/// ends with 1.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        None => start::run(cli.start),
        Some(Command::Start(options)) => start::run(*options),
        Some(Command::Bench(options)) => bench::run(options).map_err(Failure::from),
        Some(Command::Soak(options)) => soak::run(options).map_err(Failure::from),
        Some(Command::Journal(command)) => return journal::run(command),
        Some(Command::HashPassword) => access::hash_password().map_err(Failure::from),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            complain(&failure.text);
            ExitCode::from(failure.status)
        }
    }
}

/// One line, whatever the cause had to say.
fn complain(error: &str) {
    eprintln!("broker-lite: {}", error.replace(['\r', '\n'], " "));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(size("100", 8), Ok(100));
        assert_eq!(size("1k", 8), Ok(1024));
        assert_eq!(size("2M", 8), Ok(2 * 1024 * 1024));
        for wrong in ["", "k", "1g", "-1", "7", "18446744073709551615k", "1025m"] {
            assert!(size(wrong, 8).is_err(), "{wrong}");
        }
    }
}

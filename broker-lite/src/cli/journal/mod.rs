//! `broker-lite journal`: what is in a journal that no broker has open.

mod export;
mod import;
mod line;
mod report;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{Common, complain, log, status};
use crate::store::journal::inspect::Inspection;
use crate::store::journal::{Journal, JournalOptions};
use crate::store::{Store, StoreError};

/// Status 0: done; 1: it failed; 2: the command line is wrong; 3: a process has the journal open; 5: it is damaged.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Lists the segments, with how much of each is needed still
    Ls(Directory),
    /// Reads everything that is there, and names the first place that is damaged
    Verify(Directory),
    /// Says which messages keep a segment
    Why {
        #[command(flatten)]
        directory: Directory,
        /// The number of the segment, as `ls` lists it
        segment: u32,
    },
    /// Writes destinations, durable subscriptions and messages to stdout, each a line of JSON
    Export(Directory),
    /// Reads what `export` wrote from stdin into a directory that holds no journal
    Import(Directory),
    /// Copies what is needed to new segments and gives back the others
    Compact(Directory),
}

#[derive(Debug, Args)]
pub(super) struct Directory {
    /// The directory of the journal
    #[arg(long, value_name = "DIR", default_value = "data")]
    data: PathBuf,

    #[command(flatten)]
    common: Common,
}

/// Why a command ends.
#[derive(Debug)]
enum Failure {
    Store(StoreError),
    /// A line of an export that cannot be read, or a message that cannot be shown.
    Content(String),
    Output(io::Error),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

type Outcome = Result<(), Failure>;

/// Runs a command; errors are one line on stderr.
pub(super) fn run(command: Command) -> ExitCode {
    let (Command::Ls(directory)
    | Command::Verify(directory)
    | Command::Why { directory, .. }
    | Command::Export(directory)
    | Command::Import(directory)
    | Command::Compact(directory)) = &command;
    if let Err(error) = log::init(&directory.common.log) {
        complain(&error);
        return ExitCode::FAILURE;
    }
    let mut out = io::BufWriter::new(io::stdout().lock());
    let dir = &directory.data;
    let done = match &command {
        Command::Ls(_) => open(dir).and_then(|journal| report::list(&journal, &mut out)),
        Command::Verify(_) => open(dir).and_then(|journal| report::verify(&journal, &mut out)),
        Command::Why { segment, .. } => {
            open(dir).and_then(|journal| report::why(&journal, *segment, &mut out))
        }
        Command::Export(_) => open(dir).and_then(|journal| export::export(&journal, &mut out)),
        Command::Import(_) => import::import(dir, io::stdin().lock(), &mut out),
        Command::Compact(_) => compact(dir, &mut out),
    };
    let done = done.and_then(|()| Ok(io::Write::flush(&mut out)?));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever closed our stdout has seen enough.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(failure) => {
            let (text, status) = match failure {
                Failure::Store(error) => (error.to_string(), status_of(&error)),
                Failure::Content(text) => (text, status::OTHER),
                Failure::Output(error) => (format!("stdout: {error}"), status::OTHER),
            };
            complain(&text);
            ExitCode::from(status)
        }
    }
}

fn status_of(error: &StoreError) -> u8 {
    match error {
        StoreError::Locked(_) => status::LOCKED,
        StoreError::Damaged { .. } => status::DAMAGED,
        _ => status::OTHER,
    }
}

fn open(dir: &std::path::Path) -> Result<Inspection, Failure> {
    Ok(Inspection::open(dir)?)
}

/// `broker-lite journal compact`.
fn compact(dir: &std::path::Path, out: &mut impl io::Write) -> Outcome {
    let before = size(&open(dir)?);
    let options = JournalOptions {
        // The least there can be: no broker goes on here.
        spare_segments: 1,
        ..JournalOptions::default()
    };
    let (journal, _) = Journal::open(dir, options)?;
    let compacted = journal.compact();
    journal.close()?;
    compacted?;
    drop(journal);
    let after = size(&open(dir)?);
    writeln!(
        out,
        "segments: {} before, {} now; bytes on disk: {} before, {} now",
        before.0, after.0, before.1, after.1
    )?;
    Ok(())
}

/// How many segments there are, and their bytes on disk.
fn size(journal: &Inspection) -> (usize, u64) {
    let segments = journal.segments();
    let bytes = segments.iter().map(|segment| segment.disk_bytes).sum();
    (segments.len(), bytes)
}

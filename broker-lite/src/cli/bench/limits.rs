//! What the machine itself can do: the measure of everything else.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::Instant;

use hdrhistogram::Histogram;

use super::load::histogram;
use super::report::Measured;
use super::usage::Cpu;

/// The file is written round and round, as a journal recycles its segments.
const FILE_SIZE: u64 = 64 * 1024 * 1024;

/// Measures both limits with `count` bodies of `size` bytes. As many of them are written at a time as there are `writers`
/// that each wait for their own.
pub(super) fn measure(
    directory: Option<&Path>,
    size: usize,
    writers: u32,
    count: u64,
) -> Result<[(&'static str, Measured); 2], String> {
    let directory = match directory {
        Some(directory) => directory.to_owned(),
        None => std::env::temp_dir(),
    };
    let synced = synced_writes(&directory, size, writers, count)
        .map_err(|error| format!("synced writes in {}: {error}", directory.display()))?;
    let round_trips = ping_pong(size, count).map_err(|error| format!("the loopback: {error}"))?;
    Ok([("limit-sync", synced), ("limit-ping", round_trips)])
}

/// Writes and syncs, again and again. While a sync is under way all other writers wait for the next one, so no more than one
/// body of each is ever written together.
fn synced_writes(directory: &Path, size: usize, writers: u32, count: u64) -> io::Result<Measured> {
    let path = directory.join(format!("broker-lite-bench-{}", std::process::id()));
    let file = File::create_new(&path)?;
    // The file lives for as long as it is open.
    std::fs::remove_file(&path)?;
    fill(&file)?;
    let writers = u64::from(writers);
    let together = size.saturating_mul(writers as usize);
    if together as u64 > FILE_SIZE {
        return Err(io::Error::other(format!(
            "{together} bytes at a time are too many"
        )));
    }
    let records = vec![0x5a; together];
    let mut offset = 0;
    let syncs = count.div_ceil(writers);
    let mut measured = timed(syncs, "synced write", || {
        if offset + records.len() as u64 > FILE_SIZE {
            offset = 0;
        }
        std::os::unix::fs::FileExt::write_all_at(&file, &records, offset)?;
        offset += records.len() as u64;
        file.sync_data()
    })?;
    measured.messages = syncs * writers;
    Ok(measured)
}

/// Blocks that were written once need no metadata when they are written again.
fn fill(mut file: &File) -> io::Result<()> {
    let zeros = vec![0; 1024 * 1024];
    for _ in 0..FILE_SIZE / zeros.len() as u64 {
        file.write_all(&zeros)?;
    }
    file.sync_all()
}

/// Sends a body over the loopback and waits for it to come back.
fn ping_pong(size: usize, count: u64) -> io::Result<Measured> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut ours = TcpStream::connect(listener.local_addr()?)?;
    let (mut theirs, _) = listener.accept()?;
    ours.set_nodelay(true)?;
    theirs.set_nodelay(true)?;
    let echo = std::thread::spawn(move || {
        let mut body = vec![0; size];
        // It ends when our end is closed.
        while theirs
            .read_exact(&mut body)
            .and_then(|()| theirs.write_all(&body))
            .is_ok()
        {}
    });
    let mut body = vec![0; size];
    let measured = timed(count, "round trip", || {
        ours.write_all(&body)?;
        ours.read_exact(&mut body)
    });
    drop(ours);
    // It has nothing to say, and does not panic.
    let _ = echo.join();
    measured
}

fn timed(count: u64, what: &'static str, mut step: impl FnMut() -> io::Result<()>) -> io::Result<Measured> {
    let mut latency: Histogram<u64> = histogram();
    let cpu = Cpu::now(None);
    let began = Instant::now();
    for _ in 0..count {
        let start = Instant::now();
        step()?;
        latency.saturating_record(start.elapsed().as_nanos() as u64);
    }
    Ok(Measured {
        messages: count,
        deliveries: None,
        elapsed: began.elapsed(),
        latency: Some((what, latency)),
        usage: cpu.usage(None),
    })
}

//! How what a message costs the core grows with everything there can be many of: messages on a queue, destinations,
//! consumers, subscriptions, groups, connections. No sockets, no disk.
//!
//! `cargo bench -p broker-lite --bench scale [-- [--max SIZE] [NAME …]]`
//!
//! Each line is a process of its own, so that its peak of memory is its own. Times are CPU time for one item of what
//! the column says; behind each stands by how much it grew for ten times the size, where 1.0 is constant.

mod cases;
mod rig;

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// What is said of memory.
const PEAK: &str = "peak MiB";

/// What a case times.
pub(crate) struct Meter;

impl Meter {
    /// Times something that is done `count` times, and says so on the standard output.
    pub(crate) fn time(&mut self, label: &str, count: u64, work: impl FnOnce()) {
        let before = cpu();
        work();
        let each = (cpu() - before).as_nanos() as f64 / count as f64;
        println!("{label}\t{each}");
    }
}

fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn main() {
    let mut names: Vec<String> = Vec::new();
    let mut most = u64::MAX;
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    while let Some(argument) = arguments.next() {
        let mut number = || -> u64 {
            let number = arguments.next().and_then(|number| number.parse().ok());
            number.expect("a number")
        };
        match argument.as_str() {
            "--max" => most = number(),
            "--size" => {
                let size = number();
                return names.iter().for_each(|name| run_here(name, size));
            }
            _ => names.push(argument),
        }
    }
    for case in cases::ALL {
        if names.is_empty() || names.iter().any(|name| name == case.name) {
            table(case, most);
        }
    }
}

/// Runs one case in this process.
fn run_here(name: &str, size: u64) {
    let case = cases::ALL.iter().find(|case| case.name == name);
    (case.expect("the name of a case").run)(size, &mut Meter);
    println!("{PEAK}\t{}", peak());
}

/// The most memory this process had, in MiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.expect("the kernel tells") / 1024
}

/// Runs a case at all its sizes, each in a process of its own.
fn table(case: &cases::Case, most: u64) {
    println!("\n{}: {}", case.name, case.what);
    let mut before: BTreeMap<String, (u64, f64)> = BTreeMap::new();
    for &size in case.sizes.iter().filter(|size| **size <= most) {
        let program = std::env::current_exe().expect("this program has a path");
        let output = Command::new(program)
            .args([case.name, "--size", &size.to_string()])
            .stderr(Stdio::inherit())
            .output()
            .expect("it can be run again");
        assert!(output.status.success(), "{} at {size} failed", case.name);
        print!("{size:>9}");
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let (label, value) = line.split_once('\t').expect("a label and a number");
            let value: f64 = value.parse().expect("a number");
            let growth = before
                .insert(label.to_owned(), (size, value))
                .map(|(smaller, then)| {
                    let decades = (size as f64 / smaller as f64).log10();
                    (value / then).powf(1.0 / decades)
                });
            match (label, growth) {
                (PEAK, _) => print!("  {label} {value:.0}"),
                (_, None) => print!("  {label} {value:.0} ns      "),
                (_, Some(growth)) => print!("  {label} {value:.0} ns x{growth:<4.1}"),
            }
        }
        println!();
    }
}

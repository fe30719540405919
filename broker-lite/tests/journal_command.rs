//! `broker-lite journal` as a person or a script sees it, on the journal of the tests of layouts.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use broker_lite::store::Store;
use broker_lite::store::journal::{Journal, JournalOptions};
use tempfile::TempDir;

/// A journal of the present layout in a directory of its own. Its segments are 5 to 7.
fn journal() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/journal-layouts/4");
    for file in fs::read_dir(fixture).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), dir.path().join(file.file_name())).unwrap();
    }
    dir
}

fn command(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_broker-lite"));
    command
        .arg("journal")
        .args(arguments)
        .arg("--data")
        .arg(dir)
        .args(["--log", "error"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn run(dir: &Path, arguments: &[&str]) -> Output {
    command(dir, arguments).output().unwrap()
}

fn run_with(dir: &Path, arguments: &[&str], input: &[u8]) -> Output {
    let mut child = command(dir, arguments).stdin(Stdio::piped()).spawn().unwrap();
    // It may end before it has read everything.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

/// What it wrote; it did what it should.
#[track_caller]
fn said(output: Output) -> String {
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// It failed with this status and one line that names `what`.
#[track_caller]
fn fails(output: &Output, status: i32, what: &str) {
    let errors = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(status), "{errors}");
    assert_eq!(errors.lines().count(), 1, "{errors}");
    assert!(
        errors.starts_with("broker-lite: ") && errors.contains(what),
        "{errors}"
    );
}

fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let files = fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
    let mut files: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn ls_lists_segments_and_what_is_needed_of_them() {
    let dir = journal();
    let before = files(dir.path());
    let listed = said(run(dir.path(), &["ls"]));
    let lines: Vec<Vec<&str>> = listed
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        lines[0],
        ["segment", "epoch", "bytes", "used", "live", "records", "needed"]
    );
    let numbers: Vec<_> = lines[1..]
        .iter()
        .map(|line| (line[0], line[1], line[2]))
        .collect();
    assert_eq!(
        numbers,
        [("5", "1", "8192"), ("6", "1", "8192"), ("7", "1", "8192")]
    );
    let needed: Vec<u64> = lines[1..].iter().map(|line| line[6].parse().unwrap()).collect();
    // Eight messages are there, of which two are one record.
    assert_eq!(needed.iter().sum::<u64>(), 7);
    for line in &lines[1..] {
        let (records, needed): (u64, u64) = (line[5].parse().unwrap(), line[6].parse().unwrap());
        assert!(needed <= records, "{line:?}");
    }
    // Looking changes nothing.
    assert_eq!(files(dir.path()), before);
}

#[test]
fn verify_names_the_first_place_that_is_damaged() {
    let dir = journal();
    let sound = said(run(dir.path(), &["verify"]));
    assert!(sound.contains("sound: 3 segments, 7 records"), "{sound}");
    assert!(sound.contains("was not closed in order"), "{sound}");
    let file = dir.path().join("journal-0000000006.log");
    let mut content = fs::read(&file).unwrap();
    // In the catalog: the first frame of the segment.
    content[100] ^= 1;
    fs::write(&file, content).unwrap();
    fails(
        &run(dir.path(), &["verify"]),
        5,
        "journal-0000000006.log is damaged at byte 0",
    );
}

#[test]
fn why_names_who_keeps_a_segment() {
    let dir = journal();
    let of = |segment: &str| said(run(dir.path(), &["why", segment]));
    let all = [of("5"), of("6"), of("7")].concat();
    for line in [
        "queue://A: 2 messages",
        "  3 ID:fixture-1:1:1:1:3",
        "durable subscriber name of client client on topic://T.>: 1 message",
        "the scheduler: 1 message",
        "a prepared transaction: 1 message",
        "the retained message of topic://T: 1 message",
    ] {
        assert!(all.lines().any(|found| found == line), "{line} in {all}");
    }
    fails(&run(dir.path(), &["why", "4"]), 1, "no segment 4");
}

#[test]
fn what_is_exported_can_be_imported() {
    let dir = journal();
    let exported = said(run(dir.path(), &["export"]));
    let lines: Vec<serde_json::Value> = exported
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let kinds = |kind: &str| lines.iter().filter(|line| line["kind"] == kind).count();
    assert_eq!(lines[0]["kind"], "journal");
    assert_eq!(
        (
            kinds("destination"),
            kinds("message"),
            kinds("share"),
            kinds("prepared")
        ),
        (6, 7, 1, 1)
    );
    let first = lines.iter().find(|line| line["sequence"] == 1).unwrap();
    assert_eq!(first["headers"]["JMSPriority"], 9);
    assert_eq!(first["headers"]["JMSMessageID"], "ID:fixture-1:1:1:1:1");
    assert!(first["body"].as_str().unwrap().starts_with("AQEBAQ"));

    let target = tempfile::tempdir().unwrap();
    let new = target.path().join("new");
    let imported = said(run_with(&new, &["import"], exported.as_bytes()));
    assert_eq!(imported, "8 messages\n");
    assert_eq!(said(run(&new, &["export"])), exported);
    fails(
        &run_with(&new, &["import"], exported.as_bytes()),
        1,
        "holds a journal already",
    );
}

#[test]
fn what_is_no_export_is_refused_with_its_line() {
    let refused = |input: &str, what: &str| {
        let dir = tempfile::tempdir().unwrap();
        fails(&run_with(dir.path(), &["import"], input.as_bytes()), 1, what);
    };
    refused("", "line 1: there is nothing to import");
    refused("{}", "line 1: ");
    refused(
        "{\"kind\":\"journal\",\"format\":2}\n",
        "line 1: format 2 is not known",
    );
    let begin = "{\"kind\":\"journal\",\"format\":1}\n";
    refused(&format!("{begin}nonsense\n"), "line 2: ");
    refused(
        &format!(
            "{begin}{{\"kind\":\"message\",\"destination\":1,\"sequence\":1,\"redelivered\":0,\"body\":null,\"openwire\":\"AAAA\"}}\n"
        ),
        "line 2: ",
    );
    refused(
        &format!(
            "{begin}{{\"kind\":\"share\",\"destination\":1,\"sequence\":1,\"redelivered\":0,\"of\":[1,2]}}\n"
        ),
        "does not exist",
    );
}

#[test]
fn compact_leaves_what_is_needed() {
    let dir = journal();
    let before = said(run(dir.path(), &["export"]));
    let said_so = said(run(dir.path(), &["compact"]));
    assert!(
        said_so.starts_with("segments: 3 before, 1 now; bytes on disk: 24576 before, "),
        "{said_so}"
    );
    let left = files(dir.path());
    assert_eq!(left.len(), 1, "spare files are no use to anybody");
    assert!(left[0].1.len() < 16 * 1024);
    let sorted = |text: &str| {
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&said(run(dir.path(), &["export"]))), sorted(&before));
    let closed = said(run(dir.path(), &["verify"]));
    assert!(!closed.contains("was not closed"), "{closed}");
}

#[test]
fn a_journal_in_use_is_left_alone() {
    let dir = journal();
    let (open, _) = Journal::open(dir.path(), JournalOptions::default()).unwrap();
    for arguments in [&["ls"][..], &["verify"], &["why", "7"], &["export"], &["compact"]] {
        fails(&run(dir.path(), arguments), 3, "the store is in use");
    }
    open.close().unwrap();
    said(run(dir.path(), &["ls"]));
}

#[test]
fn where_no_journal_is_none_is_made() {
    let dir = tempfile::tempdir().unwrap();
    for arguments in [&["ls"][..], &["verify"], &["why", "1"], &["export"], &["compact"]] {
        fails(&run(dir.path(), arguments), 1, "holds no journal");
        fails(&run(&dir.path().join("x"), arguments), 1, "no such directory");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

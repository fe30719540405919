//! A file system that is really small, for a test alone: a mount that nobody else sees, where the system permits one.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A file system of some MiB in memory. It goes when it is dropped and no process uses it any more.
#[derive(Debug)]
pub struct SmallDisk {
    /// The process whose mounts these are. It ends when its input does.
    holder: Child,
    /// Whether it has users of its own: so everybody may mount.
    own_users: bool,
    /// Where the file system is for it.
    path: PathBuf,
}

impl SmallDisk {
    /// Mounts one over this directory; none where that is not permitted, which is said aloud.
    pub fn mount(over: &Path, mib: u32) -> Option<Self> {
        let mounted = [true, false]
            .into_iter()
            .find_map(|own_users| Self::try_mount(over, mib, own_users));
        if mounted.is_none() {
            // Not through the capture of a test that passes.
            let _ = writeln!(
                std::io::stderr(),
                "\n*** NOT TESTED: what happens on a full disk. This system does not let a test mount a small one. ***\n"
            );
        }
        mounted
    }

    fn try_mount(over: &Path, mib: u32, own_users: bool) -> Option<Self> {
        let mut command = Command::new("unshare");
        if own_users {
            command.args(["--user", "--map-root-user"]);
        }
        let script = format!("mount -t tmpfs -o size={mib}m tmpfs \"$0\" && echo mounted && exec cat");
        let mut holder = command
            .args(["--mount", "sh", "-c", &script])
            .arg(over)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut said = String::new();
        if let Some(stdout) = holder.stdout.take() {
            // What it does not say it has not done.
            let _ = BufReader::new(stdout).read_line(&mut said);
        }
        let disk = Self {
            holder,
            own_users,
            path: over.to_owned(),
        };
        (said == "mounted\n").then_some(disk)
    }

    /// The directory, for processes in these [`surroundings`](Self::surroundings).
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What runs a program where the file system is seen.
    pub fn surroundings(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.holder.id().to_string(), "--mount"]);
        if self.own_users {
            command.args(["--user", "--preserve-credentials"]);
        }
        command
    }

    fn filler(&self) -> PathBuf {
        let inside = self.path.strip_prefix("/").expect("its path is absolute");
        let root = format!("/proc/{}/root", self.holder.id());
        Path::new(&root).join(inside).join("filler")
    }

    /// Takes all the space there is.
    pub fn fill(&self) {
        let filler = OpenOptions::new().create(true).append(true).open(self.filler());
        let filler = filler.expect("a file can be made");
        let mut at = filler.metadata().expect("it is there").len();
        let mut piece = 64 * 1024;
        while piece > 0 {
            match filler.write_at(&vec![1; piece], at) {
                Ok(written) => at += written as u64,
                Err(error) if error.kind() == ErrorKind::StorageFull => piece /= 2,
                Err(error) => panic!("the disk cannot be filled: {error}"),
            }
        }
    }

    /// Gives back what was taken.
    pub fn make_room(&self) {
        File::create(self.filler()).expect("there is room again");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

//! What the file system of a lock promises.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;

/// Machines with more mounts than fit are rare, and it is only for the log.
const MAX_LENGTH: u64 = 1024 * 1024;

/// Between whom a lock on a file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Promise {
    /// The processes of this machine, and no other machine can have the file.
    Local(String),
    /// All machines that have the file.
    Shared(String),
    /// The processes of this machine, though other machines can have the file.
    Divided(String, &'static str),
    /// It depends on how the file system was set up.
    Unsure(String),
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(kind) => write!(
                f,
                "{kind}: the lock holds on this machine, which alone has the file"
            ),
            Self::Shared(kind) => write!(f, "{kind}: the lock holds between machines"),
            Self::Divided(kind, option) => write!(
                f,
                "{kind} mounted with {option}: the lock holds on this machine only; brokers on two machines would both \
                 become master"
            ),
            Self::Unsure(kind) => write!(
                f,
                "{kind}: whether the lock holds between machines depends on its set-up; make sure before brokers on two \
                 machines share the directory"
            ),
        }
    }
}

/// What holds for an open file.
pub(super) fn promise(file: &File) -> Promise {
    let unknown = || Promise::Unsure("unknown file system".to_owned());
    let (Ok(metadata), Ok(mounts)) = (file.metadata(), File::open("/proc/self/mountinfo")) else {
        return unknown();
    };
    let mut text = String::new();
    // What is cut off in the middle of a character is as good as none.
    let _ = mounts.take(MAX_LENGTH).read_to_string(&mut text);
    let (major, minor) = (
        rustix::fs::major(metadata.dev()),
        rustix::fs::minor(metadata.dev()),
    );
    find(&text, &format!("{major}:{minor}")).unwrap_or_else(unknown)
}

/// What the list of mounts says of a device.
fn find(mounts: &str, device: &str) -> Option<Promise> {
    mounts.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        (mount.split(' ').nth(2)? == device).then_some(())?;
        let mut words = kind.split(' ');
        let (kind, _, options) = (words.next()?, words.next()?, words.next().unwrap_or_default());
        Some(of_kind(kind, options))
    })
}

fn of_kind(kind: &str, options: &str) -> Promise {
    let has = |option: &str| options.split(',').any(|given| given == option);
    let divided = |option| Promise::Divided(kind.to_owned(), option);
    match kind {
        "ext2" | "ext3" | "ext4" | "xfs" | "btrfs" | "f2fs" | "zfs" | "tmpfs" | "ramfs" | "overlay"
        | "bcachefs" => Promise::Local(kind.to_owned()),
        "nfs" | "nfs4" if has("nolock") => divided("nolock"),
        "nfs" | "nfs4" if has("local_lock=all") => divided("local_lock=all"),
        "nfs" | "nfs4" if has("local_lock=flock") => divided("local_lock=flock"),
        "nfs" | "nfs4" => Promise::Shared(kind.to_owned()),
        "cifs" | "smb3" if has("nobrl") => divided("nobrl"),
        "lustre" if has("localflock") => divided("localflock"),
        "lustre" if has("noflock") => divided("noflock"),
        "ocfs2" if has("localflocks") => divided("localflocks"),
        _ => Promise::Unsure(kind.to_owned()),
    }
}

/// Says in the log what holds for an open file; a warning where brokers on two machines could both become master.
pub(super) fn report(file: &File) {
    match promise(file) {
        promise @ Promise::Local(_) => tracing::debug!("lock file: {promise}"),
        promise @ Promise::Shared(_) => tracing::info!("lock file: {promise}"),
        promise => tracing::warn!("lock file: {promise}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro
31 22 0:45 / /srv rw,relatime shared:2 master:3 - nfs4 server:/srv rw,vers=4.2,local_lock=none,addr=10.0.0.1
32 22 0:46 / /old rw,relatime - nfs server:/old rw,vers=3,nolock,local_lock=all
33 22 0:47 / /win rw - cifs //server/win rw,nobrl
34 22 0:48 / /fuse rw - fuse.glusterfs volume rw
35 22 0:49 / /broken rw -
";

    #[test]
    fn the_kind_of_a_mount_says_between_whom_a_lock_holds() {
        let kind = |device| find(MOUNTS, device);
        assert_eq!(kind("8:1"), Some(Promise::Local("ext4".to_owned())));
        assert_eq!(kind("0:45"), Some(Promise::Shared("nfs4".to_owned())));
        assert_eq!(kind("0:46"), Some(Promise::Divided("nfs".to_owned(), "nolock")));
        assert_eq!(kind("0:47"), Some(Promise::Divided("cifs".to_owned(), "nobrl")));
        assert_eq!(kind("0:48"), Some(Promise::Unsure("fuse.glusterfs".to_owned())));
        for unknown in ["0:49", "0:4", ""] {
            assert_eq!(kind(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn every_file_has_one() {
        let file = tempfile::tempfile().unwrap();
        assert!(!promise(&file).to_string().is_empty());
    }
}

//! The users a broker knows: what the embedder said, and what stands in ActiveMQ's files.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::certificate::{CertificateName, DistinguishedName};
use super::password::Password;
use super::principal::Principal;
use super::properties;

/// A file that is larger is not one of users.
const LARGEST_FILE: u64 = 64 * 1024 * 1024;

/// What was said about users.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings {
    /// Names and passwords, the passwords plain or as hashes.
    pub(crate) users: Vec<(String, Secret)>,
    /// Names of groups and of users in them.
    pub(crate) groups: Vec<(String, Vec<String>)>,
    /// Names of users and of their certificates.
    pub(crate) certificates: Vec<(String, String)>,
    pub(crate) users_file: Option<PathBuf>,
    pub(crate) groups_file: Option<PathBuf>,
    pub(crate) certificates_file: Option<PathBuf>,
    /// Whoever gives neither a name nor a password is this user, in this group.
    pub(crate) anonymous: Option<(String, String)>,
}

/// A text that is not shown.
#[derive(Clone)]
pub(crate) struct Secret(pub(crate) String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Settings {
    /// Nobody has to say who they are.
    pub(crate) fn is_open(&self) -> bool {
        self.users.is_empty()
            && self.certificates.is_empty()
            && self.users_file.is_none()
            && self.certificates_file.is_none()
    }

    fn files(&self) -> [Option<&Path>; 3] {
        [&self.users_file, &self.groups_file, &self.certificates_file].map(Option::as_deref)
    }

    /// What changes when a file does; none for one that cannot be looked at.
    pub(super) fn stamps(&self) -> Vec<Option<Stamp>> {
        self.files()
            .into_iter()
            .flatten()
            .map(|path| {
                let metadata = fs::metadata(path).ok()?;
                Some(Stamp {
                    file: metadata.ino(),
                    size: metadata.len(),
                    changed: (metadata.mtime(), metadata.mtime_nsec()),
                })
            })
            .collect()
    }
}

/// What a file is recognised by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp {
    file: u64,
    size: u64,
    changed: (i64, i64),
}

/// A user with a password.
pub(super) struct Account {
    pub(super) password: Password,
    /// A digest of the password that was right last, so that a hash is not computed for each of a thousand
    /// connections that come again. Its key is made when the broker starts and kept nowhere.
    pub(super) verified: Mutex<Option<ring::hmac::Tag>>,
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").finish_non_exhaustive()
    }
}

/// The users at one time.
#[derive(Debug, Default)]
pub(super) struct Directory {
    accounts: HashMap<String, Arc<Account>>,
    groups: HashMap<String, Vec<Arc<str>>>,
    certificates: HashMap<DistinguishedName, String>,
    /// The others, in their order.
    certificate_patterns: Vec<(CertificateName, String)>,
    /// Checked in place of a user that there is not, so that to fail takes as long.
    decoy: Option<Arc<Account>>,
}

impl Directory {
    /// Puts together what was said and what the files say. What was said of a user comes before the files; the
    /// groups of both count. Accounts that are as before keep what they know.
    ///
    /// # Errors
    ///
    /// Which file or user is wrong, and why, without passwords.
    pub(super) fn load(settings: &Settings, before: &Self) -> Result<Self, String> {
        let mut directory = Self::default();
        let [users, groups, certificates] = settings.files();
        let mut slow: Vec<_> = Vec::new();
        let said = settings
            .users
            .iter()
            .map(|(name, secret)| (name.clone(), secret.0.clone()));
        for (name, password) in read(users, "users")?.into_iter().chain(said) {
            let password = Password::parse(password).map_err(|why| match users {
                Some(path) => format!("the password of user {name} ({}): {why}", path.display()),
                None => format!("the password of user {name}: {why}"),
            })?;
            let account = match before.accounts.get(&name) {
                Some(same) if same.password == password => same.clone(),
                _ => Arc::new(Account {
                    password,
                    verified: Mutex::new(None),
                }),
            };
            if account.password.is_slow() {
                slow.push((name.clone(), account.clone()));
            }
            directory.accounts.insert(name, account);
        }
        slow.sort_by(|(one, _), (other, _)| one.cmp(other));
        directory.decoy = slow.into_iter().next().map(|(_, account)| account);

        let in_file = read(groups, "groups")?.into_iter().map(|(group, users)| {
            let users = users.split(',').map(|user| user.trim().to_owned()).collect();
            (group, users)
        });
        for (group, users) in in_file.chain(settings.groups.iter().cloned()) {
            let group: Arc<str> = group.into();
            for user in users {
                directory.groups.entry(user).or_default().push(group.clone());
            }
        }

        let mut taken = HashSet::new();
        for (user, name) in read(certificates, "certificates")?
            .into_iter()
            .chain(settings.certificates.iter().cloned())
        {
            let name = CertificateName::parse(&name)
                .map_err(|why| format!("the certificate of user {user}: {why}"))?;
            match name {
                CertificateName::Exactly(name) => {
                    if !taken.insert(name.clone()) {
                        return Err(format!("two users have a certificate of the name {name}"));
                    }
                    directory.certificates.insert(name, user);
                }
                pattern @ CertificateName::Matching(_) => {
                    directory.certificate_patterns.push((pattern, user))
                }
            }
        }
        Ok(directory)
    }

    /// The account of a user.
    pub(super) fn account(&self, user: &str) -> Option<&Arc<Account>> {
        self.accounts.get(user)
    }

    /// What is checked if there is no account.
    pub(super) fn decoy(&self) -> Option<&Arc<Account>> {
        self.decoy.as_ref()
    }

    /// The user whose certificate has this name.
    pub(super) fn user_of(&self, name: &DistinguishedName) -> Option<&str> {
        let exactly = self.certificates.get(name);
        let matching = || {
            let found = self.certificate_patterns.iter().find(|(known, _)| known.is(name));
            found.map(|(_, user)| user)
        };
        exactly.or_else(matching).map(String::as_str)
    }

    /// The user with all its groups.
    pub(super) fn principal(&self, user: &str) -> Principal {
        Principal::new(user, self.groups.get(user).into_iter().flatten())
    }
}

/// The entries of a file; none if there is no file to be.
fn read(path: Option<&Path>, what: &str) -> Result<Vec<(String, String)>, String> {
    let Some(path) = path else {
        return Ok(Vec::new());
    };
    let at = |why: &dyn fmt::Display| format!("the file of {what} {}: {why}", path.display());
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| at(&error))?;
    file.take(LARGEST_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| at(&error))?;
    if bytes.len() as u64 > LARGEST_FILE {
        return Err(at(&format!("larger than {LARGEST_FILE} bytes")));
    }
    properties::parse(&bytes).map_err(|why| at(&why))
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn settings() -> Settings {
        Settings {
            users: vec![("ada".into(), Secret("lovelace".into()))],
            groups: vec![("users".into(), vec!["ada".into(), "bob".into()])],
            ..Settings::default()
        }
    }

    fn load(settings: &Settings) -> Result<Directory, String> {
        Directory::load(settings, &Directory::default())
    }

    #[test]
    fn files_and_what_was_said_are_put_together() {
        let dir = TempDir::new().unwrap();
        let (users, groups) = (dir.path().join("users"), dir.path().join("groups"));
        fs::write(&users, "ada = other\nbob = b\\u00fcb\n").unwrap();
        fs::write(&groups, "admins = ada , carl\nusers=ada\n").unwrap();
        let directory = load(&Settings {
            users_file: Some(users),
            groups_file: Some(groups),
            ..settings()
        })
        .unwrap();
        assert!(directory.account("ada").unwrap().password.is("lovelace"));
        assert!(directory.account("bob").unwrap().password.is("büb"));
        assert!(directory.account("carl").is_none());
        assert_eq!(
            directory.principal("ada"),
            Principal::new("ada", ["admins", "users"])
        );
        assert_eq!(directory.principal("bob"), Principal::new("bob", ["users"]));
        assert_eq!(directory.principal("eve"), Principal::new("eve", [""; 0]));
    }

    #[test]
    fn certificates_belong_to_one_user() {
        let certificates = |names: &[(&str, &str)]| {
            load(&Settings {
                certificates: names
                    .iter()
                    .map(|&(user, name)| (user.into(), name.into()))
                    .collect(),
                ..Settings::default()
            })
        };
        let directory = certificates(&[("any", "/CN=.*, O=Acme/"), ("ada", "CN=Ada, O=Acme")]).unwrap();
        let user = |name| directory.user_of(&DistinguishedName::parse(name).unwrap());
        assert_eq!(user("CN=Ada,O=Acme"), Some("ada"));
        assert_eq!(user("CN=Bob,O=Acme"), Some("any"));
        assert_eq!(user("CN=Bob"), None);
        let error = certificates(&[("a", "CN=Ada"), ("b", "cn=Ada")]).unwrap_err();
        assert!(error.contains("two users"), "{error}");
        let error = certificates(&[("a", "Ada")]).unwrap_err();
        assert!(
            error.contains("user a") && error.contains("distinguished"),
            "{error}"
        );
    }

    #[test]
    fn what_is_wrong_is_told_without_passwords() {
        let dir = TempDir::new().unwrap();
        let file = dir.path().join("users");
        let wrong = |text: &str| {
            fs::write(&file, text).unwrap();
            load(&Settings {
                users_file: Some(file.clone()),
                ..Settings::default()
            })
            .unwrap_err()
        };
        let error = wrong("ada=$6$secret");
        assert!(error.contains("ada") && !error.contains("secret"), "{error}");
        let error = wrong("ada=sec\\u0ret");
        assert!(error.contains("line 1") && !error.contains("sec"), "{error}");
        fs::remove_file(&file).unwrap();
        let error = load(&Settings {
            users_file: Some(file),
            ..Settings::default()
        })
        .unwrap_err();
        assert!(error.contains("file of users"), "{error}");
    }

    #[test]
    fn nothing_secret_is_shown() {
        assert!(!format!("{:?}", settings()).contains("lovelace"));
        assert!(!format!("{:?}", load(&settings()).unwrap()).contains("lovelace"));
    }
}

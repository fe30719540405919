//! What a person says about who may connect and who may do what.

use std::io::{self, BufRead, Read, Write};
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::User;
use crate::BrokerBuilder;
use crate::core::UserIds;
use crate::security::{self, AuthorizationEntry};

/// A line that is longer holds no password.
const LONGEST_LINE: u64 = 64 * 1024;

#[derive(Debug, Args)]
pub(super) struct Access {
    /// Let this user in; can be given more than once. Without any user everybody is let in. The password can be a
    /// hash of Argon2 or bcrypt, see hash-password; others on this machine may see the command line
    #[arg(long, value_name = "NAME:PASSWORD")]
    user: Vec<User>,

    /// Put users into a group; can be given more than once
    #[arg(long, value_name = "GROUP=USER,..", value_parser = group)]
    group: Vec<(String, Vec<String>)>,

    /// Let in the users of this properties file, a line NAME=PASSWORD each; read again when it changes
    #[arg(long, value_name = "FILE")]
    users_file: Option<PathBuf>,

    /// The groups of users, a line GROUP=USER,USER each; read again when it changes
    #[arg(long, value_name = "FILE")]
    groups_file: Option<PathBuf>,

    /// Let in who shows a client certificate, a line USER=DISTINGUISHED NAME each, such as ada=CN=Ada, O=Acme;
    /// read again when it changes
    #[arg(long, value_name = "FILE", requires = "tls_ca")]
    certificates_file: Option<PathBuf>,

    /// Let in who gives neither a name nor a password, as this user in this group
    #[arg(
        long,
        value_name = "USER:GROUP",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "anonymous:anonymous",
        value_parser = anonymous
    )]
    anonymous: Option<(String, String)>,

    /// Give rights to groups; can be given more than once. Once it is, what no entry allows is refused. Such as
    /// 'queue=ORDERS.>;read=clerks;write=clerks,shops;admin=admins', or topic=.., temporary, default in place of
    /// queue=..; * is everybody
    #[arg(long, value_name = "ENTRY")]
    authorize: Vec<AuthorizationEntry>,

    /// What JMSXUserID says of who sent a message: `as-sent` what the client says, `given` the name it connected
    /// with, `authenticated` the user that was let in
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = Ids::AsSent)]
    user_ids: Ids,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Ids {
    AsSent,
    Given,
    Authenticated,
}

impl Access {
    pub(super) fn configure(&self, mut broker: BrokerBuilder) -> Result<BrokerBuilder, String> {
        for user in &self.user {
            let (name, password) = user.parts()?;
            broker = broker.user(name, password);
        }
        for (name, users) in &self.group {
            broker = broker.group(name, users);
        }
        if let Some(file) = &self.users_file {
            broker = broker.users_file(file);
        }
        if let Some(file) = &self.groups_file {
            broker = broker.groups_file(file);
        }
        if let Some(file) = &self.certificates_file {
            broker = broker.certificates_file(file);
        }
        if let Some((user, group)) = &self.anonymous {
            broker = broker.anonymous(user, group);
        }
        for entry in &self.authorize {
            broker = broker.authorize(entry.clone());
        }
        Ok(broker.user_ids(match self.user_ids {
            Ids::AsSent => UserIds::AsSent,
            Ids::Given => UserIds::Given,
            Ids::Authenticated => UserIds::Authenticated,
        }))
    }
}

fn group(text: &str) -> Result<(String, Vec<String>), &'static str> {
    let (group, users) = text
        .split_once('=')
        .filter(|(group, _)| !group.trim().is_empty())
        .ok_or("GROUP=USER,USER")?;
    let users = users.split(',').map(str::trim).filter(|user| !user.is_empty());
    Ok((group.trim().to_owned(), users.map(str::to_owned).collect()))
}

fn anonymous(text: &str) -> Result<(String, String), &'static str> {
    match text.split_once(':') {
        Some((user, group)) if !user.is_empty() && !group.is_empty() => {
            Ok((user.to_owned(), group.to_owned()))
        }
        _ => Err("USER:GROUP"),
    }
}

/// `broker-lite hash-password`.
pub(super) fn hash_password() -> Result<(), String> {
    let mut line = String::new();
    io::stdin()
        .lock()
        .take(LONGEST_LINE)
        .read_line(&mut line)
        .map_err(|error| format!("no password: {error}"))?;
    let password = line.strip_suffix('\n').unwrap_or(&line);
    let password = password.strip_suffix('\r').unwrap_or(password);
    if password.is_empty() {
        return Err("no password on stdin".to_owned());
    }
    let hash = security::hash_password(password)?;
    writeln!(io::stdout().lock(), "{hash}").map_err(|error| error.to_string())
}

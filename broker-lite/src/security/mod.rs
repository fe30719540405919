//! Who may connect, and who may do what.
//!
//! | room | what it knows |
//! |---|---|
//! | `directory` | users, their passwords, groups and certificates: what was said and what stands in files |
//! | `login` | one attempt to log in: throttle, hashing, files that changed |
//! | `throttle` | how long who guessed has to wait; without a clock |
//! | `password`, `certificate`, `properties` | what their names say |
//! | `principal` | who a connection belongs to |
//! | `authorization`, `entry`, `pattern` | who may do what where |

mod authorization;
mod certificate;
mod directory;
mod entry;
mod login;
mod password;
mod pattern;
mod principal;
mod properties;
mod throttle;

pub use authorization::{Action, Authorization, Denied, Grants};
pub(crate) use certificate::DistinguishedName;
pub(crate) use directory::{Secret, Settings};
pub use entry::{AuthorizationEntry, InvalidEntry};
pub(crate) use login::{Authenticator, Caller, LoginError};
pub use password::hash_password;
pub use principal::Principal;

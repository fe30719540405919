//! Passwords as they are kept: plain, or as a hash of Argon2 or bcrypt.

use std::fmt;

use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Argon2, Params};
use ring::rand::{SecureRandom, SystemRandom};
use subtle::ConstantTimeEq;

/// A password longer than this is not anybody's. Hashing takes time for each byte.
const LONGEST: usize = 1024;

/// bcrypt takes no notice of what comes behind.
const LONGEST_OF_BCRYPT: usize = 72;

/// Twice as long for each step; this one takes a few seconds.
const DEAREST_BCRYPT: u32 = 16;

/// Kibibytes that one check may take.
const LARGEST_ARGON2: u32 = 1024 * 1024;

/// Passes over the memory that one check may take.
const LONGEST_ARGON2: u32 = 64;

/// Beginnings of hashes that cannot be checked here. Taken for plain passwords, they would let nobody in, and
/// nobody would know why.
const UNKNOWN: [&str; 8] = ["$1$", "$5$", "$6$", "$7$", "$y$", "$apr1$", "$scrypt$", "$pbkdf2"];

/// What a given password is checked by.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Password {
    Plain(String),
    Argon2(String),
    Bcrypt(String),
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Password {
    /// Recognises hashes by how they begin; anything else is a plain password.
    ///
    /// # Errors
    ///
    /// Why a hash is none that can be checked, or costs more than a broker can bear. Does not tell the hash.
    pub(super) fn parse(text: String) -> Result<Self, String> {
        if text.starts_with("$argon2") {
            let hash = PasswordHash::new(&text).map_err(|error| format!("no Argon2 hash: {error}"))?;
            if argon2::Algorithm::try_from(hash.algorithm).is_err()
                || hash.hash.is_none()
                || hash.salt.is_none()
            {
                return Err("no Argon2 hash".to_owned());
            }
            let params = Params::try_from(&hash).map_err(|error| format!("no Argon2 hash: {error}"))?;
            if params.m_cost() > LARGEST_ARGON2 || params.t_cost() > LONGEST_ARGON2 {
                return Err(format!(
                    "an Argon2 hash with m={} and t={}; {LARGEST_ARGON2} and {LONGEST_ARGON2} are the limits",
                    params.m_cost(),
                    params.t_cost()
                ));
            }
            return Ok(Self::Argon2(text));
        }
        if ["$2a$", "$2b$", "$2x$", "$2y$"]
            .iter()
            .any(|start| text.starts_with(start))
        {
            // The error would tell the hash.
            let hash: bcrypt::HashParts = text.parse().map_err(|_| "no bcrypt hash".to_owned())?;
            if !(4..=DEAREST_BCRYPT).contains(&hash.get_cost()) {
                return Err(format!(
                    "a bcrypt hash of cost {}; from 4 to {DEAREST_BCRYPT} it can be checked",
                    hash.get_cost()
                ));
            }
            return Ok(Self::Bcrypt(text));
        }
        if let Some(start) = UNKNOWN.iter().find(|start| text.starts_with(**start)) {
            return Err(format!(
                "a hash that begins with {start}; only those of Argon2 and bcrypt can be checked"
            ));
        }
        if text.starts_with("ENC(") && text.ends_with(')') {
            return Err("an encrypted password, ENC(..), which only ActiveMQ can read".to_owned());
        }
        Ok(Self::Plain(text))
    }

    /// To check it takes long enough that nobody else should have to wait for it.
    pub(super) fn is_slow(&self) -> bool {
        !matches!(self, Self::Plain(_))
    }

    /// True if this is the password. How long it takes says nothing about how much of it is right, but for
    /// the length of a plain one.
    pub(super) fn is(&self, given: &str) -> bool {
        if given.len() > LONGEST {
            return false;
        }
        match self {
            Self::Plain(password) => password.as_bytes().ct_eq(given.as_bytes()).into(),
            Self::Argon2(hash) => PasswordHash::new(hash)
                .is_ok_and(|hash| Argon2::default().verify_password(given.as_bytes(), &hash).is_ok()),
            // What bcrypt cannot see must not let anybody in.
            Self::Bcrypt(hash) => {
                let right = bcrypt::verify(given, hash).unwrap_or(false);
                right && given.len() <= LONGEST_OF_BCRYPT
            }
        }
    }
}

/// Makes a hash of Argon2id that can be kept in place of a password, with a salt of its own and the costs that
/// OWASP recommends: 19 MiB, two passes. Takes tens of milliseconds.
///
/// # Errors
///
/// If the password has more than 1024 bytes, which nobody could log in with, or the system has no randomness.
pub fn hash_password(password: &str) -> Result<String, String> {
    if password.len() > LONGEST {
        return Err(format!("a password has at most {LONGEST} bytes"));
    }
    let mut salt = [0; 16];
    SystemRandom::new()
        .fill(&mut salt)
        .map_err(|_| "the system has no randomness".to_owned())?;
    let salt = SaltString::encode_b64(&salt).map_err(|error| error.to_string())?;
    let hash = Argon2::default().hash_password(password.as_bytes(), &salt);
    Ok(hash.map_err(|error| error.to_string())?.to_string())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// As cheap as it can be.
    pub(in crate::security) fn argon2(password: &str) -> String {
        let salt = SaltString::encode_b64(b"salt and pepper").unwrap();
        let params = Params::new(Params::MIN_M_COST, 1, 1, None).unwrap();
        Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params)
            .hash_password(password.as_bytes(), &salt)
            .unwrap()
            .to_string()
    }

    #[test]
    fn hashes_are_recognised_and_checked() {
        let bcrypt = bcrypt::hash("secret", 4).unwrap();
        let older = bcrypt.replacen("$2b$", "$2a$", 1);
        let php = bcrypt.replacen("$2b$", "$2y$", 1);
        for (kept, slow) in [
            ("secret".to_owned(), false),
            (argon2("secret"), true),
            (bcrypt, true),
            (older, true),
            (php, true),
        ] {
            let password = Password::parse(kept.clone()).unwrap();
            assert_eq!(password.is_slow(), slow, "{kept}");
            assert!(password.is("secret"), "{kept}");
            for wrong in [
                "",
                "secre",
                "secrets",
                "Secret",
                &kept[..kept.len() - 1],
                &"x".repeat(5000),
            ] {
                assert!(!password.is(wrong), "{kept}: {wrong}");
            }
        }
    }

    /// Made by other programs: PHP's password_hash and the reference argon2.
    #[test]
    fn hashes_of_others() {
        for (hash, password) in [
            (
                "$2y$10$.vGA1O9wmRjrwAVXD98HNOgsNpDczlqm3Jq7KnEd1rVAGv3Fykk1a",
                "rasmuslerdorf",
            ),
            (
                "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
                "password",
            ),
        ] {
            let kept = Password::parse(hash.to_owned()).unwrap();
            assert!(kept.is(password), "{hash}");
            assert!(!kept.is("wrong"), "{hash}");
        }
    }

    #[test]
    fn hashes_of_our_own() {
        let (one, other) = (hash_password("secret").unwrap(), hash_password("secret").unwrap());
        assert!(one.starts_with("$argon2id$") && one != other);
        let kept = Password::parse(one).unwrap();
        assert!(kept.is("secret") && !kept.is("wrong"));
        assert!(hash_password(&"x".repeat(LONGEST + 1)).is_err());
    }

    #[test]
    fn bcrypt_lets_nobody_in_with_more_than_it_sees() {
        let longest = "x".repeat(LONGEST_OF_BCRYPT);
        let kept = Password::parse(bcrypt::hash(&longest, 4).unwrap()).unwrap();
        assert!(kept.is(&longest));
        assert!(!kept.is(&format!("{longest}y")));
    }

    #[test]
    fn what_cannot_be_checked_is_refused_without_telling_it() {
        let bcrypt = bcrypt::hash("secret", 4).unwrap();
        for (kept, says) in [
            ("$argon2id$v=19$m=8,t=1", "Argon2"),
            ("$argon2id$nonsense", "Argon2"),
            (
                "$argon2id$v=19$m=4194304,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
                "m=4194304",
            ),
            ("$2b$12$short", "bcrypt"),
            (&bcrypt.replacen("$04$", "$31$", 1), "cost 31"),
            ("$6$salt$abcdef", "$6$"),
            ("ENC(abc)", "ENC"),
        ] {
            let error = Password::parse(kept.to_owned()).unwrap_err();
            assert!(error.contains(says) && !error.contains(kept), "{kept}: {error}");
        }
    }
}

//! A certificate of 127.0.0.1, in the forms both sides need.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::process::run;

/// A self-signed certificate that names `localhost` and 127.0.0.1, in files that go with this value.
#[derive(Debug)]
pub struct Certificate {
    dir: TempDir,
}

/// The password of the Java key stores made here.
pub const STORE_PASSWORD: &str = "changeit";

impl Certificate {
    /// Makes one.
    pub fn new() -> Self {
        let dir = TempDir::new().expect("there is room for temporary files");
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).expect("a certificate can be made");
        let certificate = Self { dir };
        std::fs::write(certificate.pem(), made.cert.pem()).expect("it can be written");
        std::fs::write(certificate.key(), made.signing_key.serialize_pem()).expect("it can be written");
        certificate
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The certificate, PEM; also its own authority.
    pub fn pem(&self) -> PathBuf {
        self.file("certificate.pem")
    }

    /// The key, PEM.
    pub fn key(&self) -> PathBuf {
        self.file("key.pem")
    }

    /// A Java trust store with the certificate.
    pub fn trust_store(&self) -> PathBuf {
        let store = self.file("trust.p12");
        if !store.exists() {
            self.tool(
                "keytool",
                &["-importcert", "-noprompt", "-alias", "peer", "-file"],
                &self.pem(),
                &["-storetype", "PKCS12", "-storepass", STORE_PASSWORD, "-keystore"],
                &store,
            );
        }
        store
    }

    /// A Java key store with the certificate and its key.
    pub fn key_store(&self) -> PathBuf {
        let store = self.file("key.p12");
        if !store.exists() {
            let key = self.key();
            let key = key.to_string_lossy();
            self.tool(
                "openssl",
                &["pkcs12", "-export", "-inkey", &key, "-in"],
                &self.pem(),
                &[
                    "-name",
                    "peer",
                    "-passout",
                    &format!("pass:{STORE_PASSWORD}"),
                    "-out",
                ],
                &store,
            );
        }
        store
    }

    fn tool(&self, program: &str, before: &[&str], input: &Path, between: &[&str], output: &Path) {
        let mut command = std::process::Command::new(program);
        let made = run(command.args(before).arg(input).args(between).arg(output));
        assert!(made.success, "{program}: {}{}", made.stdout, made.stderr);
    }
}

impl Default for Certificate {
    fn default() -> Self {
        Self::new()
    }
}

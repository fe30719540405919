//! The way to the database is encrypted, and the database is who it says it is.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rcgen::CertifiedKey;

use super::super::super::suite::sql::Server;
use super::*;

/// Roots that vouch for the server, and for another one.
fn roots(directory: &Path, of_server: &rcgen::Certificate) -> [String; 2] {
    let stranger = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    [("root.pem", of_server), ("other.pem", &stranger.cert)].map(|(name, certificate)| {
        let path = directory.join(name);
        fs::write(&path, certificate.pem()).unwrap();
        path.to_string_lossy().into_owned()
    })
}

/// Writes a file beside the server's data, as the server itself, which alone may read its key.
fn write(beside: &mut Beside, name: &str, text: &str) {
    let lines = text.trim().replace('\n', "|");
    beside.run(&format!(
        "COPY (SELECT '{lines}') TO PROGRAM 'umask 077; tr ''|'' ''\\n'' > {name}'"
    ));
}

#[test]
fn a_database_is_reached_over_tls() {
    if !is_here("postgres", "a_database_is_reached_over_tls") {
        return;
    }
    let url = POSTGRES.database();
    let mut beside = Beside::new(&url);
    let CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    write(&mut beside, "server.crt", &cert.pem());
    write(&mut beside, "server.key", &signing_key.serialize_pem());
    beside.run("ALTER SYSTEM SET ssl = on");
    beside.run("SELECT pg_reload_conf()");
    let deadline = std::time::Instant::now() + super::super::super::suite::DEADLINE;
    while Beside::new(&url)
        .rows("SELECT 1 WHERE current_setting('ssl') = 'on'")
        .is_empty()
    {
        assert!(
            std::time::Instant::now() < deadline,
            "the server reads its settings"
        );
        std::thread::yield_now();
    }
    let dir = tempfile::tempdir().unwrap();
    let [root, other] = roots(dir.path(), &cert);
    let over = |root: &str| format!("{url}?sslmode=verify-full&sslrootcert={root}");
    let error = open(&over(&other)).unwrap_err();
    assert!(error.to_string().to_lowercase().contains("cert"), "{error}");
    let (store, _) = open(&over(&root)).unwrap();
    ok(&store, vec![create(1), put(1, 1, 10)]);
    load(&store, vec![key(1, 1)]).unwrap();
    let unencrypted = "SELECT a.pid FROM pg_stat_activity a JOIN pg_stat_ssl s ON s.pid = a.pid \
                       WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() AND NOT s.ssl";
    assert!(beside.rows(unencrypted).is_empty());
    let encrypted = beside.numbers(
        "SELECT count(*) FROM pg_stat_activity a JOIN pg_stat_ssl s ON s.pid = a.pid \
         WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() AND s.ssl",
    );
    assert_eq!(encrypted, [2], "one writes and one has read");
}

#[test]
fn mariadb_is_reached_over_tls() {
    if !is_here("mariadb", "mariadb_is_reached_over_tls") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    // The server reads its key as somebody else.
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let [certificate, key_file] = ["server.crt", "server.key"].map(|name| dir.path().join(name));
    fs::write(&certificate, cert.pem()).unwrap();
    fs::write(&key_file, signing_key.serialize_pem()).unwrap();
    let server = Server::start(
        "mariadb",
        "mysql://root",
        &[
            format!("--ssl-cert={}", certificate.display()),
            format!("--ssl-key={}", key_file.display()),
        ],
    );
    let url = server.database();
    let [root, other] = roots(dir.path(), &cert);
    let over = |root: &str| format!("{url}?ssl-mode=VERIFY_IDENTITY&ssl-ca={root}");
    let error = open(&over(&other)).unwrap_err();
    assert!(error.to_string().to_lowercase().contains("cert"), "{error}");
    // Whoever does not come encrypted is not let in.
    let mut beside = Beside::new(&over(&root));
    beside.run("SET GLOBAL require_secure_transport=ON");
    let (store, _) = open(&over(&root)).unwrap();
    ok(&store, vec![create(1), put(1, 1, 10)]);
    load(&store, vec![key(1, 1)]).unwrap();
    let error = open(&format!("{url}?ssl-mode=DISABLED")).unwrap_err().to_string();
    // Older versions say no more than the first.
    assert!(
        error.contains("Access denied") || error.contains("secure_transport"),
        "{error}"
    );
}

//! The way to the database is encrypted, and the database is who it says it is.

use std::fs;

use rcgen::CertifiedKey;

use super::*;

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
    let [root, other] = ["root.pem", "other.pem"].map(|name| dir.path().join(name));
    fs::write(&root, cert.pem()).unwrap();
    let stranger = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    fs::write(&other, stranger.cert.pem()).unwrap();
    let over = |root: &std::path::Path| format!("{url}?sslmode=verify-full&sslrootcert={}", root.display());
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

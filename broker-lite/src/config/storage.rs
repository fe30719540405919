//! Where persistent messages go, as people write it.

use super::settings::StorageSettings;
#[cfg(feature = "sql")]
use crate::store::sql::{DatabaseLocking, LeaseSettings, SqlSettings};

/// Reads `memory:`, `journal:DIR`, or the URL of a database.
///
/// # Errors
///
/// For anything else, with what there is.
pub(crate) fn store(text: &str) -> Result<StorageSettings, String> {
    match text.split_once(':') {
        Some(("memory", "")) => Ok(StorageSettings::Memory),
        Some(("journal", directory)) if !directory.is_empty() => {
            Ok(StorageSettings::Journal(directory.into()))
        }
        Some(("postgres" | "postgresql" | "mysql" | "mariadb" | "sqlite", _)) => database(text),
        _ => Err(
            "memory:, journal:DIR, postgres://HOST/DATABASE, mysql://HOST/DATABASE or sqlite:FILE".to_owned(),
        ),
    }
}

#[cfg(feature = "sql")]
fn database(text: &str) -> Result<StorageSettings, String> {
    let url = text
        .parse()
        .map_err(|error: crate::store::StoreError| error.to_string())?;
    Ok(StorageSettings::Sql(Box::new(SqlSettings::new(url))))
}

#[cfg(not(feature = "sql"))]
fn database(_: &str) -> Result<StorageSettings, String> {
    Err("this broker was built without stores in databases (feature sql)".to_owned())
}

/// Reads the name of one of ActiveMQ's lockers in databases.
///
/// # Errors
///
/// For anything else, with what there is.
#[cfg(feature = "sql")]
pub(crate) fn database_locking(name: &str) -> Result<DatabaseLocking, String> {
    match name {
        "database-locker" => Ok(DatabaseLocking::Row),
        "lease-database-locker" => Ok(DatabaseLocking::Lease(LeaseSettings::default())),
        _ => Err("database-locker or lease-database-locker".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_one_of_those_that_there_are() {
        assert_eq!(store("memory:"), Ok(StorageSettings::Memory));
        assert_eq!(store("journal:a/b"), Ok(StorageSettings::Journal("a/b".into())));
        for wrong in ["", "memory", "journal:", "journal", "oracle://h/d", "memory:x"] {
            assert!(store(wrong).unwrap_err().contains("journal:DIR"), "{wrong}");
        }
    }

    #[cfg(feature = "sql")]
    #[test]
    fn a_database_is_shown_without_its_password() {
        let store = store("postgres://me:secret@db/orders").unwrap();
        let shown = format!("{store:?}");
        assert!(
            shown.contains("db/orders") && !shown.contains("secret"),
            "{shown}"
        );
    }
}

//! Who is master of a database.

use std::time::Duration;

use super::super::super::suite::DEADLINE;
use super::*;
use crate::ha::{Attempt, LockError};

fn settings(url: &str, locking: DatabaseLocking) -> SqlSettings {
    SqlSettings {
        locking,
        ..SqlSettings::new(url.parse().unwrap())
    }
}

fn two(url: &str, locking: DatabaseLocking, lease: Duration) -> [Box<dyn Locker>; 2] {
    let options = LockOptions {
        acquire_sleep_interval: lease,
        ..LockOptions::default()
    };
    ["one", "two"].map(|broker| locker(&settings(url, locking.clone()), broker, &options).unwrap())
}

fn is_acquired(attempt: Result<Attempt, LockError>) -> bool {
    matches!(attempt, Ok(Attempt::Acquired { .. }))
}

/// One after the other, and back.
async fn take_turns([mut one, mut two]: [Box<dyn Locker>; 2]) {
    assert!(is_acquired(one.try_acquire().await));
    for _ in 0..2 {
        let attempt = two.try_acquire().await;
        assert!(matches!(&attempt, Ok(Attempt::Held(_))), "{attempt:?}");
        assert_eq!(one.keep_alive().await, Ok(()));
    }
    one.release().await;
    assert!(is_acquired(two.try_acquire().await));
    assert!(matches!(one.keep_alive().await, Err(LockError::Lost(_))));
    assert!(matches!(one.try_acquire().await, Ok(Attempt::Held(_))));
    two.release().await;
    assert!(is_acquired(one.try_acquire().await));
    one.release().await;
}

const LONG: Duration = Duration::from_secs(60);

fn lease() -> DatabaseLocking {
    DatabaseLocking::Lease(LeaseSettings {
        max_allowable_diff_from_db_time: Duration::from_millis(1),
        ..LeaseSettings::default()
    })
}

#[test]
fn one_is_master_of_postgres() {
    if is_here("postgres", "one_is_master_of_postgres") {
        let url = POSTGRES.database();
        block_on(take_turns(two(&url, DatabaseLocking::Row, LONG)));
        block_on(take_turns(two(&url, lease(), LONG)));
    }
}

#[test]
fn one_is_master_of_mariadb() {
    if is_here("mariadb", "one_is_master_of_mariadb") {
        let url = MARIADB.database();
        block_on(take_turns(two(&url, DatabaseLocking::Row, LONG)));
        block_on(take_turns(two(&url, lease(), LONG)));
    }
}

#[test]
fn one_is_master_of_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", dir.path().join("db").display());
    block_on(take_turns(two(&url, DatabaseLocking::Row, LONG)));
}

#[test]
fn a_row_lock_goes_with_its_connection() {
    if !is_here("postgres", "a_row_lock_goes_with_its_connection") {
        return;
    }
    let url = POSTGRES.database();
    let [mut one, mut two] = two(&url, DatabaseLocking::Row, LONG);
    block_on(async {
        assert!(is_acquired(one.try_acquire().await));
        assert_eq!(one.keep_alive().await, Ok(()));
        let mut beside = AnyConnection::connect(&url).await.unwrap();
        let terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                         WHERE datname = current_database() AND pid <> pg_backend_pid()";
        sqlx::raw_sql(terminate).execute(&mut beside).await.unwrap();
        // It is not asked, and knows: whoever has the lock now may serve soon.
        let lost = tokio::time::timeout(DEADLINE, one.lost()).await;
        assert!(matches!(lost, Ok(LockError::Lost(_))), "{lost:?}");
        let attempts = async {
            while !is_acquired(two.try_acquire().await) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(DEADLINE, attempts).await.unwrap();
        assert!(matches!(one.keep_alive().await, Err(LockError::Lost(_))));
    });
}

/// Who was killed says no goodbye, and its database is just waiting.
async fn the_next_need_not_come_again([mut one, mut two]: [Box<dyn Locker>; 2]) {
    assert!(is_acquired(one.try_acquire().await));
    assert_eq!(one.keep_alive().await, Ok(()));
    drop(one);
    assert!(is_acquired(two.try_acquire().await));
    two.release().await;
}

#[test]
fn who_comes_after_a_master_that_is_gone_need_not_come_again() {
    const TEST: &str = "who_comes_after_a_master_that_is_gone_need_not_come_again";
    if is_here("postgres", TEST) {
        let url = POSTGRES.database();
        block_on(the_next_need_not_come_again(two(
            &url,
            DatabaseLocking::Row,
            LONG,
        )));
    }
    if is_here("mariadb", TEST) {
        let url = MARIADB.database();
        block_on(the_next_need_not_come_again(two(
            &url,
            DatabaseLocking::Row,
            LONG,
        )));
    }
}

/// Else all tables would grow for as long as a broker is master.
#[test]
fn a_master_keeps_nothing_from_being_cleared_away() {
    if !is_here("postgres", "a_master_keeps_nothing_from_being_cleared_away") {
        return;
    }
    let url = POSTGRES.database();
    let [mut one, _] = two(&url, DatabaseLocking::Row, LONG);
    block_on(async {
        assert!(is_acquired(one.try_acquire().await));
        one.keep_alive().await.unwrap();
        let mut beside = AnyConnection::connect(&url).await.unwrap();
        let now = sqlx::query_scalar::<_, String>("SELECT pg_current_xact_id()::text");
        let now: i64 = now.fetch_one(&mut beside).await.unwrap().parse().unwrap();
        // It looks whether the database is there, and sees what there is in that moment.
        let query = format!(
            "SELECT count(backend_xid), count(*) FILTER (WHERE backend_xmin::text::bigint <= {now}) \
             FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() \
             AND backend_type = 'client backend'"
        );
        let moves_on = async {
            loop {
                let found = sqlx::query_as::<_, (i64, i64)>(AssertSqlSafe(&*query));
                match found.fetch_one(&mut beside).await.unwrap() {
                    (0, 0) => return,
                    (0, _) => tokio::task::yield_now().await,
                    (open, _) => panic!("{open} transactions have a number"),
                }
            }
        };
        tokio::time::timeout(DEADLINE, moves_on).await.unwrap();
    });
}

#[test]
fn a_lease_that_is_over_is_taken() {
    if !is_here("postgres", "a_lease_that_is_over_is_taken") {
        return;
    }
    let url = POSTGRES.database();
    let [mut one, _] = two(&url, lease(), Duration::from_millis(1));
    let [_, mut two] = two(&url, lease(), LONG);
    block_on(async {
        assert!(is_acquired(one.try_acquire().await));
        let attempts = async {
            while !is_acquired(two.try_acquire().await) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(DEADLINE, attempts).await.unwrap();
        assert!(matches!(one.keep_alive().await, Err(LockError::Lost(_))));
        assert!(
            matches!(one.try_acquire().await, Ok(Attempt::Held(holder)) if holder.description.contains("two"))
        );
    });
}

#[test]
fn a_master_without_the_lease_writes_nothing() {
    if !is_here("postgres", "a_master_without_the_lease_writes_nothing") {
        return;
    }
    let url = POSTGRES.database();
    let settings = settings(&url, lease());
    let [mut one, _] = two(&url, lease(), LONG);
    block_on(async {
        assert!(is_acquired(one.try_acquire().await));
    });
    let opened = SqlStore::open_as(settings, "one", Box::new(|_, _| true), ha::Lease::endless(0));
    let (store, _) = block_on(opened).unwrap();
    ok(&store, vec![create(1), put(1, 1, 10)]);
    // An ActiveMQ took over, and this broker does not know yet.
    Beside::new(&url).run("UPDATE ACTIVEMQ_LOCK SET BROKER_NAME='other'");
    let late = wait(append(&store, vec![put(1, 2, 10)]));
    assert!(matches!(late, Err(StoreError::NotMaster(_))), "{late:?}");
}

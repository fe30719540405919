//! Opens a store: makes the tables, takes them over from whoever had them, and reads them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::super::{Recovered, StoreError, new_identity};
use super::connect::Database;
use super::flush::Header;
use super::recovery::Recovery;
use super::schema::{LOCK_TABLE, STORE, TABLES, Table};
use super::shared::Shared;
use super::statements::{Session, Value, number, text};
use super::writer::Writer;
use super::{Master, Matches, SqlOptions, failed};

/// The version of our tables.
const LAYOUT: i64 = 1;

/// What a packet has beside a message.
const PACKET_OVERHEAD: usize = 64 * 1024;

/// What `BROKERLITE_STORE` says.
struct Found {
    identity: Arc<str>,
    commits: i64,
    clean: bool,
    next_sequence: u64,
    next_destination: u32,
    forgotten: i64,
}

/// What is asked for.
pub(super) struct Request {
    pub(super) database: Database,
    pub(super) options: SqlOptions,
    pub(super) matches: Matches,
    /// Who says that this process may write; none if nobody does, and the file is to be locked.
    pub(super) master: Option<Master>,
}

pub(super) async fn open(request: Request, shared: Arc<Shared>) -> Result<(Writer, Recovered), StoreError> {
    let Request {
        database,
        options,
        matches,
        master,
    } = request;
    let lock = match master {
        Some(_) => None,
        None => database.lock_file()?,
    };
    let named = |error| match failed(error) {
        StoreError::Io(why) => StoreError::Io(format!("{}: {why}", database.name)),
        other => other,
    };
    let mut connection = database.connect_writer().await.map_err(named)?;
    let mut session = database.session(&mut connection);
    make(&mut session, &LOCK_TABLE).await.map_err(named)?;
    for table in &TABLES {
        make(&mut session, table).await.map_err(named)?;
    }
    let longest = longest(&mut session).await.map_err(named)?;
    let opener = new_identity();
    let found = take_over(&mut session, &opener).await?;
    let mut recovery = Recovery::new(&matches, found.next_sequence, found.next_destination);
    recovery.read(&mut session, found.forgotten).await?;
    let (index, producers) = (recovery.index, recovery.producers);
    let header = Header {
        opener: opener.to_string(),
        commits: found.commits,
        clean: false,
        lease: master.as_ref().and_then(|master| master.lease.clone()),
    };
    let readers = database.readers(&options);
    let mut writer = Writer {
        database,
        options,
        connection: Some(connection),
        readers,
        index,
        producers,
        header,
        longest,
        shared,
        master,
        limit: None,
        lock,
    };
    writer.commit().await?;
    writer.limit = Some(writer.options.reconnect);
    let state = &writer.index.state;
    writer.shared.messages.store(state.messages(), Ordering::Relaxed);
    let recovered = state.recovered(found.identity, found.clean, |at| at.header);
    Ok((writer, recovered))
}

/// Makes a table that is not there. Another broker may be about to do the same.
pub(super) async fn make(session: &mut Session<'_>, table: &Table) -> Result<(), sqlx::Error> {
    let probe = table.probe();
    if session.rows(&probe, &[]).await.is_ok() {
        return Ok(());
    }
    for statement in table.create(session.dialect) {
        if let Err(error) = session.command(&statement).await {
            return match session.rows(&probe, &[]).await {
                Ok(_) => Ok(()),
                Err(_) => Err(error),
            };
        }
    }
    Ok(())
}

async fn longest(session: &mut Session<'_>) -> Result<usize, sqlx::Error> {
    let dialect = session.dialect;
    let Some(question) = dialect.ask_longest() else {
        return Ok(dialect.longest());
    };
    let rows = session.rows(question, &[]).await?;
    let said = rows.first().map(|row| number(row, 0)).transpose()?.flatten();
    let said = said.map_or(usize::MAX, |bytes| bytes.max(0) as usize);
    Ok(said.min(dialect.longest()).saturating_sub(PACKET_OVERHEAD))
}

/// From here on nobody else writes who had the tables before.
async fn take_over(session: &mut Session<'_>, opener: &Arc<str>) -> Result<Found, StoreError> {
    let query = format!(
        "SELECT LAYOUT, IDENTITY_TEXT, COMMITS, CLEAN, NEXT_SEQUENCE, NEXT_DEST, FORGOTTEN FROM {STORE} WHERE ID=?"
    );
    session.command(session.dialect.begin()).await.map_err(failed)?;
    let taken = format!("UPDATE {STORE} SET OPENER=? WHERE ID=1");
    let opener = Value::Text(opener.clone());
    let taken = session.execute(&taken, std::slice::from_ref(&opener)).await;
    if taken.map_err(failed)? == 0 {
        let identity = new_identity();
        let columns =
            "ID, LAYOUT, IDENTITY_TEXT, OPENER, COMMITS, CLEAN, NEXT_SEQUENCE, NEXT_DEST, FORGOTTEN";
        let row = vec![
            Value::Int(1),
            Value::Int(LAYOUT),
            Value::Text(identity),
            opener,
            Value::Int(0),
            Value::Int(0),
            Value::Int(1),
            Value::Int(1),
            Value::Int(0),
        ];
        session.insert(STORE, columns, &[row]).await.map_err(failed)?;
    }
    let rows = session.rows(&query, &[Value::Int(1)]).await.map_err(failed)?;
    session.command("COMMIT").await.map_err(failed)?;
    let row = rows
        .first()
        .ok_or_else(|| StoreError::Refused(format!("{STORE} is empty")))?;
    let number =
        |column| -> Result<i64, StoreError> { Ok(number(row, column).map_err(failed)?.unwrap_or_default()) };
    let layout = number(0)?;
    if layout != LAYOUT {
        return Err(StoreError::Refused(format!(
            "the tables are of version {layout}; this broker knows version {LAYOUT}"
        )));
    }
    Ok(Found {
        identity: text(row, 1).map_err(failed)?.unwrap_or_default(),
        commits: number(2)?,
        clean: number(3)? == 1,
        next_sequence: number(4)?.max(1) as u64,
        next_destination: number(5)?.max(1) as u32,
        forgotten: number(6)?,
    })
}

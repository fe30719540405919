//! Statements with values, one at a time or many rows with one.

use std::future::ready;
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use sqlx::any::{AnyArguments, AnyRow};
use sqlx::{AnyConnection, Arguments, AssertSqlSafe, Row};

use super::dialect::Dialect;

/// How many rows one statement inserts. Few different numbers: each is a statement that is prepared once and kept. But each
/// is one trip more to the database and back, and a hundred are often put at once.
const ROWS: [usize; 8] = [128, 64, 32, 16, 8, 4, 2, 1];

/// About how many bytes one statement writes at most, so that it fits a packet of any server.
pub(super) const STATEMENT_BYTES: usize = 1024 * 1024;

/// How many ids one statement names.
const IDS: usize = 256;

/// What goes into a column.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Int(i64),
    Text(Arc<str>),
    Bytes(Bytes),
    NoInt,
    NoText,
    NoBytes,
}

impl Value {
    pub(super) fn text(text: &str) -> Self {
        Self::Text(text.into())
    }

    pub(super) fn optional_text(text: Option<&str>) -> Self {
        text.map_or(Self::NoText, Self::text)
    }

    /// An id or sequence. None of them is ever larger than 63 bits.
    pub(super) fn id(id: u64) -> Self {
        Self::Int(id as i64)
    }

    fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
            Self::Int(_) | Self::NoInt | Self::NoText | Self::NoBytes => 8,
        }
    }
}

fn arguments(values: &[Value]) -> Result<AnyArguments, sqlx::Error> {
    let mut arguments = AnyArguments::default();
    for value in values {
        let added = match value {
            Value::Int(number) => arguments.add(*number),
            Value::Text(text) => arguments.add(&**text),
            Value::Bytes(bytes) => arguments.add(&**bytes),
            Value::NoInt => arguments.add(None::<i64>),
            Value::NoText => arguments.add(None::<String>),
            Value::NoBytes => arguments.add(None::<Vec<u8>>),
        };
        added.map_err(sqlx::Error::Encode)?;
    }
    Ok(arguments)
}

/// A connection that understands the statements of this store.
pub(super) struct Session<'c> {
    pub(super) connection: &'c mut AnyConnection,
    pub(super) dialect: Dialect,
}

impl Session<'_> {
    /// Runs a statement with `?` for each value; gives back how many rows it touched.
    pub(super) async fn execute(&mut self, text: &str, values: &[Value]) -> Result<u64, sqlx::Error> {
        let statement = AssertSqlSafe(self.dialect.statement(text));
        let query = sqlx::query_with(statement, arguments(values)?);
        Ok(query.execute(&mut *self.connection).await?.rows_affected())
    }

    /// Runs statements without values as they are: those that cannot be prepared, or several in one trip to the database and
    /// back. Gives back how many rows the last one touched. Nothing that came from outside may stand in `text`.
    pub(super) async fn command(&mut self, text: &str) -> Result<u64, sqlx::Error> {
        let statements = sqlx::raw_sql(AssertSqlSafe(text)).execute_many(&mut *self.connection);
        let last = statements.try_fold(0, |_, done| ready(Ok(done.rows_affected())));
        last.await
    }

    /// What a query finds.
    pub(super) async fn rows(&mut self, text: &str, values: &[Value]) -> Result<Vec<AnyRow>, sqlx::Error> {
        let statement = AssertSqlSafe(self.dialect.statement(text));
        sqlx::query_with(statement, arguments(values)?)
            .fetch_all(&mut *self.connection)
            .await
    }

    /// Inserts rows, many with one statement.
    pub(super) async fn insert(
        &mut self,
        table: &str,
        columns: &str,
        mut rows: &[Vec<Value>],
    ) -> Result<(), sqlx::Error> {
        while let Some(first) = rows.first() {
            let mut bytes = 0;
            let fit = rows.iter().take_while(|row| {
                let begins = bytes == 0;
                bytes += row.iter().map(Value::len).sum::<usize>();
                begins || bytes <= STATEMENT_BYTES
            });
            let fit = fit.count();
            let count = ROWS.into_iter().find(|&count| count <= fit).unwrap_or(1);
            let row = format!("({})", list("?", first.len()));
            let text = format!("INSERT INTO {table} ({columns}) VALUES {}", list(&row, count));
            let (now, later) = rows.split_at(count);
            self.execute(&text, &now.concat()).await?;
            rows = later;
        }
        Ok(())
    }

    /// Runs a statement that ends with a list of ids, for all of them: `DELETE FROM T WHERE ID IN`. Other values come before
    /// the ids.
    pub(super) async fn for_ids(
        &mut self,
        head: &str,
        before: &[Value],
        ids: &[u64],
    ) -> Result<(), sqlx::Error> {
        for ids in ids.chunks(IDS) {
            let (text, values) = with_ids(head, before, ids);
            self.execute(&text, &values).await?;
        }
        Ok(())
    }

    /// Sets a column of rows, each to a value of its own.
    pub(super) async fn replace(
        &mut self,
        table: &str,
        column: &str,
        mut values: Vec<(u64, Value)>,
    ) -> Result<(), sqlx::Error> {
        let Some(last) = values.last().cloned() else {
            return Ok(());
        };
        // One of a few lengths, so that few statements are prepared.
        values.resize(values.len().next_power_of_two(), last);
        let cases = " WHEN ? THEN ?".repeat(values.len());
        let head = format!("UPDATE {table} SET {column}=CASE ID{cases} ELSE {column} END WHERE ID IN");
        let ids: Vec<_> = values.iter().map(|(id, _)| *id).collect();
        let cases = values.into_iter().flat_map(|(id, value)| [Value::id(id), value]);
        self.for_ids(&head, &cases.collect::<Vec<_>>(), &ids).await
    }

    /// What a query that ends with a list of ids finds, for up to [`Session::IDS`] of them.
    pub(super) async fn rows_for_ids(
        &mut self,
        head: &str,
        before: &[Value],
        ids: &[u64],
    ) -> Result<Vec<AnyRow>, sqlx::Error> {
        let (text, values) = with_ids(head, before, ids);
        self.rows(&text, &values).await
    }
}

/// A statement that ends with a list of ids. The last id is repeated up to one of a few lengths, so that few statements
/// are prepared.
fn with_ids(head: &str, before: &[Value], ids: &[u64]) -> (String, Vec<Value>) {
    let count = ids.len().next_power_of_two();
    let last = ids.last().copied().unwrap_or_default();
    let padded = ids.iter().copied().chain(std::iter::repeat(last)).take(count);
    let values = before.iter().cloned().chain(padded.map(Value::id)).collect();
    (format!("{head} ({})", list("?", count)), values)
}

fn list(item: &str, count: usize) -> String {
    vec![item; count].join(",")
}

/// A number in a row; none for NULL.
pub(super) fn number(row: &AnyRow, column: usize) -> Result<Option<i64>, sqlx::Error> {
    row.try_get(column)
}

/// A number in a row that is always there.
pub(super) fn id(row: &AnyRow, column: usize) -> Result<u64, sqlx::Error> {
    Ok(row.try_get::<i64, _>(column)?.max(0) as u64)
}

/// A text in a row; none for NULL.
pub(super) fn text(row: &AnyRow, column: usize) -> Result<Option<Arc<str>>, sqlx::Error> {
    Ok(row.try_get::<Option<&str>, _>(column)?.map(Arc::from))
}

/// Bytes in a row; none for NULL.
pub(super) fn bytes(row: &AnyRow, column: usize) -> Result<Option<Bytes>, sqlx::Error> {
    let bytes = row.try_get::<Option<&[u8]>, _>(column)?;
    Ok(bytes.map(Bytes::copy_from_slice))
}

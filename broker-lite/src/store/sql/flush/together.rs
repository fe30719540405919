//! A transaction in one statement, where the database has such: PostgreSQL.
//!
//! What a transaction costs is mostly the trips to the database and back, and the planning of its statements. One
//! statement is one trip and a transaction by itself, and it is planned once: its rows travel as one value each, in JSON,
//! however many they are.
//!
//! Each part of the statement sees the tables as they were before it, so no two of them may touch the same row.

use std::fmt::Write;

use super::super::schema::{LOCK, STORE};
use super::super::statements::{self, Session, Value};
use super::{FlushError, Header};

/// What a part of the statement adds to its condition.
const HAS_BEGUN: &str = "EXISTS (SELECT 1 FROM begun)";

/// A statement that is put together from parts. Each changes one table, if the transaction has begun.
pub(super) struct Together {
    parts: Vec<String>,
    values: Vec<Value>,
    /// Who has to have the lease in the database, if there is one.
    lease: Option<String>,
}

impl Together {
    /// Begins with what each transaction does: it sets these columns in the row of the store, if nobody else has opened
    /// the store or taken the lease.
    pub(super) fn new(header: &Header, set: &[(&str, i64)]) -> Self {
        let mut parts = Vec::new();
        let columns: Vec<_> = set.iter().map(|(column, _)| format!("{column}=?")).collect();
        let columns = columns.join(", ");
        let mut values: Vec<_> = set.iter().map(|(_, value)| Value::Int(*value)).collect();
        values.extend([Value::text(&header.opener), Value::Int(header.commits)]);
        let mut leased = "";
        if let Some(holder) = &header.lease {
            // Until the end nobody takes it, so what is written is written by the master.
            let held = format!("lease AS (SELECT BROKER_NAME FROM {LOCK} WHERE ID=1 FOR UPDATE)");
            parts.push(held);
            leased = " AND EXISTS (SELECT 1 FROM lease WHERE BROKER_NAME=?)";
            values.push(Value::text(holder));
        }
        parts.push(format!(
            "begun AS (UPDATE {STORE} SET {columns} WHERE ID=1 AND OPENER=? AND COMMITS=?{leased} RETURNING 1 AS begun)"
        ));
        let lease = header.lease.clone();
        Self { parts, values, lease }
    }

    fn part(&mut self, text: &str) {
        let part = format!("part{} AS ({text})", self.parts.len());
        self.parts.push(part);
    }

    /// Inserts rows. `otherwise` says what becomes of those that are there.
    pub(super) fn insert(&mut self, table: &str, columns: &str, rows: &[Vec<Value>], otherwise: &str) {
        if let Some(first) = rows.first() {
            let selected: Vec<_> = first.iter().enumerate().map(selected).collect();
            let selected = selected.join(", ");
            let from = self.rows(rows);
            self.part(&format!(
                "INSERT INTO {table} ({columns}) SELECT {selected} FROM begun, {from} {otherwise}"
            ));
        }
    }

    /// Does something to a table for each of these rows: `statement` ends before what it is done with, and `condition` says
    /// which rows are meant. The values of a row are called `r.c0` and so on.
    pub(super) fn for_rows(&mut self, statement: &str, rows: &[Vec<Value>], condition: &str) {
        if !rows.is_empty() {
            let from = self.rows(rows);
            self.part(&format!("{statement} begun, {from} WHERE {condition}"));
        }
    }

    /// Deletes the rows with these ids.
    pub(super) fn delete(&mut self, table: &str, ids: &[u64]) {
        if let Some((first, more)) = ids.split_first() {
            let mut list = format!("{{{first}");
            for id in more {
                // Writing to a text does not fail.
                let _ = write!(list, ",{id}");
            }
            list.push('}');
            self.values.push(Value::text(&list));
            // An array of ids finds them by the index, whatever the database knows of the table.
            self.part(&format!(
                "DELETE FROM {table} WHERE ID=ANY(CAST(? AS BIGINT[])) AND {HAS_BEGUN}"
            ));
        }
    }

    /// Does something once.
    pub(super) fn once(&mut self, statement: &str, value: Value) {
        self.values.push(value);
        self.part(&format!("{statement} AND {HAS_BEGUN}"));
    }

    /// Rows as something to select from.
    fn rows(&mut self, rows: &[Vec<Value>]) -> String {
        let first = rows.first().map_or(&[][..], Vec::as_slice);
        let mut bytes = Vec::new();
        let json = json(rows, &mut bytes);
        let mut from = String::new();
        if first
            .iter()
            .any(|value| matches!(value, Value::Bytes(_) | Value::NoBytes))
        {
            from.push_str("(SELECT CAST(? AS BYTEA) AS bytes) AS b, ");
            self.values.push(Value::Bytes(bytes.into()));
        }
        self.values.push(Value::Text(json.into()));
        let columns: Vec<_> = first.iter().enumerate().map(described).collect();
        let columns = columns.join(", ");
        let _ = write!(from, "json_to_recordset(CAST(? AS JSON)) AS r({columns})");
        from
    }

    /// Runs it.
    pub(super) async fn run(self, session: &mut Session<'_>) -> Result<(), FlushError> {
        let holder = match self.lease {
            Some(_) => ", (SELECT BROKER_NAME FROM lease)",
            None => "",
        };
        let parts = self.parts.join(", ");
        let text = format!("WITH {parts} SELECT (SELECT COUNT(*) FROM begun){holder}");
        let rows = session.rows(&text, &self.values).await?;
        let answer = rows.first();
        let begun = answer.map(|row| statements::number(row, 0)).transpose()?;
        if begun.flatten() == Some(1) {
            return Ok(());
        }
        if let Some(holder) = &self.lease {
            let found = answer.map(|row| statements::text(row, 1)).transpose()?;
            if found.flatten().as_deref() != Some(&**holder) {
                return Err(FlushError::Unleased);
            }
        }
        Err(FlushError::Fenced)
    }
}

/// A value of a row of [`Together::insert`] and the like, to be selected: which, and of what kind.
pub(super) fn selected((at, value): (usize, &Value)) -> String {
    match value {
        Value::Bytes(_) | Value::NoBytes => format!("substring(b.bytes FROM r.c{at} FOR r.l{at})"),
        _ => format!("r.c{at}"),
    }
}

/// A value of a row, as it stands in the JSON.
fn described((at, value): (usize, &Value)) -> String {
    match value {
        Value::Int(_) | Value::NoInt => format!("c{at} BIGINT"),
        Value::Text(_) | Value::NoText => format!("c{at} TEXT"),
        // Where it begins among all, counted from 1, and how long it is.
        Value::Bytes(_) | Value::NoBytes => format!("c{at} INTEGER, l{at} INTEGER"),
    }
}

/// Rows as JSON, without their bytes. What is not there is NULL.
fn json(rows: &[Vec<Value>], bytes: &mut Vec<u8>) -> String {
    let mut json = String::from("[");
    for row in rows {
        json.push_str(if json.len() > 1 { ",{" } else { "{" });
        let mut comma = "";
        for (at, value) in row.iter().enumerate() {
            let _ = match value {
                Value::Int(number) => write!(json, r#"{comma}"c{at}":{number}"#),
                Value::Text(text) => write!(json, r#"{comma}"c{at}":{}"#, serde_json::Value::from(&**text)),
                Value::Bytes(some) => {
                    let begins = bytes.len() + 1;
                    bytes.extend_from_slice(some);
                    write!(json, r#"{comma}"c{at}":{begins},"l{at}":{}"#, some.len())
                }
                Value::NoInt | Value::NoText | Value::NoBytes => continue,
            };
            comma = ",";
        }
        json.push('}');
    }
    json.push(']');
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_json_and_their_bytes_stand_behind_each_other() {
        let rows = [
            vec![
                Value::Int(i64::MAX),
                Value::text("a \"b\"\n"),
                Value::Bytes(b"xy"[..].into()),
            ],
            vec![Value::NoInt, Value::text(""), Value::Bytes(b"z"[..].into())],
        ];
        let mut bytes = Vec::new();
        let json: serde_json::Value = serde_json::from_str(&json(&rows, &mut bytes)).unwrap();
        let expected = serde_json::json!([
            {"c0": i64::MAX, "c1": "a \"b\"\n", "c2": 1, "l2": 2},
            {"c1": "", "c2": 3, "l2": 1},
        ]);
        assert_eq!((json, &bytes[..]), (expected, &b"xyz"[..]));
    }
}

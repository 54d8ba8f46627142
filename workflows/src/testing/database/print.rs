//! The fingerprint of the fake database server. Pure.

use sha2::{Digest, Sha256};

use super::Server;
use crate::ports::{DatabaseFingerprint, Fingerprint, VolatileRows};

pub(super) fn fingerprint(server: &Server, request: &DatabaseFingerprint) -> Fingerprint {
    let mut entries = Vec::new();
    match server.schemas.get(request.schema.as_str()) {
        None => entries.push(("schema".to_owned(), "absent".to_owned())),
        Some(schema) => {
            entries.push(("schema".to_owned(), schema.charset.collation.clone()));
            for (name, table) in &schema.tables {
                entries.push((format!("base table:{name}"), table.columns.join(" ")));
                let rules: Vec<&VolatileRows> =
                    request.volatile.iter().filter(|rule| rule.is_of(name)).collect();
                if rules.iter().any(|rule| rule.like.is_empty()) {
                    continue;
                }
                let counts = |cells: &&Vec<Option<String>>| {
                    !rules.iter().any(|rule| is_volatile(rule, &table.columns, cells))
                };
                entries
                    .push((format!("rows:{name}"), table.rows.values().filter(counts).count().to_string()));
                if rules.is_empty() {
                    entries.push((format!("auto_increment:{name}"), table.next.to_string()));
                }
                if request.full {
                    let rows: Vec<_> = table.rows.iter().filter(|(_, cells)| counts(cells)).collect();
                    entries
                        .push((format!("content:{name}"), hex::encode(Sha256::digest(format!("{rows:?}")))));
                }
            }
            for (name, event) in &schema.events {
                entries.push((format!("event:{name}"), format!("{event:?}")));
            }
        }
    }
    if let Some(name) = &request.user {
        entries.push(match server.users.get(name.as_str()) {
            None => (format!("user:{name}"), "absent".to_owned()),
            Some(user) => {
                let login = hex::encode(&Sha256::digest(format!("{name} {}", user.password.expose()))[..8]);
                let locked = if user.locked { "locked" } else { "open" };
                (
                    format!("account:{name}@localhost"),
                    format!("{locked}, login {login}, {}", user.schemas.join(" ")),
                )
            }
        });
    }
    Fingerprint::of(entries)
}

fn is_volatile(rule: &VolatileRows, columns: &[String], cells: &[Option<String>]) -> bool {
    let column = columns.iter().position(|column| *column == rule.column);
    let value = column.and_then(|column| cells.get(column)).and_then(Option::as_deref);
    value.is_some_and(|value| rule.like.iter().any(|pattern| like(pattern.as_bytes(), value.as_bytes())))
}

/// SQL's LIKE with backslash as escape.
pub(super) fn like(pattern: &[u8], value: &[u8]) -> bool {
    match pattern {
        [] => value.is_empty(),
        [b'%', rest @ ..] => (0..=value.len()).any(|skip| like(rest, &value[skip..])),
        [b'_', rest @ ..] => !value.is_empty() && like(rest, &value[1..]),
        [b'\\', c, rest @ ..] | [c, rest @ ..] => value.first() == Some(c) && like(rest, &value[1..]),
    }
}

//! Which triggers, routines and events name their own schema in their text: in a copy under another name they would go on using the old
//! one. Only tells. Never looks into strings and comments, and takes a name for the schema's only where something of the schema follows.

use std::collections::BTreeSet;

use kedge_workflows::names::DatabaseName;
use kedge_workflows::ports::PortResult;

use super::client::{Client, Select};
use super::quote;
use super::schema::{field, objects};

/// Most of them named: a person reads them.
const MAX_NAMED: usize = 20;

/// Those of a schema, in words.
pub(super) async fn who_names(client: &Client, name: &DatabaseName) -> PortResult<Vec<String>> {
    let schema = quote::text(name.as_str())?;
    let holds = |kind: &str, named: &str, text: &str, table: &str, of: &str| {
        Select::new(
            [format!("CONCAT('{kind} ', {named})").as_str(), text],
            format!(
                "FROM information_schema.{table} WHERE {of} = {schema} AND INSTR({text}, {schema}) > 0 ORDER BY 1"
            ),
        )
    };
    let queries = [
        holds("trigger", "TRIGGER_NAME", "ACTION_STATEMENT", "TRIGGERS", "TRIGGER_SCHEMA"),
        holds("routine", "ROUTINE_NAME", "ROUTINE_DEFINITION", "ROUTINES", "ROUTINE_SCHEMA"),
        holds("event", "EVENT_NAME", "EVENT_DEFINITION", "EVENTS", "EVENT_SCHEMA"),
    ];
    let what = format!("looking for the name of schema {name} in what it holds");
    let candidates: Vec<_> = client.select(&what, &queries).await?.into_iter().flatten().collect();
    if candidates.is_empty() {
        return Ok(Vec::new());
    }
    let of_it = objects(client, name).await?.into_iter().map(|object| object.name.to_lowercase()).collect();
    let named = candidates.iter().filter(|row| names(field(row, 1), name.as_str(), &of_it));
    Ok(named.take(MAX_NAMED).map(|row| field(row, 0).to_owned()).collect())
}

/// A part of a statement.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    Name(String),
    Symbol(char),
}

/// Whether a text has the schema's name in front of one of these: a table or an alias may be called the same, and has columns behind it.
fn names(text: &str, schema: &str, of_it: &BTreeSet<String>) -> bool {
    let parts = parts(text);
    parts.windows(3).enumerate().any(|(i, window)| {
        let [Part::Name(first), Part::Symbol('.'), Part::Name(second)] = window else { return false };
        let inside = i > 0 && matches!(parts[i - 1], Part::Symbol('.' | '@'));
        first == schema && !inside && of_it.contains(&second.to_lowercase())
    })
}

/// Names and symbols, without strings and comments. A comment for some versions only is text for those.
fn parts(text: &str) -> Vec<Part> {
    let (mut parts, mut rest) = (Vec::new(), text);
    while let Some(first) = rest.chars().next() {
        let tail = &rest[first.len_utf8()..];
        let for_some = rest.starts_with("/*!") || rest.starts_with("/*M!");
        rest = if rest.starts_with("-- ") || rest.starts_with("--\n") || first == '#' {
            behind(rest, "\n")
        } else if rest.starts_with("/*") && !for_some {
            behind(&rest[2..], "*/")
        } else if matches!(first, '\'' | '"' | '`') {
            let (inside, after) = quoted(tail, first);
            if first == '`' {
                parts.push(Part::Name(inside));
            }
            after
        } else if is_of_name(first) {
            let (name, after) = rest.split_at(rest.find(|c| !is_of_name(c)).unwrap_or(rest.len()));
            parts.push(Part::Name(name.to_owned()));
            after
        } else {
            if !first.is_whitespace() {
                parts.push(Part::Symbol(first));
            }
            tail
        };
    }
    parts
}

fn is_of_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '$')
}

fn behind<'t>(text: &'t str, end: &str) -> &'t str {
    text.find(end).map_or("", |i| &text[i + end.len()..])
}

/// What is quoted, and what comes behind it.
fn quoted(text: &str, quote: char) -> (String, &str) {
    let (mut inside, mut chars) = (String::new(), text.char_indices().peekable());
    while let Some((i, c)) = chars.next() {
        if c == '\\' && quote != '`' {
            chars.next();
        } else if c != quote {
            inside.push(c);
        } else if chars.next_if(|(_, next)| *next == quote).is_some() {
            inside.push(quote);
        } else {
            return (inside, &text[i + 1..]);
        }
    }
    (inside, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_is_told_from_what_is_called_the_same() {
        let of_it = ["audit", "orders", "shop"].map(str::to_owned).into();
        for (text, named) in [
            ("INSERT INTO shop.audit VALUES (NEW.id)", true),
            ("INSERT INTO `shop` . `Audit` VALUES (1)", true),
            ("BEGIN SET @x = (SELECT MAX(`shop`.`orders`.`id`) FROM shop.orders); END", true),
            ("SELECT 1 /*! FROM shop.orders */", true),
            ("UPDATE shop.shop SET n = 1", true),
            ("CALL other.audit()", false),
            // A table or an alias of that name, and its columns.
            ("UPDATE shop SET shop.total = 1, `shop`.`n` = 2", false),
            ("SELECT x.shop.audit FROM x.shop", false),
            ("SET @shop.audit = 1", false),
            ("SELECT 'shop.audit', \"it's \\\" shop.audit\", '' FROM orders", false),
            ("BEGIN -- into shop.audit\n# shop.audit\n/* shop.audit */ DELETE FROM audit; END", false),
            ("SELECT 'no end shop.audit", false),
            ("INSERT INTO shop2.audit SELECT * FROM my_shop.audit", false),
        ] {
            assert_eq!(names(text, "shop", &of_it), named, "{text}");
        }
        assert!(names("DELETE FROM `my-shop`.orders", "my-shop", &of_it));
    }
}

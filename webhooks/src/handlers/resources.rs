//! What there is beside tasks: workflows, the registry's records, locks.

use http::StatusCode;
use kedge_engine::service::WorkflowInfo;
use serde_json::{Map, Value, json};

use crate::api;
use crate::app::Answer;
use crate::auth::{Token, Verb};
use crate::cx::Cx;
use crate::handlers::{self, MAX_LIMIT, MAX_SCANNED, Query, unreadable};
use crate::problem::Problem;
use crate::route::Family;

/// Longest cursor of a list of records: their names are host names or backups' file names.
const MAX_CURSOR: usize = 400;

pub(crate) fn workflows(cx: &Cx<'_>) -> Answer {
    cx.token()?;
    Query::new(cx, &[])?;
    let items: Vec<Value> = cx.app.ports.tasks.workflows().iter().map(workflow_json).collect();
    Ok(handlers::json(StatusCode::OK, &json!({ "workflows": items })))
}

pub(crate) fn workflow(cx: &Cx<'_>, name: &str) -> Answer {
    cx.token()?;
    Query::new(cx, &[])?;
    let found = cx.app.ports.tasks.workflows().into_iter().find(|info| info.name == name);
    let info = found.ok_or_else(|| {
        Problem::not_found(format!("there are these workflows: {}", cx.app.schemas.names()))
    })?;
    Ok(handlers::json(StatusCode::OK, &workflow_json(&info)))
}

fn workflow_json(info: &WorkflowInfo) -> Value {
    json!({ "name": info.name, "title": info.title, "schema": info.schema, "example": info.example })
}

pub(crate) fn records(cx: &Cx<'_>, family: Family) -> Answer {
    let token = cx.token()?;
    token.demand_some(Verb::Read)?;
    let query = Query::new(cx, &["limit", "cursor"])?;
    let limit = query.limit()?;
    let mut after = query.get("cursor").map(str::to_owned);
    if after.as_ref().is_some_and(|cursor| cursor.len() > MAX_CURSOR) {
        return Err(Problem::query("cursor", "is what `next` of the page before said"));
    }
    let (list, stored) = words(family);
    let mut items = Vec::new();
    let mut scanned = 0;
    while items.len() < limit && scanned < MAX_SCANNED {
        let found = cx
            .app
            .ports
            .tasks
            .records(stored, after.as_deref(), MAX_LIMIT)
            .map_err(|error| unreadable(&error))?;
        let last_page = found.len() < MAX_LIMIT;
        for (name, value) in found {
            if items.len() == limit {
                return Ok(handlers::page(cx, &query, list, items, after.as_deref()));
            }
            scanned += 1;
            if sees(token, family, &name, &value) {
                items.push(shown(family, &name, value));
            }
            after = Some(name);
        }
        if last_page {
            return Ok(handlers::page(cx, &query, list, items, None));
        }
    }
    Ok(handlers::page(cx, &query, list, items, after.as_deref()))
}

/// One of them.
pub(crate) fn record(cx: &Cx<'_>, family: Family, name: &str) -> Answer {
    cx.token()?;
    Query::new(cx, &[])?;
    Ok(handlers::json(StatusCode::OK, &shown(family, name, find_record(cx, family, name)?)))
}

/// A record by its name. What a token does not see is not there.
pub(crate) fn find_record(cx: &Cx<'_>, family: Family, name: &str) -> Result<Value, Problem> {
    let token = cx.token()?;
    token.demand_some(Verb::Read)?;
    let (list, stored) = words(family);
    let found = cx.app.ports.tasks.record(stored, name).map_err(|error| unreadable(&error))?;
    let seen = found.filter(|value| sees(token, family, name, value));
    seen.ok_or_else(|| {
        Problem::not_found(format!("there is no {stored} of this name; GET /v1/{list} lists what there is"))
    })
}

/// What a family is called in answers, and in the registry.
fn words(family: Family) -> (&'static str, &'static str) {
    match family {
        Family::Sites => ("sites", "site"),
        Family::Platforms => ("platforms", "platform"),
        Family::Backups => ("backups", "backup"),
        Family::Trash => ("trash", "trash"),
    }
}

/// Platforms carry many sites and are shown to all readers; sites and backups to those who see the site.
fn sees(token: &Token, family: Family, name: &str, value: &Value) -> bool {
    match family {
        Family::Platforms => true,
        Family::Sites => token.sites().covers(Some(name)),
        Family::Backups => token.sites().covers(value.get("site").and_then(Value::as_str)),
        Family::Trash => token.sites().covers(value["site"]["name"].as_str()),
    }
}

/// A record as it is, under its name; of the trash, what tells whether it is still wanted.
fn shown(family: Family, name: &str, value: Value) -> Value {
    if family == Family::Trash {
        let (site, why) = (&value["site"], value.get("why").and_then(Value::as_str));
        return json!({
            "name": name, "task": name, "site": site["name"], "platform": site["platform"], "database_server": site["database_server"],
            "dir": site["dir"], "why": why.unwrap_or("move"), "until": value["until"].as_u64().map(api::time),
        });
    }
    let mut map = match value {
        Value::Object(map) => map,
        other => Map::from_iter([("value".to_owned(), other)]),
    };
    map.insert("name".to_owned(), name.into());
    Value::Object(map)
}

pub(crate) fn locks(cx: &Cx<'_>) -> Answer {
    let token = cx.token()?;
    token.demand_some(Verb::Read)?;
    Query::new(cx, &[])?;
    // What is neither a site's nor a server's (a backup's name tells its site) is for those who see all.
    let seen = |resource: &str| match resource.split_once(' ') {
        Some(("site", site)) => token.sites().covers(Some(site)),
        Some(("backup", _)) => token.sites().is_all(),
        _ => true,
    };
    let locks = cx.app.ports.tasks.locks();
    let items: Vec<Value> = locks.iter().filter(|lock| seen(&lock.resource)).map(api::lock).collect();
    Ok(handlers::json(StatusCode::OK, &json!({ "locks": items })))
}

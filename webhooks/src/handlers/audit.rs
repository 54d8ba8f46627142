//! `GET /v1/audit`: the audit log, newest first, for those with the scope `admin`.

use serde_json::Value;

use crate::app::Answer;
use crate::cx::Cx;
use crate::handlers::{self, Query, unreadable};
use crate::problem::Problem;

pub(crate) fn list(cx: &Cx<'_>) -> Answer {
    cx.token()?.demand_admin()?;
    let query = Query::new(cx, &["limit", "cursor"])?;
    let limit = query.limit()?;
    let before = query.get("cursor").map(|cursor| {
        cursor.parse::<u64>().map_err(|_| Problem::query("cursor", "is what `next` of the page before said"))
    });
    let page = cx.app.audit.page(before.transpose()?, limit).map_err(|error| unreadable(&error))?;
    let next = page.last().map(|(number, _)| number.to_string()).filter(|_| page.len() == limit);
    let items: Vec<Value> = page.into_iter().map(|(_, record)| record).collect();
    Ok(handlers::page(cx, &query, "records", items, next.as_deref()))
}

//! What a move from one platform to another means for what a site is made of: looked up now, never from memory.

use http::StatusCode;
use http::header::RETRY_AFTER;

use crate::app::Answer;
use crate::auth::Verb;
use crate::cx::Cx;
use crate::desk::DeskError;
use crate::handlers::{self, Query};
use crate::problem::Problem;

pub(crate) async fn platforms(cx: &Cx<'_>, from: &str, to: &str) -> Answer {
    let token = cx.token()?;
    token.demand_some(Verb::Read)?;
    let query = Query::new(cx, &["site"])?;
    let site = query.get("site");
    if site.is_some() && !token.sites().covers(site) {
        return Err(Problem::not_found("there is no such site, or the token does not see it"));
    }
    match cx.app.ports.desk.compare(from, to, site).await {
        Ok(table) => Ok(handlers::json(StatusCode::OK, &table)),
        Err(DeskError::Unknown(detail)) => Err(Problem::not_found(detail)),
        Err(DeskError::Unfit(faults)) => Err(Problem::not_found(
            faults.into_iter().map(|(_, detail)| detail).collect::<Vec<_>>().join("; "),
        )),
        Err(DeskError::Refused(detail)) => {
            Err(Problem::new(StatusCode::CONFLICT, "not-comparable", "They cannot be compared", detail))
        }
        Err(DeskError::Failed(detail)) => Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "look-failed",
            "The platforms cannot be looked at now",
            detail,
        )
        .header(RETRY_AFTER, "30")),
    }
}

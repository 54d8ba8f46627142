//! Reserving the names of a new database: chosen by what the server and the registry have, claimed in the same write.

use kedge_engine::context::Cx;
use kedge_engine::step::{Compensable, Compensate, Step, StepError};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::names::{DatabaseName, SiteName};
use crate::place::scope;
use crate::ports::{Existing, World};
use crate::records::DATABASE_NAME;

/// Reserves schema and user names for a site, as Aegir would name them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ReserveNames {
    /// For this site.
    pub(crate) site: SiteName,
    /// On this server.
    pub(crate) server: String,
    /// Names that are taken by the registry's knowledge when the plan is made.
    pub(crate) taken: Vec<DatabaseName>,
}

/// The names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reserved {
    /// Of the schema.
    pub(crate) schema: DatabaseName,
    /// Of the user: the same.
    pub(crate) user: DatabaseName,
}

impl Step for ReserveNames {
    type Ports = dyn World;
    type Output = Reserved;
    type Mode = Compensable;
    const KIND: &'static str = "reserve_names";

    fn title(&self) -> String {
        format!("reserve a database name for {} on {}", self.site, self.server)
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<Reserved, StepError> {
        let server = cx.ports.database(&self.server, &scope(cx))?;
        // Each attempt begins one name further: the one before was claimed by another task at the same moment.
        let mut skip = cx.attempt.saturating_sub(1);
        for name in self.site.database_candidates().filter(|name| !self.taken.contains(name)) {
            let free = server.schema(&name).await? == Existing::Absent && !server.user_exists(&name).await?;
            if !free {
                continue;
            }
            if skip > 0 {
                skip -= 1;
                continue;
            }
            cx.claim_record(
                DATABASE_NAME,
                format!("{}/{name}", self.server),
                &json!({ "task": cx.task, "site": self.site }),
            )?;
            return Ok(Reserved { schema: name.clone(), user: name });
        }
        Err(StepError::fatal(format!(
            "all hundred database names for {} on {} are taken",
            self.site, self.server
        )))
    }
}

impl Compensate for ReserveNames {
    fn undo_title(&self) -> String {
        "give the database name back".to_owned()
    }

    async fn undo(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        if let Some(reserved) = cx.own::<Reserved>()? {
            cx.delete_record(DATABASE_NAME, format!("{}/{}", self.server, reserved.schema));
        }
        Ok(())
    }
}

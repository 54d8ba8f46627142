//! What a site is made of against what its new platform gives, as both are at that moment: in the preflight of a move, and on a restored
//! database, which nobody could ask before. Looks, and changes nothing.

use kedge_engine::context::Cx;
use kedge_engine::retry::Policy;
use kedge_engine::step::{Query, Step, StepError};
use serde::{Deserialize, Serialize};

use super::app::staged;
use crate::comparison::{Row, Verdict, compare};
use crate::place::{Place, Store, scope};
use crate::ports::{App, Package, PackageKind, World};

/// Packages told in an error or a warning: a person reads them; `kedge platforms compare` shows all.
const MAX_ROWS: usize = 20;
/// Ten minutes: reading the code of a large platform.
const LIMIT_MS: u64 = 600_000;

/// Compares a site's packages with the platform of its new side: what blocks the move is an error, the rest are warnings. The core is
/// judged by its schema, elsewhere.
pub(super) async fn judge(
    app: &dyn App,
    place: &Place,
    packages: &[Package],
) -> Result<Vec<String>, StepError> {
    let packages: Vec<Package> =
        packages.iter().filter(|package| package.kind != PackageKind::Core).cloned().collect();
    if packages.iter().all(|package| package.own) {
        return Ok(Vec::new());
    }
    let given = app.platform_packages(&place.root).await?;
    let table = compare(&packages, &given);
    let mut errors = told(table.errors());
    if errors.is_empty() {
        return Ok(told(table.warnings()));
    }
    if table.errors().any(|row| row.verdict == Verdict::NoProfile) {
        let profiles = given.iter().filter(|package| package.kind == PackageKind::Profile);
        let names: Vec<&str> = profiles.map(|package| package.name.as_str()).collect();
        errors.push(format!("the platform's profiles: {}", names.join(", ")));
    }
    Err(StepError::fatal(format!("the site cannot move to {}: {}", place.platform, errors.join("; "))))
}

fn told<'a>(rows: impl Iterator<Item = &'a Row>) -> Vec<String> {
    rows.take(MAX_ROWS).map(Row::told).collect()
}

/// Compares what was restored with the platform that it will run on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CompareRestored {
    /// The new side.
    pub(crate) to: Place,
    /// Its database.
    pub(crate) store: Store,
}

/// What was found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Compared {
    /// What the platform lacks or has older, of what the site uses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

impl Step for CompareRestored {
    type Ports = dyn World;
    type Output = Compared;
    type Mode = Query;
    const KIND: &'static str = "compare_restored";

    fn title(&self) -> String {
        format!("compare what the site is made of with {}", self.to.platform)
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<Compared, StepError> {
        let app = cx.ports.app(&self.to.web_server, &self.to.platform, self.to.app, &scope(cx))?;
        if !app.abilities().packages {
            return Ok(Compared { warnings: Vec::new() });
        }
        let site = staged(cx, &self.to, &self.store)?;
        // A backup of a site that was never installed has nothing to compare; the update says so.
        if !app.site_facts(&site).await?.installed {
            return Ok(Compared { warnings: Vec::new() });
        }
        let packages = app.packages(&site).await?;
        Ok(Compared { warnings: judge(&*app, &self.to, &packages).await? })
    }

    fn policy(&self) -> Policy {
        Policy::RUN.limit(LIMIT_MS)
    }

    fn reports(&self) -> bool {
        true
    }
}

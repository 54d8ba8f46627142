//! Looks at a site and at a platform, now, and compares them: for the table that a person reads before a move. Asks ports, changes nothing.

use kedge_engine::store::ReadError;
use kedge_engine::workflow::{Facts, PlanRefusal};
use thiserror::Error;

use crate::comparison::{Comparison, compare};
use crate::names::SiteName;
use crate::place::{Place, Store, live_site};
use crate::ports::{Package, PortError, Scope, World};
use crate::records;

/// Why there is no comparison.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum CompareError {
    /// There is no such platform or site.
    #[error("{0}")]
    Unknown(String),
    /// They cannot be compared.
    #[error("{0}")]
    Refused(String),
    /// The registry cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A look failed.
    #[error(transparent)]
    Port(#[from] PortError),
}

impl From<PlanRefusal> for CompareError {
    fn from(refusal: PlanRefusal) -> Self {
        match refusal {
            PlanRefusal::BadParams(errors) => {
                Self::Unknown(errors.into_iter().map(|error| error.detail).collect::<Vec<_>>().join("; "))
            }
            PlanRefusal::Read(error) => Self::Read(error),
            other => Self::Refused(other.to_string()),
        }
    }
}

/// Compares what a site on the platform `from` is made of with what the platform `to` gives. Without a site, everything that `from`
/// gives counts as used.
///
/// # Errors
/// See [`CompareError`].
pub async fn compare_platforms(
    world: &dyn World,
    facts: &dyn Facts,
    (from, to): (&str, &str),
    site: Option<&SiteName>,
) -> Result<Comparison, CompareError> {
    let scope = Scope { task: "compare".to_owned(), step: "look".to_owned() };
    let (old, new) = (records::platform(facts, from, "")?, records::platform(facts, to, "")?);
    if old.app != new.app {
        return Err(CompareError::Refused(format!(
            "{from} and {to} are platforms of different applications"
        )));
    }
    let app = world.app(&old.web_server, from, old.app, &scope)?;
    let here: Vec<Package> = match site {
        Some(name) => {
            let record = records::site(facts, name, "")?;
            if record.platform != from {
                return Err(CompareError::Refused(format!(
                    "{name} is on {}, not on {from}",
                    record.platform
                )));
            }
            let place = Place::of(&record, &old, records::host_of(facts, &old.web_server)?);
            let server = world.database(&record.database_server, &scope)?;
            app.packages(&live_site(&place, &Store::of(&record), (record.schema, record.user), &*server))
                .await?
        }
        None => {
            let given = app.platform_packages(old.root.trim_end_matches('/')).await?;
            given.into_iter().map(|package| Package { enabled: true, ..package }).collect()
        }
    };
    let there = world.app(&new.web_server, to, new.app, &scope)?;
    Ok(compare(&here, &there.platform_packages(new.root.trim_end_matches('/')).await?))
}

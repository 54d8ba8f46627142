//! The hosting tasks: one file a workflow, shared steps in `steps`, what they need from the world in `ports`. Pure: no I/O here.

pub mod cluster;
pub mod commands;
pub mod compare;
pub mod comparison;
pub mod encoding;
pub mod names;
pub mod ports;
pub mod records;
pub mod rewrite;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

mod backup;
mod clone;
mod configure;
mod delete;
mod import;
mod install;
mod login;
mod migrate;
mod migrate_platform;
mod params;
mod place;
mod purge;
mod reach;
mod rehearse;
mod renaming;
mod restore;
mod steps;
mod switch;
mod verify;

pub use login::login_secret;

use kedge_engine::step::StepKinds;
use kedge_engine::workflow::Workflow;

/// The workflows: the one list. Route, schema, command and callbacks follow from it.
#[must_use]
pub fn workflows() -> Vec<Box<dyn Workflow>> {
    let with_commands = |workflow| Box::new(commands::WithCommands(workflow)) as Box<dyn Workflow>;
    all().into_iter().map(with_commands).collect()
}

fn all() -> Vec<Box<dyn Workflow>> {
    vec![
        Box::new(install::Install),
        Box::new(backup::Backup),
        Box::new(migrate::Migrate),
        Box::new(restore::Restore),
        Box::new(clone::Clone),
        Box::new(switch::Disable),
        Box::new(switch::Enable),
        Box::new(delete::Delete),
        Box::new(delete::Undelete),
        Box::new(purge::Purge),
        Box::new(login::Login),
        Box::new(verify::Verify),
        Box::new(configure::Configure),
        Box::new(import::Import),
        Box::new(migrate_platform::MigratePlatform),
        Box::new(rehearse::Rehearse),
        Box::new(rehearse::Pin),
    ]
}

/// The kinds of step that the workflows' plans are made of.
#[must_use]
pub fn step_kinds() -> StepKinds<dyn ports::World> {
    steps::kinds()
}

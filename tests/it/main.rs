//! The integration tests: one binary. What needs Docker runs when `KEDGE_DOCKER_TESTS=1`; `scripts/test` sets it.

mod around;
mod checks;
mod cluster;
mod commands;
mod drill;
mod drupal;
mod failures;
mod hosts;
mod hour;
mod import;
mod kills;
mod lives;
mod mysql;
mod overload;
mod platforms;
mod reload;
mod scene;
mod schedules;
mod shortage;
mod sites;
mod tidy;

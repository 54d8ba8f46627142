//! Lists of packages as our scripts answer them. Pure.

use kedge_workflows::ports::Package;
use serde::Deserialize;

/// A script's answer.
#[derive(Deserialize)]
pub(super) struct Packages {
    pub(super) packages: Vec<Package>,
}

/// In the order that the port promises.
pub(super) fn sorted(mut packages: Vec<Package>) -> Vec<Package> {
    packages.sort();
    packages
}

//! Fakes of the ports and the contract suites that fakes and drivers both pass. Never used in production.

mod faults;

pub use faults::{Faults, Moment, Point};

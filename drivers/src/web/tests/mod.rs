//! Tests of the driver as a whole: snapshots of what is rendered, a scripted host, and the contract suite on real servers.

mod pages;
mod real;
mod scripted;
mod secure;
mod snapshots;
mod visitor;

//! A web server on several hosts, behind the ports of one: the first host leads, the others have the same. Knows ports only, and
//! does no I/O of its own.
//!
//! What is built is built on the first host, and spread before it is published. What is switched is switched on the others first and
//! on the first host last, and what is taken away is taken from the first host first: what the first one has, all have. So a step that
//! was cut off half-way can be told from one that was done, and is done again or taken back by the same calls.

mod app;
mod files;
mod spread;
mod web_server;

pub use app::ClusterApp;
pub use files::ClusterFiles;
pub use web_server::ClusterWebServer;

use crate::ports::{PortError, SavedFile};

/// One of the hosts.
#[derive(Clone)]
pub struct Member<T> {
    /// The host's name.
    pub host: String,
    /// What there is of it.
    pub port: T,
}

/// Says which host an error is from.
fn on(host: &str, error: PortError) -> PortError {
    let words = |words: String| format!("on {host}: {words}");
    match error {
        PortError::Refused(why) => PortError::Refused(words(why)),
        PortError::Unavailable(why) => PortError::Unavailable(words(why)),
        PortError::Lost(why) => PortError::Lost(words(why)),
        PortError::NotOurs(why) => PortError::NotOurs(words(why)),
        PortError::NoSpace(why) => PortError::NoSpace(words(why)),
    }
}

/// What a host had in a file's place, of what was saved of all. Saved without a word about that host: the same as on the first one.
fn there<'a>(saved: Option<&'a SavedFile>, host: &str) -> Option<&'a SavedFile> {
    let saved = saved?;
    saved.elsewhere.get(host).map_or(Some(saved), Option::as_ref)
}

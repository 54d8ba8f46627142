//! Web servers: nginx and Apache behind one port. One vhost file a site, tested before it counts, reloaded until it answers.
//! Never writes anything but vhost files, and nothing that somebody else wrote and serves more than the site.
//!
//! A configured server is one [`WebServerShared`]; each attempt works through a [`VhostServer`] of its own made from it.
//! What differs between servers is in a `Dialect`; what visitors may reach is in `rules`.

mod apache;
mod certificate;
mod check;
mod coalesce;
mod config;
mod curl;
mod dialect;
mod nginx;
mod reload;
mod replace;
mod rules;
mod scan;
mod served;
mod server;
mod text;
mod tools;
mod vhost;

#[cfg(test)]
mod tests;

pub use config::{PhpFpm, WebServerConfig, WebServerKind};
pub use server::{VhostServer, WebServerShared};

//! Kedge's HTTP face: webhooks and API calls in, signed callbacks out. It talks to the engine through `Tasks`, `Outbox` and
//! `Composer`, and keeps rows of its own (tokens, endpoints, the audit log) beside the journal; it never touches a host, a store or a workflow's code.

mod accept;
pub mod api;
mod app;
mod approvals;
mod audit;
mod auth;
mod body;
mod callback;
mod chat;
mod config;
mod deliver;
mod desk;
mod endpoint;
mod explain;
mod fields;
mod filter;
mod graph;
mod handlers;
mod hook;
mod inbox;
mod json;
mod key;
mod limits;
mod mapping;
mod message;
mod metrics;
mod openapi;
mod own;
mod problem;
mod provider;
mod route;
mod rows;
mod schemas;
mod secret;
mod server;
pub mod signature;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod tokens;
mod trace;

pub use app::{Access, App, Ports};
pub use approvals::{ApprovalPolicy, ApprovalSpec, Approvals};
pub use auth::{Token, TokenSpec, Verb};
pub use body::MAX_BODY;
pub use callback::EndpointComposer;
pub use chat::{Chat, ChatSpec, ChatUserSpec, Platform};
pub use config::{Mistake, Sites};
pub use deliver::{Deliverer, Patience};
pub use desk::{Desk, DeskError, EmptyDesk};
pub use endpoint::{EVENTS, Endpoint, EndpointSpec, Endpoints, Form};
pub use explain::{Explained, explain};
pub use filter::Condition;
pub use graph::picture;
pub use hook::{Decision, Hook, HookSpec};
pub use json::{JsonError, MAX_DEPTH, parse as parse_json};
pub use limits::{Rate, Rates};
pub use mapping::Mapping;
pub use metrics::Metrics;
pub use own::Master;
pub use problem::Fault;
pub use provider::{CustomSpec, Facts, Provider, Scheme, Verified};
pub use secret::Secret;
pub use server::{HttpConfig, Server};

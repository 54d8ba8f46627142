//! The application port: what differs between WordPress, Drupal and plain sites. Acts on a site's own directory and database only.

use async_trait::async_trait;
use kedge_engine::task::Millis;
use serde::{Deserialize, Serialize};

use super::{AccessRule, Get, PortResult, Reach, SecretRef, VolatileRows};
use crate::names::{DatabaseName, SiteName};

/// An application, on one host.
#[async_trait]
pub trait App: Send + Sync {
    /// What the platform at this root is; refuses a tree that is not this application, or whose own settings file is not ours.
    async fn platform_facts(&self, root: &str) -> PortResult<PlatformFacts>;

    /// Makes the platform ready to be shared (WordPress: the `wp-config.php` that picks the site by host). `true` when this call
    /// made it, `false` when it was there already.
    async fn prepare_platform(&self, root: &str) -> PortResult<bool>;
    /// Takes that back, if what is there is ours and no site lives on the platform.
    async fn unprepare_platform(&self, root: &str) -> PortResult<()>;

    /// Fills an empty site directory with what the application needs there (WordPress: `wp-content` with the platform's themes
    /// and plugins, empty `uploads`).
    async fn fill_skeleton(&self, root: &str, site_dir: &str) -> PortResult<()>;

    /// Writes the site's settings file in `site_dir`: database access, URL and paths in our marked block; salts and everything
    /// outside the block are kept when the file is there, made when it is not. The password is resolved inside.
    async fn write_settings(&self, site: &AppSite) -> PortResult<()>;

    /// Gives a site whose settings are written keys and salts of its own in place of those that are there: sessions, cookies and links
    /// of the site that it is a copy of are good no more. An application that has none does nothing.
    async fn renew_keys(&self, site: &AppSite) -> PortResult<()>;

    /// What [`App::write_settings`] would change, as lines: `- ` what is there, `+ ` what would be. Empty: nothing. No line has a
    /// secret in it. Changes nothing; a file that it would refuse is told by a line too.
    async fn settings_drift(&self, site: &AppSite) -> PortResult<Vec<String>>;

    /// What a site in a directory that Kedge did not make is, by its own settings: with the code that is there. `name` is the host name
    /// that it is asked by. Changes nothing and keeps no password. What could not be served from a platform afterwards is `Refused`, with
    /// the reason.
    async fn find_site(&self, dir: &str, name: &SiteName) -> PortResult<FoundSite>;

    /// Installs the application into its empty database.
    async fn install(&self, site: &AppSite, request: &InstallRequest) -> PortResult<()>;
    /// Whether the application finds itself installed in its database, and its versions.
    async fn site_facts(&self, site: &AppSite) -> PortResult<SiteFacts>;
    /// Runs the application's database update.
    async fn update_database(&self, site: &AppSite) -> PortResult<UpdateReport>;
    /// Takes persons out of a copy's database: users' mail addresses and passwords, sessions, commenters' addresses, customers' addresses.
    /// Again: fine. Where [`Abilities::sanitize`] says no: `Refused`.
    async fn sanitize(&self, site: &AppSite) -> PortResult<Sanitized>;
    /// Empties caches, so that the first visitor sees the new side.
    async fn clear_caches(&self, site: &AppSite) -> PortResult<()>;

    /// What it can do beside what every application can. What it cannot is `Refused`, with a text that says so.
    fn abilities(&self) -> Abilities;

    /// What a site's code is made of: the core, what its platform gives it, what is its own; sorted by kind and name. Reads files and
    /// tables, runs nothing of the site's.
    async fn packages(&self, site: &AppSite) -> PortResult<Vec<Package>>;
    /// What the platform at this root gives its sites, the core among it; nothing is enabled or a site's own there.
    async fn platform_packages(&self, root: &str) -> PortResult<Vec<Package>>;

    /// Makes a link that logs in as `user` (name, mail address or number; `None`: the first administrator), once, until `until` or as
    /// long as the application lets such links live, and for that site and user alone. It is kept in the secret `link` and in nothing
    /// else: the site has what tells it, and no more than that. Asked again with the same `link`, the one before is good no more. Unknown user: `Refused`.
    async fn login_link(
        &self,
        site: &AppSite,
        user: Option<&str>,
        link: &SecretRef,
        until: Millis,
    ) -> PortResult<LoginUser>;
    /// Takes a link back, used or not, and forgets its secret. Absent: fine.
    async fn revoke_login(&self, site: &AppSite, link: &SecretRef) -> PortResult<()>;

    /// The permission policy of a site directory.
    fn access_rules(&self) -> Vec<AccessRule>;
    /// Files (relative to the site directory) that we rewrite ourselves.
    fn settings_files(&self) -> Vec<String>;
    /// Rows that a mere visit changes.
    fn volatile_rows(&self) -> Vec<VolatileRows>;
    /// Requests that must answer before a site counts as working, and what they must answer.
    fn smoke_checks(&self, site: &SiteName) -> Vec<SmokeCheck>;
}

/// Kinds of application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AppKind {
    /// WordPress.
    Wordpress,
    /// Drupal.
    Drupal,
    /// Any files, database and commands from the configuration.
    Plain,
}

/// A site as its application sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppSite {
    /// Host name.
    pub name: SiteName,
    /// Other host names that it answers to.
    #[serde(default)]
    pub aliases: Vec<SiteName>,
    /// The platform's root.
    pub platform_root: String,
    /// The site's directory as it will be when live; what the settings name.
    pub live_dir: String,
    /// Where the directory is at this moment (stage or live).
    pub dir: String,
    /// Its database access.
    pub database: AppDatabase,
    /// How visitors reach it, which decides its URL.
    #[serde(default, skip_serializing_if = "Reach::is_plain")]
    pub reach: Reach,
    /// Whether it reaches nobody: what [`App::write_settings`] writes holds back mail, cron and requests to others. An application that
    /// cannot be held back ([`Abilities::quiet`]) refuses such a site.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub quiet: bool,
}

impl AppSite {
    /// Its URL, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.reach.https_only() { "https" } else { "http" };
        format!("{scheme}://{}", self.reach.canonical.as_ref().unwrap_or(&self.name))
    }
}

/// How a site reaches its database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppDatabase {
    /// The server's name in the configuration.
    pub server: String,
    /// Host (and `:port` or `:socket`) as `Database::address_for_sites` gives it.
    pub address: String,
    /// Schema.
    pub name: DatabaseName,
    /// User.
    pub user: DatabaseName,
    /// Where the password is.
    pub password: SecretRef,
}

/// What an install asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstallRequest {
    /// Title of the site.
    pub title: String,
    /// Mail address of the first user.
    pub admin_email: String,
    /// Name of the first user.
    pub admin_user: String,
    /// Where the first user's password is.
    pub admin_password: SecretRef,
    /// Language code (`en_US`), if asked for.
    pub language: Option<String>,
    /// Profile or flavour, if the application has them.
    pub profile: Option<String>,
}

/// What a platform is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlatformFacts {
    /// Version of the code.
    pub version: String,
    /// Version of the database schema that this code wants, where the application has such a number.
    pub schema_version: Option<u64>,
    /// Whether `prepare_platform` has nothing left to do.
    pub prepared: bool,
    /// Hosts of a cluster that lack what the first one has of it.
    pub behind: Vec<String>,
}

/// What a site is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteFacts {
    /// Installed in its database.
    pub installed: bool,
    /// Version of the code it runs on.
    pub version: String,
    /// Schema version in its database.
    pub schema_version: Option<u64>,
    /// Whether the code wants a database update.
    pub update_pending: bool,
}

/// A site that Kedge did not make, as its own settings tell it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundSite {
    /// The host name that it calls itself by, where the application knows such a thing.
    pub name: Option<SiteName>,
    /// Version of its code.
    pub version: String,
    /// Schema version in its database.
    pub schema_version: Option<u64>,
    /// Where its settings say that its database is.
    pub database_host: String,
    /// Schema.
    pub database: DatabaseName,
    /// User.
    pub user: DatabaseName,
    /// Tables and views that it sees in its schema, where the application can count them.
    pub tables: Option<u64>,
    /// What in its directory is its own, by name: the rest is code that its platform has.
    pub members: Vec<String>,
    /// What it uses of code that its platform has, and of its own, as it is now: to be compared with the platform that it will run on, and not
    /// kept. Empty where the application's sites bring all of it along.
    #[serde(skip)]
    pub packages: Vec<Package>,
    /// Whether its own address is HTTPS, where the application knows such a thing.
    #[serde(default)]
    pub https: bool,
    /// What whoever imports it should know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// What a database update did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateReport {
    /// Schema version before.
    pub from: Option<u64>,
    /// Schema version after.
    pub to: Option<u64>,
}

/// What not every application can. Source: the drivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abilities {
    /// Whether it lists packages: [`App::packages`] and [`App::platform_packages`].
    pub packages: bool,
    /// Whether it makes login links: [`App::login_link`]. Taking one back is no more than forgetting it where there are none.
    pub login_links: bool,
    /// Whether its sites can be kept from reaching anybody: [`AppSite::quiet`].
    pub quiet: bool,
    /// Whether it knows what of its database is about persons: [`App::sanitize`].
    pub sanitize: bool,
    /// Whether [`App::clear_caches`] is short and leaves a site's files alone, so that an undo can do it to a site that is up.
    pub clears_in_place: bool,
}

/// What was done to a copy's database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sanitized {
    /// Users who have another mail address and no password now.
    pub sanitized_users: u64,
}

impl Abilities {
    /// All of it.
    pub const ALL: Self =
        Self { packages: true, login_links: true, quiet: true, sanitize: true, clears_in_place: true };
    /// None of it.
    pub const NONE: Self =
        Self { packages: false, login_links: false, quiet: false, sanitize: false, clears_in_place: false };
}

/// A part of a site's code.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Package {
    /// What kind of part.
    pub kind: PackageKind,
    /// Its short name: the directory's or the file's, as the application knows it.
    pub name: String,
    /// In a platform's list: the install profile that it comes with, and whose sites alone see it, in front of what the core has by this
    /// name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Version, where it tells one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Version of its database schema: in a site's list the one in its database, in a platform's the one that the code wants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema_version: Option<u64>,
    /// Whether the site uses it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub enabled: bool,
    /// Whether it lives in the site's own directory, and so comes along wherever the site goes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub own: bool,
}

/// Kinds of packages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PackageKind {
    /// The application itself.
    Core,
    /// An install profile.
    Profile,
    /// A module.
    Module,
    /// A plugin.
    Plugin,
    /// A theme.
    Theme,
    /// A library.
    Library,
}

/// Whom a login link is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginUser {
    /// The user's name.
    pub user: String,
    /// Until when the link is good: as asked for, or shorter where the application's own limit is.
    pub until: Millis,
}

/// One request of a smoke test. Passed when the status is one of `statuses` and the body has all of `contains` and none of
/// `lacks` (compared as bytes, case-sensitive); or when it is one of `also`, and the body has none of `lacks`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmokeCheck {
    /// What to ask.
    pub get: Get,
    /// Acceptable statuses.
    pub statuses: Vec<u16>,
    /// What this site answers in its own way, without what must be in the body.
    pub also: Vec<u16>,
    /// Must be in the body.
    pub contains: Vec<String>,
    /// Must not be in the body.
    pub lacks: Vec<String>,
}

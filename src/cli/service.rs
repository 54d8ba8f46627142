//! What can be typed about what a service has: tokens, endpoints, deliveries, its audit log, platforms. Parses, and does nothing.

use clap::{Args, Subcommand};

/// Commands on tokens; they need one with the scope `admin`.
#[derive(Debug, Subcommand)]
pub(crate) enum TokensCommand {
    /// List them.
    List,
    /// Make one; its secret is printed this once.
    Create(NewTokenArgs),
    /// Revoke one that was made here.
    Revoke {
        /// Its name.
        name: String,
    },
}

/// Arguments of `tokens create`.
#[derive(Debug, Args)]
pub(crate) struct NewTokenArgs {
    /// Its name: a-z, 0-9, dots, dashes and underscores.
    pub(crate) name: String,
    /// What it may do, such as task:migrate:create, task:*:read or admin; may be given several times.
    #[arg(long = "scope", required = true, value_name = "SCOPE")]
    pub(crate) scopes: Vec<String>,
    /// The sites it is for, * standing for any characters; may be given several times.
    #[arg(long = "site", default_value = "*", value_name = "PATTERN")]
    pub(crate) sites: Vec<String>,
    /// A network that it may come from, such as 10.0.0.0/8; from everywhere by default.
    #[arg(long = "network", value_name = "CIDR")]
    pub(crate) networks: Vec<String>,
    /// When it ends, such as 2030-01-01T00:00:00Z.
    #[arg(long, value_name = "TIME")]
    pub(crate) expires_at: Option<String>,
}

/// Commands on endpoints.
#[derive(Debug, Subcommand)]
pub(crate) enum EndpointsCommand {
    /// List them.
    List,
    /// Send a test message now and show what comes of it; exit code 1 when it is not taken.
    Test {
        /// Its name.
        name: String,
    },
    /// Make a new secret and print it, this once; the old one counts for a while.
    Rotate {
        /// Its name.
        name: String,
        /// How long the old secret counts, in seconds.
        #[arg(long, default_value_t = 86_400)]
        grace_seconds: u64,
    },
    /// Send what it did not take since a time.
    Recover {
        /// Its name.
        name: String,
        /// Since when, such as 2030-01-01T00:00:00Z.
        #[arg(long, value_name = "TIME")]
        since: String,
    },
    /// Send to it again.
    Enable {
        /// Its name.
        name: String,
    },
    /// Send nothing to it.
    Disable {
        /// Its name.
        name: String,
    },
}

/// Commands on deliveries.
#[derive(Debug, Subcommand)]
pub(crate) enum DeliveriesCommand {
    /// List them, newest first.
    List {
        /// At most this many.
        #[arg(long, default_value_t = 20)]
        limit: usize,
    },
    /// Show one with its attempts.
    Show {
        /// Its id: msg_...
        id: String,
    },
    /// Send it again.
    Replay {
        /// Its id: msg_...
        id: String,
    },
}

/// Arguments of `audit`.
#[derive(Debug, Args)]
pub(crate) struct AuditArgs {
    /// At most this many.
    #[arg(long, default_value_t = 50)]
    pub(crate) limit: usize,
}

/// Arguments of `platforms`.
#[derive(Debug, Args)]
pub(crate) struct PlatformsArgs {
    /// What to do with them; they are listed by default.
    #[command(subcommand)]
    pub(crate) command: Option<PlatformsCommand>,
}

/// Commands on platforms.
#[derive(Debug, Subcommand)]
pub(crate) enum PlatformsCommand {
    /// Compare what a site is made of, or all that a platform gives, with what another platform gives.
    Compare(CompareArgs),
    /// Add a platform to those of the configuration, at once and for good.
    Add(AddPlatformArgs),
    /// Take away a platform that was added so and that nothing lives on.
    Remove {
        /// Its name.
        name: String,
    },
}

/// Arguments of `backups`.
#[derive(Debug, Args)]
pub(crate) struct BackupsArgs {
    /// What to do with them; they are listed by default.
    #[command(subcommand)]
    pub(crate) command: Option<BackupsCommand>,
}

/// Commands on backups.
#[derive(Debug, Subcommand)]
pub(crate) enum BackupsCommand {
    /// Bring an archive here; needs the scope `task:restore:create`.
    Get {
        /// Its file name.
        name: String,
        /// The file that it becomes; of the same name here by default.
        #[arg(long)]
        to: Option<std::path::PathBuf>,
    },
}

/// Arguments of `platforms add`.
#[derive(Debug, Args)]
pub(crate) struct AddPlatformArgs {
    /// Its name.
    pub(crate) name: String,
    /// A configured web server.
    #[arg(long)]
    pub(crate) web_server: String,
    /// Its root directory on the web server's host.
    #[arg(long)]
    pub(crate) root: String,
    /// Its application: wordpress, drupal or plain.
    #[arg(long)]
    pub(crate) app: String,
    /// For Drupal: the drush to use where the platform has none of its own.
    #[arg(long)]
    pub(crate) drush: Option<String>,
}

/// Arguments of `platforms compare`.
#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// The platform that the site is on.
    pub(crate) from: String,
    /// The platform that it may move to.
    pub(crate) to: String,
    /// The site; without one, all that the platform gives counts as used.
    #[arg(long)]
    pub(crate) site: Option<String>,
}

//! The command line: what can be typed. Parses, and does nothing.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::drill::Take;

mod service;

pub(crate) use service::{
    AddPlatformArgs, AuditArgs, BackupsArgs, BackupsCommand, CompareArgs, DeliveriesCommand,
    EndpointsCommand, PlatformsArgs, PlatformsCommand, TokensCommand,
};

/// Kedge: durable sagas for the risky operations of website hosting.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100)]
pub(crate) struct Cli {
    /// Print JSON instead of text.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve webhooks and the API, and run tasks.
    Serve(ServeArgs),
    /// Check the configuration, the hosts, their tools and privileges.
    Check(ConfigArgs),
    /// Submit a task, or look at its plan.
    Task(TaskArgs),
    /// List tasks, newest first.
    Tasks(TasksArgs),
    /// Show a task.
    Show(IdArgs),
    /// Show the link of a login task, while it is good.
    LoginLink(IdArgs),
    /// Watch a task until it ends.
    Watch(IdArgs),
    /// Ask for rollback; refused after the point of no return.
    Cancel(ReasonArgs),
    /// Try the stuck steps again, or a rolled back task anew.
    Retry(VerbArgs),
    /// Take a finished task back, within its hold.
    Undo(VerbArgs),
    /// Settle a stuck step.
    Resolve(ResolveArgs),
    /// Say yes to a task that asks for a second person; not to your own.
    Approve(ReasonArgs),
    /// Say no to a task that asks for a second person: it is canceled.
    Refuse(ReasonArgs),
    /// List sites.
    Sites,
    /// List platforms, or compare two.
    Platforms(PlatformsArgs),
    /// List backups, or bring an archive here.
    Backups(BackupsArgs),
    /// List what is in the trash: old sides and deleted sites, until their hold is over.
    Trash,
    /// Who may ask: tokens, of the configuration and made here.
    #[command(subcommand)]
    Tokens(TokensCommand),
    /// Who changed what, newest first.
    Audit(AuditArgs),
    /// Receivers of callbacks: list them, send a test, change their secret, let them catch up. Needs the scope `admin` but for the list.
    #[command(subcommand)]
    Endpoints(EndpointsCommand),
    /// Callbacks on their way, delivered and given up.
    #[command(subcommand)]
    Deliveries(DeliveriesCommand),
    /// Sign a body as Standard Webhooks does; prints the headers.
    Sign(SignArgs),
    /// Verify a signed body.
    Verify(VerifyArgs),
    /// Ask what a hook would do.
    #[command(subcommand)]
    Hooks(HooksCommand),
    /// Look at what came to the hooks, and try it again.
    #[command(subcommand)]
    Inbox(InboxCommand),
    /// Kill and break a workflow at every point, on a staging site, and see whether it ends done or as before.
    Drill(DrillArgs),
    /// A life of a drilled task; only `drill` starts it.
    #[command(hide = true)]
    DrillLife,
    /// Look into the journal.
    #[command(subcommand)]
    Journal(JournalCommand),
    /// Print completions for a shell.
    Completions(CompletionsArgs),
    /// Print the manual page.
    Man,
}

/// Arguments of `completions`.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell.
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

/// Where the configuration is.
#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    /// The configuration file.
    #[arg(long, short, env = "KEDGE_CONFIG", default_value = "/etc/kedge/kedge.toml")]
    pub(crate) config: PathBuf,
}

/// Arguments of `serve`.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// How the log looks; pretty in a terminal by default.
    #[arg(long, value_enum)]
    pub(crate) log: Option<LogFormat>,
}

/// Looks of the log.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Pretty,
    /// For machines: a JSON object a line.
    Json,
}

/// Arguments of `task`.
#[derive(Debug, Args)]
pub(crate) struct TaskArgs {
    /// The workflow, such as migrate.
    pub(crate) workflow: String,
    /// The site.
    #[arg(long)]
    pub(crate) site: Option<String>,
    /// A parameter: name=value; the value is JSON where it reads as JSON, else text.
    #[arg(long = "param", short = 'p', value_name = "NAME=VALUE")]
    pub(crate) params: Vec<String>,
    /// Show the plan instead of running it.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Wait for the end, watching.
    #[arg(long)]
    pub(crate) wait: bool,
    /// A receiver of this task's callbacks, on the origin of a configured endpoint.
    #[arg(long, value_name = "URL")]
    pub(crate) callback: Option<String>,
    /// Your own id, given back in callbacks.
    #[arg(long)]
    pub(crate) correlation_id: Option<String>,
    /// Accept this request once only.
    #[arg(long)]
    pub(crate) idempotency_key: Option<String>,
    /// Refuse when the plan is not the one with this hash.
    #[arg(long, value_name = "HASH")]
    pub(crate) if_plan: Option<String>,
}

/// Arguments of `drill`.
#[derive(Debug, Args)]
pub(crate) struct DrillArgs {
    /// The workflow; `GET /v1/workflows` lists them.
    pub(crate) workflow: String,
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// The site. It will be closed and moved again and again: take a staging site.
    #[arg(long)]
    pub(crate) site: Option<String>,
    /// A parameter: name=value; the value is JSON where it reads as JSON, else text.
    #[arg(long = "param", short = 'p', value_name = "NAME=VALUE")]
    pub(crate) params: Vec<String>,
    /// How many points: all, failures (each step fails, nothing is killed), or sample:N.
    #[arg(long, default_value = "sample:20")]
    pub(crate) points: Take,
    /// Chooses the sample, and the moments within commands; a new one by default.
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Drill the undo of the finished task instead of the task.
    #[arg(long)]
    pub(crate) undo: bool,
    /// Drill this point only, as a report names it; may be given several times.
    #[arg(long, value_name = "POINT")]
    pub(crate) point: Vec<String>,
    /// Where the report goes.
    #[arg(long, default_value = "kedge-drill", value_name = "DIR")]
    pub(crate) report: PathBuf,
    /// Go on after a counterexample, as long as the site is as it was.
    #[arg(long)]
    pub(crate) keep_going: bool,
    /// Longest time of one life, in seconds: more is a hang.
    #[arg(long, default_value_t = 600)]
    pub(crate) limit: u64,
}

/// Arguments of `tasks`.
#[derive(Debug, Args)]
pub(crate) struct TasksArgs {
    /// Of this site.
    #[arg(long)]
    pub(crate) site: Option<String>,
    /// Of this workflow.
    #[arg(long)]
    pub(crate) workflow: Option<String>,
    /// In this state.
    #[arg(long)]
    pub(crate) state: Option<String>,
    /// At most this many.
    #[arg(long, default_value_t = 20)]
    pub(crate) limit: usize,
}

/// A task's id.
#[derive(Debug, Args)]
pub(crate) struct IdArgs {
    /// The task's id, or the end of it.
    pub(crate) id: String,
}

/// The task that a verb is for.
#[derive(Debug, Args)]
pub(crate) struct VerbArgs {
    /// The task's id, or the end of it.
    pub(crate) id: String,
    /// Wait for the end, watching.
    #[arg(long)]
    pub(crate) wait: bool,
}

/// A task and a reason.
#[derive(Debug, Args)]
pub(crate) struct ReasonArgs {
    #[command(flatten)]
    pub(crate) task: VerbArgs,
    /// Why; kept in the journal.
    #[arg(long, default_value = "")]
    pub(crate) reason: String,
}

/// Arguments of `resolve`.
#[derive(Debug, Args)]
pub(crate) struct ResolveArgs {
    #[command(flatten)]
    pub(crate) task: VerbArgs,
    /// The stuck step.
    pub(crate) step: String,
    /// What to do with it.
    #[arg(value_enum)]
    pub(crate) verb: Verb,
    /// Why; kept in the journal.
    #[arg(long, default_value = "")]
    pub(crate) reason: String,
}

/// Verbs of an incident.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Verb {
    /// Try again, with fresh attempts.
    Retry,
    /// It was undone (after the point of no return: done) by hand.
    MarkUndone,
    /// Leave it as it is.
    Abandon,
}

impl Verb {
    /// The word of the API.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::MarkUndone => "mark_undone",
            Self::Abandon => "abandon",
        }
    }
}

/// Arguments of `sign`.
#[derive(Debug, Args)]
pub(crate) struct SignArgs {
    /// The file that holds the secret: whsec_... or whsk_..., or as the provider writes it.
    #[arg(long)]
    pub(crate) secret_file: PathBuf,
    #[command(flatten)]
    pub(crate) scheme: SchemeArgs,
    /// The body; - for standard input.
    #[arg(long, default_value = "-")]
    pub(crate) body: String,
    /// The message's id; a new one by default.
    #[arg(long)]
    pub(crate) id: Option<String>,
    /// Seconds since 1970; now by default.
    #[arg(long)]
    pub(crate) timestamp: Option<u64>,
}

/// Who signs, and how.
#[derive(Debug, Args)]
pub(crate) struct SchemeArgs {
    /// As this sender does: standard, github, gitlab, gitea, forgejo, bitbucket, slack, mattermost, discord, hmac-sha256.
    #[arg(long, default_value = "standard")]
    pub(crate) provider: String,
    /// As GitHub does; the same as --provider github.
    #[arg(long, conflicts_with = "provider")]
    pub(crate) github: bool,
    /// The header of the signature of hmac-sha256.
    #[arg(long, value_name = "NAME")]
    pub(crate) signature_header: Option<String>,
    /// Its encoding: hex or base64.
    #[arg(long, value_name = "ENCODING")]
    pub(crate) encoding: Option<String>,
    /// What stands before it.
    #[arg(long)]
    pub(crate) prefix: Option<String>,
}

/// Arguments of `verify`.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// The file that holds the secret.
    #[arg(long)]
    pub(crate) secret_file: PathBuf,
    #[command(flatten)]
    pub(crate) scheme: SchemeArgs,
    /// The body; - for standard input.
    #[arg(long, default_value = "-")]
    pub(crate) body: String,
    /// A header as it was received: 'Name: value'; may be given several times.
    #[arg(long, short = 'H', value_name = "HEADER")]
    pub(crate) header: Vec<String>,
    /// webhook-id.
    #[arg(long, default_value = "")]
    pub(crate) id: String,
    /// webhook-timestamp.
    #[arg(long, default_value_t = 0)]
    pub(crate) timestamp: u64,
    /// webhook-signature, or X-Hub-Signature-256 with --github; of other providers, give its headers with --header.
    #[arg(long)]
    pub(crate) signature: Option<String>,
    /// Do not look at the age of the message.
    #[arg(long)]
    pub(crate) any_time: bool,
}

/// Commands on the journal.
#[derive(Debug, Subcommand)]
pub(crate) enum JournalCommand {
    /// Replay every task and report what is wrong; the service must not run meanwhile.
    Fsck(ConfigArgs),
    /// Write everything in it to a file; the service must not run meanwhile.
    Export(TransferArgs),
    /// Read an exported file into the empty journal of a new data_dir, and check it.
    Import(TransferArgs),
}

/// Arguments of `journal export` and `journal import`.
#[derive(Debug, Args)]
pub(crate) struct TransferArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// The file; - for standard output or input.
    pub(crate) file: PathBuf,
}

/// Commands on hooks.
#[derive(Debug, Subcommand)]
pub(crate) enum HooksCommand {
    /// Tell what a message would do: signature, filters, parameters, schema. Asks no server and runs nothing.
    Explain(ExplainArgs),
}

/// Arguments of `hooks explain`.
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// The hook's name.
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// The body; - for standard input.
    #[arg(long, default_value = "-")]
    pub(crate) body: String,
    /// A header of the message: Name=value; may be given several times.
    #[arg(long, short = 'H', value_name = "NAME=VALUE")]
    pub(crate) header: Vec<String>,
}

/// Commands on the inbox.
#[derive(Debug, Subcommand)]
pub(crate) enum InboxCommand {
    /// List messages, newest first.
    List {
        /// To this hook.
        #[arg(long)]
        hook: Option<String>,
        /// accepted, duplicate, ignored, invalid, refused or rejected.
        #[arg(long)]
        status: Option<String>,
        /// At most this many.
        #[arg(long, default_value_t = 20)]
        limit: usize,
    },
    /// Show a message and what became of it.
    Show {
        /// Its id.
        id: String,
    },
    /// Try it again, through the hook as it is configured now.
    Replay {
        /// Its id.
        id: String,
    },
}

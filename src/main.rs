//! The binary: command line, configuration and wiring. Nothing else: what Kedge does is in the crates below.

mod again;
mod between;
mod check;
mod cli;
mod client;
mod config;
mod custody;
mod descriptors;
mod desk;
mod drill;
mod facts;
mod hooks;
mod journal;
mod logs;
mod reached;
mod runtime;
mod schedules;
mod serve;
mod sign;
mod upkeep;
mod world;

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory as _, Parser as _};
use serde_json::json;

use cli::{Cli, Command, HooksCommand, JournalCommand};
use client::{Api, ApiError, Out};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// As of a process that SIGPIPE has ended: 128 + 13.
const CLOSED_PIPE: u8 = 141;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Printing help and usage can only fail when nobody reads them.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(1) } else { ExitCode::SUCCESS };
        }
    };
    let run = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(run(cli)));
    match run {
        Ok(code) => code,
        Err(error) if nobody_reads(&error) => ExitCode::from(CLOSED_PIPE),
        Err(error) => {
            eprintln!("kedge: {error:#}");
            let unreachable = matches!(error.downcast_ref(), Some(ApiError::Unreachable { .. }));
            ExitCode::from(if unreachable { 5 } else { 1 })
        }
    }
}

/// Whether the reader of our output has gone (`kedge tasks | head -1`): no failure of ours.
fn nobody_reads(error: &anyhow::Error) -> bool {
    let closed = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
    };
    error.chain().any(closed)
}

async fn run(cli: Cli) -> Result<ExitCode> {
    let out = Out::new(cli.json);
    match &cli.command {
        Command::Serve(args) => {
            logs::start(args.log);
            serve::serve(&args.config.config).await
        }
        Command::Check(args) => check::check(&args.config, cli.json).await,
        Command::Task(args) => client::task(&Api::from_env()?, out, args).await,
        Command::Tasks(args) => client::tasks(&Api::from_env()?, out, args).await,
        Command::Show(args) => client::show(&Api::from_env()?, out, &args.id).await,
        Command::LoginLink(args) => client::login_link(&Api::from_env()?, out, &args.id).await,
        Command::Watch(args) => client::watch(&Api::from_env()?, out, &args.id).await,
        Command::Cancel(args) => client::decide(&Api::from_env()?, out, args, "cancel").await,
        Command::Retry(args) => client::verb(&Api::from_env()?, out, args, "retry", &json!({})).await,
        Command::Undo(args) => client::verb(&Api::from_env()?, out, args, "undo", &json!({})).await,
        Command::Approve(args) => client::decide(&Api::from_env()?, out, args, "approve").await,
        Command::Refuse(args) => client::decide(&Api::from_env()?, out, args, "refuse").await,
        Command::Resolve(args) => client::resolve(&Api::from_env()?, out, args).await,
        Command::Sites => {
            let fields = ["name", "platform", "database_server", "schema", "state", "cloned_from"];
            client::records(&Api::from_env()?, out, "sites", &fields).await
        }
        Command::Platforms(args) => client::platforms(&Api::from_env()?, out, args).await,
        Command::Backups(args) => client::backups(&Api::from_env()?, out, args).await,
        Command::Trash => {
            client::records(&Api::from_env()?, out, "trash", &["task", "site", "why", "until", "dir"]).await
        }
        Command::Tokens(command) => client::tokens(&Api::from_env()?, out, command).await,
        Command::Audit(args) => client::audit(&Api::from_env()?, out, args).await,
        Command::Endpoints(command) => client::endpoints(&Api::from_env()?, out, command).await,
        Command::Deliveries(command) => client::deliveries(&Api::from_env()?, out, command).await,
        Command::Sign(args) => sign::sign(args, cli.json),
        Command::Verify(args) => sign::verify(args, cli.json),
        Command::Hooks(HooksCommand::Explain(args)) => hooks::explain(args, out),
        Command::Inbox(command) => hooks::inbox(command, out).await,
        Command::Drill(args) => {
            let params = client::params(&args.workflow, args.site.as_deref(), &args.params)?;
            drill::drill(args, params, cli.json).await
        }
        Command::DrillLife => {
            logs::start(Some(cli::LogFormat::Json));
            drill::life().await
        }
        Command::Journal(JournalCommand::Fsck(args)) => journal::fsck(&args.config, cli.json),
        Command::Journal(JournalCommand::Export(args)) => {
            journal::export(&args.config.config, &args.file, cli.json)
        }
        Command::Journal(JournalCommand::Import(args)) => {
            journal::import(&args.config.config, &args.file, cli.json).await
        }
        Command::Completions(args) => {
            // It panics where it cannot write.
            let mut script = Vec::new();
            clap_complete::generate(args.shell, &mut Cli::command(), "kedge", &mut script);
            std::io::stdout().write_all(&script)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Man => {
            clap_mangen::Man::new(Cli::command()).render(&mut std::io::stdout())?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

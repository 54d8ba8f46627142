//! Steps that more than one workflow uses, by what they touch. Each acts through ports only.

pub(crate) mod app;
pub(crate) mod backup;
pub(crate) mod batch;
pub(crate) mod certificate;
pub(crate) mod command;
pub(crate) mod copy_ahead;
pub(crate) mod copy_database;
pub(crate) mod database;
mod edited;
pub(crate) mod files;
pub(crate) mod fingerprint;
pub(crate) mod found;
mod guards;
pub(crate) mod hidden;
pub(crate) mod import;
mod leaving;
mod left_names;
mod links_out;
pub(crate) mod login;
pub(crate) mod names;
pub(crate) mod packages;
pub(crate) mod preflight;
pub(crate) mod registered;
pub(crate) mod registry;
pub(crate) mod rehearsal;
pub(crate) mod removal;
pub(crate) mod repair;
pub(crate) mod restore;
mod room;
pub(crate) mod servers;
pub(crate) mod staying;
mod taken;
pub(crate) mod verify;
pub(crate) mod vhost;

use kedge_engine::step::StepKinds;

use crate::ports::World;

/// Every kind of step there is. Old journals name them: never remove one without a word in ARCHITECTURE.md.
pub(crate) fn kinds() -> StepKinds<dyn World> {
    others(of_moves())
}

/// What builds a side and switches to it.
fn of_moves() -> StepKinds<dyn World> {
    StepKinds::new()
        .with::<preflight::Preflight>()
        .with::<fingerprint::FingerprintSite>()
        .with::<names::ReserveNames>()
        .with::<database::CreateSchema>()
        .with::<database::CreateUser>()
        .with::<copy_database::CopyDatabase>()
        .with::<copy_ahead::CopyAhead>()
        .with::<database::Fence>()
        .with::<database::Unfence>()
        .with::<database::StartEvents>()
        .with::<files::MakeStage>()
        .with::<files::CopyFiles>()
        .with::<files::SyncFiles>()
        .with::<files::FixAccess>()
        .with::<files::SetAside>()
        .with::<files::Publish>()
        .with::<files::TrashDir>()
        .with::<app::PreparePlatform>()
        .with::<app::FillSkeleton>()
        .with::<app::WriteSettings>()
        .with::<app::InstallApp>()
        .with::<app::UpdateDatabase>()
        .with::<app::SanitizeCopy>()
        .with::<app::ClearCaches>()
        .with::<vhost::SaveVhost>()
        .with::<vhost::Close>()
        .with::<hidden::OpenHidden>()
        .with::<hidden::CheckHidden>()
        .with::<vhost::GoLive>()
        .with::<vhost::RetireVhost>()
        .with::<backup::WriteBackup>()
        .with::<backup::VerifyBackup>()
        .with::<backup::CatalogBackup>()
        .with::<registry::CommitInstall>()
        .with::<registry::CommitMove>()
        .with::<registry::CommitClone>()
        .with::<registry::CommitState>()
        .with::<registry::CommitDelete>()
        .with::<registry::CommitUndelete>()
        .with::<registry::CommitPurge>()
        .with::<vhost::Disable>()
        .with::<vhost::RemoveVhost>()
        .with::<restore::ReadBackup>()
        .with::<restore::UnpackFiles>()
        .with::<restore::ImportBackup>()
        .with::<packages::CompareRestored>()
        .with::<removal::Survey>()
        .with::<removal::LockAccount>()
        .with::<removal::RemoveDir>()
        .with::<removal::DropDatabase>()
        .with::<removal::RemoveBackup>()
}

fn others(kinds: StepKinds<dyn World>) -> StepKinds<dyn World> {
    kinds
        .with::<verify::LookAtSite>()
        .with::<verify::TellDrift>()
        .with::<repair::GiveFiles>()
        .with::<repair::RepairSettings>()
        .with::<repair::RepairAccess>()
        .with::<repair::RepairVhost>()
        .with::<verify::CheckPages>()
        .with::<verify::CommitVerify>()
        .with::<repair::DropKept>()
        .with::<servers::LookAtPlatform>()
        .with::<servers::RefreshPlatform>()
        .with::<servers::LookAtWebServer>()
        .with::<servers::LookAtDatabaseServer>()
        .with::<login::MakeLogin>()
        .with::<login::DecideRevoke>()
        .with::<login::RevokeLogin>()
        .with::<certificate::EnsureCertificate>()
        .with::<found::FindSite>()
        .with::<found::FindDatabase>()
        .with::<found::LookAtFound>()
        .with::<import::FingerprintFound>()
        .with::<import::CopyFound>()
        .with::<import::TakeName>()
        .with::<import::CommitGiveBack>()
        .with::<import::HandBack>()
        .with::<batch::MoveSite>()
        .with::<batch::MoveSiteBack>()
        .with::<batch::CountSites>()
        .with::<rehearsal::CheckRehearsal>()
        .with::<rehearsal::CommitRehearsal>()
        .with::<rehearsal::DropRehearsal>()
        .with::<rehearsal::CommitPin>()
        .with::<registered::AskRegistry>()
        .with::<command::RunBefore>()
        .with::<command::RunAfter>()
        .with::<command::RunLast>()
}

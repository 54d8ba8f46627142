//! Steps on vhosts: save, close, go live, retire. Visitors get the old site, a 503, or the checked new site.

use kedge_engine::context::Cx;
use kedge_engine::plan::Doors;
use kedge_engine::retry::Policy;
use kedge_engine::step::{Compensable, Compensate, Query, Ref, Retriable, Step, StepError};
use serde::{Deserialize, Serialize};

use crate::names::SiteName;
use crate::place::{Place, scope};
use crate::ports::{PortResult, RenderedVhost, SavedFile, SecretRef, VhostMode, WebServer, World};

pub(super) const CLOSED: VhostMode = VhostMode::Maintenance { bypass: None };

/// The vhost that only the bearer of the token sees through.
pub(super) fn hidden(token: &str) -> VhostMode {
    VhostMode::Maintenance { bypass: Some(token.to_owned()) }
}

pub(super) fn rendered(web: &dyn WebServer, place: &Place, mode: VhostMode) -> RenderedVhost {
    web.render(&place.vhost(mode))
}

/// Writes a vhost over one of `before` (hashes) and waits until the server answers with it.
pub(super) async fn switch(
    web: &dyn WebServer,
    place: &Place,
    mode: VhostMode,
    before: Option<&str>,
) -> PortResult<()> {
    let vhost = place.vhost(mode);
    let written = web.put_vhost(&place.site, &vhost, before).await?;
    web.reload(&place.site, Some(&written.revision)).await
}

/// The same for an undo, with what was there before.
pub(super) async fn switch_back(
    web: &dyn WebServer,
    place: &Place,
    mode: VhostMode,
    before: Option<&str>,
) -> PortResult<()> {
    let written = web.put_back_vhost(&place.site, &place.vhost(mode), before).await?;
    web.reload(&place.site, Some(&written.revision)).await
}

/// Reads the vhost as it is, to be put back exactly.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SaveVhost {
    /// Whose.
    pub(crate) place: Place,
}

impl Step for SaveVhost {
    type Ports = dyn World;
    type Output = Option<SavedFile>;
    type Mode = Query;
    const KIND: &'static str = "save_vhost";

    fn title(&self) -> String {
        format!("read the vhost of {} on {}", self.place.site, self.place.web_server)
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<Option<SavedFile>, StepError> {
        let web = cx.ports.web_server(&self.place.web_server, &scope(cx))?;
        Ok(web.vhost(&self.place.site).await?)
    }
}

/// Closes the site: everybody gets a 503.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Close {
    /// The side that is there.
    pub(crate) place: Place,
    /// Its vhost as it was.
    pub(crate) saved: Ref<Option<SavedFile>>,
    /// Its doors are closed already: it is disabled.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) disabled: bool,
}

impl Step for Close {
    type Ports = dyn World;
    type Output = ();
    type Mode = Compensable;
    const KIND: &'static str = "close";

    fn title(&self) -> String {
        format!("close {}: visitors get a 503", self.place.site)
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        let web = cx.ports.web_server(&self.place.web_server, &scope(cx))?;
        let saved = cx.output(&self.saved)?;
        let before = saved.as_ref().map(|saved| saved.sha256.as_str());
        Ok(switch(&*web, &self.place, CLOSED, before).await?)
    }

    fn doors(&self) -> Option<Doors> {
        (!self.disabled).then_some(Doors::Close)
    }
}

impl Compensate for Close {
    fn undo_title(&self) -> String {
        "put the vhost back as it was".to_owned()
    }

    async fn undo(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        let Some(saved) = cx.maybe(&self.saved)? else { return Ok(()) };
        let web = cx.ports.web_server(&self.place.web_server, &scope(cx))?;
        let ours = [rendered(&*web, &self.place, CLOSED).sha256];
        web.restore_vhost(&self.place.site, saved.as_ref(), &ours).await?;
        let revision = saved.and_then(|saved| web.revision_in(&saved.bytes));
        Ok(web.reload(&self.place.site, revision.as_deref()).await?)
    }
}

/// Shows everybody the disabled page.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Disable {
    /// The site.
    pub(crate) place: Place,
    /// Its vhost as it was, if it had one.
    pub(crate) saved: Ref<Option<SavedFile>>,
}

impl Step for Disable {
    type Ports = dyn World;
    type Output = ();
    type Mode = Compensable;
    const KIND: &'static str = "disable";

    fn title(&self) -> String {
        format!("show visitors of {} the disabled page", self.place.site)
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        let web = cx.ports.web_server(&self.place.web_server, &scope(cx))?;
        let saved = cx.output(&self.saved)?;
        let before = saved.as_ref().map(|saved| saved.sha256.as_str());
        Ok(switch(&*web, &self.place, VhostMode::Disabled, before).await?)
    }
}

impl Compensate for Disable {
    fn undo_title(&self) -> String {
        "put the vhost back as it was".to_owned()
    }

    async fn undo(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        let Some(saved) = cx.maybe(&self.saved)? else { return Ok(()) };
        let web = cx.ports.web_server(&self.place.web_server, &scope(cx))?;
        let ours = [rendered(&*web, &self.place, VhostMode::Disabled).sha256];
        web.restore_vhost(&self.place.site, saved.as_ref(), &ours).await?;
        let revision = saved.and_then(|saved| web.revision_in(&saved.bytes));
        Ok(web.reload(&self.place.site, revision.as_deref()).await?)
    }
}

/// Takes the vhost of a deleted site away.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RemoveVhost {
    /// The site.
    pub(crate) place: Place,
    /// Its vhost as it was, if it had one.
    pub(crate) saved: Ref<Option<SavedFile>>,
}

impl Step for RemoveVhost {
    type Ports = dyn World;
    type Output = ();
    type Mode = Retriable;
    const KIND: &'static str = "remove_vhost";

    fn title(&self) -> String {
        format!("remove the vhost of {} on {}", self.place.site, self.place.web_server)
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        let Some(saved) = cx.output(&self.saved)? else { return Ok(()) };
        let web = cx.ports.web_server(&self.place.web_server, &scope(cx))?;
        web.restore_vhost(&self.place.site, None, &saved.hashes()).await?;
        Ok(web.reload(&self.place.site, None).await?)
    }

    fn policy(&self) -> Policy {
        Policy::PERSISTENT
    }
}

/// Opens the doors: visitors get the new side.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct GoLive {
    /// The new side.
    pub(crate) to: Place,
    /// The token of its hidden vhost, which is forgotten.
    pub(crate) bypass: SecretRef,
    /// The site was disabled, and stays so: its doors stay closed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) disabled: bool,
}

impl Step for GoLive {
    type Ports = dyn World;
    type Output = ();
    type Mode = Retriable;
    const KIND: &'static str = "go_live";

    fn title(&self) -> String {
        match self.disabled {
            false => format!("open {}", self.to.site),
            true => format!("show visitors of {} the disabled page again", self.to.site),
        }
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        let web = cx.ports.web_server(&self.to.web_server, &scope(cx))?;
        let token = cx.ports.secrets().get(&self.bypass).await?;
        let before = token.map(|token| rendered(&*web, &self.to, hidden(token.expose())).sha256);
        let mode = if self.disabled { VhostMode::Disabled } else { VhostMode::Live };
        switch(&*web, &self.to, mode, before.as_deref()).await?;
        Ok(cx.ports.secrets().remove(&self.bypass).await?)
    }

    fn policy(&self) -> Policy {
        Policy::PERSISTENT
    }

    fn doors(&self) -> Option<Doors> {
        (!self.disabled).then_some(Doors::Open)
    }
}

/// Takes the old side's vhost away, or makes it point to the new name.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RetireVhost {
    /// The side that is left.
    pub(crate) place: Place,
    /// Where its visitors are sent, if they are.
    pub(crate) redirect: Option<SiteName>,
}

impl Step for RetireVhost {
    type Ports = dyn World;
    type Output = ();
    type Mode = Retriable;
    const KIND: &'static str = "retire_vhost";

    fn title(&self) -> String {
        match &self.redirect {
            Some(to) => format!("send visitors of {} to {to}", self.place.site),
            None => format!("remove the vhost of {} on {}", self.place.site, self.place.web_server),
        }
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        let web = cx.ports.web_server(&self.place.web_server, &scope(cx))?;
        let closed = rendered(&*web, &self.place, CLOSED).sha256;
        if let Some(to) = &self.redirect {
            let mode = VhostMode::Redirect { to: to.clone() };
            return Ok(switch(&*web, &self.place, mode, Some(&closed)).await?);
        }
        web.restore_vhost(&self.place.site, None, &[closed]).await?;
        Ok(web.reload(&self.place.site, None).await?)
    }

    fn policy(&self) -> Policy {
        Policy::PERSISTENT
    }
}

//! Steps on vhosts: save, close, open hidden, check, go live, retire. Visitors get the old site, a 503, or the checked new site.

use kedge_engine::context::Cx;
use kedge_engine::plan::Doors;
use kedge_engine::retry::Policy;
use kedge_engine::step::{Compensable, Compensate, Query, Ref, Retriable, Step, StepError};
use serde::{Deserialize, Serialize};

use crate::names::SiteName;
use crate::place::{Place, scope};
use crate::ports::{
    Get, PortResult, RenderedVhost, SavedFile, SecretRef, SmokeCheck, VhostMode, WebServer, World,
};

pub(super) const CLOSED: VhostMode = VhostMode::Maintenance { bypass: None };

/// The vhost that only the bearer of the token sees through.
fn hidden(token: &str) -> VhostMode {
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

/// Puts the new side's vhost in place, closed to all but the bearer of this task's token.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct OpenHidden {
    /// The new side.
    pub(crate) to: Place,
    /// The closed side whose vhost file this one replaces, if it is the same file.
    pub(crate) over: Option<Place>,
    /// The token.
    pub(crate) bypass: SecretRef,
    /// The redirect that is in its place until then, if one is.
    pub(crate) redirect: Option<Ref<Option<SavedFile>>>,
    /// What the closed side on the same web server gives to this one: a name can be in one vhost only.
    #[serde(default)]
    pub(crate) gives: Option<Gives>,
}

/// A closed side that gives names away.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Gives {
    /// As it is, with all its names.
    pub(crate) from: Place,
    /// As it is afterwards; `None`: its own name goes too, and with it its vhost.
    pub(crate) left: Option<Place>,
}

impl Gives {
    /// Gives the names; the server takes it with its next reload.
    async fn give(&self, web: &dyn WebServer) -> PortResult<()> {
        let closed = rendered(web, &self.from, CLOSED).sha256;
        match &self.left {
            Some(left) => web.put_vhost(&left.site, &left.vhost(CLOSED), Some(&closed)).await.map(drop),
            None => web.restore_vhost(&self.from.site, None, &[closed]).await,
        }
    }

    /// Takes them back; the server answers with it when this returns.
    async fn take_back(&self, web: &dyn WebServer) -> PortResult<()> {
        let left = self.left.as_ref().map(|left| rendered(web, left, CLOSED).sha256);
        switch(web, &self.from, CLOSED, left.as_deref()).await
    }
}

impl OpenHidden {
    /// What is in the file's place before, if it is a redirect.
    fn replaced(&self, cx: &Cx<'_, dyn World>) -> Result<Option<SavedFile>, StepError> {
        match &self.redirect {
            Some(redirect) => Ok(cx.maybe(redirect)?.flatten()),
            None => Ok(None),
        }
    }
}

impl Step for OpenHidden {
    type Ports = dyn World;
    type Output = ();
    type Mode = Compensable;
    const KIND: &'static str = "open_hidden";

    fn title(&self) -> String {
        format!("point {} to {}, still closed to visitors", self.to.site, self.to.dir)
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        let web = cx.ports.web_server(&self.to.web_server, &scope(cx))?;
        let token = cx.ports.secrets().ensure(&self.bypass).await?;
        let over = self.over.as_ref().map(|over| rendered(&*web, over, CLOSED).sha256);
        let before = over.or(self.replaced(cx)?.map(|redirect| redirect.sha256));
        if let Some(gives) = &self.gives {
            // Taken by the same reload as the new vhost: no moment in which nobody answers to these names.
            gives.give(&*web).await?;
        }
        Ok(switch(&*web, &self.to, hidden(token.expose()), before.as_deref()).await?)
    }
}

impl Compensate for OpenHidden {
    fn undo_title(&self) -> String {
        match &self.over {
            Some(over) => format!("point {} back to {}", over.site, over.dir),
            None => "remove the new vhost".to_owned(),
        }
    }

    async fn undo(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        let web = cx.ports.web_server(&self.to.web_server, &scope(cx))?;
        let token = cx.ports.secrets().get(&self.bypass).await?;
        let ours = token.map(|token| rendered(&*web, &self.to, hidden(token.expose())).sha256);
        match &self.over {
            Some(over) => {
                let ours = ours.unwrap_or_else(|| rendered(&*web, over, CLOSED).sha256);
                switch(&*web, over, CLOSED, Some(&ours)).await?;
            }
            None => {
                let saved = self.replaced(cx)?;
                web.restore_vhost(&self.to.site, saved.as_ref(), &Vec::from_iter(ours)).await?;
                if let Some(gives) = &self.gives {
                    // Its answer proves the reload for both: the new name itself may be one that goes back.
                    gives.take_back(&*web).await?;
                } else {
                    let revision = saved.and_then(|saved| web.revision_in(&saved.bytes));
                    web.reload(&self.to.site, revision.as_deref()).await?;
                }
            }
        }
        // Last: without the token the vhost that has to go could not be recognised.
        Ok(cx.ports.secrets().remove(&self.bypass).await?)
    }
}

/// Asks the new side for its pages, by the token, and visitors' requests for their 503.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CheckHidden {
    /// The new side.
    pub(crate) to: Place,
    /// The token.
    pub(crate) bypass: SecretRef,
}

impl Step for CheckHidden {
    type Ports = dyn World;
    type Output = ();
    type Mode = Query;
    const KIND: &'static str = "check_hidden";

    fn title(&self) -> String {
        "ask the new side for its pages before visitors do".to_owned()
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        let scope = scope(cx);
        let web = cx.ports.web_server(&self.to.web_server, &scope)?;
        let app = cx.ports.app(&self.to.web_server, &self.to.platform, self.to.app, &scope)?;
        let token = cx.ports.secrets().get(&self.bypass).await?;
        let token = token.ok_or_else(|| StepError::fatal("the token of the hidden vhost is missing"))?;
        for check in self.to.smoke_checks(&*app) {
            let get = Get { bypass: Some(token.expose().to_owned()), ..check.get.clone() };
            for (host, answer) in web.get_everywhere(&get).await? {
                let judged = judge(&check, answer.status, &answer.body);
                judged.map_err(|why| StepError::retryable(at_host(&host, why)))?;
                cx.log(at_host(&host, format!("{} answers {}", get.path, answer.status)));
            }
        }
        let visitor = Get { host: self.to.site.clone(), path: "/".to_owned(), bypass: None };
        for (host, answer) in web.get_everywhere(&visitor).await? {
            if answer.status != 503 {
                let (site, status) = (&self.to.site, answer.status);
                let why = format!("visitors of {site} get {status} where the site is closed");
                return Err(StepError::retryable(at_host(&host, why)));
            }
        }
        Ok(())
    }
}

/// Words about one of several hosts.
pub(super) fn at_host(host: &str, words: String) -> String {
    if host.is_empty() { words } else { format!("on {host}: {words}") }
}

/// Whether an answer passes a check; the error says what is wrong with it.
pub(super) fn judge(check: &SmokeCheck, status: u16, body: &[u8]) -> Result<(), String> {
    let path = &check.get.path;
    // What a site may answer on purpose; anything else is a fault of whoever serves it.
    let meant = if status < 500 || status == 503 {
        format!(
            r#"; if it always does, tell it to `configure`: pages=[{{"path":{path:?},"status":{status}}}]"#
        )
    } else {
        String::new()
    };
    let own = check.also.contains(&status);
    if !own && !check.statuses.contains(&status) {
        let expected: Vec<u16> = check.statuses.iter().chain(&check.also).copied().collect();
        return Err(format!("{path} answers {status}, expected {expected:?}{meant}"));
    }
    let has = |text: &str| memchr::memmem::find(body, text.as_bytes()).is_some();
    if !own && let Some(missing) = check.contains.iter().find(|text| !has(text)) {
        return Err(format!("{path} answers {status}, but without {missing:?}{meant}"));
    }
    match check.lacks.iter().find(|text| has(text)) {
        Some(bad) => Err(format!("{path} answers {status} with {bad:?}")),
        None => Ok(()),
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

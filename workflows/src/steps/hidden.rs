//! The new side before visitors see it: its vhost is open to the bearer of a token alone, and asked for its pages. Decides nothing.

use kedge_engine::context::Cx;
use kedge_engine::step::{Compensable, Compensate, Query, Ref, Step, StepError};
use serde::{Deserialize, Serialize};

use super::vhost::{CLOSED, hidden, rendered, switch, switch_back};
use crate::place::{Place, scope};
use crate::ports::{Get, PortResult, SavedFile, SecretRef, SmokeCheck, WebServer, World};

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

    /// Takes them back; the server answers with it when this returns. What was there before is put back: nobody is asked whether the
    /// names are free, since an undo cannot do without them.
    async fn take_back(&self, web: &dyn WebServer) -> PortResult<()> {
        let left = self.left.as_ref().map(|left| rendered(web, left, CLOSED).sha256);
        switch_back(web, &self.from, CLOSED, left.as_deref()).await
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
                switch_back(&*web, over, CLOSED, Some(&ours)).await?;
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

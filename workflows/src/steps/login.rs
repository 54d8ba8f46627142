//! Login links: made, and taken back. The link is in the secret store, never in an output.

use kedge_engine::context::Cx;
use kedge_engine::retry::Policy;
use kedge_engine::step::{Compensable, Compensate, Pivot, Retriable, Step, StepError};
use kedge_engine::task::Millis;
use serde::{Deserialize, Serialize};

use crate::names::SiteName;
use crate::place::{Place, Store, app_site, scope};
use crate::ports::{App, AppSite, SecretRef, World};

/// Makes a login link.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct MakeLogin {
    /// The site.
    pub(crate) place: Place,
    /// Its database.
    pub(crate) store: Store,
    /// Whom it logs in; the first administrator by default.
    pub(crate) user: Option<String>,
    /// Where the link is kept.
    pub(crate) link: SecretRef,
    /// How long it is good, in milliseconds.
    pub(crate) valid_ms: u64,
}

/// What a task reports of a login link: everything but the link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LoginMade {
    /// Whom it logs in.
    pub(crate) user: String,
    /// Until when, in milliseconds since 1970.
    pub(crate) expires_at: Millis,
}

/// The site as its application sees it.
async fn live(
    cx: &Cx<'_, dyn World>,
    place: &Place,
    store: &Store,
) -> Result<(std::sync::Arc<dyn App>, AppSite), StepError> {
    let scope = scope(cx);
    let app = cx.ports.app(&place.web_server, &place.platform, place.app, &scope)?;
    let server = cx.ports.database(&store.server, &scope)?;
    Ok((app, app_site(cx, place, &place.dir, store, &*server)?))
}

impl Step for MakeLogin {
    type Ports = dyn World;
    type Output = LoginMade;
    type Mode = Compensable;
    const KIND: &'static str = "make_login";

    fn title(&self) -> String {
        match &self.user {
            Some(user) => format!("make a link that logs in to {} as {user}, once", self.place.site),
            None => {
                format!("make a link that logs in to {} as its first administrator, once", self.place.site)
            }
        }
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<LoginMade, StepError> {
        let (app, site) = live(cx, &self.place, &self.store).await?;
        let until = cx.now.saturating_add(self.valid_ms);
        let made = app.login_link(&site, self.user.as_deref(), &self.link, until).await?;
        Ok(LoginMade { user: made.user, expires_at: made.until })
    }

    fn reports(&self) -> bool {
        true
    }
}

impl Compensate for MakeLogin {
    fn undo_title(&self) -> String {
        "take the link back".to_owned()
    }

    async fn undo(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        let (app, site) = live(cx, &self.place, &self.store).await?;
        Ok(app.revoke_login(&site, &self.link).await?)
    }
}

/// Takes a link back, used or not.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RevokeLogin {
    /// The site.
    pub(crate) place: Place,
    /// Its database.
    pub(crate) store: Store,
    /// Where the link is kept.
    pub(crate) link: SecretRef,
}

impl Step for RevokeLogin {
    type Ports = dyn World;
    type Output = ();
    type Mode = Retriable;
    const KIND: &'static str = "revoke_login";

    fn title(&self) -> String {
        format!("take the login link to {} back", self.place.site)
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        let (app, site) = live(cx, &self.place, &self.store).await?;
        Ok(app.revoke_login(&site, &self.link).await?)
    }

    fn policy(&self) -> Policy {
        Policy::PERSISTENT
    }
}

/// Decides that a link is taken back. Touches nothing: what follows is tried until it is done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct DecideRevoke {
    /// The site.
    pub(crate) site: SiteName,
}

impl Step for DecideRevoke {
    type Ports = dyn World;
    type Output = ();
    type Mode = Pivot;
    const KIND: &'static str = "decide_revoke";

    fn title(&self) -> String {
        format!("decide: the login link to {} lets nobody in from here on", self.site)
    }

    async fn run(&self, _: &Cx<'_, dyn World>) -> Result<(), StepError> {
        Ok(())
    }
}

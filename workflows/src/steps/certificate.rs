//! The step that brings about a site's certificate, before its vhost names it. Never reads a key.

use kedge_engine::builder::{Named, PlanBuilder};
use kedge_engine::context::Cx;
use kedge_engine::step::{Covered, CoveredBy, Ref, Step, StepError};
use serde::{Deserialize, Serialize};

use crate::place::{Place, scope};
use crate::ports::World;

/// Makes a self-signed certificate, or looks that the one of somebody else is there.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct EnsureCertificate {
    /// Whose.
    pub(crate) place: Place,
}

impl Step for EnsureCertificate {
    type Ports = dyn World;
    type Output = ();
    type Mode = Covered;
    const KIND: &'static str = "ensure_certificate";

    fn title(&self) -> String {
        match &self.place.reach.tls {
            Some(tls) if tls.self_signed => {
                format!("make a self-signed certificate for {}, unless it is there", self.place.site)
            }
            Some(tls) => format!("look whether the certificate {} is there", tls.certificate),
            None => format!("{} has no certificate", self.place.site),
        }
    }

    async fn run(&self, cx: &Cx<'_, dyn World>) -> Result<(), StepError> {
        let Some(tls) = &self.place.reach.tls else { return Ok(()) };
        let web = cx.ports.web_server(&self.place.web_server, &scope(cx))?;
        Ok(web.ensure_certificate(&self.place.all_names(), tls).await?)
    }
}

/// Adds the step for a side that has a certificate.
pub(crate) fn ensured(plan: &mut PlanBuilder, place: &Place, after: &dyn Named) -> Option<Ref<()>> {
    let step = EnsureCertificate { place: place.clone() };
    place.reach.tls.is_some().then(|| plan.step("ensure_certificate", step, &[after]))
}

impl CoveredBy for EnsureCertificate {
    fn covered_by(&self) -> String {
        "a certificate that no vhost names does nothing, and the next one finds it made".to_owned()
    }
}

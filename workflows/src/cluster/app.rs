//! An application on several hosts as on one. Its code is on each; what runs of it runs on the first host, on files that are spread.

use std::sync::Arc;

use async_trait::async_trait;
use kedge_engine::task::Millis;

use super::{Member, on};
use crate::names::SiteName;
use crate::ports::{
    Abilities, AccessRule, App, AppSite, FoundSite, InstallRequest, LoginUser, Package, PlatformFacts,
    PortError, PortResult, Sanitized, SecretRef, SiteFacts, SmokeCheck, UpdateReport, VolatileRows,
};

/// An application of a cluster.
pub struct ClusterApp {
    /// On the first host, with the files of the cluster.
    shared: Arc<dyn App>,
    /// On each host, with the files of that host alone; the first host last.
    each: Vec<Member<Arc<dyn App>>>,
}

impl ClusterApp {
    /// The application on the first host with the files of all, and on each host with its own.
    #[must_use]
    pub fn new(
        shared: Arc<dyn App>,
        first: Member<Arc<dyn App>>,
        mut others: Vec<Member<Arc<dyn App>>>,
    ) -> Self {
        others.push(first);
        Self { shared, each: others }
    }
}

#[async_trait]
impl App for ClusterApp {
    /// What the first host has, and ready when all are. Other code on another host is `Refused`.
    async fn platform_facts(&self, root: &str) -> PortResult<PlatformFacts> {
        let mut facts = self.shared.platform_facts(root).await?;
        for member in &self.each {
            let theirs = member.port.platform_facts(root).await.map_err(|error| on(&member.host, error))?;
            if theirs.version != facts.version {
                return Err(PortError::Refused(format!(
                    "{root} has version {} on {}, and {} on the first host: bring the same code to each",
                    theirs.version, member.host, facts.version
                )));
            }
            if facts.prepared && !theirs.prepared {
                facts.behind.push(member.host.clone());
            }
        }
        facts.prepared &= facts.behind.is_empty();
        Ok(facts)
    }

    async fn prepare_platform(&self, root: &str) -> PortResult<bool> {
        let mut made = false;
        for member in &self.each {
            made |= member.port.prepare_platform(root).await.map_err(|error| on(&member.host, error))?;
        }
        Ok(made)
    }

    async fn unprepare_platform(&self, root: &str) -> PortResult<()> {
        for member in &self.each {
            member.port.unprepare_platform(root).await.map_err(|error| on(&member.host, error))?;
        }
        Ok(())
    }

    async fn fill_skeleton(&self, root: &str, site_dir: &str) -> PortResult<()> {
        self.shared.fill_skeleton(root, site_dir).await
    }

    async fn write_settings(&self, site: &AppSite) -> PortResult<()> {
        self.shared.write_settings(site).await
    }

    async fn renew_keys(&self, site: &AppSite) -> PortResult<()> {
        self.shared.renew_keys(site).await
    }

    async fn settings_drift(&self, site: &AppSite) -> PortResult<Vec<String>> {
        self.shared.settings_drift(site).await
    }

    async fn find_site(&self, dir: &str, name: &SiteName) -> PortResult<FoundSite> {
        self.shared.find_site(dir, name).await
    }

    async fn install(&self, site: &AppSite, request: &InstallRequest) -> PortResult<()> {
        self.shared.install(site, request).await
    }

    async fn site_facts(&self, site: &AppSite) -> PortResult<SiteFacts> {
        self.shared.site_facts(site).await
    }

    async fn update_database(&self, site: &AppSite) -> PortResult<UpdateReport> {
        self.shared.update_database(site).await
    }

    async fn sanitize(&self, site: &AppSite) -> PortResult<Sanitized> {
        self.shared.sanitize(site).await
    }

    async fn clear_caches(&self, site: &AppSite) -> PortResult<()> {
        self.shared.clear_caches(site).await
    }

    fn abilities(&self) -> Abilities {
        self.shared.abilities()
    }

    async fn packages(&self, site: &AppSite) -> PortResult<Vec<Package>> {
        self.shared.packages(site).await
    }

    async fn platform_packages(&self, root: &str) -> PortResult<Vec<Package>> {
        self.shared.platform_packages(root).await
    }

    async fn login_link(
        &self,
        site: &AppSite,
        user: Option<&str>,
        link: &SecretRef,
        until: Millis,
    ) -> PortResult<LoginUser> {
        self.shared.login_link(site, user, link, until).await
    }

    async fn revoke_login(&self, site: &AppSite, link: &SecretRef) -> PortResult<()> {
        self.shared.revoke_login(site, link).await
    }

    fn access_rules(&self) -> Vec<AccessRule> {
        self.shared.access_rules()
    }

    fn settings_files(&self) -> Vec<String> {
        self.shared.settings_files()
    }

    fn volatile_rows(&self) -> Vec<VolatileRows> {
        self.shared.volatile_rows()
    }

    fn smoke_checks(&self, site: &SiteName) -> Vec<SmokeCheck> {
        self.shared.smoke_checks(site)
    }
}

//! All receivers of callbacks: those of the configuration and those made by API, and which of their addresses a task may name.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use serde_json::Value;
use url::Url;

use super::{Endpoint, Kind, MAX_URL, check_url, origin};
use crate::config::Mistake;
use crate::fields::Fields;
use crate::own::{Book, Stored};
use crate::problem::Fault;
use crate::status::Commit;

/// All endpoints, shared by the composer, the deliverer and the HTTP face. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Endpoints {
    /// Those of the configuration, and then those made by API.
    pub(crate) list: Arc<RwLock<Arc<Vec<Endpoint>>>>,
    pub(crate) disabled: Arc<Mutex<BTreeMap<String, String>>>,
    pub(crate) own: Arc<RwLock<Arc<BTreeMap<String, Stored>>>>,
    pub(crate) book: Arc<OnceLock<Book>>,
    /// Held while one is changed.
    pub(crate) turn: Arc<tokio::sync::Mutex<()>>,
}

impl Endpoints {
    /// Checks that names are unique.
    ///
    /// # Errors
    /// Every doubled name.
    pub fn new(list: Vec<Endpoint>) -> Result<Self, Vec<Mistake>> {
        let endpoints = Self::default();
        endpoints.replace(list)?;
        Ok(endpoints)
    }

    /// Puts other endpoints in place, for all clones; what was disabled gets another chance.
    ///
    /// # Errors
    /// Every doubled name; then nothing has changed.
    pub fn replace(&self, list: Vec<Endpoint>) -> Result<(), Vec<Mistake>> {
        let (own, kept) = (self.own(), self.made_by_api());
        let mut names: Vec<&str> = own.keys().map(String::as_str).collect();
        names.extend(list.iter().map(|endpoint| endpoint.name.as_str()));
        let doubled = names.iter().enumerate().filter(|(index, name)| names[..*index].contains(name));
        let mistakes: Vec<Mistake> = doubled
            .map(|(_, name)| Mistake::new(format!("endpoints.{name}"), "another one has the same name"))
            .collect();
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        let list: Vec<Endpoint> = list.into_iter().chain(kept).collect();
        *self.list.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(list);
        let mut disabled = self.disabled.lock().unwrap_or_else(PoisonError::into_inner);
        disabled.retain(|name, _| own.contains_key(name));
        Ok(())
    }

    /// Those that were made by API.
    pub(crate) fn made_by_api(&self) -> Vec<Endpoint> {
        let own = self.own();
        self.all().iter().filter(|endpoint| own.contains_key(&endpoint.name)).cloned().collect()
    }

    pub(crate) fn all(&self) -> Arc<Vec<Endpoint>> {
        Arc::clone(&self.list.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The endpoint and the URL that a stored callback means: an endpoint's name, or a URL of an endpoint's origin.
    pub(crate) fn target(&self, stored: &str) -> Option<(Endpoint, Url)> {
        let all = self.all();
        if let Some(endpoint) = all.iter().find(|endpoint| endpoint.name == stored) {
            return Some((endpoint.clone(), endpoint.url.clone()));
        }
        if let Some(commit) = Commit::read(stored) {
            let endpoint = all.iter().find(|endpoint| endpoint.name == commit.endpoint)?;
            let Kind::Forge(writer) = &endpoint.kind else { return None };
            return Some((endpoint.clone(), writer.url(&endpoint.url, &commit)?));
        }
        let url = check_url(stored).ok()?;
        // Where a forge's token goes, no caller chooses.
        let endpoint =
            all.iter().find(|endpoint| !endpoint.is_forge() && endpoint.url.origin() == url.origin())?;
        Some((endpoint.clone(), url))
    }

    /// Whether a stored callback goes to its endpoint's own URL, and not to one that a task has named beside it.
    pub(crate) fn is_own(&self, stored: &str) -> bool {
        self.target(stored).is_some_and(|(endpoint, url)| url == endpoint.url)
    }

    /// Whose failures those of a stored callback are: its endpoint's, or those of a task's own URL alone.
    pub(crate) fn account(&self, stored: &str) -> String {
        match self.target(stored) {
            Some((endpoint, url)) if endpoint.is_forge() || url == endpoint.url => endpoint.name,
            Some(_) | None => stored.to_owned(),
        }
    }

    /// How a stored callback's receiver is shown.
    pub(crate) fn label(&self, stored: &str) -> String {
        if Commit::read(stored).is_some() {
            return stored.to_owned();
        }
        Url::parse(stored).map_or_else(|_| stored.to_owned(), |url| origin(&url))
    }

    /// Why nothing is sent to an endpoint, if nothing is.
    pub(crate) fn disabled(&self, name: &str) -> Option<String> {
        self.disabled.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Checks a task's own `callback`: `{"endpoint": name}`, or `{"url": url}` of an endpoint's origin. Such a URL is signed
    /// with that endpoint's secrets and bound to its networks, so a caller of the API cannot choose where we connect to.
    pub(crate) fn check_callback(&self, callback: &Value) -> Result<(), Vec<Fault>> {
        let mut fields = Fields::new(callback.clone());
        let url = fields.text("url", MAX_URL);
        let name = fields.text("endpoint", MAX_URL);
        match (&url, &name) {
            (Some(url), None) => match check_url(url) {
                Err(detail) => fields.fault("url", detail),
                Ok(_) if self.target(url).is_none() => {
                    fields.fault("url", "has to have the scheme, host and port of a configured endpoint");
                }
                Ok(_) => {}
            },
            (None, Some(name))
                if !self.all().iter().any(|endpoint| endpoint.name == *name && !endpoint.is_forge()) =>
            {
                fields.fault(
                    "endpoint",
                    "is not the name of a configured endpoint; GET /v1/endpoints lists them",
                );
            }
            (None, Some(_)) => {}
            (Some(_), Some(_)) => fields.fault("endpoint", "cannot stand beside url: give one of them"),
            (None, None) => fields.require::<String>("endpoint", None),
        }
        fields.finish()
    }
}

//! What can be asked of how a site is reached: other names, one that all lead to, a certificate. Pure.

use kedge_engine::builder::PlanBuilder;
use kedge_engine::workflow::{Facts, PlanRefusal};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::names::SiteName;
use crate::ports::{AppKind, Reach, Tls, UsualPage};
use crate::records;
use crate::renaming::twin;

/// Where self-signed certificates are on a web server's host, in a directory for each site.
const OWN_CERTIFICATES: &str = "/etc/kedge/tls";

/// Where a site's certificate comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TlsFrom {
    /// Nowhere: plain HTTP only.
    None,
    /// Made on the web server's host, signed by itself.
    SelfSigned,
    /// From the files that `certificate` and `key` name.
    Files,
}

/// What is asked of a site's certificate and of where its names lead.
pub(crate) struct Asked<'a> {
    pub(crate) tls: Option<TlsFrom>,
    pub(crate) certificate: Option<&'a str>,
    pub(crate) key: Option<&'a str>,
    pub(crate) https_only: Option<bool>,
    pub(crate) redirect_to: Option<&'a SiteName>,
    pub(crate) pages: Option<&'a [UsualPage]>,
}

impl Asked<'_> {
    /// How the site is reached, given how it is now; what is not asked for stays.
    pub(crate) fn reach(
        &self,
        site: &SiteName,
        aliases: &[SiteName],
        now: &Reach,
    ) -> Result<Reach, PlanRefusal> {
        let canonical = self.redirect_to.cloned().or_else(|| now.canonical.clone());
        if let Some(name) = canonical.as_ref().filter(|name| *name != site && !aliases.contains(name)) {
            let why = format!("{name} is none of the site's names; add it to aliases");
            return Err(PlanRefusal::param("/redirect_to", why));
        }
        let pages = self.pages.map_or_else(|| now.pages.clone(), <[UsualPage]>::to_vec);
        if let Some(index) =
            (1..pages.len()).find(|index| pages[..*index].iter().any(|page| page.path == pages[*index].path))
        {
            return Err(PlanRefusal::param(format!("/pages/{index}/path"), "the page is given twice"));
        }
        Ok(Reach { tls: self.certificate(site, now.tls.as_ref())?, canonical, pages })
    }

    fn certificate(&self, site: &SiteName, now: Option<&Tls>) -> Result<Option<Tls>, PlanRefusal> {
        let from = match (self.tls, self.certificate.or(self.key)) {
            (None | Some(TlsFrom::Files), Some(_)) => Some(TlsFrom::Files),
            (Some(_), Some(_)) => {
                return Err(PlanRefusal::param(
                    "/tls",
                    "with a certificate and a key it is files, or left out",
                ));
            }
            (from, None) => from,
        };
        let only = self.https_only.unwrap_or_else(|| now.is_some_and(|tls| tls.only));
        let tls = match from {
            None => now.cloned(),
            Some(TlsFrom::None) => None,
            Some(TlsFrom::SelfSigned) => Some(self_signed(site, only)),
            Some(TlsFrom::Files) => {
                let path = |path: Option<&str>, pointer: &str| match path {
                    Some(path) if path.starts_with('/') => Ok(path.to_owned()),
                    _ => Err(PlanRefusal::param(
                        pointer,
                        "write the absolute path of a PEM file on the web server's host",
                    )),
                };
                let (certificate, key) = (path(self.certificate, "/certificate")?, path(self.key, "/key")?);
                Some(Tls { certificate, key, self_signed: false, only })
            }
        };
        if tls.is_none() && self.https_only == Some(true) {
            return Err(PlanRefusal::param(
                "/https_only",
                "the site has no certificate; ask for tls as well",
            ));
        }
        Ok(tls.map(|tls| Tls { only, ..tls }))
    }
}

/// A certificate of our own for a site.
fn self_signed(site: &SiteName, only: bool) -> Tls {
    let path = |file: &str| format!("{OWN_CERTIFICATES}/{site}/{file}.pem");
    Tls { certificate: path("certificate"), key: path("key"), self_signed: true, only }
}

/// How a site is reached after a rename: a certificate of our own is made anew, another one stays; visitors are sent to the same name as
/// before, or to what became of it.
pub(crate) fn renamed(now: &Reach, old: &SiteName, new: &SiteName, aliases: &[SiteName]) -> Reach {
    let tls = now.tls.clone().map(|tls| if tls.self_signed { self_signed(new, tls.only) } else { tls });
    let canonical = now.canonical.as_ref().and_then(|name| {
        let became = if name == old {
            Some(new.clone())
        } else if twin(old).as_ref() == Some(name) {
            twin(new)
        } else {
            Some(name.clone())
        };
        became.filter(|name| name == new || aliases.contains(name))
    });
    Reach { tls, canonical, pages: now.pages.clone() }
}

/// With `www`: the name with (or without) `www.` is one of the aliases.
pub(crate) fn with_www(site: &SiteName, mut aliases: Vec<SiteName>) -> Vec<SiteName> {
    let twin = twin(site).filter(|twin| !aliases.contains(twin));
    aliases.extend(twin);
    aliases
}

/// Refuses aliases that are given twice or that another site answers to.
pub(crate) fn aliases_are_free(
    facts: &dyn Facts,
    site: &SiteName,
    aliases: &[SiteName],
) -> Result<(), PlanRefusal> {
    for (index, alias) in aliases.iter().enumerate() {
        let pointer = format!("/aliases/{index}");
        if alias == site || aliases[..index].contains(alias) {
            return Err(PlanRefusal::param(pointer, "the name is given twice"));
        }
        if let Some(owner) = records::owner_of(facts, alias)?.filter(|owner| owner != site) {
            return Err(PlanRefusal::param(pointer, format!("it is a name of the site {owner} already")));
        }
    }
    Ok(())
}

/// Locks the names that a site will get: another task that wants one waits, and is told.
pub(crate) fn lock_names<'a>(plan: &mut PlanBuilder, names: impl IntoIterator<Item = &'a SiteName>) {
    for name in names {
        plan.lock(format!("site {name}"), false);
    }
}

/// Refuses to hold a site back where its application cannot be told to.
pub(crate) fn can_be_quiet(app: AppKind) -> Result<(), PlanRefusal> {
    match app {
        AppKind::Wordpress | AppKind::Drupal => Ok(()),
        AppKind::Plain => Err(PlanRefusal::param(
            "/quiet",
            "Kedge holds back mail, cron and requests of WordPress and Drupal sites only; leave it out, and pause them in the copy's own settings",
        )),
    }
}

/// Refuses to take persons out of what Kedge does not know.
pub(crate) fn can_be_sanitized(app: AppKind) -> Result<(), PlanRefusal> {
    match app {
        AppKind::Wordpress | AppKind::Drupal => Ok(()),
        AppKind::Plain => Err(PlanRefusal::param(
            "/sanitize",
            "Kedge knows where WordPress and Drupal keep what is about persons, and not other applications; leave it out, and clean the copy yourself",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> SiteName {
        SiteName::parse(text).unwrap()
    }

    const NOTHING: Asked<'_> =
        Asked { tls: None, certificate: None, key: None, https_only: None, redirect_to: None, pages: None };

    fn asked(asked: &Asked<'_>, now: &Reach) -> Result<Reach, String> {
        asked.reach(&name("a.test"), &[name("www.a.test")], now).map_err(|refusal| format!("{refusal:?}"))
    }

    #[test]
    fn what_is_not_asked_for_stays() {
        let www = name("www.a.test");
        let own = Asked {
            tls: Some(TlsFrom::SelfSigned),
            https_only: Some(true),
            redirect_to: Some(&www),
            ..NOTHING
        };
        let reach = asked(&own, &Reach::default()).unwrap();
        let tls = reach.tls.clone().unwrap();
        assert!(tls.self_signed && tls.only && tls.key == "/etc/kedge/tls/a.test/key.pem");
        assert_eq!(reach.canonical, Some(www));
        assert_eq!(asked(&NOTHING, &reach), Ok(reach.clone()));
        let files = Asked { certificate: Some("/x/c.pem"), key: Some("/x/k.pem"), ..NOTHING };
        let tls = asked(&files, &reach).unwrap().tls.unwrap();
        assert!(!tls.self_signed && tls.only && tls.certificate == "/x/c.pem");
        let both = Asked { https_only: Some(false), ..NOTHING };
        assert!(!asked(&both, &reach).unwrap().https_only());
        assert_eq!(asked(&Asked { tls: Some(TlsFrom::None), ..NOTHING }, &reach).unwrap().tls, None);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let other = name("other.test");
        for (bad, words) in [
            (Asked { redirect_to: Some(&other), ..NOTHING }, "none of the site's names"),
            (Asked { https_only: Some(true), ..NOTHING }, "no certificate"),
            (Asked { certificate: Some("/x/c.pem"), ..NOTHING }, "/key"),
            (Asked { certificate: Some("c.pem"), key: Some("/k"), ..NOTHING }, "/certificate"),
            (Asked { tls: Some(TlsFrom::SelfSigned), key: Some("/k"), ..NOTHING }, "/tls"),
        ] {
            let refusal = asked(&bad, &Reach::default()).unwrap_err();
            assert!(refusal.contains(words), "{refusal} should tell {words}");
        }
    }

    #[test]
    fn a_rename_takes_names_along() {
        let (old, new) = (name("a.test"), name("b.test"));
        let to = |canonical: &str, aliases: &[&str]| {
            let now = Reach {
                tls: Some(self_signed(&old, true)),
                canonical: Some(name(canonical)),
                ..Reach::default()
            };
            let aliases: Vec<SiteName> = aliases.iter().map(|alias| name(alias)).collect();
            let reach = renamed(&now, &old, &new, &aliases);
            assert_eq!(reach.tls, Some(self_signed(&new, true)));
            reach.canonical.map(|name| name.to_string())
        };
        assert_eq!(to("a.test", &[]).as_deref(), Some("b.test"));
        assert_eq!(to("www.a.test", &["www.b.test"]).as_deref(), Some("www.b.test"));
        assert_eq!(to("other.test", &["other.test"]).as_deref(), Some("other.test"));
        assert_eq!(to("gone.test", &[]), None);
    }

    #[test]
    fn with_www_both_names_are_there_once() {
        assert_eq!(with_www(&name("a.test"), vec![]), [name("www.a.test")]);
        assert_eq!(with_www(&name("www.a.test"), vec![name("a.test")]), [name("a.test")]);
    }
}

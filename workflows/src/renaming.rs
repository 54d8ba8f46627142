//! What a rename means for a site's names: which ones the new side answers to, which ones go away, what becomes of them in its content.
//! Pure.

use crate::names::SiteName;
use crate::place::Place;

const WWW: &str = "www.";

/// The name with `www.` before it, or without it when it has that; `None` where that is no name.
pub(crate) fn twin(name: &SiteName) -> Option<SiteName> {
    match name.as_str().strip_prefix(WWW) {
        Some(bare) => SiteName::parse(bare).ok(),
        None => SiteName::parse(&format!("{WWW}{name}")).ok(),
    }
}

/// The other names of a renamed site: a new name that was an alias is none any more, the alias with (or without) `www.` goes with the
/// name, all others stay. The old name becomes free.
pub(crate) fn aliases(old: &SiteName, aliases: &[SiteName], new: &SiteName) -> Vec<SiteName> {
    if old == new {
        return aliases.to_vec();
    }
    let mut kept: Vec<SiteName> = Vec::new();
    for alias in aliases.iter().filter(|alias| *alias != new) {
        let alias = if twin(old).as_ref() == Some(alias) { twin(new) } else { Some(alias.clone()) };
        kept.extend(alias.filter(|alias| alias != old && alias != new && !kept.contains(alias)));
    }
    kept
}

/// Host names to rewrite in the content: each old name that the new side does not answer to, with the new one in its place. The name
/// with (or without) `www.` is one of them whether it was an alias or not, unless `taken` says that it is somebody else's.
pub(crate) fn rewrites(
    old: &SiteName,
    new: &Place,
    taken: impl Fn(&SiteName) -> bool,
) -> Vec<(SiteName, SiteName)> {
    if *old == new.site {
        return Vec::new();
    }
    let mut pairs = vec![(old.clone(), new.site.clone())];
    if let Some(old_twin) = twin(old).filter(|name| !answers(new, name) && !taken(name)) {
        let new_twin = twin(&new.site).filter(|name| new.aliases.contains(name));
        pairs.push((old_twin, new_twin.unwrap_or_else(|| new.site.clone())));
    }
    pairs
}

/// Host names to rewrite in what is made from a site's content under a name of its own: besides the name, all others that the site it comes
/// from had (`had`), which lead to the name that visitors of the new side end up with. Links and forms would lead to the other site.
pub(crate) fn copied<'n>(
    old: &SiteName,
    had: impl IntoIterator<Item = &'n SiteName>,
    new: &Place,
    taken: impl Fn(&SiteName) -> bool,
) -> Vec<(SiteName, SiteName)> {
    let mut had: Vec<&SiteName> = had.into_iter().collect();
    let mut pairs = rewrites(old, new, |name| !had.contains(&name) && taken(name));
    if !pairs.is_empty() {
        had.retain(|name| !answers(new, name));
        for name in had {
            if pairs.iter().all(|(known, _)| known != name) {
                pairs.push((name.clone(), new.front().clone()));
            }
        }
    }
    pairs
}

/// The side that is left, with the names that stay its own: when both sides are on one web server, a name can be in one vhost only.
/// `None`: its very name goes to the new side, and nothing stays.
pub(crate) fn without_the_names_of(left: &Place, new: &Place) -> Option<Place> {
    let aliases = left.aliases.iter().filter(|alias| !answers(new, alias)).cloned().collect();
    (!answers(new, &left.site)).then(|| Place { aliases, ..left.clone() })
}

fn answers(place: &Place, name: &SiteName) -> bool {
    place.site == *name || place.aliases.contains(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::{AppKind, Reach};
    use crate::records::PlatformRecord;

    fn names(texts: &[&str]) -> Vec<SiteName> {
        texts.iter().map(|text| SiteName::parse(text).unwrap()).collect()
    }

    fn renamed(old: &str, had: &[&str], new: &str) -> (Vec<String>, Vec<String>) {
        let (old, new) = (SiteName::parse(old).unwrap(), SiteName::parse(new).unwrap());
        let platform = PlatformRecord { web_server: "w".into(), root: "/srv".into(), app: AppKind::Plain };
        let aliases = aliases(&old, &names(had), &new);
        let place = Place { aliases, ..Place::on(&new, "p", &platform, "h".into()) };
        let pairs = rewrites(&old, &place, |name| name.as_str() == "www.taken.test");
        let pairs = pairs.iter().map(|(from, to)| format!("{from} {to}")).collect();
        (place.aliases.iter().map(ToString::to_string).collect(), pairs)
    }

    #[test]
    fn the_www_name_goes_with_the_name() {
        let (aliases, pairs) = renamed("a.test", &["www.a.test", "other.test"], "b.test");
        assert_eq!(aliases, ["www.b.test", "other.test"]);
        assert_eq!(pairs, ["a.test b.test", "www.a.test www.b.test"]);
        let (aliases, pairs) = renamed("www.a.test", &["a.test"], "www.b.test");
        assert_eq!(aliases, ["b.test"]);
        assert_eq!(pairs, ["www.a.test www.b.test", "a.test b.test"]);
    }

    #[test]
    fn links_to_a_www_name_that_nobody_answers_to_lead_to_the_new_name() {
        assert_eq!(
            renamed("a.test", &[], "b.test"),
            (vec![], vec!["a.test b.test".into(), "www.a.test b.test".into()])
        );
        assert_eq!(renamed("taken.test", &[], "b.test").1, ["taken.test b.test"]);
    }

    #[test]
    fn a_new_name_that_was_an_alias_is_none_any_more() {
        let (aliases, pairs) = renamed("a.test", &["b.test", "www.a.test"], "b.test");
        assert_eq!(aliases, ["www.b.test"]);
        assert_eq!(pairs, ["a.test b.test", "www.a.test www.b.test"]);
        let (aliases, pairs) = renamed("a.test", &["www.a.test"], "www.a.test");
        assert_eq!((aliases.len(), pairs), (0, vec!["a.test www.a.test".to_owned()]));
    }

    #[test]
    fn a_copy_has_no_link_to_any_name_of_its_original() {
        let copied = |old: &str, had: &[&str], canonical: Option<&str>| {
            let platform =
                PlatformRecord { web_server: "w".into(), root: "/srv".into(), app: AppKind::Plain };
            let new = SiteName::parse("b.test").unwrap();
            let place = Place {
                aliases: names(&["www.b.test", "kept.test"]),
                reach: Reach {
                    canonical: canonical.map(|name| SiteName::parse(name).unwrap()),
                    ..Reach::default()
                },
                ..Place::on(&new, "p", &platform, "h".into())
            };
            let pairs = copied(&SiteName::parse(old).unwrap(), &names(had), &place, |_| true);
            pairs.iter().map(|(from, to)| format!("{from} {to}")).collect::<Vec<_>>()
        };
        // The alias that all lead to is among them twice; what the new side answers to stays.
        let had = ["www.client.test", "www.a.test", "kept.test", "www.client.test", "b.test"];
        assert_eq!(
            copied("a.test", &had, None),
            ["a.test b.test", "www.a.test www.b.test", "www.client.test b.test"]
        );
        assert_eq!(
            copied("a.test", &["www.client.test"], Some("www.b.test")),
            ["a.test b.test", "www.client.test www.b.test"]
        );
        assert_eq!(copied("b.test", &["www.client.test"], None), Vec::<String>::new());
    }

    #[test]
    fn nothing_changes_without_a_rename() {
        assert_eq!(renamed("a.test", &["www.a.test"], "a.test"), (vec!["www.a.test".into()], vec![]));
    }
}

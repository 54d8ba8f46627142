//! What a site is made of, compared with what a platform gives: the table that is looked at before a site moves there, and the rule by
//! which a move is refused. Pure. Source: hosting_package.instance.inc of Aegir's hosting module, and its manual.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::ports::{Package, PackageKind};

/// What a move means for a package.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The platform lacks the profile that the site was installed with, and runs on. The move is refused.
    NoProfile,
    /// The platform's schema is older than the site's: there is no way back down. The move is refused.
    OlderSchema,
    /// The platform does not have it. A warning, to be acknowledged.
    Missing,
    /// The platform's is older. A warning, to be acknowledged.
    Downgrade,
    /// The platform's is newer: the database update will bring the site up to it.
    Upgrade,
    /// The same.
    Same,
    /// It is the site's own, and comes along.
    ComesAlong,
}

/// A package in a comparison.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// What kind.
    pub kind: PackageKind,
    /// Its name.
    pub name: String,
    /// Whether the site uses it.
    pub enabled: bool,
    /// The site's version.
    pub site_version: Option<String>,
    /// The platform's.
    pub target_version: Option<String>,
    /// The version of the schema in the site's database.
    pub site_schema: Option<u64>,
    /// The one that the platform's code wants.
    pub target_schema: Option<u64>,
    /// What that means.
    pub verdict: Verdict,
}

/// A comparison.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comparison {
    /// The packages, what blocks a move first.
    pub rows: Vec<Row>,
}

impl Comparison {
    /// What blocks a move.
    pub fn errors(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| matches!(row.verdict, Verdict::NoProfile | Verdict::OlderSchema))
    }

    /// What has to be acknowledged.
    pub fn warnings(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| matches!(row.verdict, Verdict::Missing | Verdict::Downgrade))
    }
}

impl Row {
    /// In words.
    #[must_use]
    pub fn told(&self) -> String {
        let kind = match self.kind {
            PackageKind::Core => "core",
            PackageKind::Profile => "profile",
            PackageKind::Module => "module",
            PackageKind::Plugin => "plugin",
            PackageKind::Theme => "theme",
            PackageKind::Library => "library",
        };
        let version = |version: &Option<String>| version.clone().unwrap_or_else(|| "unknown".to_owned());
        let schema = |schema: Option<u64>| schema.map_or("none".to_owned(), |schema| schema.to_string());
        let what = match self.verdict {
            Verdict::NoProfile => {
                "the site was installed with it and runs on it, and the platform does not have it".to_owned()
            }
            Verdict::OlderSchema => {
                format!(
                    "schema {} in the database, the platform's is {}, and there is no way back down",
                    schema(self.site_schema),
                    schema(self.target_schema)
                )
            }
            Verdict::Missing => "missing on the platform".to_owned(),
            Verdict::Downgrade | Verdict::Upgrade => {
                format!(
                    "{} here, {} on the platform",
                    version(&self.site_version),
                    version(&self.target_version)
                )
            }
            Verdict::Same => "the same".to_owned(),
            Verdict::ComesAlong => "the site's own".to_owned(),
        };
        format!("{kind} {}: {what}", self.name)
    }
}

/// Compares a site with a platform. What the site does not use counts only where the platform has it; what only the platform has, or has
/// for sites of another profile, not at all.
#[must_use]
pub fn compare(site: &[Package], platform: &[Package]) -> Comparison {
    let profiles: BTreeSet<&str> = site
        .iter()
        .filter(|package| package.kind == PackageKind::Profile && package.enabled)
        .map(|package| package.name.as_str())
        .collect();
    let sees =
        |package: &&Package| package.profile.as_deref().is_none_or(|profile| profiles.contains(profile));
    let mut visible: Vec<&Package> = platform.iter().filter(sees).collect();
    // What comes with the site's profile stands in front of the core's.
    visible.sort_by_key(|package| package.profile.is_some());
    let given: BTreeMap<(PackageKind, &str), &Package> =
        visible.into_iter().map(|package| ((package.kind, package.name.as_str()), package)).collect();
    let row = |package: &Package| {
        let target = given.get(&(package.kind, package.name.as_str())).copied();
        let verdict = verdict(package, target)?;
        let target = if package.own { None } else { target };
        Some(Row {
            kind: package.kind,
            name: package.name.clone(),
            enabled: package.enabled,
            site_version: package.version.clone(),
            target_version: target.and_then(|target| target.version.clone()),
            site_schema: package.schema_version,
            target_schema: target.and_then(|target| target.schema_version),
            verdict,
        })
    };
    let mut rows: Vec<Row> = site.iter().filter_map(row).collect();
    rows.sort_by(|a, b| (a.verdict, a.kind, &a.name).cmp(&(b.verdict, b.kind, &b.name)));
    Comparison { rows }
}

fn verdict(package: &Package, target: Option<&Package>) -> Option<Verdict> {
    if package.own {
        return Some(Verdict::ComesAlong);
    }
    let Some(target) = target else {
        let profile = package.kind == PackageKind::Profile;
        return package.enabled.then_some(if profile { Verdict::NoProfile } else { Verdict::Missing });
    };
    let (has, wants) = (package.schema_version.unwrap_or(0), target.schema_version.unwrap_or(0));
    // A target without a number says nothing: its code has no updates.
    if package.enabled && wants > 0 && has > wants {
        return Some(Verdict::OlderSchema);
    }
    let (ours, theirs) = (order(package.version.as_deref()), order(target.version.as_deref()));
    Some(if theirs < ours && package.version.is_some() && target.version.is_some() {
        Verdict::Downgrade
    } else if theirs > ours || wants > has {
        Verdict::Upgrade
    } else {
        Verdict::Same
    })
}

/// A version in an order: its numbers, then how finished it is. `8.x-2.1` counts as 2.1 of the line 8.
fn order(version: Option<&str>) -> (Vec<u64>, u8) {
    let text = version.unwrap_or_default().to_ascii_lowercase().replacen(".x-", ".", 1);
    let (plain, rest) = text.split_at(text.find(['-', '+']).unwrap_or(text.len()));
    let mut numbers: Vec<u64> = plain
        .split(|c: char| !c.is_ascii_digit())
        .filter(|part| !part.is_empty())
        .map(|part| part.parse().unwrap_or(u64::MAX))
        .collect();
    while numbers.last() == Some(&0) {
        numbers.pop();
    }
    let stages = [("dev", 0), ("unstable", 1), ("alpha", 2), ("beta", 3), ("rc", 4)];
    let stage = stages.iter().find(|(word, _)| rest.contains(word)).map_or(5, |(_, stage)| *stage);
    (numbers, stage)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, version: &str, schema: Option<u64>) -> Package {
        Package {
            kind: PackageKind::Module,
            name: name.to_owned(),
            version: Some(version.to_owned()),
            schema_version: schema,
            enabled: true,
            own: false,
            profile: None,
        }
    }

    fn verdict_of(site: &Package, target: Option<&Package>) -> Option<Verdict> {
        let rows = compare(std::slice::from_ref(site), &target.cloned().into_iter().collect::<Vec<_>>()).rows;
        rows.first().map(|row| row.verdict)
    }

    #[test]
    fn a_move_is_judged_as_the_manual_tells_it() {
        let here = package("views", "3.2", Some(7300));
        let off = Package { enabled: false, ..here.clone() };
        let own = Package { own: true, ..here.clone() };
        for (site, target, expected) in [
            (&here, Some(package("views", "3.2", Some(7300))), Some(Verdict::Same)),
            (&here, Some(package("views", "3.10", Some(7300))), Some(Verdict::Upgrade)),
            (&here, Some(package("views", "3.2", Some(7301))), Some(Verdict::Upgrade)),
            (&here, Some(package("views", "3.1", Some(7300))), Some(Verdict::Downgrade)),
            (&here, Some(package("views", "9.9", Some(7299))), Some(Verdict::OlderSchema)),
            (&here, Some(package("views", "3.2", None)), Some(Verdict::Same)),
            (&here, Some(package("other", "3.2", Some(7300))), Some(Verdict::Missing)),
            (&here, None, Some(Verdict::Missing)),
            (&off, None, None),
            (&off, Some(package("views", "3.1", Some(7299))), Some(Verdict::Downgrade)),
            (&own, None, Some(Verdict::ComesAlong)),
            (&own, Some(package("views", "3.1", Some(1))), Some(Verdict::ComesAlong)),
        ] {
            assert_eq!(verdict_of(site, target.as_ref()), expected, "{site:?} against {target:?}");
        }
        let theme = Package { kind: PackageKind::Theme, ..here.clone() };
        assert_eq!(verdict_of(&theme, Some(&here)), Some(Verdict::Missing), "a module is no theme");
    }

    #[test]
    fn versions_have_an_order() {
        let sorted = [
            "",
            "1.0-dev",
            "1.0-alpha3",
            "1.0-beta1",
            "1.0-rc1",
            "1",
            "1.0.1",
            "1.2",
            "1.10",
            "8.x-2.1-beta2",
            "8.x-2.1",
            "8.x-2.2",
        ];
        for pair in sorted.windows(2) {
            assert!(order(Some(pair[0])) < order(Some(pair[1])), "{pair:?}");
        }
        assert_eq!(order(Some("6.8")), order(Some("6.8.0")));
        assert_eq!(order(None), order(Some("")));
    }

    #[test]
    fn what_blocks_comes_first() {
        let site = [package("a", "1", Some(1)), package("b", "1", None), package("c", "1", Some(9))];
        let target = [package("a", "1", Some(1)), package("c", "1", Some(8))];
        let all = compare(&site, &target);
        let names: Vec<&str> = all.rows.iter().map(|row| row.name.as_str()).collect();
        assert_eq!(names, ["c", "b", "a"]);
        assert_eq!((all.errors().count(), all.warnings().count()), (1, 1));
        assert_eq!(
            all.rows[0].told(),
            "module c: schema 9 in the database, the platform's is 8, and there is no way back down"
        );
    }

    #[test]
    fn a_site_needs_its_profile_and_sees_what_comes_with_it() {
        let profile = Package { kind: PackageKind::Profile, ..package("shop", "1", None) };
        let views = package("views", "3.2", Some(7300));
        let of = |profile: &str, schema| Package {
            profile: Some(profile.to_owned()),
            enabled: false,
            ..package("views", "3.9", Some(schema))
        };
        let site = [profile.clone(), views.clone()];
        let verdicts = |platform: &[Package]| -> Vec<(String, Verdict)> {
            compare(&site, platform).rows.into_iter().map(|row| (row.name, row.verdict)).collect()
        };
        let rows = |profile, views| vec![("shop".to_owned(), profile), ("views".to_owned(), views)];
        let (no, same) = (Verdict::NoProfile, Verdict::Same);
        assert_eq!(verdicts(&[views]), rows(no, same));
        // Another profile's module is none of this site's; its own profile's is, in front of the core's.
        let mut news = vec![package("views", "3.9", Some(7301))];
        assert_eq!(verdicts(&[of("news", 7301)]), rows(no, Verdict::Missing));
        news.push(of("shop", 7299));
        news.push(profile);
        let told = verdicts(&news);
        assert_eq!(told, [("views".to_owned(), Verdict::OlderSchema), ("shop".to_owned(), same)]);
        assert_eq!(compare(&site, &[]).errors().count(), 1);
    }
}

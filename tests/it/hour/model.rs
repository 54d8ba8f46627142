//! What the sites of the hour should be like, and what may be asked of them next. Knows no Kedge.

use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use serde_json::{Value, json};

/// How long what the tasks leave behind is kept: long enough for an undo, short enough to be seen going.
pub(super) const HOLD: &str = "2m";

/// Whether visitors are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// They are.
    Open,
    /// They see the disabled page.
    Disabled,
    /// There is no such site, but in the trash.
    Deleted,
}

/// A site as it should be.
#[derive(Clone, Debug)]
pub(super) struct Site {
    /// Its name.
    pub(super) name: String,
    /// On the platform of the old version (0) or of the new one (1).
    pub(super) at: usize,
    /// Whether it is served.
    pub(super) standing: Standing,
    /// What its title and a file of it say.
    pub(super) mark: String,
    /// Backups: name, the site's name then, the platform, the mark.
    pub(super) backups: Vec<(String, String, usize, String)>,
    /// The last task, when it can be undone, and what it began with.
    pub(super) undo: Option<(String, Box<Site>)>,
}

/// Something to ask for.
#[derive(Debug)]
pub(super) struct Job {
    /// Of which place in the list.
    pub(super) place: usize,
    /// The place that is read meanwhile.
    pub(super) reads: Option<usize>,
    /// The workflow, or `undo`.
    pub(super) workflow: &'static str,
    /// Its parameters; of an undo the task.
    pub(super) params: Value,
    /// The site when it has succeeded.
    pub(super) then: Site,
    /// Broken on purpose: it must not succeed.
    pub(super) broken: bool,
    /// Canceled so many milliseconds after it was asked for.
    pub(super) cancel: Option<u64>,
}

/// Sites, and which of them something happens to.
pub(super) struct Sites {
    pub(super) all: Vec<Option<Site>>,
    pub(super) busy: Vec<bool>,
    platforms: [&'static str; 2],
    names: u32,
}

impl Sites {
    pub(super) fn new(count: usize, platforms: [&'static str; 2]) -> Self {
        Self { all: vec![None; count], busy: vec![false; count], platforms, names: 0 }
    }

    /// The next thing to ask for, of a site that nothing happens to.
    pub(super) fn next(&mut self, random: &mut StdRng) -> Option<Job> {
        let free: Vec<usize> = (0..self.all.len()).filter(|place| !self.busy[*place]).collect();
        let place = *free.choose(random)?;
        let mut job = match self.all[place].clone() {
            None => self.first(place, random),
            Some(site) => self.of(place, site, random),
        };
        if random.random_ratio(1, 12) {
            job.cancel = Some(random.random_range(0..3000));
        }
        Some(job)
    }

    /// A site where there is none: installed, or cloned from another.
    fn first(&mut self, place: usize, random: &mut StdRng) -> Job {
        self.names += 1;
        let name = format!("s{place:02}-{}.example.test", self.names);
        let open = |place: &usize| {
            !self.busy[*place]
                && self.all[*place].as_ref().is_some_and(|site| site.standing == Standing::Open)
        };
        let originals: Vec<usize> = (0..self.all.len()).filter(open).collect();
        let original = originals.choose(random).copied().filter(|_| random.random_ratio(1, 3));
        if let Some((from, original)) = original.and_then(|from| Some((from, self.all[from].clone()?))) {
            let at = original.at.max(random.random_range(0..2));
            let params = json!({ "site": original.name, "new_site": name, "target_platform": self.platforms[at], "hold": HOLD });
            let then =
                Site { name, at, standing: Standing::Open, mark: original.mark, backups: vec![], undo: None };
            return Job { reads: Some(from), ..Job::new(place, "clone", params, then) };
        }
        let at = usize::from(random.random_ratio(1, 4));
        let title = format!("Fresh {}", self.names);
        let params =
            json!({ "site": name, "platform": self.platforms[at], "database_server": "db1", "title": title });
        let then = Site { name, at, standing: Standing::Open, mark: title, backups: vec![], undo: None };
        Job::new(place, "install", params, then)
    }

    fn of(&mut self, place: usize, site: Site, random: &mut StdRng) -> Job {
        if let Some((task, before)) = site.undo.clone().filter(|_| random.random_ratio(1, 4)) {
            let then = Site { backups: site.backups, undo: None, ..*before };
            return Job::new(place, "undo", json!(task), then);
        }
        let only = json!({ "site": site.name });
        let held = json!({ "site": site.name, "hold": HOLD });
        let stands = |standing| Site { standing, ..site.clone() };
        match site.standing {
            Standing::Deleted if random.random_bool(0.5) => {
                Job::new(place, "undelete", only, stands(Standing::Disabled))
            }
            Standing::Deleted => self.first(place, random),
            Standing::Disabled if random.random_ratio(1, 3) => {
                Job::new(place, "delete", held, stands(Standing::Deleted))
            }
            Standing::Disabled => Job::new(place, "enable", only, stands(Standing::Open)),
            Standing::Open => self.of_open(place, site, random),
        }
    }

    fn of_open(&mut self, place: usize, site: Site, random: &mut StdRng) -> Job {
        let only = json!({ "site": site.name });
        match random.random_range(0..12) {
            0 => Job::new(place, "verify", only, site),
            1 | 2 => Job::new(place, "backup", only, site),
            3 | 4 => Job::new(place, "disable", only, Site { standing: Standing::Disabled, ..site }),
            5..8 => {
                let fits =
                    |backup: &&(String, String, usize, String)| backup.1 == site.name && backup.2 <= site.at;
                let fitting: Vec<_> = site.backups.iter().filter(fits).cloned().collect();
                let Some((backup, _, _, mark)) = fitting.choose(random).cloned() else {
                    return Job::new(place, "backup", only, site);
                };
                let params = json!({ "site": site.name, "backup": backup, "hold": HOLD });
                Job::new(place, "restore", params, Site { mark, ..site })
            }
            _ if site.at == 0 && random.random_bool(0.6) => {
                let params = json!({ "site": site.name, "target_platform": self.platforms[1], "hold": HOLD });
                let broken = random.random_ratio(1, 3);
                Job { broken, ..Job::new(place, "migrate", params, Site { at: 1, ..site }) }
            }
            _ => {
                self.names += 1;
                let name = format!("s{place:02}-{}.example.test", self.names);
                let params = json!({ "site": site.name, "new_site": name, "hold": HOLD });
                Job::new(place, "migrate", params, Site { name, ..site })
            }
        }
    }
}

impl Job {
    fn new(place: usize, workflow: &'static str, params: Value, then: Site) -> Self {
        Self { place, reads: None, workflow, params, then, broken: false, cancel: None }
    }

    /// Whether it leaves something to undo that this model can tell of.
    pub(super) fn can_be_undone(&self) -> bool {
        matches!(self.workflow, "migrate" | "restore" | "disable" | "enable" | "delete")
    }
}

//! The schedules of a configuration: each checked against the workflow that it names. Pure.

use std::collections::BTreeSet;

use jiff::civil::{Time, Weekday};
use jiff::tz::TimeZone;
use kedge_engine::task::Millis;
use serde_json::{Map, Value};
use toml::Spanned;

use super::check::Check;
use super::raw;
use crate::schedules::{Schedule, When};

const MINUTE: Millis = 60_000;
/// How late a slot may begin when nobody says otherwise.
const WINDOW: Millis = 60 * MINUTE;
/// Shortest interval: tasks that come quicker than they end only queue.
const SHORTEST: Millis = MINUTE;
/// Longest duration: what happens less often than once a year is no schedule.
const LONGEST: Millis = 366 * 24 * 60 * MINUTE;
/// Most schedules: each is looked at every few seconds.
const MAX_SCHEDULES: usize = 500;

impl Check<'_> {
    pub(super) fn schedules(&mut self, parts: Vec<Spanned<toml::Value>>) -> Vec<Schedule> {
        if parts.len() > MAX_SCHEDULES {
            self.problem(0, "schedules", format!("{MAX_SCHEDULES} schedules are the most there may be"));
        }
        let mut names = BTreeSet::new();
        let mut schedules = Vec::new();
        for (index, part) in parts.into_iter().enumerate() {
            let (line, what) = (self.line(&part), format!("schedules[{index}]"));
            let Some(raw) = self.part::<raw::Schedule>(&what, part) else { continue };
            let what = format!("schedules.{}", raw.name);
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
            if raw.name.is_empty() || raw.name.len() > 64 || !raw.name.chars().all(plain) {
                self.problem(line, &what, "name has to be 1 to 64 letters, digits, _ - and .");
            }
            if !names.insert(raw.name.clone()) {
                self.problem(line, &what, "another schedule has this name");
            }
            schedules.extend(self.schedule(line, &what, raw));
        }
        schedules
    }

    fn schedule(&mut self, line: usize, what: &str, raw: raw::Schedule) -> Option<Schedule> {
        self.names_its_sites(line, what, &raw);
        let when = self.when(line, what, &raw);
        let mut duration =
            |field: &str, text: &Option<String>, usual: Millis| match text.as_deref().map(duration) {
                None => Some(usual),
                Some(Ok(ms)) => Some(ms),
                Some(Err(why)) => {
                    self.problem(line, what, format!("{field}: {why}"));
                    None
                }
            };
        let window = duration("window", &raw.window, WINDOW);
        let jitter = duration("jitter", &raw.jitter, 0);
        let (when, window, jitter) = (when?, window?, jitter?);
        if jitter > window {
            self.problem(line, what, "jitter is longer than window: the last sites would always be late");
        }
        if matches!(when, When::Every(ms) if jitter >= ms) {
            self.problem(line, what, "jitter has to be shorter than every");
        }
        if let When::At { times, days, .. } = &when
            && jitter >= shortest_gap(times, days)
        {
            self.problem(
                line,
                what,
                "jitter is longer than the time between two of at: sites would be left out",
            );
        }
        let params: Map<String, Value> = match serde_json::to_value(&raw.params) {
            Ok(Value::Object(params)) => params,
            Ok(_) | Err(_) => {
                self.problem(line, what, "params has to be a table of what JSON can say");
                return None;
            }
        };
        if params.contains_key("site") && !raw.sites.is_empty() {
            self.problem(line, what, "write the site into sites or into params, not into both");
        }
        let (name, workflow, sites, catch_up) = (raw.name, raw.workflow, raw.sites, raw.catch_up);
        Some(Schedule { name, workflow, params, sites, when, window, jitter, catch_up })
    }

    fn names_its_sites(&mut self, line: usize, what: &str, raw: &raw::Schedule) {
        let workflows = kedge_workflows::workflows();
        let Some(workflow) = workflows.iter().find(|workflow| workflow.name() == raw.workflow) else {
            let names: Vec<&str> = workflows.iter().map(|workflow| workflow.name()).collect();
            let detail = format!("there is no workflow {:?}; there are: {}", raw.workflow, names.join(", "));
            return self.problem(line, what, detail);
        };
        let schema = workflow.schema();
        let needed = schema["required"].as_array().is_some_and(|all| all.iter().any(|field| field == "site"));
        if needed && raw.sites.is_empty() && !raw.params.contains_key("site") {
            self.problem(line, what, "sites = [\"*\"] for all sites, or patterns such as \"*.example.org\"");
        }
        if !raw.sites.is_empty() && schema["properties"]["site"].is_null() {
            self.problem(line, what, format!("{} is about no single site: leave sites out", raw.workflow));
        }
        if let Some(bad) =
            raw.sites.iter().find(|pattern| pattern.is_empty() || pattern.matches('*').count() > 1)
        {
            self.problem(line, what, format!("sites: {bad:?} is no pattern: a name with one * at most"));
        }
        let unknown = raw.params.keys().find(|field| schema["properties"][field.as_str()].is_null());
        if let Some(field) = unknown {
            self.problem(line, what, format!("params: {} has no parameter {field:?}", raw.workflow));
        }
    }

    fn when(&mut self, line: usize, what: &str, raw: &raw::Schedule) -> Option<When> {
        let when = match (&raw.every, &raw.at[..]) {
            (Some(every), []) if raw.days.is_empty() && raw.time_zone.is_none() => {
                duration(every).and_then(|ms| match ms {
                    SHORTEST..=LONGEST => Ok(When::Every(ms)),
                    _ => Err("1m is the shortest".to_owned()),
                })
            }
            (None, [_, ..]) => at(raw),
            _ => Err("write every = \"6h\", or at = [\"02:30\"] with days and time_zone".to_owned()),
        };
        when.map_err(|why| self.problem(line, what, why)).ok()
    }
}

/// The shortest time between two slots of a week: a site that begins later than that is overtaken by its next slot.
fn shortest_gap(times: &[Time], days: &[Weekday]) -> Millis {
    let seconds = |time: &Time| {
        i64::from(time.hour()) * 3600 + i64::from(time.minute()) * 60 + i64::from(time.second())
    };
    let days: Vec<i64> = match days {
        [] => (0..7).collect(),
        some => some.iter().map(|day| i64::from(day.to_monday_zero_offset())).collect(),
    };
    let mut slots: Vec<i64> =
        days.iter().flat_map(|day| times.iter().map(move |time| day * 86_400 + seconds(time))).collect();
    slots.sort_unstable();
    slots.dedup();
    slots.extend(slots.first().map(|first| first + 7 * 86_400));
    let gaps = slots.windows(2).map(|pair| (pair[1] - pair[0]).unsigned_abs() * 1000);
    gaps.min().unwrap_or(Millis::MAX)
}

fn at(raw: &raw::Schedule) -> Result<When, String> {
    let time = |text: &String| {
        let bad = || format!("at: {text:?} is no time of the day, such as 02:30");
        if text.len() < 5 { Err(bad()) } else { text.parse::<Time>().map_err(|_| bad()) }
    };
    let mut times = raw.at.iter().map(time).collect::<Result<Vec<Time>, String>>()?;
    times.sort();
    times.dedup();
    let days = raw.days.iter().map(|day| weekday(day)).collect::<Result<_, _>>()?;
    let zone = match raw.time_zone.as_deref() {
        None | Some("UTC") => TimeZone::UTC,
        Some(name) => TimeZone::get(name)
            .map_err(|_| format!("time_zone: {name:?} is not known here; write UTC, or install tzdata"))?,
    };
    Ok(When::At { times, days, zone })
}

fn weekday(text: &str) -> Result<Weekday, String> {
    Ok(match text {
        "mon" => Weekday::Monday,
        "tue" => Weekday::Tuesday,
        "wed" => Weekday::Wednesday,
        "thu" => Weekday::Thursday,
        "fri" => Weekday::Friday,
        "sat" => Weekday::Saturday,
        "sun" => Weekday::Sunday,
        _ => return Err(format!("days: {text:?} is none of mon, tue, wed, thu, fri, sat and sun")),
    })
}

/// `30m`, `6h`, `1d` in milliseconds.
pub(super) fn duration(text: &str) -> Result<Millis, String> {
    let bad = || format!("{text:?} is no duration; write 30m, 6h or 1d");
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(bad)?;
    let unit = match unit {
        "m" => MINUTE,
        "h" => 60 * MINUTE,
        "d" => 24 * 60 * MINUTE,
        _ => return Err(bad()),
    };
    let number: u64 = number.parse().map_err(|_| bad())?;
    number.checked_mul(unit).filter(|ms| *ms <= LONGEST).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    fn checked(text: &str) -> Result<Vec<Schedule>, Vec<String>> {
        let read = |_: &std::path::Path| Err("no secrets here".to_owned());
        let checked = check::config(text, &read, &|_| None);
        checked
            .map(|config| config.schedules)
            .map_err(|problems| problems.into_iter().map(|problem| problem.detail).collect())
    }

    #[test]
    fn a_schedule_is_read() {
        let text = r#"
            [[schedules]]
            name = "nightly"
            sites = ["*.example.org"]
            at = ["14:00", "02:30"]
            days = ["mon", "sun"]
            jitter = "45m"
            params = { compression = "gzip" }
            [[schedules]]
            name = "retention"
            workflow = "purge"
            every = "6h"
            catch_up = false
            params = { keep = 14, older_than = "30d" }
        "#;
        let schedules = checked(text).unwrap();
        let When::At { times, days, zone } = &schedules[0].when else { panic!("{:?}", schedules[0]) };
        assert_eq!((times.len(), days.len(), zone), (2, 2, &TimeZone::UTC));
        assert!(times[0] < times[1] && schedules[0].catch_up, "{schedules:?}");
        assert_eq!((schedules[0].window, schedules[0].jitter), (WINDOW, 45 * MINUTE));
        assert_eq!(schedules[1].when, When::Every(360 * MINUTE));
        assert_eq!(schedules[1].params["keep"], 14);
    }

    #[test]
    fn a_staging_site_is_refreshed_by_the_clock() {
        let text = r#"
            [[schedules]]
            name = "refresh-staging"
            workflow = "clone"
            at = ["05:00"]
            params = { site = "shop.example.org", new_site = "staging.example.org", over_existing = true }
        "#;
        let schedules = checked(text).unwrap();
        let at = 1_795_928_400_000; // 2026-11-29T05:00:00Z
        let due = schedules[0].due(at, 0, &[]);
        assert_eq!((due.len(), due.first().map(|due| due.missed)), (1, Some(false)));
        assert_eq!(schedules[0].due(at - 1000, at - 2000, &[]), []);
        let asked = schedules[0].submission(&due[0]);
        assert_eq!((asked.workflow.as_str(), &asked.params["over_existing"]), ("clone", &true.into()));
        assert_eq!(asked.params["site"], "shop.example.org");
    }

    #[test]
    fn the_gap_between_slots_goes_over_midnight_where_the_next_day_has_one() {
        let gap = |times: &[&str], days: &[&str]| {
            let times: Vec<Time> = times.iter().map(|time| time.parse().unwrap()).collect();
            let days: Vec<Weekday> = days.iter().map(|day| weekday(day).unwrap()).collect();
            shortest_gap(&times, &days) / MINUTE
        };
        let (two, day) = (["00:10:00", "23:50:00"], 24 * 60);
        assert_eq!(gap(&two, &[]), 20);
        assert_eq!(gap(&two, &["tue", "mon"]), 20);
        assert_eq!(gap(&two, &["sun", "mon"]), 20);
        assert_eq!(gap(&two, &["mon", "wed"]), day - 20);
        assert_eq!(gap(&["02:00:00"], &[]), day);
        assert_eq!(gap(&["02:00:00"], &["sat"]), 7 * day);
        assert_eq!(gap(&["02:00:00"], &["sat", "sun"]), day);
    }

    #[test]
    fn what_could_not_work_is_told_at_once() {
        for (lines, told) in [
            ("name = \"a b\"\nsites = [\"*\"]\nevery = \"1h\"", "letters, digits"),
            ("name = \"a\"\nevery = \"1h\"", "sites = [\"*\"]"),
            ("name = \"a\"\nsites = [\"*.*\"]\nevery = \"1h\"", "one * at most"),
            ("name = \"a\"\nsites = [\"*\"]", "write every"),
            ("name = \"a\"\nsites = [\"*\"]\nevery = \"1h\"\nat = [\"02:00\"]", "write every"),
            ("name = \"a\"\nsites = [\"*\"]\nevery = \"0m\"", "1m is the shortest"),
            ("name = \"a\"\nsites = [\"*\"]\nevery = \"1h\"\njitter = \"1h\"", "shorter than every"),
            ("name = \"a\"\nsites = [\"*\"]\nat = [\"2\"]", "no time of the day"),
            ("name = \"a\"\nsites = [\"*\"]\nat = [\"25:00\"]", "no time of the day"),
            ("name = \"a\"\nsites = [\"*\"]\nat = [\"02:00\"]\ndays = [\"Monday\"]", "none of mon"),
            ("name = \"a\"\nsites = [\"*\"]\nat = [\"02:00\"]\ntime_zone = \"Nowhere\"", "not known here"),
            ("name = \"a\"\nsites = [\"*\"]\nat = [\"02:00\"]\njitter = \"2h\"", "longer than window"),
            (
                "name = \"a\"\nsites = [\"*\"]\nat = [\"02:00\", \"02:30\"]\njitter = \"30m\"",
                "sites would be left out",
            ),
            (
                "name = \"a\"\nsites = [\"*\"]\nat = [\"00:10\", \"23:50\"]\ndays = [\"mon\", \"tue\"]\njitter = \"30m\"",
                "sites would be left out",
            ),
            ("name = \"a\"\nworkflow = \"burn\"\nevery = \"1h\"", "there is no workflow"),
            (
                "name = \"a\"\nworkflow = \"migrate_platform\"\nsites = [\"*\"]\nevery = \"1h\"",
                "no single site",
            ),
            (
                "name = \"a\"\nsites = [\"*\"]\nevery = \"1h\"\nparams = { colour = 1 }",
                "no parameter \"colour\"",
            ),
        ] {
            let problems = checked(&format!("[[schedules]]\n{lines}")).unwrap_err();
            assert!(problems.len() == 1 && problems[0].contains(told), "{lines}: {problems:?}");
        }
        let twice = "[[schedules]]\nname = \"a\"\nsites = [\"*\"]\nevery = \"1h\"\n".repeat(2);
        assert!(checked(&twice).unwrap_err()[0].contains("another schedule"));
    }
}

//! When a schedule is due: its slots, by the clock on the wall or by an interval. Pure: the time comes as an argument.

use jiff::civil::{Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use kedge_engine::task::Millis;

/// Days looked back for the last slot: a week has every weekday, and one more for the time zone.
const DAYS_BACK: i64 = 8;

/// When something is due.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum When {
    /// Every so many milliseconds, counted from 1970.
    Every(Millis),
    /// At times of the day, on some days of the week, in a time zone.
    At {
        /// Sorted, not empty.
        times: Vec<Time>,
        /// Empty: every day.
        days: Vec<Weekday>,
        /// Whose clock.
        zone: TimeZone,
    },
}

/// A slot: what it is called, once and for all, and when it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    /// Its name: the time on the wall. An hour that comes twice in autumn is one slot.
    pub(crate) name: String,
    /// Its beginning.
    pub(crate) at: Millis,
}

impl When {
    /// The last slot that has begun at a time; `None` before the first one.
    pub(crate) fn last(&self, now: Millis) -> Option<Slot> {
        match self {
            Self::Every(ms) => {
                let at = now - now % ms;
                Some(Slot { name: at.to_string(), at })
            }
            Self::At { times, days, zone } => {
                let now_there =
                    Timestamp::from_millisecond(i64::try_from(now).ok()?).ok()?.to_zoned(zone.clone());
                (0..DAYS_BACK).find_map(|back| {
                    let date = now_there.date().checked_sub(back.days()).ok()?;
                    if !days.is_empty() && !days.contains(&date.weekday()) {
                        return None;
                    }
                    let slot = |time: &Time| {
                        // A time that spring leaves out is an hour later; one that autumn has twice is the first of the two.
                        let begins = zone.to_ambiguous_zoned(date.to_datetime(*time)).compatible().ok()?;
                        let at = u64::try_from(begins.timestamp().as_millisecond()).ok()?;
                        (at <= now).then(|| Slot { name: format!("{date}T{time}"), at })
                    };
                    // By when they begin: the time that spring leaves out may come after the next one.
                    times.iter().filter_map(slot).max_by_key(|slot| slot.at)
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(text: &str) -> Millis {
        u64::try_from(text.parse::<Timestamp>().unwrap().as_millisecond()).unwrap()
    }

    fn daily(times: &[&str], days: &[Weekday], zone: &str) -> When {
        let times = times.iter().map(|time| time.parse().unwrap()).collect();
        let zone = if zone == "UTC" { TimeZone::UTC } else { TimeZone::get(zone).unwrap() };
        When::At { times, days: days.to_vec(), zone }
    }

    fn name(when: &When, now: &str) -> String {
        when.last(ms(now)).unwrap().name
    }

    #[test]
    fn the_last_slot_is_today_or_yesterday() {
        let when = daily(&["02:30", "14:00"], &[], "UTC");
        assert_eq!(name(&when, "2026-11-28T02:29:59Z"), "2026-11-27T14:00:00");
        assert_eq!(name(&when, "2026-11-28T02:30:00Z"), "2026-11-28T02:30:00");
        assert_eq!(name(&when, "2026-11-28T23:00:00Z"), "2026-11-28T14:00:00");
    }

    #[test]
    fn weekdays_are_those_of_the_zone() {
        // 2026-11-28 is a Saturday.
        let when = daily(&["01:00"], &[Weekday::Saturday], "UTC");
        assert_eq!(name(&when, "2026-11-28T00:59:00Z"), "2026-11-21T01:00:00");
        assert_eq!(name(&when, "2026-12-04T12:00:00Z"), "2026-11-28T01:00:00");
    }

    #[test]
    fn an_interval_has_slots_from_1970_on() {
        let when = When::Every(3_600_000);
        let slot = when.last(ms("2026-11-28T10:59:59Z")).unwrap();
        assert_eq!(
            (slot.at, slot.name),
            (ms("2026-11-28T10:00:00Z"), ms("2026-11-28T10:00:00Z").to_string())
        );
    }

    #[test]
    fn an_hour_that_comes_twice_is_one_slot_and_one_that_is_left_out_comes_later() {
        let when = daily(&["02:30"], &[], "Europe/Berlin");
        // Autumn 2026: at 03:00 CEST on 25 October the clocks go back to 02:00 CET.
        assert_eq!(
            when.last(ms("2026-10-25T00:30:00Z")).unwrap(),
            when.last(ms("2026-10-25T01:45:00Z")).unwrap()
        );
        // Spring 2026: on 29 March 02:30 does not exist.
        let slot = when.last(ms("2026-03-29T02:00:00Z")).unwrap();
        assert_eq!((slot.name.as_str(), slot.at), ("2026-03-29T02:30:00", ms("2026-03-29T01:30:00Z")));
        assert_eq!(name(&when, "2026-03-29T01:29:00Z"), "2026-03-28T02:30:00");
        let both = daily(&["02:30", "03:00"], &[], "Europe/Berlin");
        assert_eq!(name(&both, "2026-03-29T01:15:00Z"), "2026-03-29T03:00:00");
        assert_eq!(name(&both, "2026-03-29T01:45:00Z"), "2026-03-29T02:30:00", "it is not lost");
    }
}

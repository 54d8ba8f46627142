//! What the parameters of workflows have in common: parsing, schemas, durations. One source for types and schemas.

use kedge_engine::service::ParamError;
use kedge_engine::task::Millis;
use kedge_engine::workflow::PlanRefusal;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_path_to_error::Segment;

const HOUR: Millis = 3_600_000;
/// How long an old side is kept when nobody says otherwise.
const DEFAULT_HOLD: Millis = 24 * HOUR;
/// Longest hold: what is kept for ever is a backup, not trash.
const MAX_HOLD_DAYS: u64 = 365;

/// The JSON Schema (2020-12) of a parameter type.
pub(crate) fn schema<T: JsonSchema>() -> Value {
    SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>().to_value()
}

/// Reads parameters.
pub(crate) fn parse<T: DeserializeOwned>(params: &Value) -> Result<T, PlanRefusal> {
    serde_path_to_error::deserialize(params).map_err(|error| {
        let pointer = error.path().iter().filter_map(|segment| match segment {
            Segment::Map { key } => Some(format!("/{}", key.replace('~', "~0").replace('/', "~1"))),
            Segment::Seq { index } => Some(format!("/{index}")),
            Segment::Enum { .. } | Segment::Unknown => None,
        });
        let pointer = pointer.collect();
        PlanRefusal::BadParams(vec![ParamError { pointer, detail: error.into_inner().to_string() }])
    })
}

/// How long something is kept: `90m`, `24h`, `7d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Hold(pub(crate) Millis);

impl Default for Hold {
    fn default() -> Self {
        Self(DEFAULT_HOLD)
    }
}

impl TryFrom<String> for Hold {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let bad = || {
            format!("{:?} is no duration; write 90m, 24h or 7d", text.chars().take(20).collect::<String>())
        };
        let split =
            text.len().checked_sub(1).filter(|split| text.is_char_boundary(*split)).ok_or_else(bad)?;
        let (number, unit) = text.split_at(split);
        let number: u64 = number.parse().map_err(|_| bad())?;
        let unit = match unit {
            "m" => HOUR / 60,
            "h" => HOUR,
            "d" => 24 * HOUR,
            _ => return Err(bad()),
        };
        let hold = number.checked_mul(unit).filter(|hold| *hold <= MAX_HOLD_DAYS * 24 * HOUR);
        hold.map(Self).ok_or_else(|| format!("a hold is at most {MAX_HOLD_DAYS} days"))
    }
}

impl From<Hold> for String {
    fn from(hold: Hold) -> Self {
        format!("{}m", hold.0 / (HOUR / 60))
    }
}

impl JsonSchema for Hold {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Hold".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string", "pattern": "^[0-9]{1,6}[mhd]$",
            "description": "How long the old side is kept and the task can be undone: 90m, 24h (the default), 7d"
        })
    }
}

/// `YYYYMMDD.HHMMSS` of a time in UTC: the stamp in names of backups.
pub(crate) fn stamp(now: Millis) -> String {
    let at =
        i64::try_from(now).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok()).unwrap_or_default();
    jiff::tz::TimeZone::UTC.to_datetime(at).strftime("%Y%m%d.%H%M%S").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_pointed_at() {
        #[derive(Debug, Deserialize)]
        #[expect(dead_code, reason = "only read")]
        struct Of {
            site: crate::names::SiteName,
            aliases: Vec<crate::names::SiteName>,
        }
        for (params, at) in [
            (serde_json::json!({ "site": "a..b", "aliases": [] }), "/site"),
            (serde_json::json!({ "site": "a.test", "aliases": ["b.test", "*.test"] }), "/aliases/1"),
        ] {
            let refused = parse::<Of>(&params).unwrap_err();
            assert!(matches!(&refused, PlanRefusal::BadParams(all) if all[0].pointer == at), "{refused:?}");
        }
    }

    #[test]
    fn holds_are_durations() {
        for (text, ms) in [("90m", 5_400_000), ("24h", 86_400_000), ("7d", 604_800_000), ("0h", 0)] {
            assert_eq!(Hold::try_from(text.to_owned()), Ok(Hold(ms)));
        }
        for text in ["", "h", "24", "1w", "-1h", "999999d", "1é"] {
            assert!(Hold::try_from(text.to_owned()).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn stamps_are_utc() {
        assert_eq!(stamp(1_795_363_200_123), "20261122.160000");
    }
}

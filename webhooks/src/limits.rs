//! How often a token or a hook may ask: a bucket for each, with the headers that tell callers where they stand (the IETF's
//! `RateLimit` and `RateLimit-Policy`). It decides before a body is read or parsed; it knows no routes.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::Clock as GovernorClock;
use governor::middleware::StateInformationMiddleware;
use governor::nanos::Nanos;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};
use http::header::{HeaderName, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, StatusCode};
use kedge_engine::ports::Clock;

use crate::problem::Problem;

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// The problem type of the IETF draft, so that clients of other services know it.
const QUOTA_EXCEEDED: &str = "https://iana.org/assignments/http-problem-types#quota-exceeded";

/// So many requests in a time, all of which may come at once: `600/m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    requests: NonZeroU32,
    window: Duration,
}

impl Rate {
    /// Reads `100/s`, `600/m` or `10000/h`.
    ///
    /// # Errors
    /// What it has to look like.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no rate, such as 100/s, 600/m or 10000/h");
        let (number, unit) = text.split_once('/').ok_or_else(wrong)?;
        let window = match unit.trim() {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return Err(wrong()),
        };
        let requests = number.trim().parse().map_err(|_| wrong())?;
        Ok(Self { requests, window: Duration::from_secs(window) })
    }
}

/// Rates of the callers; `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Of each token.
    pub token: Option<Rate>,
    /// Of each hook, for verified messages.
    pub hook: Option<Rate>,
}

/// The clock of our ports as the limiter wants it.
#[derive(Clone)]
struct PortClock(Arc<dyn Clock>);

impl GovernorClock for PortClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Duration::from_millis(self.0.now()).into()
    }
}

type Buckets = RateLimiter<String, DashMapStateStore<String>, PortClock, StateInformationMiddleware>;

/// The buckets of one kind of caller. There are as many as there are names in the configuration, since only those get here.
pub(crate) struct Limiter {
    kind: &'static str,
    rate: Rate,
    clock: PortClock,
    buckets: Buckets,
}

/// Where a caller stands after a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    kind: &'static str,
    rate: Rate,
    remaining: u32,
    /// Seconds until the bucket is full again.
    reset: u64,
}

impl Limiter {
    pub(crate) fn new(kind: &'static str, rate: Rate, clock: Arc<dyn Clock>) -> Self {
        let each = rate.window / rate.requests.get();
        #[expect(clippy::expect_used, reason = "a second in 2^32 parts is still something")]
        let quota = Quota::with_period(each.max(Duration::from_nanos(1))).expect("a time above zero");
        let clock = PortClock(clock);
        let quota = quota.allow_burst(rate.requests);
        let buckets: Buckets = RateLimiter::new(quota, DashMapStateStore::default(), clock.clone());
        Self { kind, rate, clock, buckets }
    }

    /// Counts a request.
    ///
    /// # Errors
    /// 429, with the time to wait.
    pub(crate) fn charge(&self, name: &str) -> Result<Standing, Problem> {
        let each = self.rate.window.as_secs_f64() / f64::from(self.rate.requests.get());
        let standing = |remaining: u32| {
            let used = f64::from(self.rate.requests.get() - remaining.min(self.rate.requests.get()));
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most an hour")]
            let reset = (used * each).ceil() as u64;
            Standing { kind: self.kind, rate: self.rate, remaining, reset }
        };
        match self.buckets.check_key(&name.to_owned()) {
            Ok(snapshot) => Ok(standing(snapshot.remaining_burst_capacity())),
            Err(not_yet) => {
                let wait = not_yet.wait_time_from(self.clock.now());
                let wait = u64::from(wait.subsec_nanos() > 0) + wait.as_secs();
                Err(too_many(&standing(0), wait.max(1)))
            }
        }
    }
}

impl Standing {
    fn headers(&self) -> [(HeaderName, String); 2] {
        let (kind, q, w) = (self.kind, self.rate.requests, self.rate.window.as_secs());
        [
            (RATE_LIMIT_POLICY, format!("\"{kind}\";q={q};w={w}")),
            (RATE_LIMIT, format!("\"{kind}\";r={};t={}", self.remaining, self.reset)),
        ]
    }

    /// Tells the caller.
    pub(crate) fn tell(&self, headers: &mut HeaderMap) {
        for (name, value) in self.headers() {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(name, value);
            }
        }
    }
}

fn too_many(standing: &Standing, wait_s: u64) -> Problem {
    let detail = format!(
        "this {} may ask {} times in {} s; ask again in {wait_s} s",
        standing.kind,
        standing.rate.requests,
        standing.rate.window.as_secs()
    );
    let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "quota-exceeded", "Too many requests", detail)
        .with("type", QUOTA_EXCEEDED)
        .with("violated-policies", vec![standing.kind])
        .header(RETRY_AFTER, &wait_s.to_string());
    standing.headers().into_iter().fold(problem, |problem, (name, value)| problem.header(name, &value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::FakeClock;

    #[test]
    fn rates_are_read() {
        let rate = Rate::parse("600/m").unwrap();
        assert_eq!((rate.requests.get(), rate.window.as_secs()), (600, 60));
        assert_eq!(Rate::parse("1/h").unwrap().window.as_secs(), 3600);
        for wrong in ["", "600", "0/s", "-1/s", "5/d", "x/s", "5/", "1e3/s"] {
            assert!(Rate::parse(wrong).unwrap_err().contains("such as"), "{wrong}");
        }
    }

    #[test]
    fn each_name_has_a_bucket_that_fills_with_time() {
        let clock = FakeClock::at(1_795_363_200_000);
        let limiter = Limiter::new("token", Rate::parse("3/m").unwrap(), clock.clone());
        let left = |name: &str| limiter.charge(name).map(|standing| (standing.remaining, standing.reset));
        assert_eq!(left("ci").unwrap(), (2, 20));
        assert_eq!(left("ci").unwrap(), (1, 40));
        assert_eq!(left("ci").unwrap(), (0, 60));
        let problem = left("ci").unwrap_err();
        assert_eq!(problem.status, StatusCode::TOO_MANY_REQUESTS);
        let response = problem.into_response("r");
        assert_eq!(response.headers()["retry-after"], "20");
        assert_eq!(response.headers()["ratelimit"], "\"token\";r=0;t=60");
        assert_eq!(response.headers()["ratelimit-policy"], "\"token\";q=3;w=60");
        assert_eq!(left("other").unwrap().0, 2, "others are not affected");
        clock.set(1_795_363_200_000 + 20_000);
        assert_eq!(left("ci").unwrap().0, 0);
        assert!(left("ci").is_err());
        clock.set(1_795_363_200_000 + 600_000);
        assert_eq!(left("ci").unwrap().0, 2);
    }
}

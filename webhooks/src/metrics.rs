//! Counts, as Prometheus' text shows them. No label holds a name of a site, a task or a caller.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Upper bounds of the buckets of request times, in milliseconds.
const BUCKETS_MS: [u64; 9] = [1, 2, 5, 10, 25, 50, 100, 1000, 30_000];

/// The counts of this process. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Metrics(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    requests: BTreeMap<(&'static str, u16), u64>,
    times: BTreeMap<&'static str, Times>,
    attempts: BTreeMap<&'static str, u64>,
    connections: i64,
    in_flight: i64,
}

#[derive(Debug, Default)]
struct Times {
    buckets: [u64; BUCKETS_MS.len()],
    count: u64,
    sum: Duration,
}

impl Metrics {
    /// Counts an answered request.
    pub(crate) fn request(&self, route: &'static str, status: u16, time: Duration) {
        let mut counts = self.counts();
        *counts.requests.entry((route, status)).or_default() += 1;
        let times = counts.times.entry(route).or_default();
        times.count += 1;
        times.sum += time;
        for (bucket, bound) in times.buckets.iter_mut().zip(BUCKETS_MS) {
            *bucket += u64::from(time <= Duration::from_millis(bound));
        }
    }

    /// Counts an attempt to deliver a callback: `delivered`, `failed` or `dead`.
    pub(crate) fn attempt(&self, result: &'static str) {
        *self.counts().attempts.entry(result).or_default() += 1;
    }

    /// Counts a request as being answered until the guard is dropped.
    pub(crate) fn in_flight(&self) -> InFlight {
        self.counts().in_flight += 1;
        InFlight(self.clone())
    }

    /// Counts a connection as open until the guard is dropped.
    pub(crate) fn connection(&self) -> Connected {
        self.counts().connections += 1;
        Connected(self.clone())
    }

    /// The text; `tasks` are the numbers of open tasks by state.
    pub(crate) fn text(&self, tasks: &[(&str, usize)], dropped: u64) -> String {
        let mut text = String::new();
        // Writing into a String does not fail.
        let _ = self.write(&mut text, tasks);
        text.push_str("# HELP kedge_inbox_dropped_total Messages to hooks that the inbox had no room for.\n");
        text.push_str("# TYPE kedge_inbox_dropped_total counter\n");
        let _ = writeln!(text, "kedge_inbox_dropped_total {dropped}");
        text
    }

    fn write(&self, text: &mut String, tasks: &[(&str, usize)]) -> std::fmt::Result {
        let counts = self.counts();
        text.push_str("# HELP kedge_tasks Tasks that have not ended, by state.\n# TYPE kedge_tasks gauge\n");
        for (state, count) in tasks {
            writeln!(text, "kedge_tasks{{state=\"{state}\"}} {count}")?;
        }
        text.push_str(
            "# HELP kedge_http_connections Open connections.\n# TYPE kedge_http_connections gauge\n",
        );
        writeln!(text, "kedge_http_connections {}", counts.connections)?;
        text.push_str("# HELP kedge_http_requests_in_flight Requests being answered.\n");
        text.push_str("# TYPE kedge_http_requests_in_flight gauge\n");
        writeln!(text, "kedge_http_requests_in_flight {}", counts.in_flight)?;
        text.push_str(
            "# HELP kedge_http_requests_total Answered requests.\n# TYPE kedge_http_requests_total counter\n",
        );
        for ((route, status), count) in &counts.requests {
            writeln!(text, "kedge_http_requests_total{{route=\"{route}\",status=\"{status}\"}} {count}")?;
        }
        text.push_str("# HELP kedge_http_request_seconds Time to the head of the answer.\n");
        text.push_str("# TYPE kedge_http_request_seconds histogram\n");
        for (route, times) in &counts.times {
            for (bound, bucket) in BUCKETS_MS.iter().zip(times.buckets) {
                let bound = Duration::from_millis(*bound).as_secs_f64();
                writeln!(
                    text,
                    "kedge_http_request_seconds_bucket{{route=\"{route}\",le=\"{bound}\"}} {bucket}"
                )?;
            }
            writeln!(
                text,
                "kedge_http_request_seconds_bucket{{route=\"{route}\",le=\"+Inf\"}} {}",
                times.count
            )?;
            writeln!(
                text,
                "kedge_http_request_seconds_sum{{route=\"{route}\"}} {}",
                times.sum.as_secs_f64()
            )?;
            writeln!(text, "kedge_http_request_seconds_count{{route=\"{route}\"}} {}", times.count)?;
        }
        text.push_str("# HELP kedge_callback_attempts_total Attempts to deliver callbacks.\n");
        text.push_str("# TYPE kedge_callback_attempts_total counter\n");
        for (result, count) in &counts.attempts {
            writeln!(text, "kedge_callback_attempts_total{{result=\"{result}\"}} {count}")?;
        }
        Ok(())
    }

    fn counts(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request being answered.
pub(crate) struct InFlight(Metrics);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.counts().in_flight -= 1;
    }
}

/// An open connection.
pub(crate) struct Connected(Metrics);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.counts().connections -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_every_count() {
        let metrics = Metrics::default();
        metrics.request("hook", 202, Duration::from_millis(3));
        metrics.request("hook", 202, Duration::from_millis(60));
        metrics.attempt("delivered");
        let connected = metrics.connection();
        let one = metrics.in_flight();
        drop(metrics.in_flight());
        let text = metrics.text(&[("running", 2)], 7);
        assert!(text.contains("kedge_inbox_dropped_total 7\n"), "{text}");
        drop((one, connected));
        for line in [
            "kedge_tasks{state=\"running\"} 2",
            "kedge_http_connections 1",
            "kedge_http_requests_in_flight 1",
            "kedge_http_requests_total{route=\"hook\",status=\"202\"} 2",
            "kedge_http_request_seconds_bucket{route=\"hook\",le=\"0.005\"} 1",
            "kedge_http_request_seconds_bucket{route=\"hook\",le=\"+Inf\"} 2",
            "kedge_http_request_seconds_sum{route=\"hook\"} 0.063",
            "kedge_callback_attempts_total{result=\"delivered\"} 1",
        ] {
            assert!(text.lines().any(|have| have == line), "{line} in\n{text}");
        }
    }
}

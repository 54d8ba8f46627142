//! Tasks and plans as text for a terminal. Pure: values in, lines out.

use serde_json::Value;

/// Whether lines are coloured.
#[derive(Clone, Copy)]
pub(crate) struct Style {
    /// ANSI colours.
    pub(crate) color: bool,
}

impl Style {
    fn paint(self, code: &str, text: &str) -> String {
        if self.color { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }
}

/// A sign and colour for each state of a step.
fn sign(state: &str) -> (&'static str, &'static str) {
    match state {
        "succeeded" => ("✓", "32"),
        "running" => ("▶", "36"),
        "waiting" | "in_doubt" => ("…", "33"),
        "failed" => ("✗", "31"),
        "undoing" => ("↶", "33"),
        "undone" => ("↺", "33"),
        "stuck" => ("‼", "31"),
        "skipped" => ("-", "2"),
        _ => ("·", "2"),
    }
}

/// Colour of a task's state.
fn state_color(state: &str) -> &'static str {
    match state {
        "succeeded" => "32",
        "rolled_back" | "canceled" | "compensating" | "waiting" => "33",
        "stuck" => "31",
        _ => "36",
    }
}

/// A task's page.
pub(crate) fn task(task: &Value, style: Style) -> Vec<String> {
    let text = |field: &str| task[field].as_str().unwrap_or_default();
    let state = text("state");
    let mut lines = vec![format!(
        "{} {} {}",
        style.bold(&format!("{} {}", text("workflow"), text("site"))),
        style.paint(state_color(state), state),
        style.dim(text("id"))
    )];
    let decides = deciding(task);
    lines.extend(steps(task).map(|step| step_line(step, decides, style)));
    lines.extend(ending(task, style));
    lines
}

/// A task's page in at most this many lines (six at least): what is over and what is still to come is only counted.
pub(crate) fn short(task: &Value, lines: usize, style: Style) -> Vec<String> {
    let state = |step: &&Value| step["state"].as_str().unwrap_or_default().to_owned();
    let count = |wanted: &str| steps(task).filter(|step| state(step) == wanted).count();
    let (done, pending, undone) = (count("succeeded"), count("pending"), count("undone"));
    let mut page = self::task(task, style);
    page.truncate(1);
    for (number, sign, color, words) in
        [(done, "✓", "32", "steps are done"), (undone, "↺", "33", "steps are undone")]
    {
        if number > 0 {
            page.push(format!("  {} {number} {words}", style.paint(color, sign)));
        }
    }
    let active = |step: &&Value| !matches!(state(step).as_str(), "succeeded" | "pending" | "undone");
    let decides = deciding(task);
    let room = lines.max(6) - page.len() - 1;
    page.extend(steps(task).filter(active).take(room).map(|step| step_line(step, decides, style)));
    if pending > 0 {
        page.push(style.dim(&format!("  · {pending} steps to come")));
    }
    page
}

/// A line cut to this many columns; escape sequences take none.
pub(crate) fn fit(line: &str, width: usize) -> String {
    let mut fitting = String::new();
    let (mut columns, mut escape) = (0, false);
    for c in line.chars() {
        if escape || c == '\u{1b}' {
            escape = c != 'm';
            fitting.push(c);
            continue;
        }
        columns += 1;
        if columns == width && line.len() > fitting.len() + c.len_utf8() {
            fitting.push('…');
        } else if columns <= width {
            fitting.push(c);
        }
    }
    fitting
}

fn steps(task: &Value) -> impl Iterator<Item = &Value> {
    task["steps"].as_array().into_iter().flatten()
}

/// The pivot that decides the task: the last one. What an earlier one wrote (a safety backup) stays, and the task can still go back.
fn deciding(task: &Value) -> Option<&str> {
    steps(task).filter(|step| step["class"] == "pivot").last()?["name"].as_str()
}

fn step_line(step: &Value, decides: Option<&str>, style: Style) -> String {
    let text = |field: &str| step[field].as_str().unwrap_or_default();
    let state = text("state");
    let (sign, color) = sign(state);
    let mut line = format!("  {} {:<18} {}", style.paint(color, sign), text("name"), text("title"));
    if step["class"] == "pivot" {
        let last = step["name"].as_str() == decides;
        line.push_str(&style.dim(if last {
            "  (point of no return)"
        } else {
            "  (stays, whatever happens)"
        }));
    }
    if state == "running"
        && let Some(progress) = progress(&step["progress"])
    {
        line.push_str(&format!("  {progress}"));
    }
    if let Some(took) = took(step) {
        line.push_str(&style.dim(&format!("  {took}")));
    }
    if step["attempts"].as_u64().unwrap_or(0) > 1 {
        line.push_str(&style.dim(&format!("  attempt {}", step["attempts"])));
    }
    if matches!(state, "undone" | "undoing") {
        line.push_str(&style.dim(&format!("  ↺ {}", step["undo"]["title"].as_str().unwrap_or_default())));
    }
    if matches!(state, "failed" | "waiting" | "stuck")
        && let Some(message) = step["error"]["message"].as_str()
    {
        line.push_str(&format!("\n      {}", style.paint("31", message)));
    }
    line
}

/// A bar of what is done.
fn progress(progress: &Value) -> Option<String> {
    const WIDTH: u64 = 20;
    let done = progress["done"].as_u64()?;
    let unit = progress["unit"].as_str().unwrap_or_default();
    let shown = |n: u64| {
        if unit == "bytes" { format!("{:.1} MiB", n as f64 / 1_048_576.0) } else { format!("{n} {unit}") }
    };
    let Some(total) = progress["total"].as_u64().filter(|total| *total > 0) else { return Some(shown(done)) };
    let full = (done.min(total) * WIDTH / total) as usize;
    let bar: String = "█".repeat(full) + &"░".repeat(WIDTH as usize - full);
    Some(format!("{bar} {}", shown(done)))
}

fn took(step: &Value) -> Option<String> {
    let at = |field: &str| step[field].as_str()?.parse::<jiff::Timestamp>().ok();
    let ms = at("finished_at")?.duration_since(at("started_at")?).as_millis();
    Some(if ms < 10_000 { format!("{ms} ms") } else { format!("{:.1} s", ms as f64 / 1000.0) })
}

/// Who has to say yes to it, or what they said.
fn approval(task: &Value) -> Option<String> {
    let text = |field: &str| task["approval"][field].as_str().unwrap_or_default();
    let by = task["approval"]["by"]["name"].as_str().unwrap_or_default();
    let reason = task["approval"]["reason"].as_str().map(|reason| format!(": {reason}")).unwrap_or_default();
    let id = task["id"].as_str().unwrap_or_default();
    Some(match text("state") {
        "asked" => format!(
            "      kedge approve {id}   or   kedge refuse {id} --reason ...   (until {})",
            text("until")
        ),
        "granted" => format!("  approved by {by}{reason}"),
        "refused" => format!("  refused by {by}{reason}"),
        "expired" => "  nobody approved it in time".to_owned(),
        "not_yet" => format!("  needs an approval before its {} (policy {})", text("before"), text("policy")),
        _ => return None,
    })
}

fn ending(task: &Value, style: Style) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(what) = task["blocked_on"]["what"].as_str() {
        lines.push(format!("  waits for {what}"));
    }
    if let Some(line) = approval(task) {
        lines.push(line);
    }
    if let Some(detail) = task["error"]["detail"].as_str() {
        let step = task["error"]["step"].as_str().unwrap_or_default();
        lines.push(format!("  {} {detail}", style.paint("31", &format!("{step} failed:"))));
    }
    for stuck in task["incident"]["steps"].as_array().into_iter().flatten() {
        let text = |field: &str| stuck[field].as_str().unwrap_or_default();
        lines.push(format!(
            "  {} {}",
            style.paint("31", &format!("{} of {} is stuck:", text("phase"), text("step"))),
            text("reason")
        ));
        for command in stuck["by_hand"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            lines.push(format!("      by hand: {command}"));
        }
        lines.push(format!(
            "      kedge resolve {} {} retry|mark-undone|abandon",
            task["id"].as_str().unwrap_or_default(),
            text("step")
        ));
    }
    match task["outcome"]["verified"].as_bool() {
        Some(true) => lines.push(format!(
            "  {}",
            style.paint("32", "everything is as it was before: verified by fingerprint")
        )),
        Some(false) => {
            lines.push(format!("  {}", style.paint("31", "undone, but not everything is as it was before:")));
            for drift in task["outcome"]["drift"].as_array().into_iter().flatten() {
                let text = |field: &str| drift[field].as_str().unwrap_or("-");
                lines.push(format!(
                    "    {} {}: {} -> {}",
                    text("resource"),
                    text("item"),
                    text("before"),
                    text("after")
                ));
            }
        }
        None => {}
    }
    if let Some(downtime) = task["downtime_ms"].as_u64().filter(|_| task["finished_at"].is_string()) {
        lines.push(format!("  visitors saw a 503 for at most {downtime} ms"));
    }
    if let Some(until) = task["undo_until"].as_str() {
        lines.push(style.dim(&format!(
            "  can be undone until {until}: kedge undo {}",
            task["id"].as_str().unwrap_or_default()
        )));
    }
    lines
}

/// A plan, for the person who decides.
pub(crate) fn plan(plan: &Value, style: Style) -> Vec<String> {
    let text = |field: &str| plan[field].as_str().unwrap_or_default();
    let mut lines = vec![style.bold(&format!("{} {}: the plan", text("workflow"), text("site")))];
    for step in plan["steps"].as_array().into_iter().flatten() {
        let word = |field: &str| step[field].as_str().unwrap_or_default();
        lines.push(format!("  {:<18} {:<11} {}", word("name"), word("class"), word("title")));
        let undo = step["undo"]["title"].as_str().unwrap_or_default();
        if word("class") == "compensable" {
            lines.push(style.dim(&format!("  {:<18} {:<11} ↺ {undo}", "", "")));
        }
        if Some(word("name")) == plan["pivot"].as_str() {
            lines.push(style.paint("33", "  ── the point of no return: before it everything is undone, after it the task only goes on ──"));
        }
    }
    for lock in plan["locks"].as_array().into_iter().flatten() {
        let kind = if lock["shared"] == true { "shared" } else { "alone" };
        let holders = lock["holders"].as_array().map_or(0, Vec::len);
        let held = if holders > 0 { format!(", held by {holders} now") } else { String::new() };
        lines.push(format!("  locks {} ({kind}{held})", lock["resource"].as_str().unwrap_or_default()));
    }
    for note in plan["notes"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        lines.push(format!("  note: {note}"));
    }
    lines.extend(estimate(&plan["estimate"]));
    lines.push(style.dim(&format!("  plan {}", text("plan_hash"))));
    lines
}

/// How long it took before, where something is known.
fn estimate(estimate: &Value) -> Option<String> {
    let seconds = |field: &str| Some(format!("{:.1} s", estimate[field].as_u64()? as f64 / 1000.0));
    let took = seconds("duration_ms")?;
    let whose = if estimate["same_site"] == true { "of this site" } else { "of another site" };
    let closed = seconds("downtime_ms").map(|closed| format!(", {closed} of it closed to visitors"));
    Some(format!("  took {took}{} the last time ({whose})", closed.unwrap_or_default()))
}

/// Rows as an aligned table.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let widths: Vec<usize> = (0..head.len())
        .map(|column| {
            rows.iter().map(|row| row[column].chars().count()).chain([head[column].len()]).max().unwrap_or(0)
        })
        .collect();
    let line = |cells: Vec<&str>| {
        let cells = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(head.to_vec())];
    lines.extend(rows.iter().map(|row| line(row.iter().map(String::as_str).collect())));
    lines
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_rolled_back_task_says_why_and_that_it_is_verified() {
        let value = json!({
            "id": "task_1", "workflow": "migrate", "site": "a.test", "state": "rolled_back",
            "steps": [{ "name": "update_database", "title": "update", "class": "compensable", "state": "failed", "attempts": 1,
                        "error": { "message": "PHP died" }, "undo": { "title": "goes" } }],
            "error": { "step": "update_database", "detail": "PHP died" },
            "outcome": { "verified": true, "drift": [] }
        });
        let text = task(&value, Style { color: false }).join("\n");
        for words in
            ["migrate a.test rolled_back", "✗ update_database", "PHP died", "verified by fingerprint"]
        {
            assert!(text.contains(words), "{words:?} is not in:\n{text}");
        }
        assert!(!text.contains('\u{1b}'));
    }

    #[test]
    fn a_line_is_cut_to_its_width_and_keeps_its_colours() {
        assert_eq!(fit("abc", 3), "abc");
        assert_eq!(fit("abcd", 3), "ab…");
        assert_eq!(fit("\u{1b}[32m✓✓✓✓\u{1b}[0m", 3), "\u{1b}[32m✓✓…\u{1b}[0m");
        assert_eq!(fit("", 3), "");
    }

    #[test]
    fn a_long_task_fits_a_small_terminal() {
        let step = |name: usize, state: &str| json!({ "name": format!("s{name}"), "class": "compensable", "state": state });
        let states = (0..40).map(|n| step(n, ["succeeded", "running", "pending", "undone"][n / 10]));
        let value = json!({ "workflow": "migrate", "state": "running", "steps": states.collect::<Vec<_>>() });
        let lines = short(&value, 9, Style { color: false });
        assert_eq!(lines.len(), 9);
        assert_eq!(lines[1].trim(), "✓ 10 steps are done");
        assert!(lines[3].contains("▶ s10"), "{lines:?}");
        assert_eq!(lines[8].trim(), "· 10 steps to come");
    }

    #[test]
    fn only_the_last_pivot_is_the_point_of_no_return() {
        let pivot = |name: &str| json!({ "name": name, "class": "pivot", "state": "pending" });
        let text =
            task(&json!({ "steps": [pivot("catalog_backup"), pivot("commit")] }), Style { color: false });
        assert!(
            text[1].contains("stays, whatever happens") && text[2].contains("point of no return"),
            "{text:?}"
        );
    }

    #[test]
    fn progress_is_a_bar_when_the_end_is_known() {
        let bar = progress(&json!({ "done": 1_048_576, "total": 2_097_152, "unit": "bytes" })).unwrap();
        assert_eq!(bar, "██████████░░░░░░░░░░ 1.0 MiB");
        assert_eq!(progress(&json!({ "done": 7, "total": null, "unit": "tables" })).unwrap(), "7 tables");
    }
}

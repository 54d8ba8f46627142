//! A task's DAG with its states: as a picture, and as text for DOT and Mermaid. Pure.

mod layout;
mod svg;

use std::fmt::Write as _;

use kedge_engine::plan::Class;
use kedge_engine::task::{StepStateView, StepView, TaskView};

const SVG: &str = "image/svg+xml";
const DOT: &str = "text/vnd.graphviz";
const MERMAID: &str = "text/vnd.mermaid";
/// What there is, the default first.
pub(crate) const KINDS: [&str; 3] = [SVG, DOT, MERMAID];

/// Draws a task as one of [`KINDS`]; gives the content type too.
pub(crate) fn draw(task: &TaskView, kind: &str) -> (&'static str, String) {
    match kind {
        MERMAID => (MERMAID, mermaid(task)),
        DOT => (DOT, dot(task)),
        _ => (SVG, svg::svg(task)),
    }
}

/// A task's DAG as an SVG that can stand in a page: no script, no style sheet, nothing from elsewhere.
#[must_use]
pub fn picture(task: &TaskView) -> String {
    svg::svg(task)
}

/// The colour of a state.
fn colour(state: StepStateView) -> &'static str {
    match state {
        StepStateView::Pending | StepStateView::Skipped => "#e5e7eb",
        StepStateView::Running => "#93c5fd",
        StepStateView::Waiting | StepStateView::InDoubt => "#fde68a",
        StepStateView::Succeeded => "#86efac",
        StepStateView::Failed | StepStateView::Stuck | StepStateView::Abandoned => "#fca5a5",
        StepStateView::Undoing => "#fdba74",
        StepStateView::Undone => "#d8b4fe",
    }
}

/// A state as a word.
fn word(state: StepStateView) -> &'static str {
    match state {
        StepStateView::Pending => "pending",
        StepStateView::Running => "running",
        StepStateView::Waiting => "waiting",
        StepStateView::InDoubt => "in doubt",
        StepStateView::Succeeded => "succeeded",
        StepStateView::Failed => "failed",
        StepStateView::Undoing => "undoing",
        StepStateView::Undone => "undone",
        StepStateView::Stuck => "stuck",
        StepStateView::Abandoned => "abandoned",
        StepStateView::Skipped => "skipped",
    }
}

fn dot(task: &TaskView) -> String {
    let mut text =
        String::from("digraph task {\n  rankdir=LR;\n  node [shape=box, style=\"rounded,filled\"];\n");
    for step in &task.steps {
        let shape = if step.class == Class::Pivot { ", shape=hexagon" } else { "" };
        let label = format!("{}\n{}", step.name, word(step.state));
        // Writing into a String does not fail, here and below.
        let _ = writeln!(
            text,
            "  {} [label={}, fillcolor=\"{}\"{shape}];",
            quoted(&step.name),
            quoted(&label),
            colour(step.state)
        );
    }
    for step in &task.steps {
        for before in &step.after {
            let _ = writeln!(text, "  {} -> {};", quoted(before), quoted(&step.name));
        }
    }
    text.push_str("}\n");
    text
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

fn mermaid(task: &TaskView) -> String {
    let mut text = String::from("flowchart LR\n");
    let index = |name: &str| task.steps.iter().position(|step| step.name == name);
    for (n, step) in task.steps.iter().enumerate() {
        let (open, close) = if step.class == Class::Pivot { ("{{", "}}") } else { ("(", ")") };
        let _ = writeln!(text, "  s{n}{open}\"{}<br/>{}\"{close}", escaped(step), word(step.state));
        let _ = writeln!(text, "  style s{n} fill:{}", colour(step.state));
    }
    for (n, step) in task.steps.iter().enumerate() {
        for before in step.after.iter().filter_map(|name| index(name)) {
            let _ = writeln!(text, "  s{before} --> s{n}");
        }
    }
    text
}

fn escaped(step: &StepView) -> String {
    step.name.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::sample_task;

    #[test]
    fn both_texts_show_steps_states_and_edges() {
        let mut task = sample_task(1, "a.test");
        let (kind, dot) = draw(&task, DOT);
        assert_eq!(kind, DOT);
        for line in [
            "  \"copy\" [label=\"copy\\nsucceeded\", fillcolor=\"#86efac\"];",
            "  \"switch\" [label=\"switch\\npending\", fillcolor=\"#e5e7eb\", shape=hexagon];",
            "  \"copy\" -> \"update\";",
        ] {
            assert!(dot.lines().any(|have| have == line), "{line} in\n{dot}");
        }
        let (_, mermaid) = draw(&task, MERMAID);
        for line in ["  s1(\"copy<br/>succeeded\")", "  s3{{\"switch<br/>pending\"}}", "  s1 --> s2"] {
            assert!(mermaid.lines().any(|have| have == line), "{line} in\n{mermaid}");
        }
        task.steps[0].name = "\"<x>\\".to_owned();
        assert!(draw(&task, DOT).1.contains(r#""\"<x>\\" ["#));
        assert!(draw(&task, MERMAID).1.contains("&quot;&lt;x>"));
    }
}

//! The DAG as a picture: one box a step, coloured by its state. Holds no script, no style sheet and no text but names and states.

use std::collections::HashMap;
use std::fmt::Write as _;

use kedge_engine::plan::Class;
use kedge_engine::task::{StepView, TaskView};

use super::layout::{NODE, layout};
use super::{colour, word};

/// Space around everything.
const MARGIN: f64 = 16.0;
/// Characters of a name that fit into a box.
const FITTING: usize = 24;

pub(super) fn svg(task: &TaskView) -> String {
    let index: HashMap<&str, usize> =
        task.steps.iter().enumerate().map(|(n, step)| (step.name.as_str(), n)).collect();
    let edges: Vec<(usize, usize)> = task
        .steps
        .iter()
        .enumerate()
        .flat_map(|(to, step)| {
            step.after.iter().filter_map(|name| index.get(name.as_str())).map(move |from| (*from, to))
        })
        .collect();
    let layout = layout(task.steps.len(), &edges);
    let (width, height) = (layout.size.0 + 2.0 * MARGIN, layout.size.1 + 2.0 * MARGIN);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<title>{} {}</title>\n",
        escaped(&task.workflow),
        task.id
    );
    let _ = writeln!(text, "<g transform=\"translate({MARGIN} {MARGIN})\" fill=\"none\" stroke=\"#6b7280\">");
    for points in &layout.edges {
        // Writing into a String does not fail, here and below.
        let _ = writeln!(text, "<path d=\"{}\"/>", curve(points));
    }
    let _ = writeln!(text, "</g>\n<g transform=\"translate({MARGIN} {MARGIN})\" text-anchor=\"middle\">");
    for (step, (x, y)) in task.steps.iter().zip(&layout.nodes) {
        node(&mut text, step, *x, *y);
    }
    text.push_str("</g>\n</svg>\n");
    text
}

/// Through the points, with level ends; straight where an edge passes a layer.
fn curve(points: &[(f64, f64)]) -> String {
    let mut path = String::new();
    for (n, (x, y)) in points.iter().enumerate() {
        let _ = match n {
            0 => write!(path, "M{x} {y}"),
            _ if n % 2 == 0 => write!(path, " L{x} {y}"),
            _ => {
                let (from_x, from_y) = points[n - 1];
                let middle = f64::midpoint(from_x, *x);
                write!(path, " C{middle} {from_y} {middle} {y} {x} {y}")
            }
        };
    }
    path
}

fn node(text: &mut String, step: &StepView, x: f64, y: f64) {
    let (width, height) = NODE;
    // The pivot, after which there is no way back, stands out.
    let (stroke, line) = if step.class == Class::Pivot { ("#111827", 3) } else { ("#6b7280", 1) };
    let middle = x + width / 2.0;
    let short: String = if step.name.chars().count() > FITTING {
        step.name.chars().take(FITTING - 1).chain(['…']).collect()
    } else {
        step.name.clone()
    };
    let _ = writeln!(
        text,
        "<g><title>{}</title><rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"8\" fill=\"{}\" \
         stroke=\"{stroke}\" stroke-width=\"{line}\"/><text x=\"{middle}\" y=\"{}\">{}</text>\
         <text x=\"{middle}\" y=\"{}\" fill=\"#374151\">{}</text></g>",
        escaped(&step.title),
        colour(step.state),
        y + 18.0,
        escaped(&short),
        y + 34.0,
        word(step.state),
    );
}

fn escaped(text: &str) -> String {
    let plain = text.chars().filter(|c| !c.is_control()).collect::<String>();
    plain.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::sample_task;

    #[test]
    fn every_step_and_edge_is_drawn_and_names_cannot_break_out() {
        let mut task = sample_task(1, "a.test");
        task.steps[0].title = "</title><script>alert(1)</script>".to_owned();
        task.steps[3].name = "a-very-long-name-of-a-step-indeed".to_owned();
        let text = svg(&task);
        assert!(text.starts_with("<svg ") && text.ends_with("</svg>\n"));
        assert_eq!(text.matches("<rect ").count(), 4);
        assert_eq!(text.matches("<path ").count(), 3);
        assert!(!text.contains("<script>") && text.contains("&lt;script&gt;"));
        assert!(text.contains(">a-very-long-name-of-a-s…</text>"), "{text}");
        for tag in ["g", "svg", "title", "text"] {
            let opened =
                text.matches(&format!("<{tag}>")).count() + text.matches(&format!("<{tag} ")).count();
            assert_eq!(opened, text.matches(&format!("</{tag}>")).count(), "{tag}");
        }
    }
}

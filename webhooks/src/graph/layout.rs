//! Places a DAG in layers from left to right: each node right of all it waits for, long edges led round the nodes between, few
//! crossings. Knows indices and sizes, nothing of tasks.

/// A node is this wide; a layer begins this much further right.
pub(super) const NODE: (f64, f64) = (170.0, 44.0);
const LAYER: f64 = 230.0;
const ROW: f64 = 64.0;
/// Height of the place where a long edge passes a layer.
const PASS: f64 = 22.0;
/// Edges beyond this are drawn straight: leading all of them round would take more places than anybody can see.
const MAX_PASSES: usize = 4000;
/// Rounds of sorting by neighbours: more change next to nothing.
const ROUNDS: usize = 8;

/// Where everything is.
#[derive(Debug)]
pub(super) struct Layout {
    /// Left upper corners of the nodes.
    pub(super) nodes: Vec<(f64, f64)>,
    /// Points that each edge goes through, from the right side of its source to the left side of its target.
    pub(super) edges: Vec<Vec<(f64, f64)>>,
    /// Width and height.
    pub(super) size: (f64, f64),
}

/// A place in a layer: a node, or where an edge passes.
struct Place {
    layer: usize,
    height: f64,
    before: Vec<usize>,
    after: Vec<usize>,
    y: f64,
}

/// Places `count` nodes with edges between their indices. Edges that close a circle are drawn, but place nobody.
pub(super) fn layout(count: usize, edges: &[(usize, usize)]) -> Layout {
    let layer = layers(count, edges);
    let mut places: Vec<Place> = layer.iter().map(|layer| place(*layer, ROW)).collect();
    let spans: usize = edges.iter().map(|(from, to)| layer[*to].saturating_sub(layer[*from] + 1)).sum();
    let mut paths = Vec::new();
    for (from, to) in edges {
        let mut path = vec![*from];
        if spans <= MAX_PASSES {
            for between in layer[*from] + 1..layer[*to] {
                places.push(place(between, PASS));
                path.push(places.len() - 1);
            }
        }
        path.push(*to);
        for pair in path.windows(2) {
            places[pair[0]].after.push(pair[1]);
            places[pair[1]].before.push(pair[0]);
        }
        paths.push(path);
    }
    let rows = order(&mut places);
    let tallest = rows.iter().map(|row| height(&places, row)).fold(0.0, f64::max);
    for row in &rows {
        let mut y = (tallest - height(&places, row)) / 2.0;
        for index in row {
            places[*index].y = y + places[*index].height / 2.0;
            y += places[*index].height;
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "at most some hundred layers")]
    let left = |place: &Place| place.layer as f64 * LAYER;
    let nodes = places[..count].iter().map(|place| (left(place), place.y - NODE.1 / 2.0)).collect();
    let edges = paths.iter().map(|path| points(&places, path, left)).collect();
    #[expect(clippy::cast_precision_loss, reason = "at most some hundred layers")]
    let width = (rows.len().max(1) - 1) as f64 * LAYER + NODE.0;
    Layout { nodes, edges, size: (width, tallest) }
}

fn place(layer: usize, height: f64) -> Place {
    Place { layer, height, before: Vec::new(), after: Vec::new(), y: 0.0 }
}

fn height(places: &[Place], row: &[usize]) -> f64 {
    row.iter().map(|index| places[*index].height).sum()
}

/// The longest way to each node; a circle stops growing after as many rounds as there are nodes.
fn layers(count: usize, edges: &[(usize, usize)]) -> Vec<usize> {
    let mut layer = vec![0; count];
    for _ in 0..count {
        let mut grown = false;
        for (from, to) in edges {
            if layer[*to] <= layer[*from] && layer[*from] + 1 < count {
                layer[*to] = layer[*from] + 1;
                grown = true;
            }
        }
        if !grown {
            break;
        }
    }
    layer
}

/// Sorts every layer by the mean position of the neighbours, forth and back.
fn order(places: &mut [Place]) -> Vec<Vec<usize>> {
    let count = places.iter().map(|place| place.layer + 1).max().unwrap_or(0);
    let mut rows = vec![Vec::new(); count];
    for (index, place) in places.iter().enumerate() {
        rows[place.layer].push(index);
    }
    number(places, &rows);
    for round in 0..ROUNDS {
        let forth = round % 2 == 0;
        for step in 0..count {
            let row = &mut rows[if forth { step } else { count - 1 - step }];
            let mean = |index: &usize| {
                let near = if forth { &places[*index].before } else { &places[*index].after };
                #[expect(clippy::cast_precision_loss, reason = "at most some thousand neighbours")]
                let mean = near.iter().map(|other| places[*other].y).sum::<f64>() / near.len().max(1) as f64;
                if near.is_empty() { places[*index].y } else { mean }
            };
            row.sort_by(|a, b| mean(a).total_cmp(&mean(b)));
            let row = row.clone();
            number(places, &[row]);
        }
    }
    rows
}

/// Gives places their position in the row, centred, so that rows of different lengths can be compared.
fn number(places: &mut [Place], rows: &[Vec<usize>]) {
    for row in rows {
        let middle = height(places, row) / 2.0;
        let mut y = -middle;
        for index in row {
            places[*index].y = y + places[*index].height / 2.0;
            y += places[*index].height;
        }
    }
}

fn points(places: &[Place], path: &[usize], left: impl Fn(&Place) -> f64) -> Vec<(f64, f64)> {
    let last = path.len() - 1;
    let mut points = Vec::new();
    for (n, index) in path.iter().enumerate() {
        let place = &places[*index];
        if n > 0 {
            points.push((left(place), place.y));
        }
        if n < last {
            points.push((left(place) + NODE.0, place.y));
        }
    }
    points
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_long_edge_goes_round_what_is_between() {
        let layout = layout(3, &[(0, 1), (1, 2), (0, 2)]);
        let columns: Vec<f64> = layout.nodes.iter().map(|node| node.0).collect();
        assert_eq!(columns, [0.0, LAYER, 2.0 * LAYER]);
        let round = &layout.edges[2];
        assert_eq!(round.len(), 4);
        let (top, bottom) = (layout.nodes[1].1, layout.nodes[1].1 + NODE.1);
        assert!(round[1].1 < top || round[1].1 > bottom, "{round:?} passes {top}..{bottom}");
    }

    #[test]
    fn nothing_and_circles_do_no_harm() {
        assert_eq!(layout(0, &[]).nodes.len(), 0);
        assert_eq!(layout(2, &[(0, 1), (1, 0)]).nodes.len(), 2);
        assert_eq!(layout(1, &[(0, 0)]).nodes.len(), 1);
    }

    proptest! {
        #[test]
        fn nodes_never_overlap_and_edges_lead_right(count in 1_usize..40, seeds in proptest::collection::vec((0_usize..40, 0_usize..40), 0..120)) {
            let edges: Vec<(usize, usize)> =
                seeds.into_iter().map(|(a, b)| (a % count, b % count)).filter(|(a, b)| a < b).collect();
            let layout = layout(count, &edges);
            for (i, a) in layout.nodes.iter().enumerate() {
                prop_assert!(a.0 >= 0.0 && a.1 >= 0.0 && a.0 + NODE.0 <= layout.size.0 && a.1 + NODE.1 <= layout.size.1);
                for b in &layout.nodes[..i] {
                    prop_assert!((a.0 - b.0).abs() >= NODE.0 || (a.1 - b.1).abs() >= NODE.1);
                }
            }
            for (edge, (from, to)) in layout.edges.iter().zip(&edges) {
                prop_assert!(layout.nodes[*from].0 < layout.nodes[*to].0);
                prop_assert!(edge.windows(2).all(|pair| pair[0].0 < pair[1].0));
            }
        }
    }
}

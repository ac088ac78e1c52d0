//! A graph of files, and its circles.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The files, and for each the files that it uses.
pub type Graph = BTreeMap<String, BTreeSet<String>>;

/// The circles: for each file that is on any, the shortest one through it. A circle lists its files
/// in order, and the first one again at the end.
pub fn find_circles(graph: &Graph) -> Vec<Vec<String>> {
    let mut seen = BTreeSet::new();
    let mut circles: Vec<_> = graph.keys().filter_map(|file| find_way_back(graph, file)).collect();
    circles.retain(|circle| seen.insert(circle.iter().cloned().collect::<BTreeSet<_>>()));
    circles
}

/// The shortest way from a file back to itself.
fn find_way_back(graph: &Graph, start: &str) -> Option<Vec<String>> {
    let mut ways = VecDeque::from([vec![start.to_owned()]]);
    let mut seen = BTreeSet::new();
    while let Some(way) = ways.pop_front() {
        for next in graph.get(way.last()?).into_iter().flatten() {
            let longer: Vec<String> = way.iter().chain([next]).cloned().collect();
            if next == start {
                return Some(longer);
            }
            if seen.insert(next) {
                ways.push_back(longer);
            }
        }
    }
    None
}

//! The rooms of a crate in the order of a table, and the files that use a later room.

use super::graph::Graph;

/// The file that names all rooms, and that no other file uses.
const ROOT: &str = "lib.rs";

/// The rooms of the table whose first column is called `room`: folders and files, in reading order.
pub fn read_rooms(text: &str) -> Vec<String> {
    let after = text.lines().skip_while(|line| !line.starts_with("| room |")).skip(2);
    let rows = after.take_while(|line| line.starts_with('|'));
    let cells = rows.filter_map(|row| row.split('|').nth(1));
    cells.flat_map(|cell| cell.split(',')).map(|room| room.trim().trim_matches('`').to_owned()).collect()
}

/// What contradicts the table: files that use a later room, files in no room, and rooms without
/// files.
pub fn find_contradictions(graph: &Graph, rooms: &[String]) -> Vec<String> {
    let files = || graph.keys().filter(|file| *file != ROOT);
    let strays = files().filter(|file| place(file, rooms) == rooms.len());
    let strays = strays.map(|file| format!("{file} is in no room"));
    let empty = rooms.iter().enumerate().filter(|(at, _)| files().all(|file| place(file, rooms) != *at));
    let empty = empty.map(|(_, room)| format!("{room} has no files"));
    let edges = files().flat_map(|file| graph[file].iter().map(move |used| (file, used)));
    let upward = edges.filter(|(file, used)| place(file, rooms) < place(used, rooms));
    let upward = upward.map(|(file, used)| format!("{file} uses {used}, whose room stands later"));
    strays.chain(empty).chain(upward).collect()
}

/// The position of a file's room. The file `room.rs` belongs to the folder `room/`. A file in no
/// room comes last.
fn place(file: &str, rooms: &[String]) -> usize {
    let is_in = |room: &String| match room.strip_suffix('/') {
        Some(folder) => file.strip_suffix(".rs") == Some(folder) || file.starts_with(room.as_str()),
        None => file == room,
    };
    rooms.iter().position(is_in).unwrap_or(rooms.len())
}

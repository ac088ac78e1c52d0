//! Paths in messages. A path from a stream or a guest must not affect the terminal that shows it.

/// Formats a path for people: quoted, with escapes for whatever is not text or would affect a
/// terminal.
pub fn show(path: &[u8]) -> String {
    const LONGEST: usize = 300;
    let cut = &path[..path.len().min(LONGEST)];
    let dots = if cut.len() < path.len() { "…" } else { "" };
    let mut text = String::new();
    for chunk in cut.utf8_chunks() {
        text.extend(chunk.valid().chars().flat_map(char::escape_debug));
        chunk.invalid().iter().for_each(|byte| text.push_str(&format!("\\x{byte:02x}")));
    }
    format!("\"{text}{dots}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_does_nothing_to_a_terminal() {
        assert_eq!(show(b"gr\xc3\xbcn"), "\"grün\"");
        assert_eq!(show(b"\x1b[2J\n\xff\""), r#""\u{1b}[2J\n\xff\"""#);
        assert!(show(&[b'a'; 5000]).len() < 320);
    }
}

//! The prompt of a getty on the console, by which inits that say nothing of themselves show that they have booted.

/// What follows the first word, the host name.
const LOGIN: &[u8] = b" login:";

/// What a prompt has at most: a host name has up to 64 bytes.
const LONGEST: usize = 64 + LOGIN.len();

/// Looks for a line that begins with `<word> login:`, whatever comes in which pieces.
#[derive(Debug, Default)]
pub(super) struct PromptFinder {
    /// The beginning of the line that is being written, at most [`LONGEST`] + 1 bytes.
    line: Vec<u8>,
    is_found: bool,
}

impl PromptFinder {
    /// Takes what the console shows next.
    pub fn observe(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if self.is_found {
                return;
            }
            match byte {
                b'\n' | b'\r' => self.line.clear(),
                _ if self.line.len() > LONGEST => {}
                _ => self.line.push(byte),
            }
            self.is_found = byte == b':' && is_prompt(&self.line);
        }
    }

    /// Whether it has been shown.
    pub fn is_found(&self) -> bool {
        self.is_found
    }
}

fn is_prompt(line: &[u8]) -> bool {
    let word = line.strip_suffix(LOGIN).unwrap_or_default();
    (1..=LONGEST - LOGIN.len()).contains(&word.len()) && word.iter().all(u8::is_ascii_graphic)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finds(pieces: &[&[u8]]) -> bool {
        let mut finder = PromptFinder::default();
        pieces.iter().for_each(|piece| finder.observe(piece));
        finder.is_found()
    }

    #[test]
    fn prompts_are_found() {
        let prompts: [&[&[u8]]; 5] = [
            &[b"web1 login: "],
            &[b"Debian GNU/Linux 12 web1 console\r\n\r\nweb1 login: "],
            &[b"\nweb", b"1 lo", b"gin", b": "],
            &[b"starting\r\nweb.example.org login: and something after it"],
            &[&[b'x'; 64], b" login:"],
        ];
        for pieces in prompts {
            assert!(finds(pieces), "{pieces:?}");
        }
    }

    #[test]
    fn other_lines_are_none() {
        let others: [&[&[u8]]; 7] = [
            &[],
            &[b"Starting the login: prompt"],
            &[b" login: "],
            &[b"web1 login\r\n: "],
            &[b"web1\r login: "],
            &[b"\x1b[1mweb1 login: "],
            &[&[b'x'; 65], b" login:"],
        ];
        for pieces in others {
            assert!(!finds(pieces), "{pieces:?}");
        }
    }
}

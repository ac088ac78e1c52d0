//! The key that detaches from a console: `ctrl-a q`.

/// Finds the key in what is typed. `ctrl-a ctrl-a` types one; `ctrl-a` before anything else is typed as it is.
#[derive(Debug, Default)]
pub struct DetachKey {
    is_prefixed: bool,
}

const PREFIX: u8 = 0x01; // ctrl-a

impl DetachKey {
    /// Which part of the input to pass on, and whether to detach after that.
    pub fn filter(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        let mut handed_on = Vec::with_capacity(typed.len());
        for &byte in typed {
            match (std::mem::take(&mut self.is_prefixed), byte) {
                (true, b'q' | b'Q') => return (handed_on, true),
                (true, PREFIX) => handed_on.push(PREFIX),
                (true, other) => handed_on.extend([PREFIX, other]),
                (false, PREFIX) => self.is_prefixed = true,
                (false, other) => handed_on.push(other),
            }
        }
        (handed_on, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_leaves_and_nothing_else_is_lost() {
        for (typed, expected, leaves) in [
            (&[&b"ls\r"[..]][..], &b"ls\r"[..], false),
            (&[b"ab\x01qcd"], b"ab", true),
            (&[b"\x01", b"q"], b"", true),
            (&[b"\x01\x01q"], b"\x01q", false),
            (&[b"\x01", b"\x01", b"\x01q"], b"\x01", true),
            (&[b"\x01e"], b"\x01e", false),
            (&[b"q\x01"], b"q", false),
        ] {
            let mut key = DetachKey::default();
            let results: Vec<_> = typed.iter().map(|typed| key.filter(typed)).collect();
            let handed_on: Vec<u8> = results.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
            assert_eq!((&*handed_on, results.iter().any(|result| result.1)), (expected, leaves), "{typed:?}");
        }
    }
}

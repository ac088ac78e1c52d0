//! Random choices that can be repeated, and the scale of random tests.
//!
//! `INSULA_TEST_SEED` repeats an earlier run, as far as the machine's timing allows.
//! `INSULA_TEST_SCALE=50x20` makes it 50 VPSes and 20 deaths of the agent.

use std::time::SystemTime;

/// Numbers that look random: xorshift64 (Marsaglia 2003).
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// A new sequence, or that of `INSULA_TEST_SEED`. Prints the seed.
    pub fn new() -> Self {
        let seed: Option<u64> =
            std::env::var("INSULA_TEST_SEED").ok().map(|seed| seed.parse().expect("a number"));
        let seed = seed.unwrap_or_else(|| SystemTime::UNIX_EPOCH.elapsed().unwrap().subsec_nanos().into());
        eprintln!("to repeat it: INSULA_TEST_SEED={seed}");
        Self(seed | 1)
    }

    /// Another sequence that depends on this one, for another user of it.
    pub fn split(&mut self) -> Self {
        Self((self.next() ^ 0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// The next number, below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).expect("it is below a usize")
    }

    /// True once in so many times on average.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// One of several.
    pub fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}

/// The number of VPSes, and the number of deaths.
pub fn scale() -> (usize, usize) {
    let scale = std::env::var("INSULA_TEST_SCALE").unwrap_or_else(|_| "8x6".to_owned());
    let numbers = scale.split_once('x').map(|(count, deaths)| (count.parse(), deaths.parse()));
    match numbers {
        Some((Ok(count), Ok(deaths))) => (count, deaths),
        _ => panic!("INSULA_TEST_SCALE={scale} is not like 50x20"),
    }
}

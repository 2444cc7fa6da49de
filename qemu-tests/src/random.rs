//! Seeded randomness, so that a failure can be repeated.

/// A small generator (SplitMix64, by Steele, Lea and Flood); good for choosing times, not for secrets.
#[derive(Debug, Clone)]
pub struct Random {
    seed: u64,
    state: u64,
}

impl Random {
    /// From `CAIRN_SEED`, or the clock. The seed is printed.
    pub fn seeded() -> Random {
        let clock = || {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            now.map_or(1, |now| now.as_nanos() as u64)
        };
        let seed = std::env::var("CAIRN_SEED")
            .ok()
            .and_then(|seed| seed.parse().ok())
            .unwrap_or_else(clock);
        eprintln!("CAIRN_SEED={seed} repeats this");
        Random::from_seed(seed)
    }

    /// From this seed.
    pub fn from_seed(seed: u64) -> Random {
        Random { seed, state: seed }
    }

    /// What it began with.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// A number below `end`, which must not be 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}

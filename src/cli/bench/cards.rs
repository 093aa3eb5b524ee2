//! Peak rates of some cards, from their makers' data sheets: dense, without sparsity, at boost clock.

/// What a card can do at most.
#[derive(Clone, Copy, Debug)]
pub struct Peak {
    pub name: &'static str,
    /// f32 outside tensor cores, TFLOP/s.
    pub f32: f64,
    /// f16 on tensor cores with f32 sums, TFLOP/s; the f32 rate where there are none.
    pub f16: f64,
    /// Memory, GB/s.
    pub bandwidth: f64,
}

const fn peak(name: &'static str, f32: f64, f16: f64, bandwidth: f64) -> Peak {
    Peak {
        name,
        f32,
        f16,
        bandwidth,
    }
}

/// The cards that `--card` knows.
pub const CARDS: &[Peak] = &[
    peak("GTX 1070", 6.5, 6.5, 256.0),
    peak("Jetson Orin NX", 1.9, 15.0, 102.4),
    peak("Jetson AGX Orin", 5.3, 42.5, 204.8),
    peak("RTX 4090", 82.6, 165.2, 1008.0),
    peak("H100", 66.9, 989.4, 3350.0),
    peak("H200", 66.9, 989.4, 4800.0),
];

/// A card by name, however it is spelt: case, spaces and dashes do not count.
pub fn find(name: &str) -> Option<Peak> {
    let plain = |s: &str| -> String {
        let chars = s.chars().filter(|c| c.is_alphanumeric());
        chars.map(|c| c.to_ascii_lowercase()).collect()
    };
    CARDS.iter().find(|c| plain(c.name) == plain(name)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spelling_is_forgiven_but_not_the_card() {
        assert_eq!(find("rtx-4090").map(|c| c.name), Some("RTX 4090"));
        assert_eq!(find("jetson_orin_nx").map(|c| c.bandwidth), Some(102.4));
        assert!(find("RTX 409").is_none());
    }
}

//! Which pair comes next: shares of the sets, orders, and the generator of each draw.

use crate::{Error, Result};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;
use serde::{Deserialize, Serialize};

/// How often the pairs of each set are drawn in an epoch.
#[derive(Clone, Debug, PartialEq)]
pub struct Shares {
    /// The pairs of each set.
    members: Vec<Vec<u32>>,
    /// Draws of each set in every epoch.
    whole: Vec<u32>,
    /// What is left of the shares, summed up to each set; the last is a whole number.
    rest: Vec<f64>,
    /// Every pair comes once in every epoch.
    even: bool,
}

impl Shares {
    /// `set_of`: the set of each pair, from 0. A set of n pairs has a share in proportion to n^`balance`; in all there are
    /// as many draws as pairs.
    pub fn new(set_of: &[u32], balance: f64) -> Self {
        let sets = set_of.iter().max().map_or(0, |&m| m as usize + 1);
        let mut members = vec![Vec::new(); sets];
        for (pair, &set) in set_of.iter().enumerate() {
            members[set as usize].push(pair as u32);
        }
        members.retain(|m| !m.is_empty());
        let weights: Vec<f64> = members
            .iter()
            .map(|m| (m.len() as f64).powf(balance))
            .collect();
        let total: f64 = weights.iter().sum();
        let draws = set_of.len() as f64;
        let quotas: Vec<f64> = weights.iter().map(|w| draws * w / total).collect();
        let even = members
            .iter()
            .zip(&quotas)
            .all(|(m, q)| (m.len() as f64 - q).abs() < 1e-6);
        let whole: Vec<u32> = quotas.iter().map(|q| q.floor() as u32).collect();
        let mut sum = 0.0;
        let mut rest: Vec<f64> = quotas
            .iter()
            .map(|q| {
                sum += q.fract();
                sum
            })
            .collect();
        // A sum of rounded numbers must not lead to a draw more or less.
        let last = draws - whole.iter().map(|&w| f64::from(w)).sum::<f64>();
        rest.iter_mut().for_each(|r| *r = r.min(last));
        if let Some(r) = rest.last_mut() {
            *r = last;
        }
        Self {
            members,
            whole,
            rest,
            even,
        }
    }

    /// Sets with a pair.
    pub fn sets(&self) -> usize {
        self.members.len()
    }

    /// Draws of a set in an epoch: its share rounded up or down, at random by `u` in \[0, 1), right on average; they sum
    /// up to the epoch.
    fn count(&self, set: usize, u: f64) -> u32 {
        let before = set.checked_sub(1).map_or(0.0, |s| self.rest[s]);
        let more = (self.rest[set] + u).floor() - (before + u).floor();
        self.whole[set] + more.max(0.0) as u32
    }
}

/// Draws pairs in epochs: as many draws as pairs, each set by its share, each epoch in a new random order.
///
/// Within a set every pair comes once before one comes again, over epochs. Each draw has a generator of its own, seeded by
/// (seed, epoch, cursor): saving and restoring the sampler with serde continues the very same sequence, crops, symmetries
/// and augmentations included.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EpochSampler {
    seed: u64,
    pairs: u32,
    epoch: u32,
    cursor: u32,
    /// This epoch's order and what leads to it: follows from the seed, the epoch and the shares, so it is not saved.
    #[serde(skip)]
    order: Vec<u32>,
    /// Draws of each set before epoch `reached`.
    #[serde(skip)]
    drawn: Vec<u64>,
    #[serde(skip)]
    reached: u32,
    #[serde(skip)]
    round: Vec<u32>,
}

impl PartialEq for EpochSampler {
    /// The same draws are to come.
    fn eq(&self, other: &Self) -> bool {
        let place = |s: &Self| (s.seed, s.pairs, s.epoch, s.cursor);
        place(self) == place(other)
    }
}

/// Cursors that no draw has.
const ORDER: u32 = u32::MAX;
const ROUNDING: u32 = u32::MAX - 1;

impl EpochSampler {
    /// A sampler at the start of epoch 0 of a dataset of `pairs` pairs.
    ///
    /// # Errors
    /// [`Error::Config`] if `pairs` is 0 or does not fit 32 bits.
    pub fn new(pairs: usize, seed: u64) -> Result<Self> {
        let count = u32::try_from(pairs).ok().filter(|&n| n > 0 && n < ROUNDING);
        let Some(pairs) = count else {
            return Err(Error::config(
                "sampler",
                format!("{pairs} pairs; give 1 to {}", ROUNDING - 1),
            ));
        };
        Ok(Self {
            seed,
            pairs,
            epoch: 0,
            cursor: 0,
            order: Vec::new(),
            drawn: Vec::new(),
            reached: 0,
            round: Vec::new(),
        })
    }

    /// Epochs begun before the one that the last draw was in.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Pairs that it was made for.
    pub fn pairs(&self) -> usize {
        self.pairs as usize
    }

    /// The next pair and the generator for what is done to it.
    pub(super) fn draw(&mut self, shares: &Shares) -> (usize, Pcg64Mcg) {
        if self.cursor >= self.pairs {
            self.epoch = self.epoch.wrapping_add(1);
            self.cursor = 0;
            self.begin(shares);
        } else if self.order.len() != self.pairs as usize {
            self.begin(shares); // new, or restored from a file
        }
        let rng = self.generator(self.cursor);
        let index = self.order[self.cursor as usize] as usize;
        self.cursor += 1;
        (index, rng)
    }

    /// The order of this epoch.
    fn begin(&mut self, shares: &Shares) {
        self.order.clear();
        if shares.even {
            self.order.extend(0..self.pairs);
        } else {
            self.count_earlier(shares);
            let u = self.rounding(self.epoch);
            for (set, members) in shares.members.iter().enumerate() {
                let first = self.drawn[set];
                for k in first..first + u64::from(shares.count(set, u)) {
                    let (round, at) = (k / members.len() as u64, k % members.len() as u64);
                    if k == first || at == 0 {
                        self.begin_round(set, round, members);
                    }
                    self.order.push(self.round[at as usize]);
                }
            }
        }
        let mut rng = self.generator(ORDER);
        self.order.shuffle(&mut rng);
    }

    /// Draws of each set before this epoch, counted on from the last known ones.
    fn count_earlier(&mut self, shares: &Shares) {
        if self.drawn.len() != shares.members.len() || self.reached > self.epoch {
            self.drawn.clear();
            self.drawn.resize(shares.members.len(), 0);
            self.reached = 0;
        }
        while self.reached < self.epoch {
            let u = self.rounding(self.reached);
            for (set, drawn) in self.drawn.iter_mut().enumerate() {
                *drawn += u64::from(shares.count(set, u));
            }
            self.reached += 1;
        }
    }

    /// The order in which a set's pairs come in one of its rounds.
    fn begin_round(&mut self, set: usize, round: u64, members: &[u32]) {
        self.round.clear();
        self.round.extend_from_slice(members);
        let place = splitmix(!(set as u64)).wrapping_add(round);
        let mut rng = Pcg64Mcg::seed_from_u64(self.seed ^ splitmix(place));
        self.round.shuffle(&mut rng);
    }

    fn rounding(&self, epoch: u32) -> f64 {
        generator(self.seed, epoch, ROUNDING).random()
    }

    fn generator(&self, cursor: u32) -> Pcg64Mcg {
        generator(self.seed, self.epoch, cursor)
    }
}

fn generator(seed: u64, epoch: u32, cursor: u32) -> Pcg64Mcg {
    let place = u64::from(epoch) << 32 | u64::from(cursor);
    // seed_from_u64 stirs its argument; stirring the place first keeps seed 1 at place 0 apart
    // from seed 0 at place 1.
    Pcg64Mcg::seed_from_u64(seed ^ splitmix(place))
}

/// The finaliser of SplitMix64: a bijection of u64 in which every bit stirs every other.
fn splitmix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

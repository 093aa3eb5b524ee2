//! Training data: pairs of grey pictures in memory and batches of random patches.

use super::image::Picture;
use super::pairs::{Pair, list_pairs};
use crate::{Error, Result};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The luma planes of one pair, in \[0, 1\], row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Scene {
    pub name: String,
    pub width: usize,
    pub height: usize,
    pub a: Vec<f32>,
    pub b: Vec<f32>,
}

/// Pairs of registered grey pictures; copies and halves share the planes.
#[derive(Clone, Debug)]
pub struct PairDataset {
    scenes: Vec<Arc<Scene>>,
    unmatched: Vec<PathBuf>,
}

impl PairDataset {
    /// Loads the luma of all pairs of two folders, see [`list_pairs`], in natural order.
    ///
    /// # Errors
    /// [`Error::Input`] if a picture cannot be read, if the two of a pair differ in size, or if
    /// one has a side below `patch`.
    pub fn load(dir_a: &Path, dir_b: &Path, patch: usize) -> Result<Self> {
        let list = list_pairs(dir_a, dir_b)?;
        let scenes: Vec<Result<Scene>> = list
            .pairs
            .into_par_iter()
            .map(|pair| load_scene(pair, patch))
            .collect();
        // Collected first: of several failures the same one is reported each time.
        let scenes: Result<Vec<Scene>> = scenes.into_iter().collect();
        Ok(Self {
            scenes: scenes?.into_iter().map(Arc::new).collect(),
            unmatched: [list.only_a, list.only_b].concat(),
        })
    }

    /// Takes scenes that are in memory already.
    ///
    /// # Errors
    /// [`Error::Shape`] if there is none or a plane does not fit its scene's size.
    pub fn from_scenes(scenes: Vec<Scene>) -> Result<Self> {
        let fits = |s: &Scene| {
            let n = s.width.checked_mul(s.height);
            n == Some(s.a.len()) && n == Some(s.b.len()) && !s.a.is_empty()
        };
        if let Some(bad) = scenes.iter().find(|s| !fits(s)) {
            return Err(Error::shape(
                "dataset",
                format!(
                    "scene {} is {}x{} but its planes hold {} and {} values",
                    bad.name,
                    bad.width,
                    bad.height,
                    bad.a.len(),
                    bad.b.len()
                ),
            ));
        }
        if scenes.is_empty() {
            return Err(Error::shape("dataset", "no scenes; give at least one"));
        }
        Ok(Self {
            scenes: scenes.into_iter().map(Arc::new).collect(),
            unmatched: Vec::new(),
        })
    }

    pub fn len(&self) -> usize {
        self.scenes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.scenes.is_empty()
    }

    pub fn scenes(&self) -> impl ExactSizeIterator<Item = &Scene> {
        self.scenes.iter().map(AsRef::as_ref)
    }

    /// Pictures of the two folders that have no partner and were left out.
    pub fn unmatched(&self) -> &[PathBuf] {
        &self.unmatched
    }

    /// Two disjoint halves (for L_train and L_val), drawn by `seed`; the first takes the odd one.
    ///
    /// # Errors
    /// [`Error::Config`] if there are fewer than two pairs.
    pub fn split_even(&self, seed: u64) -> Result<(Self, Self)> {
        if self.len() < 2 {
            return Err(Error::config(
                "training data",
                "1 pair cannot be split into a training and a validation half; give at least 2",
            ));
        }
        let mut order: Vec<usize> = (0..self.len()).collect();
        order.shuffle(&mut Pcg64Mcg::seed_from_u64(seed));
        let second = order.split_off(self.len().div_ceil(2));
        let half = |mut indices: Vec<usize>| {
            indices.sort_unstable();
            Self {
                scenes: indices.iter().map(|&i| self.scenes[i].clone()).collect(),
                unmatched: Vec::new(),
            }
        };
        Ok((half(order), half(second)))
    }

    /// Fills `out_a` and `out_b`, both `[batch, patch, patch, 1]`, with the next patches.
    ///
    /// Each patch is a random crop of the pair that `sampler` draws, turned and mirrored by one of
    /// the 8 symmetries of the square, the same crop and symmetry in both. Nothing is allocated,
    /// except by a sampler in its first draw.
    ///
    /// # Errors
    /// [`Error::Shape`] if a buffer has another length; [`Error::Config`] if the sampler was made
    /// for another number of pairs or a picture is smaller than the patch.
    pub fn sample_batch(
        &self,
        sampler: &mut EpochSampler,
        batch: usize,
        patch: usize,
        out_a: &mut [f32],
        out_b: &mut [f32],
    ) -> Result<()> {
        let size = patch * patch;
        if size == 0 || out_a.len() != batch * size || out_b.len() != batch * size {
            return Err(Error::shape(
                "sample_batch",
                format!(
                    "{batch} patches of {patch}x{patch} need {} values, the buffers hold {} and {}",
                    batch * size,
                    out_a.len(),
                    out_b.len()
                ),
            ));
        }
        if sampler.pairs as usize != self.len() {
            return Err(Error::config(
                "sampler",
                format!(
                    "was made for {} pairs but the data has {}; resume with the data it began with",
                    sampler.pairs,
                    self.len()
                ),
            ));
        }
        for (a, b) in out_a
            .chunks_exact_mut(size)
            .zip(out_b.chunks_exact_mut(size))
        {
            let (index, mut rng) = sampler.draw();
            let Some(scene) = self.scenes.get(index) else {
                return Err(Error::Internal(format!("sampler drew pair {index}")));
            };
            let crop = Crop::random(scene, patch, &mut rng)?;
            crop.copy(&scene.a, patch, a);
            crop.copy(&scene.b, patch, b);
        }
        Ok(())
    }
}

fn load_scene(pair: Pair, patch: usize) -> Result<Scene> {
    let (a, b) = (Picture::read(&pair.a)?, Picture::read(&pair.b)?);
    let (width, height) = (a.width, a.height);
    if (width, height) != (b.width, b.height) {
        return Err(Error::input(
            &pair.a,
            format!(
                "pair {}: {width}x{height} here but {}x{} in {}; register both to one size",
                pair.stem,
                b.width,
                b.height,
                pair.b.display()
            ),
        ));
    }
    if width.min(height) < patch {
        return Err(Error::input(
            &pair.a,
            format!(
                "pair {}: {width}x{height} is smaller than the patch of {patch}x{patch}; lower the patch size or leave the pair out",
                pair.stem
            ),
        ));
    }
    Ok(Scene {
        name: pair.stem,
        width,
        height,
        a: a.luma,
        b: b.luma,
    })
}

/// Draws every pair once per epoch, each epoch in a new random order.
///
/// Each draw has a generator of its own, seeded by (seed, epoch, cursor): saving and restoring the
/// sampler with serde continues the very same sequence, crops and symmetries included.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochSampler {
    seed: u64,
    pairs: u32,
    epoch: u32,
    cursor: u32,
    /// This epoch's permutation; follows from the seed and the epoch, so it is not saved.
    #[serde(skip)]
    order: Vec<u32>,
}

impl EpochSampler {
    /// A sampler at the start of epoch 0 of a dataset of `pairs` pairs.
    ///
    /// # Errors
    /// [`Error::Config`] if `pairs` is 0 or does not fit 32 bits.
    pub fn new(pairs: usize, seed: u64) -> Result<Self> {
        let count = u32::try_from(pairs).ok().filter(|&n| n > 0);
        let Some(pairs) = count else {
            return Err(Error::config(
                "sampler",
                format!("{pairs} pairs; give 1 to {}", u32::MAX),
            ));
        };
        let mut sampler = Self {
            seed,
            pairs,
            epoch: 0,
            cursor: 0,
            order: Vec::new(),
        };
        sampler.shuffle();
        Ok(sampler)
    }

    /// Epochs begun before the one that the last draw was in.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    fn shuffle(&mut self) {
        self.order.clear();
        self.order.extend(0..self.pairs);
        // Draws of the epoch have the cursor 0 to pairs - 1 there.
        let mut rng = self.generator(u32::MAX);
        self.order.shuffle(&mut rng);
    }

    fn generator(&self, cursor: u32) -> Pcg64Mcg {
        let place = u64::from(self.epoch) << 32 | u64::from(cursor);
        // seed_from_u64 stirs its argument; stirring the place first keeps seed 1 at place 0 apart
        // from seed 0 at place 1.
        Pcg64Mcg::seed_from_u64(self.seed ^ splitmix(place))
    }

    /// The next pair and the generator for its crop.
    fn draw(&mut self) -> (usize, Pcg64Mcg) {
        if self.cursor >= self.pairs {
            self.epoch = self.epoch.wrapping_add(1);
            self.cursor = 0;
            self.shuffle();
        } else if self.order.len() != self.pairs as usize {
            self.shuffle(); // restored from a file
        }
        let rng = self.generator(self.cursor);
        let index = self.order[self.cursor as usize] as usize;
        self.cursor += 1;
        (index, rng)
    }
}

/// The finaliser of SplitMix64: a bijection of u64 in which every bit stirs every other.
fn splitmix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// A square crop under one of the 8 symmetries: output (i, j) is plane[start + i * row + j * col].
#[derive(Clone, Copy, Debug)]
struct Crop {
    start: isize,
    row: isize,
    col: isize,
}

impl Crop {
    fn random(scene: &Scene, patch: usize, rng: &mut Pcg64Mcg) -> Result<Self> {
        let (w, h) = (scene.width, scene.height);
        if patch > w.min(h) {
            return Err(Error::config(
                "patch size",
                format!(
                    "{patch} is larger than pair {} of {w}x{h}; lower it or leave the pair out",
                    scene.name
                ),
            ));
        }
        // u64 rather than usize, whose random sequence depends on the machine.
        let x = rng.random_range(0..=(w - patch) as u64) as usize;
        let y = rng.random_range(0..=(h - patch) as u64) as usize;
        Ok(Self::new(w, x, y, patch, rng.random_range(0..8u32)))
    }

    /// Bits of `symmetry`: 1 mirrors left and right, 2 mirrors up and down, 4 then transposes.
    fn new(width: usize, x: usize, y: usize, patch: usize, symmetry: u32) -> Self {
        let last = patch as isize - 1;
        let (mut start, mut row, mut col) = ((y * width + x) as isize, width as isize, 1);
        if symmetry & 1 != 0 {
            start += last * col;
            col = -col;
        }
        if symmetry & 2 != 0 {
            start += last * row;
            row = -row;
        }
        if symmetry & 4 != 0 {
            (row, col) = (col, row);
        }
        Self { start, row, col }
    }

    fn copy(self, plane: &[f32], patch: usize, out: &mut [f32]) {
        let mut line = self.start;
        for out_row in out.chunks_exact_mut(patch) {
            let mut at = line;
            for v in out_row {
                *v = plane[at as usize];
                at += self.col;
            }
            line += self.row;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// Every value tells its scene and place; B is A + 1000.
    fn scene(index: usize, width: usize, height: usize) -> Scene {
        let a: Vec<f32> = (0..width * height)
            .map(|i| (index * 10_000 + i) as f32)
            .collect();
        let b = a.iter().map(|v| v + 1000.0).collect();
        Scene {
            name: format!("s{index}"),
            width,
            height,
            a,
            b,
        }
    }

    fn dataset(n: usize) -> PairDataset {
        PairDataset::from_scenes((0..n).map(|i| scene(i, 7, 5)).collect()).unwrap()
    }

    #[test]
    fn the_eight_symmetries_are_distinct_and_square() {
        let s = scene(0, 6, 5);
        let mut seen = HashSet::new();
        for symmetry in 0..8 {
            let mut out = [0.0; 9];
            Crop::new(6, 2, 1, 3, symmetry).copy(&s.a, 3, &mut out);
            let mut sorted = out.map(|v| v as u32);
            assert!(seen.insert(sorted));
            sorted.sort_unstable();
            assert_eq!(sorted, [8, 9, 10, 14, 15, 16, 20, 21, 22]);
        }
        let get = |symmetry| {
            let mut out = [0.0; 4];
            Crop::new(2, 0, 0, 2, symmetry).copy(&[1.0, 2.0, 3.0, 4.0], 2, &mut out);
            out
        };
        assert_eq!(get(0), [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(get(1), [2.0, 1.0, 4.0, 3.0]);
        assert_eq!(get(2), [3.0, 4.0, 1.0, 2.0]);
        assert_eq!(get(4), [1.0, 3.0, 2.0, 4.0]);
    }

    #[test]
    fn batches_cover_each_epoch_once_with_equal_crops_in_both() {
        let data = dataset(6);
        let mut sampler = EpochSampler::new(6, 3).unwrap();
        let (mut a, mut b) = (vec![0.0; 4 * 9], vec![0.0; 4 * 9]);
        let mut drawn = Vec::new();
        let mut corners = HashSet::new();
        for _ in 0..60 {
            data.sample_batch(&mut sampler, 4, 3, &mut a, &mut b)
                .unwrap();
            assert!(a.iter().zip(&b).all(|(x, y)| x + 1000.0 == *y));
            for patch in a.chunks(9) {
                drawn.push(patch[0] as usize / 10_000);
                corners.insert(patch[0] as usize % 10_000);
            }
        }
        let mut orders = HashSet::new();
        for epoch in drawn.chunks(6) {
            orders.insert(epoch.to_vec());
            assert_eq!(epoch.iter().collect::<HashSet<_>>().len(), 6, "{epoch:?}");
        }
        assert!(orders.len() > 30, "each epoch has its own order");
        assert_eq!(sampler.epoch(), 39);
        // Top left corners under all symmetries reach every pixel of 7x5.
        assert_eq!(corners.len(), 35);
    }

    #[test]
    fn a_restored_sampler_draws_the_same_sequence() {
        let data = dataset(5);
        let mut sampler = EpochSampler::new(5, u64::MAX).unwrap();
        let (mut a, mut b) = (vec![0.0; 3 * 4], vec![0.0; 3 * 4]);
        for _ in 0..4 {
            data.sample_batch(&mut sampler, 3, 2, &mut a, &mut b)
                .unwrap();
        }
        let text = serde_json::to_string(&sampler).unwrap();
        let value = serde_json::to_value(&sampler).unwrap();
        let mut from_text: EpochSampler = serde_json::from_str(&text).unwrap();
        let mut from_value: EpochSampler = serde_json::from_value(value).unwrap();
        for _ in 0..20 {
            data.sample_batch(&mut sampler, 3, 2, &mut a, &mut b)
                .unwrap();
            for other in [&mut from_text, &mut from_value] {
                let (mut x, mut y) = (vec![0.0; 3 * 4], vec![0.0; 3 * 4]);
                data.sample_batch(other, 3, 2, &mut x, &mut y).unwrap();
                assert_eq!((&a, &b), (&x, &y));
            }
        }
        assert_eq!(sampler, from_text);
        let mut other = EpochSampler::new(5, 1).unwrap();
        data.sample_batch(&mut other, 3, 2, &mut b, &mut a.clone())
            .unwrap();
        assert_ne!(a, b, "another seed");
    }

    #[test]
    fn halves_are_disjoint_even_and_repeatable() {
        let data = dataset(9);
        let (x, y) = data.split_even(4).unwrap();
        assert_eq!((x.len(), y.len()), (5, 4));
        let names = |d: &PairDataset| d.scenes().map(|s| s.name.clone()).collect::<Vec<_>>();
        let all: HashSet<String> = names(&x).into_iter().chain(names(&y)).collect();
        assert_eq!(all.len(), 9);
        assert_eq!(names(&x), names(&data.split_even(4).unwrap().0));
        assert!((0..20).any(|seed| names(&data.split_even(seed).unwrap().0) != names(&x)));
        assert!(dataset(1).split_even(0).is_err());
    }

    #[test]
    fn wrong_use_is_an_error() {
        let data = dataset(2);
        let mut sampler = EpochSampler::new(2, 0).unwrap();
        let (mut a, mut b) = (vec![0.0; 36], vec![0.0; 36]);
        assert!(
            data.sample_batch(&mut sampler, 2, 3, &mut a, &mut b)
                .is_err()
        );
        let err = data
            .sample_batch(&mut sampler, 1, 6, &mut a, &mut b)
            .unwrap_err();
        assert!(err.to_string().contains("7x5"), "{err}");
        let mut other = EpochSampler::new(3, 0).unwrap();
        assert!(data.sample_batch(&mut other, 4, 3, &mut a, &mut b).is_err());
        assert!(EpochSampler::new(0, 0).is_err());
        assert!(PairDataset::from_scenes(vec![]).is_err());
        let short = Scene {
            a: vec![0.0],
            ..scene(0, 2, 2)
        };
        assert!(PairDataset::from_scenes(vec![short]).is_err());
    }
}

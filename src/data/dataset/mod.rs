//! Training data: pairs of grey pictures in memory and batches of random patches.

use super::augment::{Augment, Change};
use super::crop::Crop;
use super::image::Picture;
use super::pairs::{Pair, list_pairs};
use super::sampler::{EpochSampler, Shares};
use super::sets::{Folders, Patterns, scenes_of, set_name};
use super::tones::Tones;
use crate::{Error, Result};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_pcg::Pcg64Mcg;
use rayon::prelude::*;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The luma planes of one pair, in \[0, 1\], row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Scene {
    /// Common name of both files, without extension.
    pub name: String,
    /// Pixels in a row.
    pub width: usize,
    /// Rows of pixels.
    pub height: usize,
    /// Luma of source A (infrared, MRI), `height * width` values.
    pub a: Vec<f32>,
    /// Luma of source B (visible, PET), `height * width` values.
    pub b: Vec<f32>,
}

impl Scene {
    /// The brightness of both files of a pair.
    ///
    /// # Errors
    /// [`Error::Input`] if one cannot be read or their sizes differ.
    pub fn read(pair: Pair) -> Result<Self> {
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
        Ok(Self {
            name: pair.stem,
            width,
            height,
            a: a.luma,
            b: b.luma,
        })
    }
}

/// A pair in memory, and where it belongs.
#[derive(Debug)]
struct Entry {
    scene: Scene,
    tones: [Tones; 2],
    /// Place in the list of folders.
    folder: u32,
}

impl Entry {
    fn new(scene: Scene, folder: u32) -> Self {
        let tones = [&scene.a, &scene.b].map(|plane| Tones::of(plane, scene.width));
        Self {
            scene,
            tones,
            folder,
        }
    }
}

/// Pairs of registered grey pictures; copies and parts share the planes.
#[derive(Clone, Debug)]
pub struct PairDataset {
    entries: Vec<Arc<Entry>>,
    shares: Shares,
    balance: f64,
    unmatched: Vec<PathBuf>,
}

impl PairDataset {
    /// Loads the luma of all pairs of folders, see [`list_pairs`], in natural order: the pairs of the first folder of A and
    /// the first of B, then those of the second ones. Pairs whose names match a pattern of `exclude` are left out.
    ///
    /// # Errors
    /// [`Error::Config`] if A and B have different numbers of folders, if two are named twice, if a pattern matches nothing
    /// or all pairs are excluded. [`Error::Input`] if a picture cannot be read, if the two of a pair differ in size, or if
    /// one has a side below `patch`.
    pub fn load(a: &Folders, b: &Folders, exclude: &[String], patch: usize) -> Result<Self> {
        let list = list_all(a, b, exclude)?;
        let entries: Vec<Result<Entry>> = list
            .pairs
            .into_par_iter()
            .map(|(folder, pair)| Ok(Entry::new(load_scene(pair, patch)?, folder)))
            .collect();
        // Collected first: of several failures the same one is reported each time.
        let entries: Result<Vec<Entry>> = entries.into_iter().collect();
        let entries = entries?.into_iter().map(Arc::new).collect();
        Ok(Self::of(entries, 1.0, list.unmatched))
    }

    /// Takes scenes that are in memory already, as of one pair of folders.
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
        let entries = scenes.into_iter().map(|s| Arc::new(Entry::new(s, 0)));
        Ok(Self::of(entries.collect(), 1.0, Vec::new()))
    }

    fn of(entries: Vec<Arc<Entry>>, balance: f64, unmatched: Vec<PathBuf>) -> Self {
        let shares = Shares::new(&sets(&entries), balance);
        Self {
            entries,
            shares,
            balance,
            unmatched,
        }
    }

    /// The same pairs with another balance between sets: a set of n pairs is drawn in proportion to n^`balance`. 1: every
    /// pair equally often; 0: every set equally often.
    pub fn balanced(self, balance: f64) -> Self {
        Self::of(self.entries, balance, self.unmatched)
    }

    /// Number of pairs.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no pair.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Luma planes of all pairs, in order.
    pub fn scenes(&self) -> impl ExactSizeIterator<Item = &Scene> {
        self.entries.iter().map(|e| &e.scene)
    }

    /// Name of each pair, and the place of its folders in their lists.
    pub fn names(&self) -> impl ExactSizeIterator<Item = (usize, &str)> {
        let each = self.entries.iter();
        each.map(|e| (e.folder as usize, e.scene.name.as_str()))
    }

    /// Pictures of the folders that have no partner and were left out.
    pub fn unmatched(&self) -> &[PathBuf] {
        &self.unmatched
    }

    /// Sets, each the pairs of one pair of folders whose names are equal up to the first `_`.
    pub fn sets(&self) -> usize {
        self.shares.sets()
    }

    /// Scenes, see `scenes_of`, each the places of its pairs. Numbers alone tell nothing of the place, so pairs whose names
    /// have no `_` are scenes of their own.
    pub fn scene_groups(&self, gap: u64) -> Vec<Vec<usize>> {
        let sets = sets(&self.entries);
        let names = self.scenes().map(|s| s.name.as_str());
        let pairs = sets.into_iter().zip(names).enumerate();
        let (plain, named): (Vec<_>, Vec<_>) =
            pairs.partition(|(_, (_, name))| set_name(name).is_empty());
        let (places, named): (Vec<usize>, Vec<(u32, &str)>) = named.into_iter().unzip();
        let place = |scene: Vec<usize>| scene.into_iter().map(|i| places[i]).collect();
        let mut scenes: Vec<Vec<usize>> = scenes_of(&named, gap).into_iter().map(place).collect();
        scenes.extend(plain.into_iter().map(|(i, _)| vec![i]));
        scenes.sort_unstable();
        scenes
    }

    fn part(&self, mut indices: Vec<usize>) -> Self {
        indices.sort_unstable();
        let entries = indices.into_iter().map(|i| self.entries[i].clone());
        Self::of(entries.collect(), self.balance, Vec::new())
    }

    /// Sets scenes aside, whole: those with a pair whose name matches a pattern, and a `share` of the others, rounded and
    /// drawn by `seed`. A scene of more than that share of all pairs is not drawn: it may be all there is of its set.
    /// Returns what is left, and what was set aside if that is anything.
    ///
    /// # Errors
    /// [`Error::Config`] if a pattern matches nothing, or if nothing is left.
    pub fn hold_out(
        &self,
        patterns: &[String],
        share: f64,
        gap: u64,
        seed: u64,
    ) -> Result<(Self, Option<Self>)> {
        let names: Vec<&str> = self.scenes().map(|s| s.name.as_str()).collect();
        let matcher = Patterns::new(patterns);
        matcher.check_used("data.hold_out", &names)?;
        let named = |scene: &Vec<usize>| scene.iter().any(|&i| matcher.matches(names[i]));
        let (mut held, mut left): (Vec<_>, Vec<_>) =
            self.scene_groups(gap).into_iter().partition(named);
        left.shuffle(&mut Pcg64Mcg::seed_from_u64(seed ^ HELD));
        let drawn = (share * left.len() as f64).round() as usize;
        let most = ((share * self.len() as f64).ceil() as usize).max(1);
        let small = |scene: &mut Vec<usize>| scene.len() <= most;
        held.extend(left.extract_if(.., small).take(drawn));
        if left.is_empty() {
            return Err(Error::config(
                "data.hold_out",
                format!(
                    "all {} pairs are held out; hold out fewer with data.hold_out and data.validation, \
                     or lower data.scene_gap if it joins too many",
                    self.len()
                ),
            ));
        }
        let held = held.concat();
        let held = (!held.is_empty()).then(|| self.part(held));
        Ok((self.part(left.concat()), held))
    }

    /// Two disjoint halves (for L_train and L_val) of about as many pairs, whole scenes each, drawn by `seed`; the first
    /// takes the odd one.
    ///
    /// # Errors
    /// [`Error::Config`] if there are fewer than two scenes.
    pub fn split_even(&self, gap: u64, seed: u64) -> Result<(Self, Self)> {
        let mut scenes = self.scene_groups(gap);
        if scenes.len() < 2 {
            return Err(Error::config(
                "training data",
                format!(
                    "1 scene of {} pairs cannot be split into a training and a validation half; give \
                     at least 2, or lower data.scene_gap if these are several",
                    self.len()
                ),
            ));
        }
        scenes.shuffle(&mut Pcg64Mcg::seed_from_u64(seed));
        // The largest first, so that the last ones fill what is missing.
        scenes.sort_by_key(|scene| std::cmp::Reverse(scene.len()));
        let (mut first, mut second) = (Vec::new(), Vec::new());
        for scene in scenes {
            let half = if first.len() <= second.len() {
                &mut first
            } else {
                &mut second
            };
            half.extend(scene);
        }
        Ok((self.part(first), self.part(second)))
    }

    /// Fills `batch` with the next patches.
    ///
    /// Each patch is a random crop of the pair that `sampler` draws, turned and mirrored by one of
    /// the 8 symmetries of the square, the same crop and symmetry in both; then changed as `augment` says, each source
    /// on its own. Nothing is allocated but by a sampler that is new or restored.
    ///
    /// # Errors
    /// [`Error::Config`] if the sampler was made for another number of pairs or a picture is smaller than the patch.
    pub fn sample_batch(
        &self,
        sampler: &mut EpochSampler,
        augment: Option<&Augment>,
        batch: &mut Batch,
    ) -> Result<()> {
        if sampler.pairs() != self.len() {
            return Err(Error::config(
                "sampler",
                format!(
                    "was made for {} pairs but the data has {}; resume with the data it began with",
                    sampler.pairs(),
                    self.len()
                ),
            ));
        }
        let patch = batch.patch;
        let size = patch * patch;
        let patches = batch
            .a
            .chunks_exact_mut(size)
            .zip(batch.b.chunks_exact_mut(size));
        for (i, (a, b)) in patches.enumerate() {
            let (index, mut rng) = sampler.draw(&self.shares);
            let Some(entry) = self.entries.get(index) else {
                return Err(Error::Internal(format!("sampler drew pair {index}")));
            };
            let scene = &entry.scene;
            let crop = Crop::random(scene, patch, &mut rng)?;
            let [change_a, change_b] = match augment {
                Some(augment) => augment.draw(&entry.tones, &mut rng),
                None => [Change::NONE; 2],
            };
            let (of_a, of_b) = (&entry.tones[0], &entry.tones[1]);
            let (cut, spare) = ((crop, patch), batch.spare.as_mut_slice());
            (batch.level_a[i], batch.deviation_a[i]) =
                change_a.take((scene, &scene.a, of_a), cut, &mut rng, a, spare);
            (batch.level_b[i], batch.deviation_b[i]) =
                change_b.take((scene, &scene.b, of_b), cut, &mut rng, b, spare);
        }
        Ok(())
    }
}

/// Keeps the draw of scenes for validation apart from other uses of the seed.
const HELD: u64 = 0x4845_4C44;

/// Patches of both sources, in memory that is used again for each step.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    patch: usize,
    /// `[batch, patch, patch, 1]`.
    pub a: Vec<f32>,
    /// Patches of source B, at the same places as those of A.
    pub b: Vec<f32>,
    /// For each patch the mean of the whole picture that it is from, under the same changes of tone.
    pub level_a: Vec<f32>,
    /// Means of the whole pictures of source B.
    pub level_b: Vec<f32>,
    /// The standard deviations of these pictures.
    pub deviation_a: Vec<f32>,
    /// Standard deviations of the whole pictures of source B.
    pub deviation_b: Vec<f32>,
    spare: Vec<f32>,
}

impl Batch {
    /// Room for `batch` patches of `patch` x `patch`.
    ///
    /// # Errors
    /// [`Error::Shape`] if one of them is 0 or there are too many pixels to count.
    pub fn new(batch: usize, patch: usize) -> Result<Self> {
        let size = patch.checked_mul(patch).filter(|&n| n > 0);
        let all = size.and_then(|n| n.checked_mul(batch)).filter(|&n| n > 0);
        let (Some(size), Some(all)) = (size, all) else {
            return Err(Error::shape(
                "batch",
                format!("{batch} patches of {patch}x{patch}; give at least 1 of 1x1"),
            ));
        };
        Ok(Self {
            patch,
            a: vec![0.0; all],
            b: vec![0.0; all],
            level_a: vec![0.0; batch],
            level_b: vec![0.0; batch],
            deviation_a: vec![0.0; batch],
            deviation_b: vec![0.0; batch],
            spare: vec![0.0; size],
        })
    }
}

/// The set of each pair, from 0.
fn sets(entries: &[Arc<Entry>]) -> Vec<u32> {
    let mut known: HashMap<(u32, &str), u32> = HashMap::new();
    let each = entries.iter();
    each.map(|e| {
        let next = known.len() as u32;
        *known
            .entry((e.folder, set_name(&e.scene.name)))
            .or_insert(next)
    })
    .collect()
}

/// The pairs of several folders.
#[derive(Clone, Debug)]
pub(crate) struct FolderPairs {
    /// Each with the place of its folders in their lists.
    pub pairs: Vec<(u32, Pair)>,
    /// Pictures without a partner.
    pub unmatched: Vec<PathBuf>,
}

/// All pairs of folders but those that are excluded, in the order of the folders.
///
/// # Errors
/// As [`PairDataset::load`], before a picture is read.
pub(crate) fn list_all(a: &Folders, b: &Folders, exclude: &[String]) -> Result<FolderPairs> {
    if a.is_empty() {
        return Err(Error::config(
            "data.a",
            "names no folder; name at least one",
        ));
    }
    if a.len() != b.len() {
        return Err(Error::config(
            "data.a",
            format!(
                "{} folders ({a}) but data.b has {} ({b}); name as many, the first of A with the first of B",
                a.len(),
                b.len()
            ),
        ));
    }
    let folders: Vec<(&PathBuf, &PathBuf)> = a.iter().zip(b.iter()).collect();
    let real = |p: &Path| p.canonicalize().unwrap_or_else(|_| p.to_path_buf());
    let (mut pairs, mut unmatched) = (Vec::new(), Vec::new());
    for (i, (a, b)) in folders.iter().enumerate() {
        if let Some((a, _)) = folders[..i]
            .iter()
            .find(|f| (real(f.0), real(f.1)) == (real(a), real(b)))
        {
            let detail = format!("{} is named twice with the same folder of B", a.display());
            return Err(Error::config("data.a", detail));
        }
        let list = list_pairs(a, b)?;
        pairs.extend(list.pairs.into_iter().map(|p| (i as u32, p)));
        unmatched.extend([list.only_a, list.only_b].concat());
    }
    let patterns = Patterns::new(exclude);
    let names: Vec<&str> = pairs.iter().map(|(_, p)| p.stem.as_str()).collect();
    patterns.check_used("data.exclude", &names)?;
    let all = pairs.len();
    pairs.retain(|(_, p)| !patterns.matches(&p.stem));
    if pairs.is_empty() {
        let detail =
            format!("leaves none of {all} pairs; exclude fewer, or name a folder in data.a");
        return Err(Error::config("data.exclude", detail));
    }
    Ok(FolderPairs { pairs, unmatched })
}

fn load_scene(pair: Pair, patch: usize) -> Result<Scene> {
    let path = pair.a.clone();
    let scene = Scene::read(pair)?;
    let (width, height) = (scene.width, scene.height);
    if width.min(height) < patch {
        return Err(Error::input(
            path,
            format!(
                "pair {}: {width}x{height} is smaller than the patch of {patch}x{patch}; lower the patch size or leave the pair out",
                scene.name
            ),
        ));
    }
    Ok(scene)
}

#[cfg(test)]
mod tests;

//! Procedural scenes seen by two sensors: registered pairs for demonstrations and tests.
//!
//! A scene is described once, as objects with a temperature or tissue and a colour or activity;
//! both images of a pair are drawn from that description by the same rays, so they are registered
//! by construction. The same seed and size give the same pair on every machine.

mod brain;
mod noise;
mod raster;
mod street;

use crate::{Error, Result};
use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::{RngCore, SeedableRng};
use street::{Hour, Street};

/// Smallest width and height that [`render`] draws.
pub const MIN_SIDE: u32 = 8;
/// Largest width and height that [`render`] draws.
pub const MAX_SIDE: u32 = 16_384;

/// What to draw, and by that which two sensors look at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scene {
    /// A street in the evening, shops lit, road wet: thermal infrared and visible light.
    Street,
    /// The same by day: sun and shadows, a bright sky that is cold and dark in the infrared.
    StreetDay,
    /// The same after sunset: a pale sky, the first lamps.
    StreetDusk,
    /// The same at night: shops shut, unlit walls hardly visible, a dark infrared with bright people.
    StreetNight,
    /// The same in fog: low contrast, nothing black or white.
    StreetFog,
    /// An axial slice through a head: MRI and PET.
    Brain,
}

impl Scene {
    /// The name on the command line and at the start of file names.
    pub fn name(self) -> &'static str {
        match self {
            Scene::Street => "street",
            Scene::StreetDay => "street-day",
            Scene::StreetDusk => "street-dusk",
            Scene::StreetNight => "street-night",
            Scene::StreetFog => "street-fog",
            Scene::Brain => "brain",
        }
    }

    /// Short names of the two sensors, grey first: the usual folder names of such data sets.
    pub fn sensors(self) -> [&'static str; 2] {
        match self {
            Scene::Brain => ["mri", "pet"],
            _ => ["ir", "vi"],
        }
    }

    /// When one looks at the street; `None` if there is none.
    fn hour(self) -> Option<Hour> {
        match self {
            Scene::Street => Some(Hour::Evening),
            Scene::StreetDay => Some(Hour::Day),
            Scene::StreetDusk => Some(Hour::Dusk),
            Scene::StreetNight => Some(Hour::Night),
            Scene::StreetFog => Some(Hour::Fog),
            Scene::Brain => None,
        }
    }
}

/// Two images of one scene, of one size and pixel for pixel registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SynthPair {
    /// The grey sensor: infrared or MRI.
    pub a: image::GrayImage,
    /// The colour sensor: visible light or PET.
    pub b: image::RgbImage,
}

/// Draws the pair that belongs to `seed`, `width` x `height` pixels. The same seed and size give the same street at each hour.
///
/// # Errors
/// [`Error::Config`] if a side is shorter than [`MIN_SIDE`] or longer than [`MAX_SIDE`].
pub fn render(scene: Scene, seed: u64, width: u32, height: u32) -> Result<SynthPair> {
    let sides = MIN_SIDE..=MAX_SIDE;
    if !sides.contains(&width) || !sides.contains(&height) {
        return Err(Error::config(
            "size",
            format!(
                "{width}x{height} is out of range; both sides must be {MIN_SIDE} to {MAX_SIDE} pixels"
            ),
        ));
    }
    let mut dice = Dice(Pcg64Mcg::seed_from_u64(seed ^ 0x6861_6675_7365_0000));
    let (w, h) = (width as usize, height as usize);
    let (a, b) = match scene.hour() {
        Some(hour) => Street::new(&mut dice, w as f32 / h as f32, hour).draw(w, h),
        None => brain::Brain::new(&mut dice).draw(w, h),
    };
    let size = || Error::Internal("a drawn image has not the size that was asked".into());
    Ok(SynthPair {
        a: image::GrayImage::from_raw(width, height, a).ok_or_else(size)?,
        b: image::RgbImage::from_raw(width, height, b).ok_or_else(size)?,
    })
}

/// The scene's source of chance: only draws that are alike on 32 and 64 bit machines.
struct Dice(Pcg64Mcg);

impl Dice {
    fn bits(&mut self) -> u32 {
        self.0.next_u32()
    }

    fn range(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * ((self.bits() >> 8) as f32 / 16_777_216.0)
    }

    fn chance(&mut self, p: f32) -> bool {
        self.range(0.0, 1.0) < p
    }

    fn below(&mut self, n: u32) -> u32 {
        (self.range(0.0, n as f32) as u32).min(n.saturating_sub(1))
    }

    fn pick<T: Copy>(&mut self, from: &[T], otherwise: T) -> T {
        let i = self.below(from.len() as u32) as usize;
        from.get(i).copied().unwrap_or(otherwise)
    }
}

#[cfg(test)]
mod tests;

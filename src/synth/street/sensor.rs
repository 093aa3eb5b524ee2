//! The two cameras: optics, glare, tone curve and noise.

use super::super::noise::{exp, gauss};
use super::super::raster::{Plane, byte, supersample};
use super::{Ray, Street};

/// Half the picture's height at z = 1.
const HALF_VIEW: f32 = 0.42;
/// Height of the horizon from the top, as a share of the picture's height.
const HORIZON: f32 = 0.46;

impl Street {
    /// The infrared (grey) and visible (red, green, blue) bytes of the picture.
    pub fn draw(&self, width: usize, height: usize) -> (Vec<u8>, Vec<u8>) {
        let pixel = 2.0 * HALF_VIEW / height as f32;
        let [r, g, b, heat] = supersample(width, height, 2, [0.012, 0.012, 0.012, 0.7], |x, y| {
            self.look(&Ray {
                ox: self.eye[0],
                oy: self.eye[1],
                u: (x - width as f32 * 0.5) * pixel,
                v: (HORIZON * height as f32 - y) * pixel,
                start: 0.5,
                pixel,
                mirrored: false,
            })
        });
        (self.thermal(&heat), self.visible([r, g, b]))
    }

    /// Germanium optics blur a little, the bolometer adds noise, and each column's amplifier has an
    /// offset of its own.
    fn thermal(&self, heat: &Plane) -> Vec<u8> {
        let soft = heat.blur(heat.height as f32 * 0.0013);
        let w = heat.width;
        let [pixel, column, _] = self.weather.noise;
        let sample = |(i, c): (usize, &f32)| {
            let (x, y) = ((i % w) as i32, (i / w) as i32);
            let noise =
                pixel * gauss(x, y, self.seed ^ 101) + column * gauss(x, -7, self.seed ^ 102);
            byte(self.weather.gain(*c) + noise / 255.0)
        };
        soft.data.iter().enumerate().map(sample).collect()
    }

    /// Lens glare spreads a small share of every bright light; the eye-like tone curve compresses
    /// the rest, and photons arrive one by one: shot noise grows with the root of the light.
    fn visible(&self, rgb: [Plane; 3]) -> Vec<u8> {
        let h = rgb[0].height as f32;
        let planes = rgb.map(|p| {
            let halos = [(0.004, 0.12), (0.014, 0.07), (0.045, 0.045), (0.13, 0.026)]
                .map(|(size, share)| (p.blur(size * h), share));
            let mut out = p.blur(self.weather.blur * h);
            for (halo, share) in &halos {
                for (o, v) in out.data.iter_mut().zip(&halo.data) {
                    *o += share * v;
                }
            }
            out
        });
        let w = planes[0].width;
        let grain = self.weather.noise[2];
        let mut bytes = Vec::with_capacity(planes[0].data.len() * 3);
        for i in 0..planes[0].data.len() {
            let (x, y) = ((i % w) as i32, (i / w) as i32);
            for (c, plane) in planes.iter().enumerate() {
                let light = plane.data[i].max(0.0);
                let seed = self.seed ^ (200 + c as u32);
                let noisy = light + grain * (light + 0.02).sqrt() * gauss(x, y, seed);
                bytes.push(byte(tone(noisy.max(0.0))));
            }
        }
        bytes
    }
}

/// Film-like curve: a shoulder for the lights and a square-root gamma for the shadows.
fn tone(light: f32) -> f32 {
    (1.0 - exp(-1.15 * light)).max(0.0).sqrt()
}

#[cfg(test)]
mod tests {
    use super::super::super::Dice;
    use super::super::person::Person;
    use super::super::{Hour, Street, Thing};
    use rand_pcg::Pcg64Mcg;
    use rand_pcg::rand_core::SeedableRng;

    #[test]
    fn a_warm_body_has_the_same_outline_for_both_cameras() {
        let (w, h) = (120, 160);
        for seed in 0..4 {
            let mut dice = Dice(Pcg64Mcg::seed_from_u64(seed));
            let mut street = Street::new(&mut dice, 0.75, Hour::Evening);
            street.things.clear();
            street.lights.clear();
            street.plumes.clear();
            street.wet = 0.0;
            street.ambient = [3.0; 3];
            let (ir, vi) = street.draw(w, h);
            let someone = Person::new(&mut dice, street.eye[0], 5.5, seed & 1 == 0);
            street.things.push(Thing::Person(someone));
            let (ir_with, vi_with) = street.draw(w, h);
            // Same seed, same noise: what differs is the person.
            let (mut both, mut either) = (0, 0);
            for i in 0..w * h {
                let warm = ir_with[i].abs_diff(ir[i]) > 12;
                let shown = (0..3).any(|c| vi_with[3 * i + c].abs_diff(vi[3 * i + c]) > 12);
                both += usize::from(warm && shown);
                either += usize::from(warm || shown);
            }
            assert!(both > 300, "nobody to be seen with seed {seed}: {both}");
            assert!(both * 10 > either * 7, "seed {seed}: {both} of {either}");
        }
    }
}

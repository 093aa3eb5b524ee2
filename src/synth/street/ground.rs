//! Road, pavements and grass.

use super::super::noise::{cell, exp, fbm, mix, scale, smoothstep, value};
use super::hour::Hour;
use super::{Ray, Street, Surface, Vec3};

const UP: Vec3 = [0.0, 1.0, 0.0];

impl Street {
    /// How wet the road is at a point: puddles gather in the low spots.
    pub(super) fn wetness(&self, at: Vec3) -> f32 {
        let low = fbm(at[0] * 0.55, at[2] * 0.28, 3, self.seed ^ 41);
        self.wet * mix(0.35, 1.0, smoothstep(0.40, 0.62, low))
    }

    /// Asphalt holds the day's warmth; markings show to the eye, hardly to the thermal camera.
    pub(super) fn ground(&self, ray: &Ray, z: f32) -> Surface {
        let x = ray.x(z);
        let grain = ray.detail(z, 0.05) * 0.5 * (value(x * 40.0, z * 40.0, self.seed) - 0.5)
            + ray.detail(z, 0.2) * 0.5 * (fbm(x * 9.0, z * 9.0, 2, self.seed ^ 1) - 0.5);
        let stain = fbm(x * 0.7, z * 0.35, 3, self.seed ^ 2);
        let shadow = self.contact(x, z);
        // Towards the horizon more of the cold sky is mirrored at the flat angle.
        let far = smoothstep(4.0, 70.0, z);
        let drift = 1.6 * (stain - 0.5) - 3.0 * far;
        if x.abs() > self.road_half {
            if let Some(grass) = self.verge(ray, x, z, drift) {
                return grass;
            }
            let kerb = x.abs() < self.road_half + 0.16;
            let (i, j) = ((x / 0.6).floor(), (z / 0.6).floor());
            let tile = 0.85 + 0.3 * cell(i as i32, j as i32, self.seed ^ 3);
            let joint = (x / 0.6 - i).min(z / 0.6 - j) < 0.05;
            let slab = if joint {
                mix(1.0, 0.6, ray.detail(z, 0.12))
            } else {
                tile
            };
            let tone = if kerb { 1.35 } else { slab } * (1.0 + 0.5 * grain);
            let colour = scale([0.23, 0.22, 0.21], tone * (0.8 + 0.4 * stain));
            let celsius = 9.6 + drift - if kerb { 1.2 } else { 0.0 };
            return Surface::new(z, UP, colour, celsius);
        }
        let mut tone = self.weather.asphalt() * (1.0 + 1.4 * grain) * (0.65 + 0.7 * stain);
        let yellow = self.weather.hour != Hour::Evening && (x.abs() - 0.13).abs() < 0.06;
        let dash = x.abs() < 0.07 && (z / 3.5).floor() as i32 & 1 == 0;
        let dash = yellow || (dash && self.weather.hour == Hour::Evening);
        let edge = (x.abs() - (self.road_half - 2.0)).abs() < 0.05;
        let stripe = (self.zebra..self.zebra + 2.8).contains(&z)
            && ((x + 20.0) / 0.5).floor() as i32 & 1 == 0
            && x.abs() < self.road_half - 0.2;
        let clear = !(self.zebra - 1.0..self.zebra + 3.8).contains(&z);
        let painted = stripe || ((dash || edge) && clear);
        if painted {
            let worn = smoothstep(0.25, 0.5, fbm(x * 3.0, z * 3.0, 3, self.seed ^ 4));
            tone = mix(tone, 0.48 * (1.0 + 0.3 * grain), 0.35 + 0.65 * worn);
        }
        let lane = (x.abs() - 1.68).abs();
        let tracks = exp(-(lane - 0.72) * (lane - 0.72) * 18.0);
        let mut celsius = 12.2 + 1.3 * tracks + drift + 0.8 * grain;
        for &[cx, from, to] in &self.warmed {
            let d = (x - cx) * (x - cx);
            let inside = smoothstep(from - 0.8, from + 0.6, z) * smoothstep(to + 0.8, to, z);
            celsius += 6.0 * inside * exp(-d * 2.2);
        }
        celsius -= if painted { 0.7 } else { 0.0 };
        let crack = self.crack(ray, x, z);
        celsius += 1.5 * crack;
        let tint = if yellow && painted && !stripe {
            [0.92, 0.66, 0.16]
        } else {
            [1.0, 0.99, 0.96]
        };
        let colour = scale(tint, tone * (1.0 - 0.5 * crack) * (1.0 - 0.85 * shadow));
        Surface::new(z, UP, colour, celsius).shiny(0.93)
    }

    /// Cracks filled with tar: dark lines, warmer than the road. The evening's road has none.
    fn crack(&self, ray: &Ray, x: f32, z: f32) -> f32 {
        if self.weather.hour == Hour::Evening {
            return 0.0;
        }
        let line = (fbm(x * 0.45, z * 0.2, 4, self.seed ^ 43) - 0.5).abs();
        let here = smoothstep(0.44, 0.60, value(x * 0.4, z * 0.16, self.seed ^ 47));
        ray.detail(z, 0.12) * here * smoothstep(0.010, 0.003, line)
    }

    /// A strip of grass along the walls, but not in the evening's street.
    fn verge(&self, ray: &Ray, x: f32, z: f32, drift: f32) -> Option<Surface> {
        if self.weather.hour == Hour::Evening {
            return None;
        }
        let ragged = 0.25 * (fbm(z * 1.3, x.signum(), 2, self.seed ^ 44) - 0.5);
        if x.abs() < self.wall - 1.0 + ragged {
            return None;
        }
        let tufts = fbm(x * 3.0, z * 3.0, 3, self.seed ^ 45);
        let blades = ray.detail(z, 0.08) * (value(x * 28.0, z * 22.0, self.seed ^ 46) - 0.5);
        let tone = (0.45 + 1.1 * tufts) * (1.0 + 0.9 * blades);
        let colour = scale([0.10, 0.16, 0.045], tone);
        let celsius = 6.5 + drift + 2.5 * (tufts - 0.5) + 1.2 * blades;
        Some(Surface::new(z, UP, colour, celsius))
    }

    fn contact(&self, x: f32, z: f32) -> f32 {
        let mut most: f32 = 0.0;
        for &[cx, from, to] in &self.shaded {
            let across = smoothstep(1.15, 0.7, (x - cx).abs());
            let along = smoothstep(from - 0.35, from + 0.3, z) * smoothstep(to + 0.3, to, z);
            most = most.max(across * along);
        }
        most
    }
}

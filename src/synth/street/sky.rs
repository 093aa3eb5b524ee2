//! The sky at each hour.

use super::super::noise::{cell, exp, fbm, mix3, scale, smoothstep};
use super::hour::Hour;
use super::{Ray, Street, Surface, Vec3};

impl Street {
    /// Cold sky: coldest overhead, warmer near the horizon where one looks through more air.
    pub(super) fn sky(&self, ray: &Ray) -> Surface {
        let v = ray.v.max(0.0);
        let clouds = fbm(
            ray.u * 5.0 / (v + 0.25),
            2.0 / (v + 0.25),
            4,
            self.seed ^ 21,
        );
        let veil = smoothstep(0.42, 0.75, clouds);
        let low = exp(-v * 5.0);
        let rgb = match self.weather.hour {
            Hour::Evening | Hour::Night => self.night_sky(ray, v, veil, low),
            Hour::Day => self.day_sky(ray, v, veil, low),
            Hour::Dusk => {
                let clear = mix3([0.16, 0.21, 0.36], [0.62, 0.42, 0.30], low);
                mix3(clear, [0.30, 0.24, 0.27], veil * 0.6)
            }
            Hour::Fog => scale(self.haze, 1.0 + 0.5 * v + 0.06 * (clouds - 0.5)),
        };
        let celsius = match self.weather.hour {
            Hour::Fog => 4.0 - 3.0 * v,
            _ => self.sky_celsius + 11.0 * low + 3.5 * veil,
        };
        Surface::new(1e6, [0.0, 1.0, 0.0], [0.0; 3], celsius)
            .glowing(rgb)
            .shiny(1.0)
    }

    fn night_sky(&self, ray: &Ray, v: f32, veil: f32, low: f32) -> Vec3 {
        let mut rgb = mix3([0.004, 0.007, 0.019], [0.042, 0.036, 0.040], low);
        rgb = mix3(rgb, [0.026, 0.025, 0.034], veil * 0.7);
        let grain = [ray.u * 150.0, v * 150.0];
        let spot = [grain[0].floor(), grain[1].floor()];
        let star = cell(spot[0] as i32, spot[1] as i32, self.seed ^ 31);
        let off = (grain[0] - spot[0] - 0.5)
            .abs()
            .max((grain[1] - spot[1] - 0.5).abs());
        if star > 0.997 && veil < 0.4 && off < 0.15 {
            rgb = mix3(rgb, [0.7, 0.7, 0.75], (star - 0.997) * 300.0 * (1.0 - low));
        }
        if let Some([mu, mv]) = self.moon {
            let d = [(ray.u - mu) / 0.017, (ray.v - mv) / 0.017];
            let q = (d[0] * d[0] + d[1] * d[1]).sqrt();
            let maria = fbm(d[0] * 1.3 + 9.0, d[1] * 1.3, 3, 5);
            let disc = smoothstep(1.06, 0.96, q) * (0.5 + 1.0 * maria) * (1.0 - 0.6 * veil);
            let halo = 0.045 * exp(-q * 0.35);
            for (c, m) in rgb.iter_mut().zip([1.0, 0.97, 0.88]) {
                *c += m * (disc + halo);
            }
        }
        rgb
    }

    /// Blue overhead, white near the horizon and towards the sun.
    fn day_sky(&self, ray: &Ray, v: f32, veil: f32, low: f32) -> Vec3 {
        let mut rgb = mix3([0.38, 0.62, 1.15], [1.25, 1.42, 1.65], low);
        rgb = mix3(rgb, [1.55, 1.6, 1.65], veil * 0.75);
        if let Some(sun) = self.weather.sun {
            let d = (ray.u - 0.35 * sun.at[0].signum()) * 2.4;
            let glare = exp(-d * d - 1.5 * v);
            for (c, tint) in rgb.iter_mut().zip([1.0, 0.97, 0.9]) {
                *c += 5.5 * tint * glare;
            }
        }
        rgb
    }
}

//! Hour and weather: what they change of a street that stays the same otherwise.

use super::super::noise::{cell, dot, exp, mix, scale, smoothstep, unit};
use super::{Ray, Street, Surface, Thing, Vec3};

/// When one looks at the street.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hour {
    /// Dark, shops open, the road wet: the drawing of `Scene::Street`.
    Evening,
    /// Sun from the side, houses throw shadows, cold dark sky in the infrared.
    Day,
    /// After sunset: a pale sky, the first lamps.
    Dusk,
    /// Shops shut, few lamps, a noisy camera; the infrared shows what is warm and little else.
    Night,
    /// Fog by day: low contrast, nothing saturated.
    Fog,
}

/// Light, air and cameras of an hour.
#[derive(Clone, Copy)]
pub(super) struct Weather {
    pub hour: Hour,
    pub sun: Option<Sun>,
    /// Brightness of lamps, windows and signs; without it they are off but for a glimmer.
    pub glow: f32,
    /// Chances that a shop is lit, a window above it, and a street lamp.
    pub lit: [f32; 3],
    /// Extinction of light and of heat, per metre.
    pub fog: [f32; 2],
    /// Air temperature in degrees Celsius.
    pub air: f32,
    /// Blur of the visible camera, as a share of the picture's height: long exposures are soft.
    pub blur: f32,
    /// Noise of the infrared camera and of its columns in grey levels, and of the visible one.
    pub noise: [f32; 3],
}

/// The sun: where it stands, and its light.
#[derive(Clone, Copy)]
pub(super) struct Sun {
    /// Unit vector; z is positive, so that shadows fall towards the camera.
    pub at: Vec3,
    pub light: Vec3,
}

impl Weather {
    pub fn new(hour: Hour, seed: u32) -> Self {
        let evening = Weather {
            hour,
            sun: None,
            glow: 1.0,
            lit: [1.0, 0.34, 1.0],
            fog: [0.0; 2],
            air: 7.0,
            blur: 0.0,
            noise: [0.9, 0.6, 0.006],
        };
        match hour {
            Hour::Evening => evening,
            Hour::Day => {
                let side = if cell(1, 0, seed) < 0.5 { -1.0 } else { 1.0 };
                let low = mix(0.75, 1.05, cell(2, 0, seed));
                Weather {
                    sun: Some(Sun {
                        at: unit([side * 0.5, low, 0.35]),
                        light: scale([1.0, 0.94, 0.84], 3.0),
                    }),
                    glow: 0.12,
                    air: 22.0,
                    noise: [2.2, 1.1, 0.005],
                    ..evening
                }
            }
            Hour::Dusk => Weather {
                lit: [0.7, 0.28, 1.0],
                air: 13.0,
                noise: [1.3, 0.8, 0.007],
                ..evening
            },
            Hour::Night => Weather {
                glow: 3.5,
                lit: [0.25, 0.16, 0.5],
                blur: 0.0035,
                noise: [1.3, 0.7, 0.008],
                ..evening
            },
            Hour::Fog => Weather {
                glow: 0.5,
                lit: [0.5, 0.2, 1.0],
                fog: [0.045, 0.016],
                air: 9.0,
                noise: [1.8, 1.0, 0.004],
                ..evening
            },
        }
    }

    /// Light from everywhere, and the colour that distance fades to.
    pub fn ambient_and_haze(&self) -> [Vec3; 2] {
        match self.hour {
            Hour::Evening => [[0.012, 0.016, 0.028], [0.020, 0.022, 0.034]],
            Hour::Day => [[0.58, 0.65, 0.78], [0.80, 0.88, 1.0]],
            Hour::Dusk => [[0.11, 0.12, 0.17], [0.16, 0.15, 0.17]],
            Hour::Night => [[0.009, 0.011, 0.017], [0.010, 0.011, 0.016]],
            Hour::Fog => [[0.72, 0.74, 0.77], [0.44, 0.45, 0.46]],
        }
    }

    /// How wet the road is, of how wet it could be.
    pub fn dampness(&self) -> f32 {
        match self.hour {
            Hour::Evening => 1.0,
            Hour::Dusk | Hour::Fog => 0.45,
            Hour::Night => 0.3,
            Hour::Day => 0.0,
        }
    }

    /// Share of the light that asphalt throws back; a wet one throws back less.
    pub fn asphalt(&self) -> f32 {
        match self.hour {
            Hour::Evening | Hour::Night => 0.085,
            Hour::Day => 0.19,
            Hour::Dusk | Hour::Fog => 0.13,
        }
    }

    /// Whether lamps are the light that one sees by.
    pub fn dark(&self) -> bool {
        matches!(self.hour, Hour::Evening | Hour::Dusk | Hour::Night)
    }

    /// Grey level of an apparent temperature.
    pub fn gain(&self, celsius: f32) -> f32 {
        match self.hour {
            // A steep middle so that people stand out, soft ends.
            Hour::Evening | Hour::Dusk => {
                let cold = 0.12 * smoothstep(-18.0, 4.0, celsius);
                let warm = 0.80 * ((celsius - 2.8) / 27.5).clamp(0.0, 1.0);
                let hot = 0.08 * (1.0 - exp(-(celsius - 26.0).max(0.0) / 14.0));
                cold + warm + hot
            }
            // A range set by the hottest thing leaves little for the rest.
            Hour::Night => {
                let cold = 0.13 * smoothstep(-4.0, 17.0, celsius);
                let t = ((celsius - 8.0) / 25.0).clamp(0.0, 1.0);
                let sky = 0.008 * smoothstep(-25.0, -5.0, celsius);
                sky + cold + 0.82 * t * t.sqrt() + 0.04 * smoothstep(33.0, 45.0, celsius)
            }
            Hour::Day => {
                let sky = 0.10 * smoothstep(-26.0, 14.0, celsius);
                sky + 0.88 * smoothstep(10.0, 46.0, celsius)
            }
            Hour::Fog => 0.20 + 0.021 * (celsius - 4.0),
        }
    }

    /// Temperature at this hour of what has `celsius` in the evening: by day all is warmer, and heated things differ less.
    fn temperature(&self, celsius: f32) -> f32 {
        let shift = self.air - 7.0;
        match self.hour {
            Hour::Day if celsius > 14.0 => 14.0 + shift + 0.45 * (celsius - 14.0),
            Hour::Evening | Hour::Night => celsius,
            _ => celsius + shift * smoothstep(30.0, 14.0, celsius),
        }
    }
}

impl Street {
    /// What the sky and the sun throw onto a surface.
    pub(super) fn daylight(&self, s: &Surface, sunshine: f32) -> Vec3 {
        if self.weather.hour == Hour::Evening {
            return self.ambient;
        }
        // The lower and the less upward, the less sky is seen.
        let open = 0.62 + 0.38 * s.normal[1].max(0.0);
        let sky = scale(self.ambient, open);
        let Some(sun) = self.weather.sun else {
            return sky;
        };
        let k = sunshine * dot(s.normal, sun.at).max(0.0);
        std::array::from_fn(|c| sky[c] + k * sun.light[c])
    }

    /// How much of the sun reaches a surface, 0 or 1.
    pub(super) fn sunshine(&self, s: &Surface, at: Vec3) -> f32 {
        let Some(sun) = self.weather.sun else {
            return 0.0;
        };
        if dot(s.normal, sun.at) <= 0.0 {
            return 0.0;
        }
        let from: Vec3 = std::array::from_fn(|c| at[c] + 0.04 * s.normal[c]);
        let (u, v) = (sun.at[0] / sun.at[2], sun.at[1] / sun.at[2]);
        let ray = Ray {
            ox: from[0] - u * from[2],
            oy: from[1] - v * from[2],
            u,
            v,
            start: from[2] + 0.01,
            pixel: 0.0,
            mirrored: true,
        };
        let dark = self.behind_houses(&ray) || self.things.iter().any(|t| t.shades(&ray));
        if dark { 0.0 } else { 1.0 }
    }

    fn behind_houses(&self, ray: &Ray) -> bool {
        let side = usize::from(ray.u > 0.0);
        let z = ((side as f32 * 2.0 - 1.0) * self.wall - ray.ox) / ray.u;
        let mut houses = self.sides[side].iter();
        z > ray.start && houses.any(|h| (h.from..h.to).contains(&z) && ray.y(z) < h.height)
    }

    /// Temperature of a surface under this hour's air and sun.
    pub(super) fn heated(&self, s: &Surface, sunshine: f32) -> f32 {
        let celsius = self.weather.temperature(s.celsius);
        let Some(sun) = self.weather.sun.filter(|_| s.z < 1e5) else {
            return celsius;
        };
        let dark = 1.0 - (s.albedo[0] + s.albedo[1] + s.albedo[2]) / 3.0;
        let lambert = dot(s.normal, sun.at).max(0.0);
        // What was in the sun before has kept some of its heat.
        celsius + 17.0 * dark * lambert * mix(0.35, 1.0, sunshine)
    }

    /// Light that a surface sends out by itself, of one colour. By day all of it is a glimmer.
    pub(super) fn own_light(&self, s: &Surface, colour: usize) -> f32 {
        let light = s.emission[colour];
        match self.weather.hour {
            _ if s.z > 1e5 => light,
            Hour::Day | Hour::Fog => self.weather.glow * light.min(3.0),
            Hour::Evening | Hour::Dusk | Hour::Night => self.weather.glow * light,
        }
    }

    /// What a smooth surface mirrors: the sky above, the opposite houses below.
    pub(super) fn gloss(&self, ray: &Ray, s: &Surface) -> Vec3 {
        if s.emissivity > 0.925 || self.weather.hour == Hour::Evening {
            return [0.0; 3];
        }
        let d = unit([ray.u, ray.v, 1.0]);
        let across = dot(d, s.normal);
        let up = d[1] - 2.0 * across * s.normal[1];
        let g = 1.0 + across.min(0.0);
        let share = 0.05 + 0.6 * g * g * g * g;
        let sky = smoothstep(-0.02, 0.30, up);
        scale(self.ambient, share * mix(0.25, 1.1, sky))
    }

    /// How much fog hides light and heat at a distance.
    pub(super) fn veils(&self, z: f32) -> [f32; 2] {
        let [light, heat] = self.weather.fog;
        if light > 0.0 {
            return [
                1.0 - exp(-light * z.min(1e4)),
                1.0 - exp(-heat * z.min(1e4)),
            ];
        }
        [smoothstep(20.0, 160.0, z) * 0.5, 0.0]
    }
}

impl Thing {
    /// Whether it stands in a line to the sun.
    fn shades(&self, ray: &Ray) -> bool {
        match self {
            Thing::Car(car) => car.shades(ray),
            Thing::Lamp(_) | Thing::Person(_) | Thing::Tree(_) | Thing::Sign(_) => {
                self.near() > ray.start && self.hit(ray).is_some()
            }
        }
    }
}

//! A street at several hours: one description, a thermal and a visible camera.
//!
//! The world is in metres: x to the right, y up from the road, z ahead of the camera. A surface
//! carries an albedo and an emission for the visible camera and a temperature and an emissivity for
//! the thermal one. The visible camera sees emitted light plus what lamps, headlights and shop
//! windows throw onto surfaces; the thermal camera sees what surfaces radiate by themselves plus,
//! where they are shiny, the cold sky.

mod backdrop;
mod car;
mod ground;
mod hour;
mod person;
mod plan;
mod props;
mod sensor;
mod sky;

use super::noise::{dot, mix, smoothstep, unit, value};
pub use hour::Hour;
pub use plan::Street;

type Vec3 = [f32; 3];

/// A line of sight: x = ox + u z, y = oy + v z, for z beyond `start`.
#[derive(Clone, Copy)]
struct Ray {
    ox: f32,
    oy: f32,
    u: f32,
    v: f32,
    start: f32,
    /// Size of a pixel at z = 1: textures finer than this fade out.
    pixel: f32,
    /// Mirrored in a wet road; such a ray meets the road no more.
    mirrored: bool,
}

impl Ray {
    fn x(&self, z: f32) -> f32 {
        self.ox + self.u * z
    }

    fn y(&self, z: f32) -> f32 {
        self.oy + self.v * z
    }

    /// How much of a texture with features of `size` metres survives at distance `z`.
    fn detail(&self, z: f32, size: f32) -> f32 {
        smoothstep(1.1, 0.25, self.pixel * z / size)
    }
}

/// What a line of sight ends on.
#[derive(Clone, Copy)]
struct Surface {
    z: f32,
    normal: Vec3,
    /// Share of the light that is thrown back, per colour.
    albedo: Vec3,
    /// Light of its own, per colour.
    emission: Vec3,
    /// Temperature in degrees Celsius.
    celsius: f32,
    /// 1 radiates its own temperature, less mirrors the cold sky.
    emissivity: f32,
}

impl Surface {
    fn new(z: f32, normal: Vec3, albedo: Vec3, celsius: f32) -> Self {
        Surface {
            z,
            normal,
            albedo,
            emission: [0.0; 3],
            celsius,
            emissivity: 0.95,
        }
    }

    fn glowing(mut self, emission: Vec3) -> Self {
        self.emission = emission;
        self
    }

    fn shiny(mut self, emissivity: f32) -> Self {
        self.emissivity = emissivity;
        self
    }
}

/// A small lamp with a cone of light.
#[derive(Clone, Copy)]
struct Light {
    at: Vec3,
    toward: Vec3,
    /// Cosines at which the cone is dark and at which it is full.
    cone: [f32; 2],
    colour: Vec3,
    /// Distance at which the light has faded to nothing.
    reach: f32,
}

/// Things that stand on the street, each with the distance at which it begins.
enum Thing {
    Person(person::Person),
    Car(car::Car),
    Lamp(props::Lamp),
    Tree(props::Tree),
    Sign(props::Sign),
}

impl Thing {
    fn near(&self) -> f32 {
        match self {
            Thing::Person(p) => p.z,
            Thing::Car(c) => c.z,
            Thing::Lamp(l) => l.z,
            Thing::Tree(t) => t.z,
            Thing::Sign(s) => s.z,
        }
    }

    fn hit(&self, ray: &Ray) -> Option<Surface> {
        match self {
            Thing::Person(p) => p.hit(ray),
            Thing::Car(c) => c.hit(ray),
            Thing::Lamp(l) => l.hit(ray),
            Thing::Tree(t) => t.hit(ray),
            Thing::Sign(s) => s.hit(ray),
        }
    }
}

impl Street {
    /// Red, green, blue radiance and apparent temperature along a line of sight.
    fn look(&self, ray: &Ray) -> [f32; 4] {
        let mut seen = self.backdrop(ray);
        for thing in &self.things {
            if thing.near() >= seen.z {
                break;
            }
            if thing.near() > ray.start
                && let Some(hit) = thing.hit(ray).filter(|h| h.z < seen.z)
            {
                seen = hit;
                break;
            }
        }
        let at = [ray.x(seen.z), ray.y(seen.z), seen.z];
        let sunshine = self.sunshine(&seen, at);
        let mut rgb = self.lit(&seen, at, sunshine);
        for (c, mirrored) in rgb.iter_mut().zip(self.gloss(ray, &seen)) {
            *c += mirrored;
        }
        // Shiny surfaces mirror their surroundings: those that face up, the cold sky.
        let up = smoothstep(-0.1, 0.8, seen.normal[1]);
        let around = mix(self.weather.air, self.sky_celsius, up);
        let mut celsius = mix(around, self.heated(&seen, sunshine), seen.emissivity);
        // Thin warm gas behind exhaust pipes: only the thermal camera sees it.
        for plume in &self.plumes {
            let d = [(at[0] - plume[0]) / 0.28, (at[1] - plume[1]) / 0.16];
            let q = d[0] * d[0] + d[1] * d[1];
            if q < 6.0 && seen.z > plume[2] {
                celsius += 9.0 * super::noise::exp(-q);
            }
        }
        if !ray.mirrored && at[1] < 0.02 && at[0].abs() < self.road_half {
            let wet = self.wetness(at);
            if wet > 0.01 {
                let mirror = self.mirrored(ray, at);
                // Schlick's rule: water mirrors more the flatter one looks onto it.
                let slope = -ray.v / (1.0 + ray.u * ray.u + ray.v * ray.v).sqrt();
                let g = 1.0 - slope.clamp(0.0, 1.0);
                let share = wet * (0.05 + 0.85 * g * g * g * g);
                let image = self.look(&mirror);
                for (c, m) in rgb.iter_mut().zip(image) {
                    *c = mix(*c, m, share);
                }
                celsius += 0.12 * wet * (image[3] - celsius).clamp(-8.0, 8.0);
            }
        }
        let [veil, damp] = self.veils(seen.z);
        for (c, h) in rgb.iter_mut().zip(self.haze) {
            *c = mix(*c, h, veil);
        }
        celsius = mix(celsius, self.weather.air, damp);
        [rgb[0], rgb[1], rgb[2], celsius]
    }

    fn mirrored(&self, ray: &Ray, at: Vec3) -> Ray {
        // Ripples tilt the mirror mostly along the line of sight: lights smear into columns.
        let coarse = value(at[0] * 3.0, at[2] * 4.0, self.seed ^ 11) - 0.5;
        let fine =
            ray.detail(at[2], 0.09) * (value(at[0] * 9.0, at[2] * 13.0, self.seed ^ 12) - 0.5);
        let v = -ray.v + (coarse + fine) * 0.045;
        let u = ray.u + fine * 0.012;
        Ray {
            ox: at[0] - u * at[2],
            oy: -v * at[2],
            u,
            v: v.max(1e-3),
            start: at[2] + 0.05,
            mirrored: true,
            ..*ray
        }
    }

    /// Emitted plus reflected light of a surface: inverse square law, Lambert's cosine.
    fn lit(&self, s: &Surface, at: Vec3, sunshine: f32) -> Vec3 {
        let mut sum = self.daylight(s, sunshine);
        for light in &self.lights {
            let to = [
                light.at[0] - at[0],
                light.at[1] - at[1],
                light.at[2] - at[2],
            ];
            let d2 = dot(to, to) + 0.15;
            let fade = 1.0 - d2 / (light.reach * light.reach);
            if fade <= 0.0 {
                continue;
            }
            let inv = 1.0 / d2.sqrt();
            let cone = -dot(to, light.toward) * inv;
            let w = smoothstep(light.cone[0], light.cone[1], cone);
            let lambert = dot(to, s.normal) * inv;
            if w > 0.0 && lambert > 0.0 {
                let k = w * lambert * fade * fade / d2;
                for (a, b) in sum.iter_mut().zip(light.colour) {
                    *a += k * b;
                }
            }
        }
        std::array::from_fn(|c| self.own_light(s, c) + s.albedo[c] * sum[c])
    }
}

//! Cars: a solid lofted from a side profile, met by stepping along the line of sight.

use super::super::Dice;
use super::super::noise::{exp, mix, mix3, scale, smoothstep, value};
use super::props::letter;
use super::{Ray, Surface, Vec3, unit};

/// A car whose nearer end is at `z`.
pub(super) struct Car {
    pub x: f32,
    pub z: f32,
    pub length: f32,
    pub oncoming: bool,
    pub running: bool,
    paint: Vec3,
    /// Degrees above the surroundings of the engine: running now or some time ago.
    engine: f32,
    height: f32,
    boxy: f32,
    seed: u32,
}

const PAINT: [Vec3; 7] = [
    [0.30, 0.31, 0.33],
    [0.05, 0.05, 0.06],
    [0.35, 0.05, 0.04],
    [0.06, 0.10, 0.25],
    [0.55, 0.55, 0.54],
    [0.10, 0.18, 0.13],
    [0.42, 0.34, 0.18],
];
/// Height of the outline, for a car one unit high, from the front bumper (0) to the rear one (1).
const SALOON: [[f32; 2]; 9] = [
    [0.00, 0.40],
    [0.03, 0.52],
    [0.26, 0.66],
    [0.43, 0.97],
    [0.56, 1.00],
    [0.70, 0.96],
    [0.86, 0.69],
    [0.97, 0.65],
    [1.00, 0.45],
];
const VAN: [[f32; 2]; 9] = [
    [0.00, 0.34],
    [0.03, 0.44],
    [0.16, 0.56],
    [0.32, 0.95],
    [0.45, 1.00],
    [0.70, 1.00],
    [0.90, 0.97],
    [0.985, 0.60],
    [1.00, 0.40],
];
const AXLES: [f32; 2] = [0.19, 0.81];

impl Car {
    pub fn new(dice: &mut Dice, x: f32, z: f32, oncoming: bool, running: bool) -> Self {
        let van = dice.chance(0.3);
        Car {
            x,
            z,
            length: dice.range(4.0, 4.6),
            oncoming,
            running,
            paint: dice.pick(&PAINT, [0.2; 3]),
            engine: if running {
                dice.range(15.0, 22.0)
            } else if dice.chance(0.3) {
                dice.range(4.0, 10.0)
            } else {
                0.0
            },
            height: if van {
                dice.range(1.7, 1.95)
            } else {
                dice.range(1.42, 1.52)
            },
            boxy: if van { 1.0 } else { 0.0 },
            seed: dice.bits(),
        }
    }

    /// Position along the car: 0 at its front bumper, 1 at its rear one.
    fn along(&self, z: f32) -> f32 {
        let t = (z - self.z) / self.length;
        if self.oncoming { t } else { 1.0 - t }
    }

    fn top(&self, s: f32) -> f32 {
        let at = |table: &[[f32; 2]; 9]| {
            let mut last = table[0];
            for &p in table {
                if s <= p[0] {
                    let t = (s - last[0]) / (p[0] - last[0]).max(1e-6);
                    return mix(last[1], p[1], t.clamp(0.0, 1.0));
                }
                last = p;
            }
            last[1]
        };
        self.height * mix(at(&SALOON), at(&VAN), self.boxy)
    }

    fn belt(&self) -> f32 {
        self.height * mix(0.655, 0.56, self.boxy)
    }

    /// Negative inside the body.
    fn body(&self, x: f32, y: f32, z: f32) -> f32 {
        let s = self.along(z);
        let end = (s - 0.5).abs() * 2.0;
        let e4 = end * end * end * end;
        let cabin = smoothstep(self.belt(), self.height, y) * mix(0.24, 0.12, self.boxy);
        let sill = smoothstep(0.42, 0.2, y) * 0.05;
        let half = 0.9 - 0.13 * e4 * e4 - cabin - sill;
        let tuck = smoothstep(0.45, 0.2, y) * 0.02;
        let ends = (end - 1.0 + tuck) * self.length * 0.5;
        let flat = (y - self.top(s)).max(x.abs() - half).max(0.22 - y);
        // A rounded edge where roof and side meet.
        let (a, b) = (y - self.top(s) + 0.09, x.abs() - half + 0.09);
        let round = if a > 0.0 && b > 0.0 {
            (a * a + b * b).sqrt() - 0.09
        } else {
            flat
        };
        flat.max(round).max(ends)
    }

    fn wheel(&self, x: f32, y: f32, z: f32) -> Option<f32> {
        if !(0.62..0.87).contains(&x.abs()) || y > 0.64 {
            return None;
        }
        let s = self.along(z);
        AXLES.iter().find_map(|a| {
            let (dz, dy) = ((s - a) * self.length, y - 0.32);
            let r = (dz * dz + dy * dy).sqrt();
            (r < 0.32).then_some(r)
        })
    }

    /// What a line of sight meets of this car, if anything.
    pub fn hit(&self, ray: &Ray) -> Option<Surface> {
        let far = self.z + self.length;
        let (x0, x1) = (ray.x(self.z) - self.x, ray.x(far) - self.x);
        let (y0, y1) = (ray.y(self.z), ray.y(far));
        if x0.min(x1) > 0.92 || x0.max(x1) < -0.92 || y0.min(y1) > self.height || y0.max(y1) < 0.0 {
            return None;
        }
        const STEPS: usize = 36;
        let mut before = self.z;
        for i in 0..=STEPS {
            let z = self.z + 0.004 + (self.length - 0.008) * i as f32 / STEPS as f32;
            let inside = |z: f32| {
                let (x, y) = (ray.x(z) - self.x, ray.y(z));
                y >= 0.0 && (self.body(x, y, z) < 0.0 || self.wheel(x, y, z).is_some())
            };
            if inside(z) {
                let (mut out, mut into) = (before, z);
                for _ in 0..5 {
                    let mid = (out + into) * 0.5;
                    if inside(mid) {
                        into = mid;
                    } else {
                        out = mid;
                    }
                }
                return Some(self.paint_at(ray, into));
            }
            before = z;
        }
        None
    }

    /// Whether it stands in a line to the sun, which may begin beside it.
    pub fn shades(&self, ray: &Ray) -> bool {
        let (u, v) = (ray.u, ray.v.max(1e-3));
        // Where the line is as high as the body and as far out.
        let mut from = self.z.max(ray.start).max((0.2 - ray.oy) / v);
        let mut to = (self.z + self.length).min((self.height - ray.oy) / v);
        if u.abs() > 1e-6 {
            let side = |x: f32| (self.x + x - ray.ox) / u;
            from = from.max(side(0.92).min(side(-0.92)));
            to = to.min(side(0.92).max(side(-0.92)));
        }
        const STEPS: usize = 24;
        let mut steps = 0..=STEPS;
        from < to
            && steps.any(|i| {
                let z = from + (to - from) * i as f32 / STEPS as f32;
                self.body(ray.x(z) - self.x, ray.y(z), z) < 0.0
            })
    }

    fn paint_at(&self, ray: &Ray, z: f32) -> Surface {
        let (x, y) = (ray.x(z) - self.x, ray.y(z));
        let s = self.along(z);
        let f = |x, y, z| self.body(x, y, z);
        let e = 0.02;
        let normal = unit([
            f(x + e, y, z) - f(x - e, y, z),
            f(x, y + e, z) - f(x, y - e, z),
            f(x, y, z + e) - f(x, y, z - e),
        ]);
        let heat = if self.running { 1.0 } else { 0.0 };
        if let Some(r) = self.wheel(x, y, z)
            && (x.abs() > 0.8 || self.body(x, y, z) > 0.0)
        {
            // Tyres are flexed warm, brakes warm the rim's middle.
            let rim = smoothstep(0.21, 0.19, r);
            let albedo = mix3([0.02; 3], [0.35; 3], rim);
            let warm = mix(13.0, 10.0, rim) + 9.0 * smoothstep(0.1, 0.04, r);
            return Surface::new(z, [x.signum(), 0.1, -0.2], albedo, 7.0 + heat * warm);
        }
        let skin = Surface::new(z, normal, self.paint, self.body_celsius(x, y, s)).shiny(0.88);
        let nose = s < 0.05 && normal[2] < -0.1;
        let tail = s > 0.93 && normal[2] < -0.1;
        if self.oncoming && nose && y < self.height * 0.56 {
            return self.front(skin, x, y);
        }
        if !self.oncoming && tail && y < self.belt() {
            return self.rear(skin, x, y);
        }
        let glass = y > self.belt() + 0.03
            && y < self.height * 0.955
            && (normal[1] < 0.93 && (0.2..0.97).contains(&s));
        if glass {
            // Pillars between the panes; glass mirrors sky and street lights.
            let post = [0.50, 0.72 + 0.1 * self.boxy];
            let pillar = normal[0].abs() > 0.6 && post.iter().any(|p| (s - p).abs() < 0.012);
            if !pillar {
                let sheen = smoothstep(0.2, 0.8, value(x * 2.0 + s * 5.0, y * 3.0, self.seed));
                return Surface::new(z, normal, [0.03, 0.035, 0.04], 9.0 + 2.0 * heat)
                    .shiny(0.78)
                    .glowing(scale([0.011, 0.013, 0.018], 0.4 + sheen));
            }
        }
        let seam = (y - 0.42).abs() < 0.012 && normal[0].abs() > 0.6;
        Surface {
            albedo: scale(self.paint, if seam { 0.4 } else { 1.0 }),
            ..skin
        }
    }

    /// Sheet metal loses heat to the sky, most on the roof; the engine warms bonnet and grille.
    fn body_celsius(&self, x: f32, y: f32, s: f32) -> f32 {
        let bonnet = smoothstep(0.36, 0.10, s) * exp(-x * x * 1.6);
        let sky = smoothstep(0.9, 1.5, y) * 2.5;
        7.5 - sky + self.engine * (bonnet + 0.12) * 0.85
    }

    fn front(&self, mut skin: Surface, x: f32, y: f32) -> Surface {
        let h = self.height;
        let lamp = ellipse(x.abs() - 0.66, y - h * 0.44, 0.15, 0.085);
        let on = if self.running { 1.0 } else { 0.0 };
        if lamp < 1.0 {
            skin.emission = scale([1.0, 0.97, 0.88], on * 45.0 * (1.15 - lamp));
            skin.albedo = [0.4; 3];
            skin.celsius += 12.0 * on;
        } else if x.abs() < 0.46 && (h * 0.36..h * 0.49).contains(&y) {
            let bars = ((y * 28.0).floor() as i32) & 1 == 0;
            skin.albedo = if bars { [0.02; 3] } else { [0.25; 3] };
            skin.celsius += self.engine * 0.5;
            skin.emissivity = 0.95;
        } else if !plate(&mut skin, x, y - 0.42, self.seed) && y < 0.34 {
            skin.albedo = [0.03; 3];
            skin.celsius += self.engine * 0.15;
        }
        skin
    }

    fn rear(&self, mut skin: Surface, x: f32, y: f32) -> Surface {
        let on = if self.running { 1.0 } else { 0.0 };
        let lamp = ellipse(
            x.abs() - 0.70,
            y - self.height * mix(0.56, 0.47, self.boxy),
            0.13,
            0.075,
        );
        if ellipse(x + 0.48, y - 0.28, 0.07, 0.055) < 1.0 {
            // The exhaust pipe: the hottest thing on the street, and dull dark metal to the eye.
            skin.albedo = [0.08; 3];
            skin.celsius += 40.0 * on;
            skin.emissivity = 0.95;
        } else if lamp < 1.0 {
            skin.albedo = [0.3, 0.02, 0.02];
            skin.emission = scale([1.0, 0.05, 0.03], on * 6.0 * (1.2 - lamp));
            skin.celsius += 4.0 * on;
        } else if plate(&mut skin, x, y - self.height * 0.42, self.seed) {
            skin.emission = scale(skin.albedo, 0.15 * on);
        } else if y < 0.36 {
            skin.albedo = [0.03; 3];
            skin.celsius += 5.0 * on * exp(-(x + 0.48) * (x + 0.48) * 9.0);
        }
        skin
    }
}

fn ellipse(x: f32, y: f32, rx: f32, ry: f32) -> f32 {
    let (a, b) = (x / rx, y / ry);
    a * a + b * b
}

fn plate(skin: &mut Surface, x: f32, y: f32, seed: u32) -> bool {
    if x.abs() > 0.26 || y.abs() > 0.06 {
        return false;
    }
    let column = (x + 0.24) / 0.08;
    let which = b'A' + (seed.wrapping_mul(column.floor() as u32 + 7) >> 13) as u8 % 24;
    let ink = letter(which, column - column.floor(), y / 0.09 + 0.5);
    skin.albedo = if ink { [0.05; 3] } else { [0.7; 3] };
    true
}

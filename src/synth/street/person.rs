//! Pedestrians: a flat silhouette of round limbs, warm skin and cooler clothes.

use super::super::Dice;
use super::super::noise::{fbm, mix, scale, sin, smoothstep};
use super::{Ray, Surface, Vec3};

/// Someone on foot, standing at `x` and `z`.
pub(super) struct Person {
    pub x: f32,
    pub z: f32,
    tall: f32,
    /// +1 or -1: walks across the picture that way; 0: walks along the street.
    heading: f32,
    stride: f32,
    build: f32,
    long_coat: bool,
    hat: bool,
    bag: bool,
    coat: Vec3,
    trousers: Vec3,
    skin: Vec3,
    coat_celsius: f32,
    seed: u32,
}

/// A limb from one joint to the next, in body heights, with a radius at each.
type Limb = [f32; 6];

const SKIN: [Vec3; 4] = [
    [0.55, 0.38, 0.29],
    [0.42, 0.27, 0.19],
    [0.24, 0.14, 0.10],
    [0.60, 0.44, 0.35],
];
const CLOTH: [Vec3; 7] = [
    [0.06, 0.06, 0.08],
    [0.10, 0.11, 0.17],
    [0.20, 0.05, 0.05],
    [0.13, 0.12, 0.09],
    [0.05, 0.09, 0.08],
    [0.24, 0.20, 0.13],
    [0.16, 0.16, 0.18],
];

impl Person {
    pub fn new(dice: &mut Dice, x: f32, z: f32, crossing: bool) -> Self {
        let sideways = crossing || dice.chance(0.3);
        Person {
            x,
            z,
            tall: if dice.chance(0.12) {
                dice.range(1.15, 1.35)
            } else {
                dice.range(1.62, 1.88)
            },
            heading: if !sideways {
                0.0
            } else if dice.chance(0.5) {
                1.0
            } else {
                -1.0
            },
            stride: dice.range(0.6, 1.0) * if dice.chance(0.5) { 1.0 } else { -1.0 },
            build: dice.range(0.92, 1.12),
            long_coat: dice.chance(0.35),
            hat: dice.chance(0.25),
            bag: dice.chance(0.3),
            coat: dice.pick(&CLOTH, [0.1; 3]),
            trousers: scale(dice.pick(&CLOTH, [0.1; 3]), 0.7),
            skin: dice.pick(&SKIN, [0.4; 3]),
            coat_celsius: dice.range(17.0, 23.0),
            seed: dice.bits(),
        }
    }

    /// What a line of sight meets of this person, if anything.
    pub fn hit(&self, ray: &Ray) -> Option<Surface> {
        let (dx, y) = (ray.x(self.z) - self.x, ray.y(self.z) / self.tall);
        let x = dx / self.tall;
        if x.abs() > 0.32 || !(0.0..1.04).contains(&y) {
            return None;
        }
        let (depth, part) = self.part(x, y);
        if depth <= 0.0 {
            return None;
        }
        // Cloth is warmest where it lies close and coolest in its folds and at the rim.
        let rim = smoothstep(0.0, 0.035, depth);
        let folds = fbm(x * 22.0, y * 14.0, 3, self.seed) - 0.5;
        let (albedo, celsius) = match part {
            Part::Skin => (self.skin, 32.5 + folds),
            Part::Hair => (scale(self.skin, 0.16), 25.0 + 2.0 * folds),
            Part::Hat => (scale(self.coat, 0.8), 20.0 + folds),
            Part::Coat => {
                let up = smoothstep(0.45, 0.85, y);
                (self.coat, self.coat_celsius + 2.5 * up + 4.0 * folds)
            }
            Part::Legs => (self.trousers, self.coat_celsius + 0.5 + 3.0 * folds),
            Part::Shoes => ([0.03, 0.03, 0.03], 14.0),
            Part::Bag => ([0.09, 0.06, 0.04], 11.0),
        };
        let shade = 1.0 + 0.9 * folds;
        // Seen from afar a body is a column: its normal turns away towards the rim.
        let side = (x / 0.14).clamp(-1.0, 1.0) * 0.6;
        let n = super::unit([side, 0.45, -0.65]);
        let celsius = mix(celsius - 3.5, celsius, rim);
        Some(Surface::new(self.z, n, scale(albedo, shade), celsius).shiny(0.98))
    }

    /// The part at a point in body heights, and how deep below the silhouette's rim it lies.
    fn part(&self, x: f32, y: f32) -> (f32, Part) {
        let b = self.build;
        let swing = self.stride * 0.085;
        let (h, walk) = (self.heading, self.heading != 0.0);
        let face = [x - h * 0.012, y];
        let mut best: (f32, Part) = (0.0, Part::Coat);
        let mut put = |depth: f32, part: Part| {
            if depth > 0.0 && best.1 == part {
                best.0 = depth.max(best.0);
            } else if depth > 0.0 {
                best = (depth, part);
            }
        };
        let limb = |l: Limb| capsule(x, y, l);
        // Legs: in profile they swing apart, from the front one is only a little forward.
        for side in [-1.0, 1.0] {
            let (hip, knee, foot, lift) = if walk {
                let f = side * swing;
                let back = side * self.stride * h < 0.0;
                let lift = if back { 0.03 } else { 0.0 };
                (side * 0.012, f * 0.75 + h * 0.02, f * 1.55, lift)
            } else {
                let lift = if side * self.stride > 0.0 { 0.02 } else { 0.0 };
                (side * 0.042 * b, side * 0.05, side * 0.048, lift)
            };
            put(
                limb([hip, 0.50, knee, 0.28, 0.062 * b, 0.042 * b]),
                Part::Legs,
            );
            put(
                limb([knee, 0.28, foot, 0.055 + lift, 0.042 * b, 0.028]),
                Part::Legs,
            );
            let toe = if walk { h * 0.055 } else { side * 0.014 };
            put(
                limb([foot, 0.022 + lift, foot + toe, 0.018 + lift, 0.024, 0.02]),
                Part::Shoes,
            );
        }
        let (chest, hips) = if walk { (0.082, 0.072) } else { (0.094, 0.08) };
        put(
            limb([0.0, 0.73, 0.0, 0.52, chest * b, hips * b]),
            Part::Coat,
        );
        if self.long_coat {
            put(
                limb([0.0, 0.60, swing * 0.15, 0.38, 0.08 * b, 0.095 * b]).min(y - 0.31),
                Part::Coat,
            );
        }
        let shoulder = if walk { 0.035 } else { 0.092 * b };
        for side in [-1.0, 1.0] {
            // From the neck the shoulders slope down, from there the chest narrows to the waist.
            put(
                limb([side * 0.02, 0.825, side * shoulder, 0.785, 0.03, 0.036]),
                Part::Coat,
            );
            put(
                limb([side * shoulder * 0.7, 0.76, side * 0.03, 0.56, 0.05, 0.06]),
                Part::Coat,
            );
        }
        for side in [-1.0, 1.0] {
            let (elbow, hand) = if walk {
                let f = -side * swing;
                (f * 0.7 - h * 0.02, f * 1.5 + h * 0.02)
            } else {
                (side * 0.128 * b, side * 0.118 * b)
            };
            let s = side * shoulder * if walk { 0.3 } else { 1.05 };
            put(limb([s, 0.775, elbow, 0.63, 0.036, 0.029]), Part::Coat);
            put(limb([elbow, 0.63, hand, 0.50, 0.029, 0.023]), Part::Coat);
            put(limb([hand, 0.475, hand, 0.462, 0.021, 0.019]), Part::Skin);
            if self.bag && side > 0.0 {
                let (bx, by) = ((x - hand).abs(), (y - 0.37).abs());
                put((0.055 - bx).min(0.065 - by), Part::Bag);
            }
        }
        put(limb([0.0, 0.845, h * 0.01, 0.88, 0.032, 0.032]), Part::Skin);
        let q = [face[0] / 0.056, (face[1] - 0.922) / 0.075];
        let head = (1.0 - (q[0] * q[0] + q[1] * q[1]).sqrt()) * 0.055;
        let away = h == 0.0 && self.seed & 1 == 0;
        let line = 0.955 + 0.5 * h * face[0] + 0.004 * sin(face[0] * 90.0);
        let hair = if away { y > 0.885 } else { y > line };
        let top = if self.hat { Part::Hat } else { Part::Hair };
        put(head, if hair { top } else { Part::Skin });
        if self.hat {
            put(
                limb([
                    -0.03 + h * 0.02,
                    0.955,
                    0.03 + h * 0.05,
                    0.955,
                    0.018,
                    0.014,
                ]),
                Part::Hat,
            );
        }
        best
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Part {
    Skin,
    Hair,
    Hat,
    Coat,
    Legs,
    Shoes,
    Bag,
}

/// Depth inside a limb; negative outside.
fn capsule(x: f32, y: f32, [ax, ay, bx, by, ra, rb]: Limb) -> f32 {
    let (dx, dy) = (bx - ax, by - ay);
    let t = (((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy).max(1e-9)).clamp(0.0, 1.0);
    let (ex, ey) = (x - ax - t * dx, y - ay - t * dy);
    mix(ra, rb, t) - (ex * ex + ey * ey).sqrt()
}

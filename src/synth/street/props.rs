//! Street lamps, trees, hanging signs and a tiny alphabet for lettering.

use super::super::noise::{fbm, mix, scale, smoothstep};
use super::{Ray, Surface, Vec3};

/// A street lamp: pole, arm and a warm, bright head.
pub(super) struct Lamp {
    pub x: f32,
    pub z: f32,
    pub arm: f32,
    pub height: f32,
    pub colour: Vec3,
    pub celsius: f32,
}

impl Lamp {
    pub fn hit(&self, ray: &Ray) -> Option<Surface> {
        let (x, y) = (ray.x(self.z) - self.x, ray.y(self.z));
        if !(0.0..=self.height + 0.2).contains(&y) {
            return None;
        }
        let head = [
            (x - self.arm) / 0.34,
            (y - self.height) / if y < self.height { 0.10 } else { 0.13 },
        ];
        let q = head[0] * head[0] + head[1] * head[1];
        if q < 1.0 {
            let below = y < self.height;
            let glow = if below { 34.0 } else { 0.4 };
            return Some(
                Surface::new(self.z, [0.0, 0.0, -1.0], [0.2; 3], self.celsius)
                    .glowing(scale(self.colour, glow)),
            );
        }
        let width = mix(0.085, 0.05, y / self.height);
        let on_arm = x * self.arm > 0.0 && x.abs() < self.arm.abs();
        let rise = self.height - 0.28 + 0.3 * (x / self.arm).clamp(0.0, 1.0);
        let pole = x.abs() < width && y < self.height - 0.1;
        if pole || (on_arm && (y - rise).abs() < 0.045) {
            // Thin metal follows the air and mirrors some sky.
            let n = super::unit([x / width.max(0.01), 0.2, -0.8]);
            return Some(Surface::new(self.z, n, [0.10, 0.11, 0.11], 6.0).shiny(0.8));
        }
        None
    }
}

/// A street tree: a trunk and a cloud of leaves at air temperature.
pub(super) struct Tree {
    pub x: f32,
    pub z: f32,
    pub radius: f32,
    pub height: f32,
    pub seed: u32,
}

impl Tree {
    pub fn hit(&self, ray: &Ray) -> Option<Surface> {
        let (x, y) = (ray.x(self.z) - self.x, ray.y(self.z));
        if x.abs() > self.radius * 1.5 || !(0.0..self.height + self.radius * 1.6).contains(&y) {
            return None;
        }
        let (a, b) = (x / self.radius, (y - self.height) / (self.radius * 1.15));
        let r = (a * a + b * b).sqrt();
        let clumps = fbm(x * 1.7, y * 1.7, 2, self.seed);
        let leaves = fbm(x * 7.0, y * 7.0, 3, self.seed ^ 5);
        if r < 0.55 + 0.75 * clumps && leaves + 0.35 * (1.0 - r) > 0.42 {
            let shade = 0.35 + 1.3 * smoothstep(0.35, 0.75, leaves);
            let n = super::unit([a * 0.7, 0.25 + b * 0.4, -0.6]);
            let green = scale([0.11, 0.19, 0.06], shade);
            let celsius = 5.0 + 1.6 * (clumps - 0.5) + 1.2 * (leaves - 0.5);
            return Some(Surface::new(self.z, n, green, celsius));
        }
        let bend = 0.1 * (fbm(y * 0.8, 0.5, 2, self.seed ^ 9) - 0.5);
        let trunk = mix(0.17, 0.09, y / self.height);
        if (x - bend).abs() < trunk && y < self.height {
            let bark = 0.6 + 0.8 * fbm(x * 20.0, y * 5.0, 2, self.seed ^ 3);
            let n = super::unit([(x - bend) / trunk, 0.2, -0.8]);
            return Some(Surface::new(
                self.z,
                n,
                scale([0.11, 0.08, 0.06], bark),
                8.8,
            ));
        }
        None
    }
}

/// A lit sign that hangs out from a house with its word from top to bottom.
pub(super) struct Sign {
    pub x: f32,
    pub z: f32,
    pub low: f32,
    pub colour: Vec3,
    pub word: &'static str,
}

impl Sign {
    pub fn hit(&self, ray: &Ray) -> Option<Surface> {
        let (x, y) = (ray.x(self.z) - self.x, ray.y(self.z) - self.low);
        let count = self.word.len() as f32;
        let tall = count * 0.62 + 0.2;
        if x.abs() > 0.36 || !(0.0..tall).contains(&y) {
            return None;
        }
        let rim = x.abs() > 0.32 || y < 0.04 || y > tall - 0.04;
        let line = (tall - 0.1 - y) / 0.62;
        let (i, part) = (line.floor(), 1.0 - (line - line.floor()));
        let ink = self
            .word
            .as_bytes()
            .get(i.max(0.0) as usize)
            .is_some_and(|&l| line >= 0.0 && letter(l, (x + 0.24) / 0.48, part * 1.25 - 0.14));
        let light = if rim {
            scale(self.colour, 0.7)
        } else if ink {
            scale(self.colour, 3.2)
        } else {
            scale(self.colour, 0.05)
        };
        // To the thermal camera it is a lukewarm box without lettering.
        let face = Surface::new(self.z, [0.0, 0.0, -1.0], [0.06; 3], 13.0);
        Some(face.glowing(light))
    }
}

/// Rows of three bits from the top; only the letters that signs and plates use look like letters.
const FONT: [u16; 26] = [
    0b010_101_111_101_101, // A
    0b110_101_110_101_110, // B
    0b011_100_100_100_011, // C
    0b110_101_101_101_110, // D
    0b111_100_110_100_111, // E
    0b111_100_110_100_100, // F
    0b011_100_101_101_011, // G
    0b101_101_111_101_101, // H
    0b111_010_010_010_111, // I
    0b001_001_001_101_010, // J
    0b101_101_110_101_101, // K
    0b100_100_100_100_111, // L
    0b101_111_111_101_101, // M
    0b110_101_101_101_101, // N
    0b010_101_101_101_010, // O
    0b110_101_110_100_100, // P
    0b010_101_101_110_011, // Q
    0b110_101_110_101_101, // R
    0b011_100_010_001_110, // S
    0b111_010_010_010_010, // T
    0b101_101_101_101_111, // U
    0b101_101_101_101_010, // V
    0b101_101_111_111_101, // W
    0b101_101_010_101_101, // X
    0b101_101_010_010_010, // Y
    0b111_001_010_100_111, // Z
];

/// Whether a capital letter has ink at a point of its cell; (0, 0) is bottom left, 1 the far sides.
pub(super) fn letter(which: u8, x: f32, y: f32) -> bool {
    if !(0.0..1.0).contains(&x) || !(0.0..1.0).contains(&y) {
        return false;
    }
    let (column, row) = ((x * 3.0) as u32, ((1.0 - y) * 5.0) as u32);
    let bits = FONT.get(which.wrapping_sub(b'A') as usize).copied();
    let bit = 14u32.saturating_sub(row.min(4) * 3 + column.min(2));
    bits.is_some_and(|b| b >> bit & 1 == 1)
}

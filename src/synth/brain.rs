//! An axial slice through a head: MRI contrast and PET activity from one anatomy.
//!
//! Lengths are in half head heights; x to the image's right, y towards the face. Tissue is decided
//! per point and looked up in a table of signal strengths (MRI) and of sugar uptake (PET).

use super::Dice;
use super::noise::{angle, cell, exp, fbm, gauss, mix, mix3, smoothstep, value};
use super::raster::{Plane, byte, supersample};

/// The anatomy of one head and how the two scanners are set.
pub struct Brain {
    seed: u32,
    /// Sine of the head's tilt in the picture.
    tilt: f32,
    width: f32,
    ventricle: f32,
    t2: bool,
    rainbow: bool,
    lesion: Lesion,
}

struct Lesion {
    at: [f32; 2],
    radius: f32,
    hot: bool,
}

/// Signal and activity of a point, before the scanners blur them.
#[derive(Clone, Copy)]
struct Tissue {
    t1: f32,
    t2: f32,
    uptake: f32,
}

const fn tissue(t1: f32, t2: f32, uptake: f32) -> Tissue {
    Tissue { t1, t2, uptake }
}

const AIR: Tissue = tissue(0.0, 0.0, 0.0);
const FAT: Tissue = tissue(0.92, 0.66, 0.05);
const MUSCLE: Tissue = tissue(0.42, 0.30, 0.10);
const BONE: Tissue = tissue(0.06, 0.05, 0.02);
const MARROW: Tissue = tissue(0.55, 0.38, 0.05);
const FLUID: Tissue = tissue(0.13, 0.95, 0.05);
const GREY: Tissue = tissue(0.50, 0.58, 1.0);
const WHITE: Tissue = tissue(0.80, 0.37, 0.26);
const NUCLEI: Tissue = tissue(0.57, 0.48, 1.02);

impl Brain {
    /// Throws the dice for one head.
    pub fn new(dice: &mut Dice) -> Self {
        let seed = dice.bits();
        let side = if dice.chance(0.5) { 1.0 } else { -1.0 };
        Brain {
            seed,
            tilt: dice.range(-0.06, 0.06),
            width: dice.range(0.80, 0.86),
            ventricle: dice.range(0.8, 1.25),
            t2: dice.chance(0.5),
            rainbow: dice.chance(0.5),
            lesion: Lesion {
                at: [side * dice.range(0.30, 0.42), dice.range(-0.38, 0.42)],
                radius: dice.range(0.075, 0.12),
                hot: dice.chance(0.6),
            },
        }
    }

    /// The MRI (grey) and PET (red, green, blue) bytes of the picture.
    pub fn draw(&self, width: usize, height: usize) -> (Vec<u8>, Vec<u8>) {
        let (w, h) = (width as f32, height as f32);
        // The head fills nine tenths of the shorter side.
        let scale = 1.0 / (0.46 * h.min(w / 0.86));
        let cosine = (1.0 - self.tilt * self.tilt).sqrt();
        let [mri, pet] = supersample(width, height, 3, [0.03, 0.03], |px, py| {
            let (x, y) = ((px - w * 0.5) * scale, (h * 0.5 - py) * scale);
            let (x, y) = (x * cosine + y * self.tilt, y * cosine - x * self.tilt);
            let t = self.at(x, y);
            // The receiving coils hear the near side a little better.
            let coil = 1.0 + 0.10 * x - 0.08 * y;
            [if self.t2 { t.t2 } else { t.t1 } * coil, t.uptake]
        });
        (self.mri(&mri, scale), self.pet(&pet, scale))
    }

    /// A magnitude image: noise on the real and imaginary part makes it Rician.
    fn mri(&self, signal: &Plane, scale: f32) -> Vec<u8> {
        let soft = signal.blur(0.0035 / scale);
        let w = signal.width;
        let pixel = |(i, s): (usize, &f32)| {
            let (x, y) = ((i % w) as i32, (i / w) as i32);
            let re = s + 0.011 * gauss(x, y, self.seed ^ 301);
            let im = 0.011 * gauss(x, y, self.seed ^ 302);
            byte((re * re + im * im).sqrt() * 0.95)
        };
        soft.data.iter().enumerate().map(pixel).collect()
    }

    /// Positrons travel and crystals are wide, so activity is seen smeared; counts are few, so the
    /// reconstruction is blotchy in proportion to the root of the activity.
    fn pet(&self, uptake: &Plane, scale: f32) -> Vec<u8> {
        let soft = uptake.blur(0.030 / scale);
        let w = uptake.width;
        let mut bytes = Vec::with_capacity(soft.data.len() * 3);
        for (i, a) in soft.data.iter().enumerate() {
            let (x, y) = ((i % w) as f32 * scale, (i / w) as f32 * scale);
            let blotch = fbm(x * 26.0, y * 26.0, 2, self.seed ^ 401) - 0.5;
            let count = a + 0.16 * blotch * a.max(0.0).sqrt();
            bytes.extend(self.colour(count * 0.86 - 0.015).map(byte));
        }
        bytes
    }

    fn colour(&self, v: f32) -> [f32; 3] {
        let table: &[[f32; 3]] = if self.rainbow { &RAINBOW } else { &HOT_METAL };
        let t = v.clamp(0.0, 1.0) * (table.len() - 1) as f32;
        let i = (t as usize).min(table.len() - 2);
        mix3(table[i], table[i + 1], t - i as f32)
    }

    /// Layers from outside in: scalp, skull with marrow, fluid, folded cortex, white matter, and in
    /// the middle ventricles and nuclei.
    fn at(&self, x: f32, y: f32) -> Tissue {
        // Low-frequency warping keeps the ellipses from looking drawn with a compass.
        let wx = x + 0.03 * (value(x * 2.0, y * 2.0, self.seed ^ 1) - 0.5);
        let wy = y + 0.03 * (value(x * 2.0, y * 2.0, self.seed ^ 2) - 0.5);
        // The back of the head is broader than the forehead.
        let half = self.width * (1.0 - 0.07 * wy);
        let r = ((wx / half) * (wx / half) + wy * wy).sqrt();
        let skin = 0.985 - r;
        if skin < 0.0 {
            return AIR;
        }
        let bone = 0.055 + 0.012 * value(x * 3.0, y * 3.0, self.seed ^ 3);
        let temple = smoothstep(0.5, 0.8, x.abs()) * smoothstep(0.55, 0.2, (y - 0.25).abs());
        let scalp = 0.035 + 0.022 * temple;
        if skin < scalp {
            let deep = temple > 0.2 && skin > 0.022;
            let rim = smoothstep(0.0, 0.012, skin);
            let t = if deep { MUSCLE } else { FAT };
            return fade(MUSCLE, t, rim);
        }
        let inner = skin - scalp;
        if inner < bone {
            let m = smoothstep(0.30, 0.16, (inner / bone - 0.5).abs());
            let grain = value(x * 40.0, y * 40.0, self.seed ^ 4);
            return fade(BONE, MARROW, m * (0.55 + 0.45 * grain));
        }
        self.inside(x, y, wx, wy, inner - bone)
    }

    fn inside(&self, x: f32, y: f32, wx: f32, wy: f32, depth: f32) -> Tissue {
        let mirrored = wx.abs();
        // Distance to the nearest fluid at the cortex: the outer surface or a furrow.
        let surface = depth - 0.018 - 0.012 * fbm(x * 5.0, y * 5.0, 2, self.seed ^ 5);
        let midline = wx - 0.012 * (fbm(y * 6.0, 3.0, 2, self.seed ^ 6) - 0.5);
        // The halves part in front of and behind the corpus callosum.
        let fissure = segment(midline, wy, [0.0, 0.41], [0.0, 1.2]).min(segment(
            midline,
            wy,
            [0.0, -0.36],
            [0.0, -1.2],
        ));
        let insula = self.insula(mirrored, wy);
        let furrow = self.furrows(x, y, surface.min(fissure));
        let near = surface.min(fissure - 0.006).min(insula - 0.008).min(furrow);
        let fine = value(x * 60.0, y * 60.0, self.seed ^ 7) - 0.5;
        if near < 0.0 {
            return fade(GREY, FLUID, smoothstep(0.004, -0.006, near).max(0.35));
        }
        let deep = self.deep(mirrored, wy, x);
        let thick = 0.031 + 0.008 * (value(x * 8.0, y * 8.0, self.seed ^ 8) - 0.5);
        let mut grey = smoothstep(thick + 0.008, thick - 0.006, near);
        // Cortex ends at the corpus callosum: no ribbon along the ventricles.
        grey *= 1.0 - 0.9 * smoothstep(0.02, -0.01, deep.callosum);
        let mut t = fade(WHITE, GREY, grey);
        t = fade(t, NUCLEI, smoothstep(0.008, -0.008, deep.nuclei));
        t = fade(t, FLUID, smoothstep(0.006, -0.006, deep.fluid));
        // Visual and frontal cortex use most sugar.
        let region = 0.92 + 0.12 * smoothstep(0.45, 0.85, -y) + 0.07 * smoothstep(0.4, 0.8, y);
        t.uptake *= region + 0.14 * (fbm(x * 4.0, y * 4.0, 2, self.seed ^ 9) - 0.5);
        let cloud = fbm(x * 5.0, y * 5.0, 3, self.seed ^ 20) - 0.5;
        t.t1 += 0.035 * fine + 0.07 * cloud;
        t.t2 += 0.030 * fine - 0.07 * cloud;
        self.with_lesion(t, x, y)
    }

    /// Furrows run inwards from the surface and from the midline, square to the long axis of their
    /// half of the brain and about a centimetre apart; each has its own depth, and warping of the
    /// plane makes them wind, fork and meet.
    fn furrows(&self, x: f32, y: f32, outside: f32) -> f32 {
        let warp = |x: f32, k: u32| {
            0.15 * (value(x, y * 5.0, self.seed ^ k) - 0.5)
                + 0.06 * (value(x * 2.4, y * 12.0, self.seed ^ k ^ 64) - 0.5)
        };
        let (wx, wy) = (x + warp(x * 5.0, 10), y + warp(x * 5.0 + 7.0, 11));
        let (axis, ends, pitch) = (0.33, 0.42, 0.15);
        let dx = wx.abs() - axis;
        let mid = wy.clamp(-ends, ends);
        let dy = wy - mid;
        let r = (dx * dx + dy * dy).sqrt();
        let place = (mid + angle(dy, dx.abs()) * axis) / pitch;
        let stretch = if dy == 0.0 {
            1.0
        } else {
            (r / axis).clamp(0.5, 1.6)
        };
        let half = i32::from(x < 0.0) * 2 + i32::from(dx < 0.0);
        let index = place.floor();
        let draw = |k| cell(index as i32, half, self.seed ^ k);
        let line = (place - index - 0.38 - 0.24 * draw(12)).abs() * pitch * stretch;
        let longest = if dx < 0.0 { 0.13 } else { 0.33 };
        let callosal = if dx < 0.0 {
            slope(0.56, 0.48, y.abs()) * 0.2
        } else {
            0.0
        };
        let reach = longest * (0.4 + 0.6 * draw(13)) - callosal;
        let main = line - 0.007 + slope(reach - 0.03, reach + 0.03, outside) * 0.1;
        // Short cross furrows between the long ones.
        let cross = (value(x * 6.0, y * 6.0, self.seed ^ 17) - 0.5).abs() / 8.0 - 0.005;
        let gate = slope(0.27, 0.33, value(x * 4.0, y * 4.0, self.seed ^ 18)).max(slope(
            0.14,
            0.17,
            outside + 0.5 * callosal,
        ));
        main.min(cross + 0.1 * gate)
    }

    /// The deep furrow at each side that folds over the insula: a slanted path inwards and a fork.
    fn insula(&self, x: f32, y: f32) -> f32 {
        let x = x + 0.07 * (value(x * 7.0, y * 7.0, self.seed ^ 14) - 0.5);
        let y = y + 0.07 * (value(x * 7.0, y * 7.0, self.seed ^ 19) - 0.5);
        let a = segment(x, y, [0.80, 0.02], [0.56, 0.09]);
        let b = segment(x, y, [0.56, 0.09], [0.49, 0.17]);
        let c = segment(x, y, [0.49, 0.17], [0.47, 0.29]);
        let d = segment(x, y, [0.56, 0.09], [0.53, -0.08]);
        a.min(b).min(c).min(d)
    }

    /// Signed distances (negative inside) of the parts around the middle; x is the distance from
    /// the midline, `side` keeps its sign so that the halves differ a little.
    fn deep(&self, x: f32, y: f32, side: f32) -> Deep {
        let v = self.ventricle * if side < 0.0 { 1.05 } else { 0.97 };
        let wave = 0.014 * (fbm(side * 7.0, y * 7.0, 2, self.seed ^ 15) - 0.5);
        // Frontal horns spread forwards, the bodies run along the middle, occipital horns spread back.
        let horns = (segment(x, y, [0.045, 0.13], [0.075, 0.22]) - 0.034 * v)
            .min(segment(x, y, [0.075, 0.22], [0.135, 0.295]) - 0.030 * v)
            .min(segment(x, y, [0.03, 0.03], [0.045, 0.13]) - 0.018 * v)
            .min(segment(x, y, [0.125, -0.20], [0.19, -0.28]) - 0.030 * v)
            .min(segment(x, y, [0.19, -0.28], [0.205, -0.37]) - 0.042 * v)
            .min(segment(x, y, [0.205, -0.37], [0.165, -0.47]) - 0.024 * v);
        let third = segment(x, y, [0.0, 0.0], [0.0, -0.13]) - 0.013 * v;
        let wall = 0.008 - x;
        let fluid = horns.max(wall).min(third) + wave;
        let caudate = ellipse(x, y, [0.165, 0.19], [0.042, 0.10], 0.25);
        let putamen = ellipse(x, y, [0.335, 0.075], [0.062, 0.165], -0.22);
        let pallidum = ellipse(x, y, [0.255, 0.03], [0.036, 0.085], -0.3);
        let thalamus = ellipse(x, y, [0.105, -0.09], [0.085, 0.125], 0.35);
        Deep {
            fluid,
            nuclei: caudate.min(putamen).min(pallidum + 0.006).min(thalamus) + wave,
            callosum: ellipse(x, y, [0.0, -0.02], [0.24, 0.42], 0.0),
        }
    }

    /// A swollen spot: fluid-like in MRI with a brighter rim; it burns sugar or is dead to the PET.
    fn with_lesion(&self, t: Tissue, x: f32, y: f32) -> Tissue {
        let l = &self.lesion;
        let (dx, dy) = (x - l.at[0], y - l.at[1]);
        let rough = 0.35 * (fbm(x * 9.0, y * 9.0, 3, self.seed ^ 16) - 0.5);
        let d = (dx * dx + dy * dy).sqrt() / l.radius + rough;
        let core = smoothstep(1.04, 0.92, d);
        let swelling = smoothstep(1.9, 1.0, d) * 0.5;
        let rim = exp(-(d - 0.95) * (d - 0.95) * 90.0);
        let spot = if l.hot {
            tissue(0.40 + 0.38 * rim, 0.74, 1.55)
        } else {
            tissue(0.30 + 0.25 * rim, 0.82, 0.08)
        };
        let wet = tissue(t.t1 * 0.78, mix(t.t2, 0.75, 0.6), t.uptake * 0.9);
        fade(fade(t, wet, swelling), spot, core)
    }
}

struct Deep {
    fluid: f32,
    nuclei: f32,
    callosum: f32,
}

const RAINBOW: [[f32; 3]; 8] = [
    [0.0, 0.0, 0.0],
    [0.10, 0.02, 0.35],
    [0.05, 0.18, 0.85],
    [0.0, 0.65, 0.75],
    [0.15, 0.80, 0.20],
    [0.95, 0.88, 0.10],
    [0.98, 0.35, 0.05],
    [1.0, 0.92, 0.86],
];
const HOT_METAL: [[f32; 3]; 7] = [
    [0.0, 0.0, 0.0],
    [0.22, 0.0, 0.16],
    [0.55, 0.04, 0.14],
    [0.86, 0.22, 0.04],
    [0.98, 0.55, 0.05],
    [1.0, 0.86, 0.30],
    [1.0, 1.0, 0.92],
];

fn fade(a: Tissue, b: Tissue, t: f32) -> Tissue {
    tissue(
        mix(a.t1, b.t1, t),
        mix(a.t2, b.t2, t),
        mix(a.uptake, b.uptake, t),
    )
}

/// 0 up to `a`, then rising evenly to 1 at `b`.
fn slope(a: f32, b: f32, x: f32) -> f32 {
    ((x - a) / (b - a)).clamp(0.0, 1.0)
}

fn segment(x: f32, y: f32, a: [f32; 2], b: [f32; 2]) -> f32 {
    let (dx, dy) = (b[0] - a[0], b[1] - a[1]);
    let t = (((x - a[0]) * dx + (y - a[1]) * dy) / (dx * dx + dy * dy)).clamp(0.0, 1.0);
    let (ex, ey) = (x - a[0] - t * dx, y - a[1] - t * dy);
    (ex * ex + ey * ey).sqrt()
}

/// About the signed distance to an ellipse whose long axis leans by `lean` (as a slope).
fn ellipse(x: f32, y: f32, at: [f32; 2], radii: [f32; 2], lean: f32) -> f32 {
    let (dx, dy) = (x - at[0] - lean * (y - at[1]), y - at[1]);
    let (a, b) = (dx / radii[0], dy / radii[1]);
    ((a * a + b * b).sqrt() - 1.0) * radii[0].min(radii[1])
}

//! Hashes, value noise and the few transcendental functions that the scenes need.
//!
//! Everything here is made of integer arithmetic and of IEEE additions, multiplications, divisions
//! and square roots, which give the same bits on every machine; the platform's `exp` or `sin` may not.

/// Mixes two lattice coordinates and a seed into 32 well-spread bits.
pub fn hash(x: i32, y: i32, seed: u32) -> u32 {
    let mut h = (x as u32).wrapping_mul(0x9E37_79B1)
        ^ (y as u32).wrapping_mul(0x85EB_CA77).rotate_left(13)
        ^ seed.wrapping_mul(0xC2B2_AE3D);
    h = (h ^ (h >> 16)).wrapping_mul(0x7FEB_352D);
    h = (h ^ (h >> 15)).wrapping_mul(0x846C_A68B);
    h ^ (h >> 16)
}

/// A uniform number in [0, 1) for a lattice cell.
pub fn cell(x: i32, y: i32, seed: u32) -> f32 {
    (hash(x, y, seed) >> 8) as f32 / 16_777_216.0
}

/// A number with mean 0, variance 1 and a bell-shaped density (four uniform numbers summed).
pub fn gauss(x: i32, y: i32, seed: u32) -> f32 {
    let (a, b) = (hash(x, y, seed), hash(x, y, seed ^ 0x5BD1_E995));
    let sum = (a & 0xFFFF) + (a >> 16) + (b & 0xFFFF) + (b >> 16);
    (sum as f32 / 65_536.0 - 2.0) * 1.732_050_8
}

/// Smooth noise in [0, 1] with features about one unit wide.
pub fn value(x: f32, y: f32, seed: u32) -> f32 {
    let (x0, y0) = (x.floor(), y.floor());
    let (fx, fy) = (ease(x - x0), ease(y - y0));
    let (i, j) = (x0 as i32, y0 as i32);
    let top = mix(cell(i, j, seed), cell(i.wrapping_add(1), j, seed), fx);
    let j1 = j.wrapping_add(1);
    let low = mix(cell(i, j1, seed), cell(i.wrapping_add(1), j1, seed), fx);
    mix(top, low, fy)
}

/// Octaves of [`value`] noise, each turned so that the lattice does not show; in [0, 1].
pub fn fbm(mut x: f32, mut y: f32, octaves: u32, seed: u32) -> f32 {
    let (mut sum, mut total, mut amp) = (0.0, 0.0, 1.0);
    for o in 0..octaves {
        sum += amp * value(x, y, seed.wrapping_add(o.wrapping_mul(0x68E3_1DA4)));
        total += amp;
        amp *= 0.5;
        (x, y) = (1.6 * x + 1.2 * y + 3.7, 1.6 * y - 1.2 * x + 9.1);
    }
    sum / total
}

fn ease(t: f32) -> f32 {
    t * t * t * (t * (t * 6.0 - 15.0) + 10.0)
}

/// Linear blend from `a` (t = 0) to `b` (t = 1).
pub fn mix(a: f32, b: f32, t: f32) -> f32 {
    a + (b - a) * t
}

/// Linear blend of two colours.
pub fn mix3(a: [f32; 3], b: [f32; 3], t: f32) -> [f32; 3] {
    [mix(a[0], b[0], t), mix(a[1], b[1], t), mix(a[2], b[2], t)]
}

/// A colour times a number.
pub fn scale(a: [f32; 3], k: f32) -> [f32; 3] {
    [a[0] * k, a[1] * k, a[2] * k]
}

/// Scalar product of two vectors.
pub fn dot(a: [f32; 3], b: [f32; 3]) -> f32 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

/// A vector of length 1 in the same direction.
pub fn unit(a: [f32; 3]) -> [f32; 3] {
    scale(a, 1.0 / dot(a, a).max(1e-12).sqrt())
}

/// 0 below `a`, 1 above `b`, smooth between; falls instead of rises where `a > b`.
pub fn smoothstep(a: f32, b: f32, x: f32) -> f32 {
    let t = ((x - a) / (b - a)).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

/// `e` to the power `x`, to about 1e-6 relative.
pub fn exp(x: f32) -> f32 {
    let x = x.clamp(-80.0, 80.0);
    let k = (x * core::f32::consts::LOG2_E + 0.5).floor();
    let r = x - k * core::f32::consts::LN_2;
    let p = 1.0
        + r * (1.0
            + r * (0.5 + r * (1.0 / 6.0 + r * (1.0 / 24.0 + r * (1.0 / 120.0 + r / 720.0)))));
    p * f32::from_bits(((k as i32 + 127) as u32) << 23)
}

/// Sine of an angle in radians, to about 1e-5.
pub fn sin(x: f32) -> f32 {
    use core::f32::consts::{PI, TAU};
    let mut r = x - TAU * (x / TAU + 0.5).floor();
    if r > PI * 0.5 {
        r = PI - r;
    } else if r < -PI * 0.5 {
        r = -PI - r;
    }
    let q = r * r;
    r * (1.0 - q / 6.0 * (1.0 - q / 20.0 * (1.0 - q / 42.0 * (1.0 - q / 72.0))))
}

/// Angle of the direction (x, y) from the x axis in radians, to about 5e-3; for x >= 0.
pub fn angle(y: f32, x: f32) -> f32 {
    use core::f32::consts::{FRAC_PI_2, FRAC_PI_4};
    let (a, b) = (y.abs(), x.abs());
    let t = a.min(b) / a.max(b).max(1e-9);
    let base = t * (FRAC_PI_4 + 0.273 * (1.0 - t)) - 0.004 * t * (1.0 - t);
    let turned = if a > b { FRAC_PI_2 - base } else { base };
    if y < 0.0 { -turned } else { turned }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_transcendentals_follow_the_platforms() {
        for i in -400..400 {
            let x = i as f32 * 0.05;
            assert!((exp(x) / x.exp() - 1.0).abs() < 1e-5, "exp {x}");
            assert!((sin(x) - x.sin()).abs() < 2e-5, "sin {x}");
            let (dy, dx) = (x.sin(), x.cos().abs());
            assert!((angle(dy, dx) - dy.atan2(dx)).abs() < 6e-3, "angle {x}");
        }
    }

    #[test]
    fn noise_stays_in_range_and_has_the_stated_moments() {
        let (mut sum, mut squares) = (0.0, 0.0);
        for i in 0..10_000 {
            let g = gauss(i % 100, i / 100, 7);
            sum += g;
            squares += g * g;
            let v = fbm(i as f32 * 0.37 - 900.0, i as f32 * -0.11, 4, 3);
            assert!((0.0..=1.0).contains(&v));
        }
        assert!((sum / 1e4).abs() < 0.05, "mean {}", sum / 1e4);
        assert!((squares / 1e4 - 1.0).abs() < 0.05, "variance");
    }
}

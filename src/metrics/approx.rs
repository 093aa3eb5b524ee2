//! Elementary functions of plain arithmetic, from which the compiler makes vectors; errors below 1e-11.

use std::f64::consts::{FRAC_PI_2, FRAC_PI_4, LN_2, LOG2_E};

/// Angle of the line through 0 and (x, y), in (-pi/2, pi/2\]: `atan(y / x)`, pi/2 where x = 0.
#[inline(always)]
pub(super) fn line_angle(y: f64, x: f64) -> f64 {
    let (ay, ax) = (y.abs(), x.abs());
    let steep = ay >= ax;
    let (least, most) = if steep { (ax, ay) } else { (ay, ax) };
    // Tangent of at most pi/8: atan(z) = pi/4 + atan((z - 1) / (z + 1)).
    let turned = least > 0.414_213_562_373_095 * most;
    let top = if turned { least - most } else { least };
    let bottom = if turned { least + most } else { most };
    let t = top / if bottom > 0.0 { bottom } else { 1.0 };
    let angle = atan_series(t) + if turned { FRAC_PI_4 } else { 0.0 };
    let angle = if steep { FRAC_PI_2 - angle } else { angle };
    if (y < 0.0 && x > 0.0) || (y > 0.0 && x < 0.0) {
        -angle
    } else {
        angle
    }
}

/// t - t^3/3 + t^5/5 - ...
#[inline(always)]
fn atan_series(t: f64) -> f64 {
    let s = -t * t;
    let mut sum = 1.0 / 27.0;
    for k in [25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1] {
        sum = sum * s + 1.0 / f64::from(k);
    }
    t * sum
}

/// `exp(x)`, for x outside -700..700 the value there.
#[inline(always)]
pub(super) fn exp(x: f64) -> f64 {
    // The lowest bits of a number of this size are its integer part.
    const SHIFT: f64 = 6_755_399_441_055_744.0;
    let x = if x > -700.0 { x } else { -700.0 };
    let x = if x < 700.0 { x } else { 700.0 };
    let shifted = x * LOG2_E + SHIFT;
    let r = x - (shifted - SHIFT) * LN_2;
    let mut sum = 1.0;
    for k in [11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1] {
        sum = 1.0 + sum * r * (1.0 / f64::from(k));
    }
    sum * f64::from_bits(shifted.to_bits().wrapping_add(1023) << 52)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn angles_and_exponentials_are_near_the_true_ones() {
        for y in -60..=60 {
            for x in -60..=60 {
                let (y, x) = (f64::from(y) * 17.0, f64::from(x) * 13.0);
                let expected = if x == 0.0 { FRAC_PI_2 } else { (y / x).atan() };
                assert!((line_angle(y, x) - expected).abs() < 1e-11, "{y} / {x}");
            }
        }
        for i in -7000..=7000 {
            let x = f64::from(i) / 10.0 + 0.01234;
            let expected = x.clamp(-700.0, 700.0).exp();
            assert!((exp(x) / expected - 1.0).abs() < 1e-11, "{x}");
        }
        assert!(exp(-30_000.0) < 1e-300);
    }
}

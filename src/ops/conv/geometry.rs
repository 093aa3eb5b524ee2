//! Which input pixel meets which kernel tap, for forward and transposed convolutions alike.

/// Largest kernel side.
pub const MAX_K: usize = 11;

/// One axis of a convolution seen from the side that is written: position `t` (of `count`) is
/// written at `out_first + t * out_step` and reads positions `t * in_step + offset` of `in_len`,
/// one for each tap.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    taps: [(usize, isize); MAX_K],
    len: usize,
    pub in_len: usize,
    pub in_step: usize,
    pub count: usize,
    pub out_first: usize,
    pub out_step: usize,
}

/// Sizes of one axis of a convolution `x -> y`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AxisSize {
    pub x: usize,
    pub y: usize,
    pub k: usize,
    pub stride: usize,
    pub dilation: usize,
    pub pad: usize,
}

impl Axis {
    /// `y[t] = sum_k x[t * stride + k * dilation - pad] w[k]`.
    pub fn forward(s: AxisSize) -> Self {
        let mut taps = [(0, 0); MAX_K];
        for (k, tap) in taps.iter_mut().enumerate().take(s.k) {
            *tap = (k, (k * s.dilation) as isize - s.pad as isize);
        }
        Self {
            taps,
            len: s.k,
            in_len: s.x,
            in_step: s.stride,
            count: s.y,
            out_first: 0,
            out_step: 1,
        }
    }

    /// The part of the transposed convolution that writes `x[phase], x[phase + stride], ...`:
    /// position `phase + stride * t` meets tap `k` of `y` where `phase + pad - k * dilation`
    /// divides by the stride.
    pub fn transposed(s: AxisSize, phase: usize) -> Self {
        let mut taps = [(0, 0); MAX_K];
        let mut len = 0;
        // Descending k gives ascending offsets, so that neighbours merge into one run.
        for k in (0..s.k).rev() {
            let at = (phase + s.pad) as isize - (k * s.dilation) as isize;
            if at.rem_euclid(s.stride as isize) == 0 {
                taps[len] = (k, at.div_euclid(s.stride as isize));
                len += 1;
            }
        }
        Self {
            taps,
            len,
            in_len: s.y,
            in_step: 1,
            count: s.x.saturating_sub(phase).div_ceil(s.stride),
            out_first: phase,
            out_step: s.stride,
        }
    }

    /// Kernel index and input offset of each tap, offsets ascending.
    pub fn taps(&self) -> &[(usize, isize)] {
        &self.taps[..self.len]
    }

    /// The taps (as a range of [`Axis::taps`]) that read inside the input at position `t`.
    pub fn valid(&self, t: usize) -> (usize, usize) {
        let base = (t * self.in_step) as isize;
        let inside = |&(_, c): &(usize, isize)| base + c >= 0;
        let lo = self.taps().partition_point(|tap| !inside(tap));
        let hi = self
            .taps()
            .partition_point(|&(_, c)| base + c < self.in_len as isize);
        (lo, hi.max(lo))
    }

    /// Splits positions `from..to` into runs with the same valid taps.
    pub fn segments(&self, from: usize, to: usize) -> impl Iterator<Item = Segment> + '_ {
        let mut at = from;
        std::iter::from_fn(move || {
            if at >= to {
                return None;
            }
            let taps = self.valid(at);
            let first = at;
            at += 1;
            // `valid` is constant on the interior; find its end without walking it.
            if taps == (0, self.len) && self.len > 0 {
                let last_offset = self.taps[self.len - 1].1;
                let inside =
                    (self.in_len as isize - 1 - last_offset).max(0) as usize / self.in_step;
                at = at.max((inside + 1).min(to));
            }
            while at < to && self.valid(at) == taps {
                at += 1;
            }
            Some(Segment {
                from: first,
                to: at,
                taps,
            })
        })
    }
}

/// Consecutive positions with the same valid taps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub from: usize,
    pub to: usize,
    pub taps: (usize, usize),
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn segments_cover_every_position_with_its_valid_taps(
            x in 1usize..40, k in 1usize..6, stride in 1usize..4, dilation in 1usize..4, same in any::<bool>()
        ) {
            let k = 2 * k - 1;
            let pad = if same { dilation * (k - 1) / 2 } else { 0 };
            let reach = dilation * (k - 1) + 1;
            prop_assume!(k <= MAX_K && x + 2 * pad >= reach);
            let y = (x + 2 * pad - reach) / stride + 1;
            let s = AxisSize { x, y, k, stride, dilation, pad };
            let mut axes = vec![Axis::forward(s)];
            axes.extend((0..stride).map(|p| Axis::transposed(s, p)));
            for a in &axes {
                let mut at = 0;
                for seg in a.segments(0, a.count) {
                    prop_assert_eq!(seg.from, at);
                    for t in seg.from..seg.to {
                        prop_assert_eq!(seg.taps, a.valid(t));
                    }
                    at = seg.to;
                }
                prop_assert_eq!(at, a.count);
            }
            // Both directions list the same (x, y, k) triples.
            let mut fwd = Vec::new();
            for t in 0..y {
                let (lo, hi) = axes[0].valid(t);
                for &(k, c) in &axes[0].taps()[lo..hi] {
                    fwd.push(((t * stride) as isize + c, t as isize, k));
                }
            }
            let mut bwd = Vec::new();
            for a in &axes[1..] {
                for t in 0..a.count {
                    let (lo, hi) = a.valid(t);
                    for &(k, c) in &a.taps()[lo..hi] {
                        bwd.push(((a.out_first + t * stride) as isize, t as isize + c, k));
                    }
                }
            }
            fwd.sort_unstable();
            bwd.sort_unstable();
            prop_assert_eq!(fwd, bwd);
        }
    }
}

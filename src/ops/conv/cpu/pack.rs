//! Weights in the order in which register tiles read them.

use super::tile::NR;
use super::winograd;
use crate::device::cpu::for_chunks_of_work;
use crate::device::simd::LANES;
use crate::ops::conv::geometry::Axis;

/// Output channels up to which dot products beat a panel.
pub(in crate::ops::conv) const DOT_CHANNELS: usize = 4;

/// `weight(ky, kx, ci, co)`.
pub(in crate::ops::conv) trait Weight:
    Fn(usize, usize, usize, usize) -> f32 + Sync
{
}
impl<F: Fn(usize, usize, usize, usize) -> f32 + Sync> Weight for F {}

/// Most elements that the packed weights of a kernel take.
pub(in crate::ops::conv) fn packed_len(taps: usize, cin: usize, cout: usize) -> usize {
    let direct = taps * cin * cout.next_multiple_of(LANES);
    let most = direct.max(winograd::packed_len(taps, cin, cout));
    // What follows in memory begins with a cache line.
    most.next_multiple_of(2 * LANES)
}

/// Floats of scratch for a whole convolution: packed weights, and what threads work with.
pub(in crate::ops::conv) fn scratch_len(taps: usize, cin: usize, cout: usize) -> usize {
    packed_len(taps, cin, cout) + winograd::threads_len(taps, cin, cout)
}

/// Weights that are packed in the time of one element of other loops.
const PACK_SHARE: usize = 4;

/// Panels `[cout / NR][ky][kx][cin][NR]`, the last one of `LANES` if that is enough, zero beyond
/// `cout`; for few channels `[cout][ky][kx][cin]`.
pub(in crate::ops::conv) fn pack(
    ay: &Axis,
    ax: &Axis,
    cin: usize,
    cout: usize,
    weight: &impl Weight,
    packed: &mut [f32],
) {
    let depth = ay.taps().len() * ax.taps().len() * cin;
    let step = if cout <= DOT_CHANNELS { 1 } else { NR };
    let one = |i: usize, panel: &mut [f32]| {
        let first = i * step;
        let width = panel_width(cout, first);
        let mut at = 0;
        for &(ky, _) in ay.taps() {
            for &(kx, _) in ax.taps() {
                for ci in 0..cin {
                    for co in first..first + width {
                        panel[at] = if co < cout {
                            weight(ky, kx, ci, co)
                        } else {
                            0.0
                        };
                        at += 1;
                    }
                }
            }
        }
    };
    let whole = if cout <= DOT_CHANNELS {
        cout * depth
    } else {
        cout.next_multiple_of(LANES) * depth
    };
    let panel = (step * depth).max(1);
    let packed = &mut packed[..whole];
    for_chunks_of_work(whole / PACK_SHARE, packed, panel, one);
}

/// Channels that the panel beginning at channel `first` has room for.
pub(in crate::ops::conv) fn panel_width(cout: usize, first: usize) -> usize {
    match cout - first {
        _ if cout <= DOT_CHANNELS => 1,
        left if left <= LANES => LANES,
        _ => NR,
    }
}

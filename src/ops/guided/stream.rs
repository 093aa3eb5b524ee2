//! The guided filter on the CPU, a row at a time: what lies between input and output is f64 and stays in the caches.

use super::cpu::{Filter, spread};
use super::slide::{Axis, Down, Row, Take, across};
use crate::device::cpu::{SendPtr, for_chunks_of_work};
use crate::device::simd::{prefetch, simd_fn};
use crate::tensor::Real;
use bytemuck::cast_slice_mut;
use std::ops::Range;

/// Most channels that a thread filters at a time.
const GROUP: usize = 8;

/// Pixels that an input is asked for before it is used.
const AHEAD: usize = 24;

/// Some rows of the output, and where the inputs begin.
#[derive(Clone)]
pub(super) struct Part {
    pub rows: Range<usize>,
    /// Row of the picture with which guide and x begin.
    pub first: usize,
    /// Rows of guide and x.
    pub here: usize,
    /// Rows of the picture.
    pub height: usize,
}

impl Part {
    /// All of a picture.
    pub fn whole(height: usize) -> Self {
        Self {
            rows: 0..height,
            first: 0,
            here: height,
            height,
        }
    }
}

/// `[mean(I), 1 / (var(I) + eps), 1 / count]` of a window.
type Guide = [f64; 3];

/// Sizes that all threads share.
#[derive(Clone, Copy)]
struct Sizes {
    pictures: usize,
    channels: usize,
    rows: Axis,
    cols: Axis,
    eps: f64,
}

impl Sizes {
    fn new(f: &Filter, height: usize) -> Self {
        let [n, _, w, c] = f.shape;
        Self {
            pictures: n,
            channels: c,
            rows: Axis::new(height, f.radius),
            cols: Axis::new(w, f.radius),
            eps: f.eps,
        }
    }

    /// `rows` and those around them that their windows reach.
    fn around(&self, rows: &Range<usize>) -> Range<usize> {
        let r = self.rows.radius;
        rows.start.saturating_sub(r)..(rows.end + r).min(self.rows.len)
    }

    /// First channel and size of each group.
    fn groups(&self) -> impl Iterator<Item = (usize, usize)> + Clone {
        let c = self.channels;
        let fits = move |at: usize| match c - at {
            rest if rest >= GROUP => GROUP,
            rest if rest >= GROUP / 2 => GROUP / 2,
            _ => 1,
        };
        std::iter::successors(Some((0, fits(0))), move |&(at, size)| {
            (at + size < c).then(|| (at + size, fits(at + size)))
        })
    }

    /// f64 that a thread works with: two times [`Down`] and a row of sums, and the tail of [`across`].
    fn slot(&self) -> usize {
        let maps = 2 * self.groups().map(|(_, size)| size).max().unwrap_or(1);
        let row = Down::<1>::memory(self.rows) + 1;
        (2 * row * self.cols.len + self.cols.side() + 1) * maps
    }

    /// f64 of the maps of the guide for `rows` of the output.
    fn guide_len(&self, rows: usize) -> usize {
        let lines = (rows + 2 * self.rows.radius).min(self.rows.len);
        self.pictures * lines * self.cols.len * size_of::<Guide>() / size_of::<f64>()
    }
}

/// f64 of scratch that [`forward`] wants for `rows` of the output, of inputs of the shape of `f`: all rows that are read.
pub(super) fn scratch_len(f: &Filter, rows: usize) -> usize {
    // They are all rows of the picture if a window is higher than they are: so the radius is right.
    let sizes = Sizes::new(f, f.shape[1]);
    sizes.guide_len(rows) + rayon::current_num_threads() * sizes.slot()
}

pub(super) fn forward<T: Real>(
    f: &Filter,
    part: &Part,
    (guide, x): (&[T], &[T]),
    scratch: &mut [f64],
    out: &mut [T],
) {
    if out.is_empty() {
        return;
    }
    let sizes = Sizes::new(f, part.height);
    let (width, count) = (sizes.cols.len, part.rows.len());
    let (maps, slots) = scratch.split_at_mut(sizes.guide_len(count));
    let maps: &mut [Guide] = cast_slice_mut(maps);
    let threads = (slots.len() / sizes.slot()).max(1);
    let slots = &mut slots[..threads * sizes.slot()];

    let lines = sizes.around(&part.rows);
    let maps = &mut maps[..sizes.pictures * lines.len() * width];
    for (n, maps) in maps.chunks_exact_mut(lines.len() * width).enumerate() {
        let guide = &guide[n * part.here * width..][..part.here * width];
        let share = lines.len().div_ceil(threads).max(sizes.rows.side());
        let slots = SendPtr::new(slots);
        for_chunks_of_work(usize::MAX, maps, share * width, |i, maps| {
            let from = lines.start + i * share;
            let rows = from..from + maps.len() / width;
            // SAFETY: there are `threads` slots and at most as many shares, each with its own.
            let memory = unsafe { slots.slice(i * sizes.slot(), sizes.slot()) };
            guide_maps(sizes, part.first, rows, guide, memory, maps);
        });
    }

    let maps = &*maps;
    let groups = sizes.groups();
    let columns = sizes.pictures * groups.clone().count();
    // A part of the rows computes lines around it that others compute too.
    let most = count.div_ceil(2 * sizes.rows.side());
    let parts = threads.div_ceil(columns).clamp(1, most);
    let share = count.div_ceil(parts);
    let tasks = (0..sizes.pictures * parts).flat_map(|i| {
        groups
            .clone()
            .map(move |channels| (i / parts, i % parts * share, channels))
    });
    let target = SendPtr::new(&mut out[..sizes.pictures * count * width * sizes.channels]);
    for_chunks_of_work(usize::MAX, slots, sizes.slot(), |k, memory| {
        for (n, from, channels) in tasks.clone().skip(k).step_by(threads) {
            let rows = part.rows.start + from..part.rows.start + (from + share).min(count);
            if rows.is_empty() {
                continue;
            }
            let task = Task {
                sizes,
                part,
                picture: n,
                rows,
                channels,
                lines: lines.clone(),
            };
            filter(&task, (guide, x), maps, memory, target);
        }
    });
}

/// A group of channels of some rows of a picture.
struct Task<'a> {
    sizes: Sizes,
    part: &'a Part,
    picture: usize,
    rows: Range<usize>,
    channels: (usize, usize),
    /// Rows of the guide's maps.
    lines: Range<usize>,
}

simd_fn! {
    /// The maps of rows `rows`.
    fn guide_maps<T>(
        s: Sizes,
        first: usize,
        rows: Range<usize>,
        guide: &[T],
        memory: &mut [f64],
        maps: &mut [Guide],
    ) {
        let width = s.cols.len;
        let memory: &mut [[f64; 2]] = cast_slice_mut(memory);
        let (tail, memory) = memory.split_at_mut(s.cols.side() + 1);
        let (sums, memory) = memory.split_at_mut(width);
        let mut down = Down::new(s.rows, width, memory);
        for e in s.around(&rows).start..rows.end + s.rows.radius {
            let mut row = down.row(e);
            if e < s.rows.len {
                let line = &guide[(e - first) * width..][..width];
                for (p, (sum, i)) in sums.iter_mut().zip(line).enumerate() {
                    let i = (*i).to_f64();
                    *sum = row.put(p, [i, i * i]);
                }
            } else {
                for (p, sum) in sums.iter_mut().enumerate() {
                    *sum = row.put(p, [0.0; 2]);
                }
            }
            down.close(e);
            let Some(y) = e.checked_sub(s.rows.radius).filter(|y| *y >= rows.start) else {
                continue;
            };
            let maps = &mut maps[(y - rows.start) * width..][..width];
            across(s.cols, sums, tail, GuideMaps { s, y, maps });
        }
    }
}

simd_fn! {
    fn filter<T>(
        task: &Task<'_>,
        io: (&[T], &[T]),
        maps: &[Guide],
        memory: &mut [f64],
        out: SendPtr<T>,
    ) {
        // `GROUP` and its half, and twice as many maps.
        match task.channels.1 {
            8 => filter_group::<T, 8, 16>(task, io, maps, memory, out),
            4 => filter_group::<T, 4, 8>(task, io, maps, memory, out),
            _ => filter_group::<T, 1, 2>(task, io, maps, memory, out),
        }
    }
}

/// Makes the maps of a row of the guide.
struct GuideMaps<'a> {
    s: Sizes,
    y: usize,
    maps: &'a mut [Guide],
}

impl Take<2> for GuideMaps<'_> {
    #[inline(always)]
    fn take(&mut self, p: usize, [sum, squares]: [f64; 2]) {
        let share = 1.0 / (self.s.rows.count(self.y) * self.s.cols.count(p)) as f64;
        let mean = sum * share;
        let spread = spread(mean, squares * share, self.s.eps);
        self.maps[p] = [mean, 1.0 / spread, share];
    }
}

/// Makes the lines a, b of a row of window sums of x and I x.
struct Lines<'a, const K: usize> {
    maps: &'a [Guide],
    row: Row<'a, K>,
    sums: &'a mut [[f64; K]],
}

impl<const K: usize> Take<K> for Lines<'_, K> {
    #[inline(always)]
    fn take(&mut self, p: usize, sums: [f64; K]) {
        let [mean, over_spread, share] = self.maps[p];
        let mut line = [0.0; K];
        for j in 0..K / 2 {
            let (x, ix) = (sums[j] * share, sums[K / 2 + j] * share);
            line[j] = (ix - mean * x) * over_spread;
            line[K / 2 + j] = x - line[j] * mean;
        }
        self.sums[p] = self.row.put(p, line);
    }
}

/// Makes a row of the output of window sums of lines.
struct Output<'a, T, const G: usize> {
    guide: &'a [T],
    maps: &'a [Guide],
    out: SendPtr<T>,
    /// First element of the group in this row, and from pixel to pixel.
    at: usize,
    step: usize,
}

impl<T: Real, const G: usize, const K: usize> Take<K> for Output<'_, T, G> {
    #[inline(always)]
    fn take(&mut self, p: usize, sums: [f64; K]) {
        let (i, [.., share]) = (self.guide[p].to_f64(), self.maps[p]);
        let mut q = [T::zero(); G];
        for j in 0..G {
            q[j] = T::lit((sums[j] * i + sums[G + j]) * share);
        }
        let at = self.at + p * self.step;
        // SAFETY: `filter_group` made this of a row of the output and of channels that are this task's alone.
        unsafe { self.out.at(at).cast::<[T; G]>().write(q) };
    }
}

/// `G` channels, `K = 2 G`: window sums of x and I x make lines a, b, whose window sums make the output.
#[inline(always)]
fn filter_group<T: Real, const G: usize, const K: usize>(
    task: &Task<'_>,
    (guide, x): (&[T], &[T]),
    maps: &[Guide],
    memory: &mut [f64],
    out: SendPtr<T>,
) {
    let (s, part, rows) = (task.sizes, task.part, &task.rows);
    let (width, c, radius) = (s.cols.len, s.channels, s.rows.radius);
    let memory: &mut [[f64; K]] = cast_slice_mut(memory);
    let (tail, memory) = memory.split_at_mut(s.cols.side() + 1);
    let (sums, memory) = memory.split_at_mut(width);
    let (line_sums, memory) = memory.split_at_mut(width);
    let (first, second) = memory.split_at_mut(Down::<K>::memory(s.rows) * width);
    let mut moments = Down::new(s.rows, width, first);
    let mut lines = Down::new(s.rows, width, second);

    let pixels = |row: usize| (task.picture * part.here + row - part.first) * width;
    let maps_of = |row: usize| {
        let at = task.picture * task.lines.len() + row - task.lines.start;
        &maps[at * width..][..width]
    };
    let wanted = s.around(rows);
    // Row `e` of the moments makes the lines of row `e - radius`, these the output of the row `radius` above.
    for e in s.around(&wanted).start..rows.end + 2 * radius {
        let y = e.checked_sub(radius).filter(|y| *y >= wanted.start);
        // Lines end with the picture.
        if e < wanted.end + radius {
            let mut row = moments.row(e);
            if e < s.rows.len {
                let at = pixels(e);
                let guide = &guide[at..][..width];
                let x = x[at * c..][..width * c].chunks_exact(c);
                for (p, (sum, x)) in sums.iter_mut().zip(x).enumerate() {
                    let (i, x) = (guide[p].to_f64(), &x[task.channels.0..][..G]);
                    prefetch(x.as_ptr().wrapping_add(AHEAD * c).cast());
                    let mut values = [0.0; K];
                    for j in 0..G {
                        values[j] = x[j].to_f64();
                        values[G + j] = i * x[j].to_f64();
                    }
                    *sum = row.put(p, values);
                }
            } else {
                for (p, sum) in sums.iter_mut().enumerate() {
                    *sum = row.put(p, [0.0; K]);
                }
            }
            moments.close(e);
        }
        let Some(y) = y else { continue };
        let mut row = lines.row(y);
        if y < s.rows.len {
            let sums_of_lines = &mut *line_sums;
            let lines = Lines {
                maps: maps_of(y),
                row,
                sums: sums_of_lines,
            };
            across(s.cols, sums, tail, lines);
        } else {
            for (p, sum) in line_sums.iter_mut().enumerate() {
                *sum = row.put(p, [0.0; K]);
            }
        }
        lines.close(y);
        let Some(q) = y.checked_sub(radius).filter(|q| *q >= rows.start) else {
            continue;
        };
        let row = task.picture * part.rows.len() + q - part.rows.start;
        let output = Output::<T, G> {
            guide: &guide[pixels(q)..][..width],
            maps: maps_of(q),
            out,
            at: row * width * c + task.channels.0,
            step: c,
        };
        across(s.cols, line_sums, tail, output);
    }
}

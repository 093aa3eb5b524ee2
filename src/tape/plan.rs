//! Where each buffer of a tape lives in one arena, planned from lifetimes.

/// A buffer to place: its size and the first and last step in which it is needed (inclusive).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    pub bytes: usize,
    pub first: usize,
    pub last: usize,
}

/// Offsets of all buffers and the size of the arena.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub offsets: Vec<usize>,
    pub arena_bytes: usize,
}

/// Every offset is a multiple of this.
pub const UNIT: usize = crate::device::cpu::ALIGN;

fn padded(bytes: usize) -> usize {
    bytes.next_multiple_of(UNIT)
}

/// A buffer with its place. Every request looks at all that are placed, so they lie side by side.
#[derive(Clone, Copy)]
struct Placed {
    from: usize,
    to: usize,
    first: usize,
    last: usize,
}

/// Places large buffers first, each in the smallest gap that fits among the buffers already placed
/// that are alive at the same time.
pub fn plan(requests: &[Request]) -> Plan {
    let mut order: Vec<usize> = (0..requests.len()).collect();
    // Ties by index, so that the plan depends on nothing but the tape.
    order.sort_by_key(|&i| (std::cmp::Reverse(requests[i].bytes), i));
    let mut offsets = vec![0usize; requests.len()];
    let mut placed: Vec<Placed> = Vec::new(); // by offset
    let mut arena_bytes = 0usize;
    for i in order {
        let r = requests[i];
        if r.bytes == 0 {
            continue;
        }
        let size = padded(r.bytes);
        let mut end = 0usize; // end of the occupied part so far
        let mut best: Option<(usize, usize)> = None; // gap size, offset
        for other in &placed {
            if other.last < r.first || r.last < other.first {
                continue;
            }
            if let Some(gap) = other.from.checked_sub(end)
                && gap >= size
                && best.is_none_or(|(g, _)| gap < g)
            {
                best = Some((gap, end));
            }
            end = end.max(other.to);
        }
        offsets[i] = best.map_or(end, |(_, at)| at);
        arena_bytes = arena_bytes.max(offsets[i] + size);
        let from = offsets[i];
        let placed_here = Placed {
            from,
            to: from + size,
            first: r.first,
            last: r.last,
        };
        placed.insert(placed.partition_point(|p| p.from <= from), placed_here);
    }
    Plan {
        offsets,
        arena_bytes,
    }
}

/// The largest number of bytes alive in one step: no plan can be smaller.
pub fn lower_bound(requests: &[Request]) -> usize {
    let mut change: std::collections::BTreeMap<usize, isize> = Default::default();
    for r in requests {
        *change.entry(r.first).or_default() += padded(r.bytes) as isize;
        *change.entry(r.last + 1).or_default() -= padded(r.bytes) as isize;
    }
    let mut alive = 0;
    let mut most = 0;
    for delta in change.values() {
        alive += delta;
        most = most.max(alive);
    }
    most as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request() -> impl Strategy<Value = Request> {
        (0usize..5000, 0usize..40, 0usize..12).prop_map(|(bytes, first, n)| Request {
            bytes,
            first,
            last: first + n,
        })
    }

    proptest! {
        #[test]
        fn buffers_alive_together_never_overlap(rs in prop::collection::vec(request(), 0..60)) {
            let p = plan(&rs);
            prop_assert!(p.arena_bytes >= lower_bound(&rs));
            for i in 0..rs.len() {
                prop_assert_eq!(p.offsets[i] % UNIT, 0);
                prop_assert!(rs[i].bytes == 0 || p.offsets[i] + rs[i].bytes <= p.arena_bytes);
                for j in 0..i {
                    let together = rs[i].first <= rs[j].last && rs[j].first <= rs[i].last;
                    let apart = p.offsets[i] + rs[i].bytes <= p.offsets[j]
                        || p.offsets[j] + rs[j].bytes <= p.offsets[i];
                    prop_assert!(!together || apart || rs[i].bytes == 0 || rs[j].bytes == 0);
                }
            }
        }
    }

    #[test]
    fn a_chain_needs_two_buffers() {
        let rs: Vec<_> = (0..10)
            .map(|i| Request {
                bytes: 64,
                first: i,
                last: i + 1,
            })
            .collect();
        assert_eq!(plan(&rs).arena_bytes, 128);
    }
}

//! A readable listing of a session: node, shape, FLOPs, bytes, time.

use super::{Cost, Session, Source, Tape, Var};
use crate::tensor::Shape;
use std::fmt::Write;
use std::time::Duration;

/// One executed node.
#[derive(Clone, Debug)]
pub struct NodeReport {
    /// Place in execution order, from 0.
    pub index: usize,
    /// Part of the network, e.g. `ffm.cell1.block0`.
    pub scope: String,
    /// Name of the operator.
    pub op: &'static str,
    /// Shape of its output.
    pub shape: Shape,
    /// Its work: floating-point operations and bytes moved.
    pub cost: Cost,
    /// Time in the last profiled run.
    pub time: Duration,
}

impl Session {
    /// Every executed node with its cost and its time in the last run.
    pub fn report(&self) -> Vec<NodeReport> {
        report(self.tape(), self.times())
    }
}

/// The operators among these nodes, with their times.
pub(super) fn report(tape: &Tape, times: impl Iterator<Item = (Var, Duration)>) -> Vec<NodeReport> {
    let one = |(var, time): (Var, Duration)| {
        let node = &tape.nodes()[var.index()];
        let Source::Op(op) = &node.source else {
            return None;
        };
        Some(NodeReport {
            index: var.index(),
            scope: node.scope.to_string(),
            op: op.name(),
            shape: node.meta.shape,
            cost: op.cost(&tape.input_metas(var), node.meta),
            time,
        })
    };
    times.filter_map(one).collect()
}

/// The report as a text table with a line of totals.
pub fn format_table(rows: &[NodeReport]) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "{:>5}  {:<34} {:<22} {:<22} {:>10} {:>9} {:>9} {:>9}",
        "node", "part", "operator", "shape", "MFLOP", "MB", "ms", "GFLOP/s"
    );
    let mut total = (0.0, 0.0, 0.0);
    for r in rows {
        let mflop = r.cost.flops as f64 / 1e6;
        let mb = (r.cost.read + r.cost.written) as f64 / 1e6;
        let ms = r.time.as_secs_f64() * 1e3;
        total = (total.0 + mflop, total.1 + mb, total.2 + ms);
        let _ = writeln!(
            out,
            "{:>5}  {:<34} {:<22} {:<22} {:>10.2} {:>9.2} {:>9.3} {:>9.1}",
            r.index,
            r.scope,
            r.op,
            r.shape.to_string(),
            mflop,
            mb,
            ms,
            if ms > 0.0 { mflop / ms } else { 0.0 }
        );
    }
    let _ = writeln!(
        out,
        "{:>5}  {:<34} {:<22} {:<22} {:>10.2} {:>9.2} {:>9.3} {:>9.1}",
        "",
        "total",
        rows.len(),
        "",
        total.0,
        total.1,
        total.2,
        if total.2 > 0.0 {
            total.0 / total.2
        } else {
            0.0
        }
    );
    out
}

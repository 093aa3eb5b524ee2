//! The exposure-aware target of training as a rule: what a network that has learnt it perfectly would give.

use crate::loss::{ExposureOptions, exposure_target};
use crate::ops;
use crate::{DType, ParamStore, Result, Session, Tape};

fn tape(height: usize, width: usize) -> Result<Tape> {
    let mut t = Tape::new(DType::F32);
    let shape = [1, height, width, 1];
    let (a, b) = (t.input("a", shape)?, t.input("b", shape)?);
    let levels = [
        ops::picture_levels(&mut t, a)?,
        ops::picture_levels(&mut t, b)?,
    ];
    let target = exposure_target(&mut t, (a, b), levels, &ExposureOptions::default())?;
    t.output("fused", target.fused)?;
    Ok(t)
}

pub(super) fn fuse(height: usize, width: usize, a: &[f32], b: &[f32]) -> Result<Vec<f32>> {
    let mut session = Session::new(&tape(height, width)?, &ParamStore::default())?;
    session.input_mut::<f32>("a")?.copy_from_slice(a);
    session.input_mut::<f32>("b")?.copy_from_slice(b);
    session.run()?;
    Ok(session.output::<f32>("fused")?.to_vec())
}

pub(super) fn planned_bytes(height: usize, width: usize) -> Result<usize> {
    Ok(Session::planned_bytes(&tape(height, width)?))
}

//! Networks in bands of rows against the same networks at once.

use hafuse::infer::{Engine, Model};
use hafuse::net::{
    Builder, CellGene, CellKind, FrameGene, Genotype, OpKind, initial_params, param_specs,
    record_fusion,
};
use hafuse::tape::BandSession;
use hafuse::{DType, Error, ParamStore, Result, Session, Tape, Tensor, Var, ops};

/// A small network with this cell and these operators in every layer.
fn genotype(cell: CellKind, blocks: [OpKind; 2], channels: usize) -> Genotype {
    let gene = || CellGene {
        cell,
        blocks: blocks.to_vec(),
    };
    Genotype {
        channels,
        ffm: vec![gene()],
        target: gene(),
        detail: gene(),
        ..Genotype::from_json(
            r#"{"version": 1, "channels": 8, "ffm": [{"cell": "SC", "blocks": ["3-RB"]}],
            "target": {"cell": "SC", "blocks": ["SA"]}, "detail": {"cell": "SC", "blocks": ["CA"]}}"#,
        )
        .expect("a genotype")
    }
}

fn store(g: &Genotype) -> Result<ParamStore> {
    let store = ParamStore::default();
    initial_params(&param_specs(g)?, 7, DType::F32, &store)?;
    Ok(store)
}

fn tape(g: &Genotype, h: usize, w: usize) -> Result<Tape> {
    let mut t = Tape::new(DType::F32);
    let (a, b) = (t.input("a", [1, h, w, 1])?, t.input("b", [1, h, w, 1])?);
    let fused = record_fusion(&mut Builder::new(&mut t), g, (a, b))?;
    t.output("fused", fused.output)?;
    Ok(t)
}

fn pictures(h: usize, w: usize) -> [Vec<f32>; 2] {
    [7919, 104_729].map(|k| {
        (0..h * w)
            .map(|i| ((i * k + 13) % 1009) as f32 / 1009.0)
            .collect()
    })
}

fn whole(t: &Tape, store: &ParamStore, [a, b]: &[Vec<f32>; 2]) -> Result<Vec<f32>> {
    let mut s = Session::new(t, store)?;
    for (name, v) in [("a", a), ("b", b)] {
        let shape = t.shape(t.input_vars()[name]);
        s.set(name, &Tensor::from_vec(shape, v.clone())?)?;
    }
    s.run()?;
    Ok(s.output::<f32>("fused")?.to_vec())
}

/// The largest difference, NaN if there is one.
fn difference(x: &[f32], y: &[f32]) -> f32 {
    let far = |(x, y): (&f32, &f32)| (x - y).abs();
    x.iter()
        .zip(y)
        .map(far)
        .fold(0.0, |m, d| if d <= m { m } else { d })
}

fn check(g: &Genotype, (h, w): (usize, usize), rows: &[usize]) -> Result<()> {
    let (t, store, given) = (tape(g, h, w)?, store(g)?, pictures(h, w));
    let expected = whole(&t, &store, &given)?;
    for &rows in rows {
        let mut s = BandSession::new(&t, &store, rows)?;
        // The second run meets what the first one left in memory.
        for run in 0..2 {
            let mut out = vec![f32::NAN; h * w];
            s.run(&[("a", &given[0]), ("b", &given[1])], &mut out)?;
            let d = difference(&expected, &out);
            let cell = g.target.cell.name();
            let blocks = &g.target.blocks;
            // The means of channel attention are summed in another order.
            let bound = if blocks.contains(&OpKind::ChannelAttention) {
                1e-6
            } else {
                0.0
            };
            assert!(
                d <= bound,
                "{cell} {blocks:?} at {w} x {h}, bands of {rows}, run {run}: {d}"
            );
        }
        assert_eq!(Some(s.bytes()), BandSession::planned_bytes(&t, rows));
    }
    Ok(())
}

#[test]
fn every_operator_in_every_cell_gives_the_same_in_bands() -> Result<()> {
    for cell in CellKind::ALL {
        for (i, &op) in OpKind::ALL.iter().enumerate() {
            let g = genotype(cell, [op, OpKind::ALL[(i + 3) % 10]], 8);
            check(&g, (37, 22), &[1, 5, 8])?;
        }
    }
    Ok(())
}

#[test]
fn sizes_that_do_and_do_not_divide() -> Result<()> {
    let g = genotype(
        CellKind::MultiScale,
        [OpKind::Dilated5, OpKind::Residual3],
        8,
    );
    for size in [
        (1, 1),
        (1, 9),
        (9, 1),
        (2, 3),
        (16, 16),
        (17, 33),
        (64, 40),
        (61, 47),
    ] {
        check(&g, size, &[1, 2, 4, 7, 16, 1000])?;
    }
    let g = genotype(
        CellKind::Decomposition,
        [OpKind::Separable5, OpKind::ChannelAttention],
        8,
    );
    for size in [(1, 1), (3, 2), (40, 24), (43, 21)] {
        check(&g, size, &[1, 3, 16])?;
    }
    Ok(())
}

/// Levels of whole pictures and mirror images around them, also of pictures smaller than the border.
#[test]
fn a_frame_gives_the_same_in_bands() -> Result<()> {
    let g = Genotype {
        frame: FrameGene {
            levels: true,
            border: 8,
            ends: 0.05,
        },
        ..genotype(
            CellKind::MultiScale,
            [OpKind::Dilated3, OpKind::Residual3],
            8,
        )
    };
    for size in [(1, 1), (1, 9), (7, 3), (8, 8), (9, 10), (61, 47)] {
        check(&g, size, &[1, 4, 7, 16, 1000])?;
    }
    Ok(())
}

#[test]
fn memory_grows_with_the_width_only() -> Result<()> {
    let g = genotype(
        CellKind::MultiScale,
        [OpKind::Separable3, OpKind::Dense3],
        8,
    );
    let bytes =
        |h, w| BandSession::planned_bytes(&tape(&g, h, w)?, 16).ok_or(Error::Tape("none".into()));
    assert_eq!(bytes(8000, 64)?, bytes(1000, 64)?);
    assert!(bytes(8000, 64)? * 10 < Session::planned_bytes(&tape(&g, 8000, 64)?));
    Ok(())
}

#[test]
fn wrong_inputs_are_named() -> Result<()> {
    let g = genotype(
        CellKind::Successive,
        [OpKind::Separable3, OpKind::Dense3],
        8,
    );
    let mut s = BandSession::new(&tape(&g, 8, 8)?, &store(&g)?, 4)?;
    let mut out = vec![0.0; 64];
    let e = s.run(&[("a", &[0.0; 64])], &mut out).unwrap_err();
    assert!(e.to_string().contains("`b`"), "{e}");
    let e = s
        .run(&[("a", &[0.0; 63]), ("b", &[0.0; 64])], &mut out)
        .unwrap_err();
    assert!(e.to_string().contains("63"), "{e}");
    let e = s
        .run(&[("a", &[0.0; 64]), ("b", &[0.0; 64])], &mut out[..8])
        .unwrap_err();
    assert!(e.to_string().contains("fused"), "{e}");
    Ok(())
}

/// Pairs of a batch are fused at the same time, as far as memory goes; nothing of the result depends on it.
#[test]
fn pairs_of_a_batch_are_those_alone() -> Result<()> {
    let model = Model::builtin("ivif-fast")?;
    let (n, h, w) = (5, 45, 64);
    let pictures: Vec<_> = (0..n).map(|i| pictures(h + i, w)).collect();
    let stack = |k: usize| {
        pictures
            .iter()
            .flat_map(|p| p[k][..h * w].to_vec())
            .collect()
    };
    let (a, b): (Vec<f32>, Vec<f32>) = (stack(0), stack(1));
    let mut alone = Engine::new(&model)?;
    let mut expected = Vec::new();
    for (a, b) in a.chunks(h * w).zip(b.chunks(h * w)) {
        expected.extend(alone.fuse(h, w, a, b)?);
    }
    let one = alone.planned_bytes(1, h, w)?;
    for most in [usize::MAX, 3 * one, one] {
        let mut engine = Engine::new(&model)?;
        engine.limit_memory(most);
        let mut fused = vec![0.0; n * h * w];
        engine.fuse_batch(n, h, w, &a, &b, &mut fused)?;
        assert!(fused == expected, "at most {most} bytes");
        let bytes = engine.arena_bytes(n, h, w)?;
        assert!(bytes <= most && bytes % one == 0, "{bytes} of {most}");
        assert_eq!(engine.planned_bytes(n, h, w)?, bytes);
    }
    Ok(())
}

#[test]
fn threads_make_no_difference() -> Result<()> {
    let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    let pool = |threads| pool(threads).expect("a pool");
    let (h, w) = (45, 64);
    for (cell, blocks) in [
        (
            CellKind::MultiScale,
            [OpKind::Residual3, OpKind::Separable5],
        ),
        (CellKind::Decomposition, [OpKind::Dense5, OpKind::Dilated3]),
        (
            CellKind::Successive,
            [OpKind::ChannelAttention, OpKind::SpatialAttention],
        ),
    ] {
        let g = genotype(cell, blocks, 16);
        let (t, store, given) = (tape(&g, h, w)?, store(&g)?, pictures(h, w));
        let mut expected = None;
        // Planned for as many threads as there are, for fewer and for more.
        for (plan, run) in [(1, 1), (2, 2), (3, 3), (1, 3), (3, 1)] {
            let mut s = pool(plan).install(|| BandSession::new(&t, &store, 13))?;
            let mut out = vec![f32::NAN; h * w];
            let inputs = [("a", &given[0][..]), ("b", &given[1][..])];
            pool(run).install(|| s.run(&inputs, &mut out))?;
            let expected = expected.get_or_insert_with(|| out.clone());
            assert!(
                *expected == out,
                "{cell:?}, planned for {plan}, run by {run}"
            );
        }
    }
    Ok(())
}

/// Values without rows of their own, or given whole where rows are read, would be read beyond their end.
#[test]
fn tapes_that_do_not_go_by_rows_are_refused() -> Result<()> {
    let refuse = |record: &dyn Fn(&mut Tape) -> Result<Var>, needle: &str| -> Result<()> {
        let mut t = Tape::new(DType::F32);
        let y = record(&mut t)?;
        t.output("y", y)?;
        let e = BandSession::new(&t, &ParamStore::default(), 2)
            .err()
            .expect("refused");
        assert!(e.to_string().contains(needle), "{e}");
        assert_eq!(BandSession::planned_bytes(&t, 2), None);
        Ok(())
    };
    let halves = |shape: [usize; 4]| Tensor::from_vec(shape, vec![0.5f32; shape.iter().product()]);
    refuse(
        &|t| {
            let (x, b) = (t.input("x", [1, 8, 4, 8])?, t.input("b", [8])?);
            let w = t.constant(&halves([3, 3, 8, 8])?)?;
            ops::conv2d(t, x, w, Some(b), None, ops::ConvOptions::default())
        },
        "[8]",
    )?;
    refuse(
        &|t| {
            let x = t.input("x", [1, 8, 4, 8])?;
            let c = t.constant(&halves([1, 8, 4, 2])?)?;
            ops::concat(t, &[x, c])
        },
        "[1, 8, 4, 2]",
    )
}

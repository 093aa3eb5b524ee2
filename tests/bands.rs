//! Networks in bands of rows against the same networks at once.

use hafuse::net::{
    Builder, CellGene, CellKind, Genotype, OpKind, initial_params, param_specs, record_fusion,
};
use hafuse::tape::BandSession;
use hafuse::{DType, Error, ParamStore, Result, Session, Tape, Tensor};

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
    let fused = record_fusion(&mut Builder::new(&mut t), g, a, b)?;
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
        assert_eq!(
            Some(s.bytes()),
            BandSession::planned_bytes(&t, rows).map(|b| b.next_multiple_of(64))
        );
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

#[test]
fn memory_grows_with_the_width_only() -> Result<()> {
    let g = genotype(
        CellKind::MultiScale,
        [OpKind::Separable3, OpKind::Dense3],
        8,
    );
    let bytes =
        |h, w| BandSession::planned_bytes(&tape(&g, h, w)?, 16).ok_or(Error::Tape("none".into()));
    assert_eq!(bytes(4000, 64)?, bytes(1000, 64)?);
    assert!(bytes(4000, 64)? * 10 < Session::planned_bytes(&tape(&g, 4000, 64)?));
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

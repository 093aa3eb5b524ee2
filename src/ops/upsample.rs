//! A 1 x 1 convolution of a small picture and its enlargement, in one pass.

use super::conv::{Conv2d, ConvOptions, Convolve, Forward, Variant};
use super::registry::{Case, CaseInput};
use super::resize::Maps;
use crate::device::cpu::{ALIGN, CpuIo};
use crate::device::launch::{CudaIo, DevicePtr, THREADS};
use crate::onnx::{Attribute, Graph, Operand, Value};
use crate::tape::{Band, Banded, Meta, Operator, check_inputs, expect_shape};
use crate::tensor::{DType, Real, Shape};
use crate::{Error, Result, Tape, Var, dispatch_real};
use bytemuck::{Pod, Zeroable};
use std::ops::Range;

const NAME: &str = "pointwise_upsample";

/// Enlarges a 1 x 1 convolution of `x` to `h` by `w` and adds `residual`, if given:
///
/// `y = resize_bilinear(conv2d(x, weight), h, w) + residual`
///
/// One kernel on CUDA: the products stay on the chip. Positions and edges are those of
/// [`resize_bilinear`](super::resize_bilinear).
///
/// # Shapes
/// `x: [N, H, W, C]`, `weight: [1, 1, C, cout]`; residual and output `[N, h, w, cout]`, `h >= H` and
/// `w >= W`.
///
/// # Gradient
/// With respect to all inputs; nothing is computed again.
///
/// # Errors
/// [`Error::Shape`] if shapes do not fit or the output is smaller than `x`.
///
/// ```
/// use hafuse::{ops, DType, ParamStore, Session, Tape, Tensor};
/// let mut t = Tape::new(DType::F32);
/// let x = t.input("x", [1, 1, 2, 1])?;
/// let weight = t.constant(&Tensor::full([1, 1, 1, 1], DType::F32, 2.0))?;
/// let y = ops::pointwise_upsample(&mut t, x, weight, (1, 4), None)?;
/// t.output("y", y)?;
/// let mut s = Session::new(&t, &ParamStore::default())?;
/// s.set("x", &Tensor::from_vec([1, 1, 2, 1], vec![0.0f32, 4.0])?)?;
/// s.run()?;
/// assert_eq!(s.output::<f32>("y")?, [0.0, 2.0, 6.0, 8.0]);
/// # Ok::<(), hafuse::Error>(())
/// ```
pub fn pointwise_upsample(
    t: &mut Tape,
    x: Var,
    weight: Var,
    (h, w): (usize, usize),
    residual: Option<Var>,
) -> Result<Var> {
    let op = PointwiseUpsample {
        maps: Maps::new(t.shape(x), h, w)?,
        size: (h, w),
        residual: residual.is_some(),
        naive: false,
    };
    let inputs: Vec<Var> = [x, weight].into_iter().chain(residual).collect();
    t.record(op, &inputs)
}

/// `Upsample` of `kernels/upsample.cu`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Params {
    x: DevicePtr,
    weight: DevicePtr,
    residual: DevicePtr,
    y: DevicePtr,
    n: i32,
    h: i32,
    w: i32,
    c: i32,
    cout: i32,
    ho: i32,
    wo: i32,
    tiles_y: i32,
    tiles_x: i32,
    unused: i32,
}

/// Tile of a block: `TILE_H`, `TILE_W` and `COUTS` of the kernels.
const TILE: (usize, usize, usize) = (8, 16, 32);

/// Inputs x, kernel and, if there, the residual.
#[derive(Debug)]
struct PointwiseUpsample {
    maps: Maps,
    /// Of the output.
    size: (usize, usize),
    residual: bool,
    /// Run the plain CUDA kernel, which the fast ones are compared with.
    naive: bool,
}

/// The 1 x 1 on its own.
const POINTWISE: Conv2d = Conv2d {
    options: ConvOptions {
        stride: 1,
        dilation: 1,
        padding: super::Padding::Same,
        activation: super::Activation::None,
    },
    bias: false,
    residual: false,
    variant: Variant::Auto,
};

impl PointwiseUpsample {
    /// Elements of scratch: the products, in whole cache lines, and what the convolution wants.
    fn scratch<T: Convolve>(x: Shape, w: Shape) -> (usize, usize) {
        let ([n, h, wd, _], [.., cout]) = (x.padded4(), w.padded4());
        let products = (n * h * wd * cout).next_multiple_of(ALIGN / size_of::<T>());
        (products, T::packed_len(w.padded4()))
    }

    /// The 1 x 1 of a whole `x` of this shape.
    fn pointwise<'a, T: Real>(&self, io: &CpuIo<'a>, x: Shape) -> Result<Forward<'a, T>> {
        Ok(Forward {
            x: io.input(0)?,
            x_shape: x.padded4(),
            w: io.input(1)?,
            w_shape: io.shape(1).padded4(),
            bias: None,
            residual: None,
        })
    }

    fn run<T: Convolve>(&self, io: &mut CpuIo<'_>) -> Result<()> {
        let (x, w) = (io.shape(0), io.shape(1));
        let ([n, h, wd, _], [.., cout]) = (x.padded4(), w.padded4());
        let scratch = io.scratch::<T>()?;
        let (products, packed) = scratch.split_at_mut(Self::scratch::<T>(x, w).0);
        let products = &mut products[..n * h * wd * cout];
        let f = self.pointwise(io, x)?;
        T::convolve(NAME, &POINTWISE.options, &f, products, packed)?;
        let residual = if self.residual {
            Some(io.input(2)?)
        } else {
            None
        };
        self.maps.resize(cout, products, residual, io.output()?);
        Ok(())
    }

    fn macs(inputs: &[Meta]) -> u64 {
        (inputs[0].shape.len() * inputs[1].shape.padded4()[3]) as u64
    }
}

impl Operator for PointwiseUpsample {
    fn name(&self) -> &'static str {
        NAME
    }

    fn output(&self, inputs: &[Meta]) -> Result<Meta> {
        let expected = 2 + usize::from(self.residual);
        let dtype = check_inputs(NAME, inputs, expected..=expected)?;
        let [n, h, w, c] = inputs[0].shape.dims4(NAME)?;
        let [.., cout] = inputs[1].shape.dims4(NAME)?;
        if self.size.0 < h || self.size.1 < w {
            return Err(Error::shape(
                NAME,
                format!(
                    "{h} x {w} cannot be enlarged to {} x {}; use conv2d and resize_bilinear to shrink",
                    self.size.0, self.size.1
                ),
            ));
        }
        if c * cout == 0 {
            let detail = format!("kernel {} has no channels", inputs[1].shape);
            return Err(Error::shape(NAME, detail));
        }
        expect_shape(
            NAME,
            "kernel",
            inputs[1].shape,
            Shape::from([1, 1, c, cout]),
        )?;
        let out = self.maps.output(n, cout);
        if self.residual {
            expect_shape(NAME, "residual", inputs[2].shape, out)?;
        }
        Ok(Meta::new(out, dtype))
    }

    fn vjp(&self, t: &mut Tape, node: Var, cotangent: Var) -> Result<Vec<Option<Var>>> {
        let inputs = t.inputs_of(node).to_vec();
        let g = self.maps.gradient(t, cotangent)?;
        let mut gradients = POINTWISE.adjoints(t, &inputs[..2], node, g)?;
        if self.residual {
            gradients.push(Some(cotangent));
        }
        Ok(gradients)
    }

    fn cpu(&self, mut io: CpuIo<'_>) -> Result<()> {
        dispatch_real!(io.dtype(), NAME, T => self.run::<T>(&mut io))
    }

    fn onnx(&self, g: &mut Graph, inputs: &[Operand]) -> Result<Value> {
        // The size is the residual's, so that it may stay open.
        let Some(residual) = inputs.get(2) else {
            let detail = format!(
                "{NAME} without a residual, from which it takes its size, has no ONNX form"
            );
            return Err(Error::config("export", detail));
        };
        let residual = residual.value(NAME)?;
        let products = POINTWISE.onnx(g, &inputs[..2])?;
        let sizes = g.node("Shape", &[residual], &[]);
        let inputs = [products.name(), "", "", sizes.name()];
        let attributes = [
            ("mode", Attribute::Text("linear")),
            (
                "coordinate_transformation_mode",
                Attribute::Text("half_pixel"),
            ),
        ];
        let large = g.node_with_gaps("Resize", &inputs, &attributes);
        Ok(g.node("Add", &[&large, residual], &[]))
    }

    fn cuda(&self, io: &mut CudaIo<'_>) -> Result<()> {
        let ([n, h, w, c], [.., cout]) = (io.shape(0).padded4(), io.shape(1).padded4());
        let (ho, wo) = self.size;
        for len in [io.shape(0).len(), io.output_shape().len(), c * cout] {
            io.int(len)?;
        }
        let (tiles_y, tiles_x) = (ho.div_ceil(TILE.0), wo.div_ceil(TILE.1));
        let params = Params {
            x: io.input(0),
            weight: io.input(1),
            residual: io.optional(self.residual.then_some(2)),
            y: io.output(),
            n: io.int(n)?,
            h: io.int(h)?,
            w: io.int(w)?,
            c: io.int(c)?,
            cout: io.int(cout)?,
            ho: io.int(ho)?,
            wo: io.int(wo)?,
            tiles_y: io.int(tiles_y)?,
            tiles_x: io.int(tiles_x)?,
            unused: 0,
        };
        if self.naive {
            let blocks = io.blocks_for(io.output_shape().len());
            return io.launch("upsample", "upsample_naive_fwd", blocks, THREADS, params);
        }
        let fits = c.is_multiple_of(16) && cout.is_multiple_of(8);
        let kernel = if fits && io.tensor_cores() {
            "upsample_mma_fwd"
        } else {
            "upsample_fwd"
        };
        let blocks = n * tiles_y * tiles_x * cout.div_ceil(TILE.2);
        io.launch("upsample", kernel, blocks, THREADS, params)
    }

    fn flops(&self, inputs: &[Meta], output: Meta) -> u64 {
        // Three interpolations of three operations, and the residual.
        let each = 9 + u64::from(self.residual);
        2 * Self::macs(inputs) + each * output.shape.len() as u64
    }

    fn multiply_adds(&self, inputs: &[Meta], _output: Meta) -> u64 {
        Self::macs(inputs)
    }

    fn workspace(&self, inputs: &[Meta], _output: Meta) -> usize {
        let (x, w, dtype) = (inputs[0].shape, inputs[1].shape, inputs[0].dtype);
        let (products, packed) = match dtype {
            DType::F32 => Self::scratch::<f32>(x, w),
            _ => Self::scratch::<f64>(x, w),
        };
        (products + packed) * dtype.size()
    }

    fn banded(&self) -> Option<&dyn Banded> {
        Some(self)
    }
}

impl Banded for PointwiseUpsample {
    fn reads(&self, i: usize, _: &[Meta], rows: Range<usize>) -> Range<usize> {
        match i {
            0 => self.maps.rows_read(&rows),
            _ => rows,
        }
    }

    fn prepared(&self, whole: &[Meta]) -> usize {
        f32::packed_len(whole[1].shape.padded4())
    }

    fn prepare(&self, mut io: CpuIo<'_>, whole: &[Meta]) -> Result<()> {
        let packed = io.output()?;
        let f = self.pointwise(&io, whole[0].shape)?;
        f32::pack(NAME, &POINTWISE.options, &f, packed)
    }

    fn scratch(&self, inputs: &[Meta], _: Meta) -> usize {
        4 * Self::scratch::<f32>(inputs[0].shape, inputs[1].shape).0
    }

    fn run(&self, mut io: CpuIo<'_>, band: &Band<'_>) -> Result<()> {
        let ([_, h, w, _], [.., cout]) = (io.shape(0).padded4(), io.shape(1).padded4());
        let products = &mut io.scratch::<f32>()?[..h * w * cout];
        let under = band.first[0]..band.first[0] + h;
        let f = self.pointwise(&io, band.whole[0].shape)?;
        let at = (&under, under.start);
        f32::convolve_rows(
            NAME,
            &POINTWISE.options,
            &f,
            at,
            band.prepared,
            products,
            &mut [],
        )?;
        let residual = if self.residual {
            Some(io.input(2)?)
        } else {
            None
        };
        self.maps.resize_rows(
            &band.rows,
            under.start,
            cout,
            products,
            residual,
            io.output()?,
        );
        Ok(())
    }
}

pub(crate) fn cases() -> Vec<Case> {
    let sizes = [
        ([1, 1, 1, 1], 1, (1, 1), true, false),
        ([2, 3, 4, 5], 3, (6, 7), true, false),
        ([1, 1, 7, 2], 9, (3, 13), false, false),
        ([1, 7, 1, 3], 4, (13, 2), true, false),
        ([1, 4, 5, 8], 8, (4, 5), true, false), // the same size
        ([1, 5, 9, 8], 12, (9, 17), true, false), // one pixel beyond a tile
        ([1, 9, 17, 6], 33, (9, 17), false, false), // the most pixels below a tile; two channel blocks
        ([1, 9, 17, 16], 8, (9, 17), true, false),  // likewise with tensor cores in f16
        ([2, 5, 6, 32], 40, (9, 11), true, false), // likewise, the second block of channels is short
        ([1, 2, 3, 64], 32, (7, 11), true, false),
        ([1, 2, 3, 7], 5, (5, 8), true, true),
        ([1, 3, 2, 16], 8, (3, 5), false, true),
    ];
    let mut cases = Vec::new();
    for (x, cout, size, residual, naive) in sizes {
        // Sizes are at least 1: this cannot fail.
        let Ok(maps) = Maps::new(Shape::from(x), size.0, size.1) else {
            continue;
        };
        let mut inputs = vec![CaseInput::any(x), CaseInput::any([1, 1, x[3], cout])];
        if residual {
            inputs.push(CaseInput::any([x[0], size.0, size.1, cout]));
        }
        let mut label = format!("upsample {x:?} to {size:?} x {cout} residual {residual}");
        if naive {
            label += " naive";
        }
        let op = PointwiseUpsample {
            maps,
            size,
            residual,
            naive,
        };
        cases.push(Case::new(label, op, inputs, x[3] + 4));
    }
    cases
}

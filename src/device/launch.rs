//! What an operator says about its kernels: which, with which parameters, on how many threads.
//!
//! Shapes and addresses never change while a session lives, so an operator is asked once, when the
//! session is made; runs only replay the list. Nothing here names the driver.

use super::Card;
use crate::tensor::{DType, Shape};
use crate::{Error, Result};
use bytemuck::{Pod, Zeroable};

/// An address in the card's memory; a pointer field of a kernel's parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(transparent)]
pub struct DevicePtr(pub u64);

impl DevicePtr {
    /// What an absent optional operand is passed as.
    pub const NULL: DevicePtr = DevicePtr(0);

    /// The address `bytes` further on.
    pub fn offset(self, bytes: usize) -> Self {
        Self(self.0 + bytes as u64)
    }
}

/// Threads of a block unless a kernel says otherwise; `THREADS` in `kernels/common/kernel.cuh`.
pub const THREADS: usize = 256;

/// A region of the card's memory that a session has bound to a node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DeviceView {
    pub ptr: DevicePtr,
    pub shape: Shape,
    pub dtype: DType,
}

/// One kernel launch, complete.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Stem of the file in `kernels/`.
    pub module: &'static str,
    /// Name with the dtype, e.g. `conv2d_fwd_f16`.
    pub kernel: String,
    /// Blocks of the grid, which has one dimension.
    pub blocks: u32,
    /// Threads of each block.
    pub threads: u32,
    /// The parameter struct, in words so that it is aligned like one.
    params: Box<[u64]>,
    params_bytes: usize,
}

impl Launch {
    /// Address of the parameter struct.
    pub(super) fn params(&self) -> *const u64 {
        self.params.as_ptr()
    }

    /// Size of the parameter struct, to be compared with the kernel's own.
    pub fn params_bytes(&self) -> usize {
        self.params_bytes
    }
}

/// What an operator's [`cuda`](crate::tape::Operator::cuda) works on: addresses and shapes of its
/// operands, and the list of launches to add to.
pub struct CudaIo<'a> {
    op: &'static str,
    inputs: &'a [DeviceView],
    output: DeviceView,
    scratch: (DevicePtr, usize),
    card: &'a Card,
    launches: Vec<Launch>,
}

impl<'a> CudaIo<'a> {
    pub(crate) fn new(
        op: &'static str,
        inputs: &'a [DeviceView],
        output: DeviceView,
        scratch: (DevicePtr, usize),
        card: &'a Card,
    ) -> Self {
        let launches = Vec::new();
        Self {
            op,
            inputs,
            output,
            scratch,
            card,
            launches,
        }
    }

    pub(crate) fn into_launches(self) -> Vec<Launch> {
        self.launches
    }

    /// Number of inputs.
    #[allow(clippy::len_without_is_empty)] // an operator has inputs
    pub fn len(&self) -> usize {
        self.inputs.len()
    }

    /// Shape of input `i`.
    pub fn shape(&self, i: usize) -> Shape {
        self.inputs[i].shape
    }

    /// Shape of the output.
    pub fn output_shape(&self) -> Shape {
        self.output.shape
    }

    /// The element type of every operand.
    pub fn dtype(&self) -> DType {
        self.inputs.first().unwrap_or(&self.output).dtype
    }

    /// The card that the session runs on.
    pub fn card(&self) -> &Card {
        self.card
    }

    /// Whether tensor cores serve this operator: its operands are f16 and the card's code has them.
    pub fn tensor_cores(&self) -> bool {
        self.dtype() == DType::F16 && self.card.tensor_cores()
    }

    /// Address of input `i`.
    pub fn input(&self, i: usize) -> DevicePtr {
        self.inputs[i].ptr
    }

    /// Address of input `i`, or null where there is none.
    pub fn optional(&self, i: Option<usize>) -> DevicePtr {
        i.map_or(DevicePtr::NULL, |i| self.inputs[i].ptr)
    }

    /// Address of the output.
    pub fn output(&self) -> DevicePtr {
        self.output.ptr
    }

    /// Address and size of what [`cuda_workspace`](crate::tape::Operator::cuda_workspace) asked for;
    /// aligned to 64 bytes, holding garbage.
    pub fn scratch(&self) -> (DevicePtr, usize) {
        self.scratch
    }

    /// A size as kernels take it.
    ///
    /// # Errors
    /// [`Error::Shape`] above `i32::MAX`: kernels count in 32 bits.
    pub fn int(&self, value: usize) -> Result<i32> {
        i32::try_from(value).map_err(|_| {
            Error::shape(
                self.op,
                format!(
                    "{value} is more than a kernel counts to ({}); use smaller pictures or batches",
                    i32::MAX
                ),
            )
        })
    }

    /// Blocks of [`THREADS`] for one thread per element, for a kernel with a grid-stride loop.
    pub fn blocks_for(&self, elements: usize) -> usize {
        // More blocks than this only wait in line.
        let most = self.card.multiprocessors.max(1) as usize * 32;
        elements.div_ceil(THREADS).clamp(1, most)
    }

    /// Adds a launch of `kernel` with the dtype's suffix from `kernels/<module>.cu`.
    ///
    /// # Errors
    /// [`Error::Shape`] for a grid the driver would refuse, [`Error::DType`] for f64.
    pub fn launch<P: Pod>(
        &mut self,
        module: &'static str,
        kernel: &str,
        blocks: usize,
        threads: usize,
        params: P,
    ) -> Result<()> {
        let dtype = self.dtype();
        if dtype == DType::F64 {
            return Err(Error::DType {
                what: format!("{} on CUDA", self.op),
                expected: "f16 or f32".into(),
                found: dtype.to_string(),
            });
        }
        let kernel = format!("{kernel}_{dtype}");
        if blocks == 0 || blocks > i32::MAX as usize || threads == 0 || threads > 1024 {
            return Err(Error::shape(
                self.op,
                format!("kernel {kernel} cannot run in {blocks} blocks of {threads} threads"),
            ));
        }
        let bytes = bytemuck::bytes_of(&params);
        let mut words = vec![0u64; bytes.len().div_ceil(8)].into_boxed_slice();
        bytemuck::cast_slice_mut(&mut words)[..bytes.len()].copy_from_slice(bytes);
        self.launches.push(Launch {
            module,
            kernel,
            blocks: blocks as u32,
            threads: threads as u32,
            params: words,
            params_bytes: bytes.len(),
        });
        Ok(())
    }
}

//! Named parameters that several sessions share.

use crate::device::cpu::Buffer;
use crate::tape::Meta;
use crate::tensor::{DType, Tensor, io::TensorMap};
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Parameters by name, on one device. Clones share the same memory: a training, a validation and
/// an inference session bound to one store see each other's updates.
///
/// ```
/// use hafuse::{ParamStore, Tensor, DType};
/// let store = ParamStore::default();
/// store.set("w", &Tensor::full([2], DType::F32, 1.5))?;
/// assert_eq!(store.clone().get("w")?.to_f64(), [1.5, 1.5]);
/// # Ok::<(), hafuse::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct ParamStore {
    slots: Arc<RwLock<Slots>>,
}

#[derive(Default)]
pub(super) struct Slots {
    by_name: BTreeMap<String, Slot>,
}

pub(super) struct Slot {
    pub meta: Meta,
    /// Never reallocated: sessions keep pointers into it.
    pub buffer: Buffer,
}

impl Slots {
    pub fn slot_mut(&mut self, name: &str) -> Option<&mut Slot> {
        self.by_name.get_mut(name)
    }
}

impl ParamStore {
    /// Adds a parameter, or overwrites the values of one of the same shape and dtype.
    ///
    /// # Errors
    /// [`Error::Weights`] if `name` exists with another shape or dtype (sessions may hold it).
    pub fn set(&self, name: &str, value: &Tensor) -> Result<()> {
        let meta = Meta::new(value.shape(), value.dtype());
        let mut slots = self.write();
        if let Some(slot) = slots.by_name.get_mut(name) {
            if slot.meta != meta {
                return Err(Error::Weights(format!(
                    "`{name}` is {} {}, cannot take {} {}",
                    slot.meta.dtype, slot.meta.shape, meta.dtype, meta.shape
                )));
            }
            copy_in(&mut slot.buffer, value);
            return Ok(());
        }
        let mut buffer = Buffer::filled(meta.bytes(), 0);
        copy_in(&mut buffer, value);
        slots
            .by_name
            .insert(name.to_string(), Slot { meta, buffer });
        Ok(())
    }

    /// A copy of a parameter.
    pub fn get(&self, name: &str) -> Result<Tensor> {
        let slots = self.read();
        let slot = slots
            .by_name
            .get(name)
            .ok_or_else(|| Error::Weights(format!("no parameter `{name}`")))?;
        copy_out(slot)
    }

    pub fn contains(&self, name: &str) -> bool {
        self.read().by_name.contains_key(name)
    }

    /// Names, in order.
    pub fn names(&self) -> Vec<String> {
        self.read().by_name.keys().cloned().collect()
    }

    /// Copies of all parameters whose name satisfies `keep`.
    pub fn export(&self, keep: impl Fn(&str) -> bool) -> Result<TensorMap> {
        self.read()
            .by_name
            .iter()
            .filter(|(name, _)| keep(name))
            .map(|(name, slot)| Ok((name.clone(), copy_out(slot)?)))
            .collect()
    }

    /// Sum of all parameter sizes.
    pub fn bytes(&self) -> usize {
        self.read().by_name.values().map(|s| s.meta.bytes()).sum()
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, Slots> {
        // A panic elsewhere cannot leave the map half changed; values may be, as after any crash.
        self.slots.read().unwrap_or_else(|e| e.into_inner())
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, Slots> {
        self.slots.write().unwrap_or_else(|e| e.into_inner())
    }
}

fn copy_in(buffer: &mut Buffer, value: &Tensor) {
    let bytes = value.bytes();
    // SAFETY: the buffer was made for a tensor of this size (checked by the caller through `meta`).
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), buffer.as_mut_ptr(), bytes.len()) }
}

fn copy_out(slot: &Slot) -> Result<Tensor> {
    let n = slot.meta.shape.len();
    let short = || Error::Internal("parameter buffer is too small".into());
    match slot.meta.dtype {
        DType::F16 => Tensor::from_vec(
            slot.meta.shape,
            slot.buffer
                .slice::<half::f16>(n)
                .ok_or_else(short)?
                .to_vec(),
        ),
        DType::F32 => Tensor::from_vec(
            slot.meta.shape,
            slot.buffer.slice::<f32>(n).ok_or_else(short)?.to_vec(),
        ),
        DType::F64 => Tensor::from_vec(
            slot.meta.shape,
            slot.buffer.slice::<f64>(n).ok_or_else(short)?.to_vec(),
        ),
    }
}

//! Named parameters that several sessions share.

use crate::device::Device;
use crate::device::cpu::Buffer;
use crate::device::cuda::Memory;
use crate::tape::Meta;
use crate::tensor::{Tensor, io::TensorMap};
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
    device: Device,
}

#[derive(Default)]
pub(super) struct Slots {
    by_name: BTreeMap<String, Slot>,
}

struct Slot {
    meta: Meta,
    memory: SlotMemory,
}

/// Never reallocated: sessions keep pointers into it.
pub(super) enum SlotMemory {
    Host(Buffer),
    Card(Memory),
}

impl Slot {
    fn new(device: &Device, meta: Meta) -> Result<Self> {
        let memory = match device {
            Device::Cpu => SlotMemory::Host(Buffer::filled(meta.bytes(), 0)),
            Device::Cuda(cuda) => SlotMemory::Card(cuda.allocate(meta.bytes())?),
        };
        Ok(Self { meta, memory })
    }

    fn write(&mut self, value: &Tensor) -> Result<()> {
        let bytes = value.bytes();
        match &mut self.memory {
            SlotMemory::Host(buffer) => buffer
                .bytes_mut(bytes.len())
                .ok_or_else(short)?
                .copy_from_slice(bytes),
            SlotMemory::Card(memory) => memory.write(bytes)?,
        }
        Ok(())
    }

    fn read(&self) -> Result<Tensor> {
        let mut tensor = Tensor::full(self.meta.shape, self.meta.dtype, 0.0);
        let bytes = tensor.bytes_mut();
        match &self.memory {
            SlotMemory::Host(buffer) => {
                bytes.copy_from_slice(buffer.bytes(bytes.len()).ok_or_else(short)?);
            }
            SlotMemory::Card(memory) => memory.read(bytes)?,
        }
        Ok(tensor)
    }
}

fn short() -> Error {
    Error::Internal("parameter buffer is too small".into())
}

impl ParamStore {
    /// An empty store in the memory of `device`; sessions that use it run there.
    pub fn on(device: &Device) -> Self {
        Self {
            slots: Arc::default(),
            device: device.clone(),
        }
    }

    /// Where the parameters live.
    pub fn device(&self) -> &Device {
        &self.device
    }

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
            return slot.write(value);
        }
        let mut slot = Slot::new(&self.device, meta)?;
        slot.write(value)?;
        slots.by_name.insert(name.to_string(), slot);
        Ok(())
    }

    /// A copy of a parameter.
    pub fn get(&self, name: &str) -> Result<Tensor> {
        let slots = self.read();
        let slot = slots
            .by_name
            .get(name)
            .ok_or_else(|| Error::Weights(format!("no parameter `{name}`")))?;
        slot.read()
    }

    /// Whether there is a parameter of this name.
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
            .map(|(name, slot)| Ok((name.clone(), slot.read()?)))
            .collect()
    }

    /// Sum of all parameter sizes.
    pub fn bytes(&self) -> usize {
        self.read().by_name.values().map(|s| s.meta.bytes()).sum()
    }

    /// `f` on the memory of a parameter that must have this shape and dtype.
    pub(super) fn bind<R>(
        &self,
        name: &str,
        meta: Meta,
        f: impl FnOnce(&mut SlotMemory) -> Result<R>,
    ) -> Result<R> {
        let mut slots = self.write();
        let slot = slots.by_name.get_mut(name).ok_or_else(|| {
            Error::Weights(format!("the network needs `{name}`, which is missing"))
        })?;
        if slot.meta != meta {
            return Err(Error::Weights(format!(
                "`{name}` is {} {}, the network needs {} {}",
                slot.meta.dtype, slot.meta.shape, meta.dtype, meta.shape
            )));
        }
        f(&mut slot.memory)
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, Slots> {
        // A panic elsewhere cannot leave the map half changed; values may be, as after any crash.
        self.slots.read().unwrap_or_else(|e| e.into_inner())
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, Slots> {
        self.slots.write().unwrap_or_else(|e| e.into_inner())
    }
}

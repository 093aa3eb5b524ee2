//! Training: configuration, objective, the loop, checkpoints.

mod checkpoint;
mod config;
mod objective;
mod trainer;
mod validation;

pub use checkpoint::{Checkpoint, Position, Progress};
pub(crate) use config::DEFAULT_CONFIG;
pub use config::{
    DataConfig, FeatureLoss, LossConfig, ObjectLoss, Optimizer, Perceptual, Schedule, StageConfig,
    Task, TrainConfig,
};
pub(crate) use config::{at_most, check_patches, load_toml, require};
pub(crate) use objective::record_loss;
pub use objective::{Terms, record_feature_loss, record_object_loss};
pub use trainer::{StepReport, TrainEvent, Trainer};
pub(crate) use trainer::{
    cosine, load_weights, moment_name, record_patches, set_patches, zero_moments,
};

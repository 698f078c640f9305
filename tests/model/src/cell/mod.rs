//! The production machines of a cell of three nodes, every order of their events within bounds.

mod action;
mod bounds;
mod commands;
mod control;
mod guest;
mod judge;
mod links;
mod message;
mod model;
mod process;
mod prologue;
mod session;
mod steering;
mod step;
mod truth;
mod vmm;
mod world;

pub use action::Action;
pub use bounds::{Bounds, Budget};
pub use model::CellModel;
pub use world::World;

//! The `escape` command as a library: what the command does is here, so that tests can do it too.

#![deny(unsafe_code)]

pub mod bench;
pub mod cell;
pub mod cell_directory;
pub mod cli;
pub mod commands;
pub mod config;
pub mod doctor;
pub mod drill;
pub mod exit;
pub mod load;
pub mod operator;
pub mod status;

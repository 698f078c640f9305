//! A cell that is no cell: one thread per connection speaks the session protocol, well or badly.

pub mod fake_cell;
pub mod fake_service;
pub mod misbehaviour;

//! Operators: one file or folder for each. A file holds, in this order, the function that users
//! call, the operator with its shape rule and vjp, its CPU code, and its cases for the registry.

pub mod registry;

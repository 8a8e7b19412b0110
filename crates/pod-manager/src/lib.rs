//! The desired pods of a node as a plain data structure.

//! Composition root: gives each room its neighbours, start order, drain.

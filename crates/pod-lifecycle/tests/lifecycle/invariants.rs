//! What holds for every pod and every course of events.

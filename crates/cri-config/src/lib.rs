//! Pure translation between pods and CRI v1 messages, both ways.

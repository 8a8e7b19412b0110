//! Kubelet flags and configuration: text in, values with their origin out.

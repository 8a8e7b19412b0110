//! Pod and QoS cgroups, v1 and v2.

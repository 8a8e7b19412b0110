//! How the node is divided.

use super::*;
use crate::config::MemoryReservation;

#[test]
fn enforcement_of_reservations() {
    fn enforce(c: &mut Config, values: &[&str]) {
        c.enforce_node_allocatable = list(values);
        c.system_reserved_cgroup = "/system".into();
        c.kube_reserved_cgroup = "/kube".into();
    }
    assert_errors(&[
        (|c| enforce(c, &["pods", "system-reserved", "kube-reserved-compressible"]), &[]),
        (|c| enforce(c, &[]), &[]),
        (|c| enforce(c, &["none"]), &[]),
        (|c| enforce(c, &["pods", "none"]), &["enforceNodeAllocatable[1] \"none\" must stand alone"]),
        (|c| enforce(c, &["pods", "pods"]), &["enforceNodeAllocatable[1] \"pods\" must not stand twice"]),
        (
            |c| enforce(c, &["pod"]),
            &["enforceNodeAllocatable[0] \"pod\" must be \"none\", \"pods\", \"system-reserved\", \
             \"system-reserved-compressible\", \"kube-reserved\" or \"kube-reserved-compressible\""],
        ),
        (
            |c| enforce(c, &["kube-reserved", "kube-reserved-compressible"]),
            &[
                "enforceNodeAllocatable [\"kube-reserved\",\"kube-reserved-compressible\"] must not have both \
             \"kube-reserved\" and \"kube-reserved-compressible\"",
            ],
        ),
        (
            |c| c.enforce_node_allocatable = list(&["pods", "system-reserved-compressible"]),
            &[
                "systemReservedCgroup \"\" must be set when enforceNodeAllocatable has \"system-reserved\" in \
             either form",
            ],
        ),
        (
            |c| c.enforce_node_allocatable = list(&["kube-reserved"]),
            &[
                "kubeReservedCgroup \"\" must be set when enforceNodeAllocatable has \"kube-reserved\" in either \
             form",
            ],
        ),
        (
            |c| c.cgroups_per_qos = false,
            &["enforceNodeAllocatable[0] \"pods\" needs cgroupsPerQOS; with that off it must be \"none\""],
        ),
        (
            |c| {
                c.cgroups_per_qos = false;
                c.enforce_node_allocatable = list(&["none"]);
            },
            &[],
        ),
    ]);
}

#[test]
fn reservations() {
    assert_errors(&[
        (
            |c| {
                c.system_reserved =
                    map(&[("cpu", "500m"), ("memory", "1Gi"), ("ephemeral-storage", "0"), ("pid", "1000")]);
            },
            &[],
        ),
        (
            |c| c.kube_reserved = map(&[("cpu", "-1"), ("hugepages-2Mi", "1"), ("memory", "1GM")]),
            &[
                "kubeReserved.cpu \"-1\" must not be negative",
                "kubeReserved.hugepages-2Mi \"1\" reserves a resource that cannot be: it must be \"cpu\", \
             \"memory\", \"ephemeral-storage\" or \"pid\"",
                "kubeReserved.memory \"1GM\" must be a quantity such as 500m or 1Gi: unable to parse quantity's \
             suffix",
            ],
        ),
        (|c| c.reserved_system_cpus = "0-3,8".into(), &[]),
        (
            |c| c.reserved_system_cpus = "3-0".into(),
            &["reservedSystemCPUs \"3-0\" must be a list of CPUs such as 0-3,8"],
        ),
        (
            |c| c.reserved_system_cpus = "0,".into(),
            &["reservedSystemCPUs \"0,\" must be a list of CPUs such as 0-3,8"],
        ),
        (
            |c| {
                c.reserved_system_cpus = "0".into();
                c.system_reserved_cgroup = "/system".into();
                c.kube_reserved_cgroup = "/kube".into();
            },
            &[
                "reservedSystemCPUs \"0\" must not be set beside systemReservedCgroup",
                "reservedSystemCPUs \"0\" must not be set beside kubeReservedCgroup",
            ],
        ),
        (|c| c.qos_reserved = map(&[("memory", "50%")]), &[]),
        (
            |c| c.qos_reserved = map(&[("cpu", "50%"), ("memory", "101%")]),
            &[
                "qosReserved.cpu \"50%\" reserves a resource that cannot be: it must be \"memory\"",
                "qosReserved.memory \"101%\" must be a percentage from 0% to 100%",
            ],
        ),
        (
            |c| c.qos_reserved = map(&[("memory", "50")]),
            &["qosReserved.memory \"50\" must be a percentage from 0% to 100%"],
        ),
    ]);
}

#[test]
fn reserved_memory_of_numa_nodes() {
    fn reserve(c: &mut Config, all: &[(i32, &str, &str)]) {
        c.reserved_memory = all
            .iter()
            .map(|(node, resource, quantity)| MemoryReservation {
                numa_node: *node,
                limits: [((*resource).to_owned(), quantity.parse().unwrap())].into(),
            })
            .collect();
    }
    assert_errors(&[
        (|c| reserve(c, &[(0, "memory", "1Gi"), (1, "memory", "1Gi"), (0, "hugepages-2Mi", "2Mi")]), &[]),
        (
            |c| reserve(c, &[(0, "cpu", "1"), (0, "memory", "0"), (1, "memory", "1"), (1, "memory", "2")]),
            &[
                "reservedMemory[0].limits.cpu \"1\" reserves what is neither memory nor hugepages-<size>",
                "reservedMemory[1].limits.memory \"0\" must not be zero",
                "reservedMemory[3].limits.memory \"2\" must stand once only for NUMA node 1",
            ],
        ),
    ]);
}

#[test]
fn options_of_resource_managers() {
    fn cpu(c: &mut Config, options: &[(&str, &str)]) {
        c.cpu_manager_policy = "static".into();
        c.kube_reserved = map(&[("cpu", "1")]);
        c.cpu_manager_policy_options = map(options);
    }
    fn topology(c: &mut Config, options: &[(&str, &str)]) {
        c.topology_manager_policy = "restricted".into();
        c.topology_manager_policy_options = map(options);
    }
    assert_errors(&[
        (|c| cpu(c, &[("full-pcpus-only", "true"), ("distribute-cpus-across-numa", "F")]), &[]),
        (
            |c| cpu(c, &[("full-pcpus-only", "yes"), ("nosuch", "true"), ("align-by-socket", "true")]),
            &[
                "cpuManagerPolicyOptions.align-by-socket \"true\" needs the feature gate \
             CPUManagerPolicyAlphaOptions",
                "cpuManagerPolicyOptions.full-pcpus-only \"yes\" must be true or false",
                "cpuManagerPolicyOptions.nosuch \"true\" is no option: there are \"full-pcpus-only\", \
             \"strict-cpu-reservation\", \"prefer-align-cpus-by-uncorecache\", \"distribute-cpus-across-numa\", \
             \"align-by-socket\" or \"distribute-cpus-across-cores\"",
            ],
        ),
        (
            |c| {
                cpu(c, &[("align-by-socket", "true")]);
                gate(c, "CPUManagerPolicyAlphaOptions", true);
            },
            &[],
        ),
        (|c| topology(c, &[("max-allowable-numa-nodes", "8"), ("prefer-closest-numa-nodes", "1")]), &[]),
        (
            |c| topology(c, &[("max-allowable-numa-nodes", "7")]),
            &["topologyManagerPolicyOptions.max-allowable-numa-nodes \"7\" must be a number, 8 or more"],
        ),
    ]);
    assert_warnings(&[(
        |c| c.cpu_manager_policy_options = map(&[("full-pcpus-only", "x")]),
        &[
            "cpuManagerPolicyOptions.full-pcpus-only \"x\" must be true or false; it counts once the policy is set",
        ],
    )]);
}

#[test]
fn cgroups_and_memory() {
    assert_errors(&[
        (
            |c| c.system_cgroups = "/system".into(),
            &["systemCgroups \"/system\" must not be set unless cgroupRoot is"],
        ),
        (
            |c| {
                c.system_cgroups = "/system".into();
                c.cgroup_root = "/".into();
            },
            &[],
        ),
        (|c| c.cgroup_root = "a".into(), &["cgroupRoot \"a\" must be an absolute path without . and .."]),
        (
            |c| c.cgroup_root = "/a/..".into(),
            &["cgroupRoot \"/a/..\" must be an absolute path without . and .."],
        ),
        (|c| c.memory_throttling_factor = 1.0, &[]),
        (
            |c| c.memory_throttling_factor = 0.0,
            &["memoryThrottlingFactor 0.0 must be greater than 0 and no more than 1"],
        ),
        (
            |c| c.memory_throttling_factor = 1.1,
            &["memoryThrottlingFactor 1.1 must be greater than 0 and no more than 1"],
        ),
        (
            |c| c.memory_reservation_policy = "TieredReservation".into(),
            &["memoryReservationPolicy \"TieredReservation\" needs the feature gate MemoryQoS"],
        ),
        (
            |c| {
                c.memory_reservation_policy = "TieredReservation".into();
                gate(c, "MemoryQoS", true);
            },
            &[],
        ),
    ]);
}

#[test]
fn eviction_thresholds() {
    assert_errors(&[
        (
            |c| {
                c.eviction_hard = map(&[
                    ("memory.available", "100Mi"),
                    ("nodefs.available", "10.5%"),
                    ("pid.available", "0%"),
                    ("imagefs.inodesFree", "100%"),
                ]);
                c.eviction_soft = map(&[("memory.available", "1Gi"), ("nodefs.available", "100%")]);
                c.eviction_soft_grace_period = map(&[("memory.available", "1m30s")]);
                c.eviction_minimum_reclaim = map(&[("memory.available", "0"), ("nodefs.available", "5%")]);
            },
            &[],
        ),
        (
            |c| {
                c.eviction_hard = map(&[
                    ("imagefs.available", "0"),
                    ("memory.available", "-5%"),
                    ("memory.free", "1"),
                    ("nodefs.available", "101%"),
                    ("nodefs.inodesFree", "nan%"),
                    ("pid.available", "-1"),
                ]);
            },
            &[
                "evictionHard[imagefs.available] \"0\" must be more than 0",
                "evictionHard[memory.available] \"-5%\" must be between 0% and 100%",
                "evictionHard[memory.free] \"1\" is for a signal that there is not: it must be \
                 \"memory.available\", \"allocatableMemory.available\", \"nodefs.available\", \
                 \"nodefs.inodesFree\", \"imagefs.available\", \"imagefs.inodesFree\", \"containerfs.available\", \
                 \"containerfs.inodesFree\" or \"pid.available\"",
                "evictionHard[nodefs.available] \"101%\" must be between 0% and 100%",
                "evictionHard[nodefs.inodesFree] \"nan%\" must be a quantity such as 100Mi or a percentage such \
                 as 10%",
                "evictionHard[pid.available] \"-1\" must be more than 0",
            ],
        ),
        (
            |c| c.eviction_soft = map(&[("memory.available", "1Gi")]),
            &["evictionSoft[memory.available] \"1Gi\" needs a grace period for the same signal in \
             evictionSoftGracePeriod"],
        ),
        (
            |c| {
                c.eviction_soft_grace_period =
                    map(&[("memory.available", "10"), ("nodefs.available", "-1s")]);
            },
            &[
                "evictionSoftGracePeriod[memory.available] \"10\" must be a duration such as 1m30s: time: \
                 missing unit in duration \"10\"",
                "evictionSoftGracePeriod[nodefs.available] \"-1s\" must not be negative",
            ],
        ),
        (
            |c| {
                c.eviction_minimum_reclaim = map(&[("memory.available", "0%"), ("nodefs.available", "-1")]);
            },
            &[
                "evictionMinimumReclaim[memory.available] \"0%\" must be more than 0%",
                "evictionMinimumReclaim[nodefs.available] \"-1\" must not be negative",
            ],
        ),
    ]);
    assert_warnings(&[(
        |c| c.eviction_hard = map(&[("containerfs.available", "5%")]),
        &[
            "evictionHard[containerfs.available] \"5%\" is replaced by the threshold of the file system that the \
         containers are on",
        ],
    )]);
}

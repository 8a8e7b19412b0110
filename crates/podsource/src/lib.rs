//! Pod sources: manifests in, full sets of pods and errors out on a watch.

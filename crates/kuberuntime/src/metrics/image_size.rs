//! Names for sizes of images.

const MB: u64 = 1 << 20;
const GB: u64 = 1 << 30;

/// Names of image sizes by what they are smaller than.
const SIZES: &[(u64, &str)] = &[
    (10 * MB, "0-10MB"),
    (100 * MB, "10MB-100MB"),
    (500 * MB, "100MB-500MB"),
    (GB, "500MB-1GB"),
    (5 * GB, "1GB-5GB"),
    (10 * GB, "5GB-10GB"),
    (20 * GB, "10GB-20GB"),
    (30 * GB, "20GB-30GB"),
    (40 * GB, "30GB-40GB"),
    (60 * GB, "40GB-60GB"),
    (100 * GB, "60GB-100GB"),
];

/// The name of an image's size, as the kubelet has it.
pub(super) fn image_size(bytes: u64) -> &'static str {
    if bytes == 0 {
        return "N/A";
    }
    SIZES.iter().find(|(below, _)| bytes < *below).map_or("GT100GB", |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_the_kubelets_names() {
        for (bytes, expected) in [
            (0, "N/A"),
            (5 * MB, "0-10MB"),
            (10 * MB, "10MB-100MB"),
            (15 * MB, "10MB-100MB"),
            (500 * MB - 1, "100MB-500MB"),
            (15 * GB, "10GB-20GB"),
            (200 * GB, "GT100GB"),
        ] {
            assert_eq!(image_size(bytes), expected, "{bytes}");
        }
    }
}

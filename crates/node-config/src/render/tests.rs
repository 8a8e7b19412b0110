use kube_model::yaml;
use serde_json::json;

use super::*;
use crate::config::KubeletConfiguration;
use crate::testing::{Folder, load};

#[test]
fn each_value_that_is_not_a_default_says_where_it_came_from() {
    let text = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nmaxPods: 5\nclusterDNS: [10.0.0.1]\n\
                evictionHard:\n  memory.available: 5%\nkubeletCgroups: /x\nregisterWithTaints:\n- {key: a, effect: NoExecute}\n\
                staticPodURLHeader: {Authorization: [secret]}\n";
    let folder = Folder::new([("/etc/k.yaml", text)]);
    let effective =
        load(&folder, &["--config=/etc/k.yaml", "--hostname-override=n", "--port=7", "--node-labels=a=b\n"]);
    let shown = render(&effective.unwrap());
    for line in [
        "#   --config=/etc/k.yaml",
        "#   --hostname-override=n",
        "#   --node-labels=a=b\\n",
        "maxPods: 5 # file /etc/k.yaml line 3",
        "clusterDNS: # file /etc/k.yaml line 4",
        "- 10.0.0.1",
        "evictionHard:",
        "  memory.available: 5% # file /etc/k.yaml line 6",
        "- effect: NoExecute # file /etc/k.yaml line 9",
        "  key: a # file /etc/k.yaml line 9",
        "port: 7 # flag --port",
        "healthzPort: 10248",
        "# Warning: flag --port is deprecated: set port in the file given with --config",
        "# Accepted, but without effect in this agent:",
        "#   kubeletCgroups",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line}:\n{shown}");
    }
    assert!(!shown.contains("secret"), "{shown}");
    let read = yaml::parse(shown.as_bytes()).unwrap().value;
    assert_eq!(read["staticPodURLHeader"], json!({"Authorization": ["<masked>"]}));
}

proptest::proptest! {
    #[test]
    fn what_is_shown_reads_back_as_the_same(
        text in "(\\PC|\u{2028}|\u{2029}){0,20}", word in "(yes|~|0x1f|1e3|- a|a: b|a #b|\\*a|<<|[\\[{'\"%@`!&|>]x| x|x |12:30|null)",
        key in "[a-z./]{1,8}", number: i32, yes: bool, factor in 0.001..1.0_f64,
    ) {
        let mut config = KubeletConfiguration { max_pods: number, fail_swap_on: yes, ..KubeletConfiguration::default() };
        config.memory_throttling_factor = factor;
        config.provider_id = text.clone();
        config.pod_cidr = word.clone();
        config.cluster_dns = vec![text.clone(), word.clone()];
        config.eviction_soft.insert(key, word);
        config.static_pod_url_header.insert(text, vec![MASK.to_owned()]);
        let effective = crate::load::Effective { config, ..load(&Folder::default(), &[]).unwrap() };
        let read = yaml::parse(render(&effective).as_bytes()).unwrap().value;
        proptest::prop_assert_eq!(&read, &to_value(&effective.config));
        let decoded = KubeletConfiguration::from_value(read, &Default::default()).unwrap();
        proptest::prop_assert!(decoded.unknown.is_empty());
    }
}

//! Rules for who is talked to and how: addresses, sockets, certificates, authentication, logs, traces.

use std::net::IpAddr;

use super::Check;
use crate::config::{MAX_VERBOSITY, join};
use crate::gates::Gate;
use crate::secret::{MASK, masked_url};

pub(super) fn addresses(check: &mut Check<'_>) {
    let config = check.config;
    for (field, text) in [("address", &config.address), ("healthzBindAddress", &config.healthz_bind_address)]
    {
        if text.parse::<IpAddr>().is_err() {
            check.error(field, text, "must be an IP address");
        }
    }
    for (index, text) in config.cluster_dns.iter().enumerate() {
        if text.parse::<IpAddr>().is_err() {
            check.warn(format!("clusterDNS[{index}]"), text, "is not an IP address and is left out");
        }
    }
}

pub(super) fn endpoints(check: &mut Check<'_>) {
    let config = check.config;
    let runtime = &config.container_runtime_endpoint;
    if runtime.is_empty() {
        check.error("containerRuntimeEndpoint", runtime, "must be set");
    }
    for (field, endpoint) in
        [("containerRuntimeEndpoint", runtime), ("imageServiceEndpoint", &config.image_service_endpoint)]
    {
        if !endpoint.is_empty() && !is_socket(endpoint) {
            let rule = "must be a unix socket such as unix:///run/containerd/containerd.sock";
            check.error(field, endpoint, rule);
        }
    }
}

pub(super) fn manifest_url(check: &mut Check<'_>) {
    let config = check.config;
    let url = &config.static_pod_url;
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    if !url.is_empty() && rest.is_none() {
        check.error("staticPodURL", &masked_url(url), "must begin with http:// or https://");
    } else if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?', '#'])) {
        check.error("staticPodURL", &masked_url(url), "must name a server");
    }
    for (name, values) in &config.static_pod_url_header {
        let field = join("staticPodURLHeader", name);
        if !is_token(name) {
            check.error(&field, &MASK, "must have the name of an HTTP header");
        }
        // RFC 9110, 5.5: no line breaks or other control characters.
        if values.iter().flat_map(|value| value.bytes()).any(|b| b.is_ascii_control() && b != b'\t') {
            check.error(&field, &MASK, "must not have control characters");
        }
    }
}

/// RFC 9110, 5.6.2.
fn is_token(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// A bare path is a socket too.
fn is_socket(endpoint: &str) -> bool {
    let path =
        endpoint.strip_prefix("unix://").or_else(|| endpoint.strip_prefix("unix:")).unwrap_or(endpoint);
    path.starts_with('/')
        && !path.ends_with('/')
        && !path.contains('\0')
        && !path.split('/').any(|part| matches!(part, "." | ".."))
}

pub(super) fn certificates(check: &mut Check<'_>) {
    let config = check.config;
    let (cert, key) = (&config.tls_cert_file, &config.tls_private_key_file);
    match (cert.is_empty(), key.is_empty()) {
        (false, true) => check.error("tlsPrivateKeyFile", key, "must be set when tlsCertFile is"),
        (true, false) => check.error("tlsCertFile", cert, "must be set when tlsPrivateKeyFile is"),
        _ => {}
    }
    if config.server_tls_bootstrap && !check.enabled(Gate::RotateKubeletServerCertificate) {
        check.error("serverTLSBootstrap", &true, "needs the feature gate RotateKubeletServerCertificate");
    }
}

pub(super) fn webhooks(check: &mut Check<'_>) {
    if check.facts.api_server != Some(false) {
        return;
    }
    if check.config.authentication.webhook.enabled {
        let rule = "needs --kubeconfig: no client provided, cannot use webhook authentication";
        check.error("authentication.webhook.enabled", &true, rule);
    }
    let mode = &check.config.authorization.mode;
    if mode == "Webhook" {
        let rule = "needs --kubeconfig: no client provided, cannot use webhook authorization";
        check.error("authorization.mode", mode, rule);
    }
}

pub(super) fn logging(check: &mut Check<'_>) {
    let logging = &check.config.logging;
    if logging.format == "json" && !check.enabled(Gate::LoggingBetaOptions) {
        check.error("logging.format", &logging.format, "needs the feature gate LoggingBetaOptions");
    }
    let too_much = format!("must be no more than {MAX_VERBOSITY}");
    if logging.verbosity > MAX_VERBOSITY {
        check.error("logging.verbosity", &logging.verbosity, &too_much);
    }
    if !logging.vmodule.is_empty() && logging.format != "text" {
        check.error("logging.vmodule", &logging.vmodule, "must not be set unless logging.format is \"text\"");
    }
    for (index, item) in logging.vmodule.iter().enumerate() {
        let field = format!("logging.vmodule[{index}]");
        if item.file_pattern.is_empty() || item.file_pattern.contains(['=', ',']) {
            let rule = "must be the name of a source file, or a pattern for some, without = and ,";
            check.error(format!("{field}.filePattern"), &item.file_pattern, rule);
        }
        if item.verbosity > MAX_VERBOSITY {
            check.error(format!("{field}.verbosity"), &item.verbosity, &too_much);
        }
    }
    if check.enabled(Gate::LoggingAlphaOptions) {
        return;
    }
    for (field, options) in
        [("logging.options.text", &logging.options.text), ("logging.options.json", &logging.options.json)]
    {
        let rule = "needs the feature gate LoggingAlphaOptions";
        if options.split_stream {
            check.error(format!("{field}.splitStream"), &true, rule);
        }
        if options.info_buffer_size.value() != 0 {
            check.error(format!("{field}.infoBufferSize"), &options.info_buffer_size, rule);
        }
    }
}

pub(super) fn system_logs(check: &mut Check<'_>) {
    if !check.config.enable_system_log_query {
        return;
    }
    if !check.enabled(Gate::NodeLogQuery) {
        check.error("enableSystemLogQuery", &true, "needs the feature gate NodeLogQuery");
    }
    if !check.config.enable_system_log_handler {
        check.error("enableSystemLogQuery", &true, "needs enableSystemLogHandler");
    }
}

pub(super) fn tracing(check: &mut Check<'_>) {
    let Some(tracing) = &check.config.tracing else { return };
    if let Some(rate) = tracing.sampling_rate_per_million
        && !(0..=1_000_000).contains(&rate)
    {
        check.error("tracing.samplingRatePerMillion", &rate, "must be between 0 and 1000000");
    }
    if let Some(endpoint) = &tracing.endpoint
        && let Some((scheme, _)) = endpoint.split_once("//")
        && !matches!(scheme, "dns:" | "unix:" | "unix-abstract:")
    {
        let rule = "must be a host and port, or begin with dns://, unix:// or unix-abstract://";
        check.error("tracing.endpoint", endpoint, rule);
    }
}

//! Probes and lifecycle hooks.

use kube_model::core::{Container, ExecAction, HTTPGetAction, LifecycleHandler, Probe, TCPSocketAction};
use kube_model::k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube_model::pod::ContainerKind;

use super::super::invalid::{Field, Report};
use super::container::Context;
use super::{restart, syntax};

#[derive(Clone, Copy, PartialEq)]
enum Purpose {
    Liveness,
    Readiness,
    Startup,
}

pub(super) fn check_all(report: &mut Report, field: &Field, container: &Container, context: &Context<'_>) {
    let probes = [
        ("livenessProbe", Purpose::Liveness, &container.liveness_probe),
        ("readinessProbe", Purpose::Readiness, &container.readiness_probe),
        ("startupProbe", Purpose::Startup, &container.startup_probe),
    ];
    let sidecars_only = "may not be set for init containers without restartPolicy=Always";
    for (name, purpose, probe) in probes {
        let Some(probe) = probe else { continue };
        let field = field.child(name);
        if context.kind == ContainerKind::Init {
            report.forbidden(&field, sidecars_only);
        } else {
            check_probe(report, &field, probe, purpose);
        }
    }
    let Some(lifecycle) = &container.lifecycle else { return };
    let field = field.child("lifecycle");
    if context.kind == ContainerKind::Init {
        return report.forbidden(&field, sidecars_only);
    }
    let grace = context.spec.termination_grace_period_seconds.unwrap_or(30);
    for (name, hook) in [("postStart", &lifecycle.post_start), ("preStop", &lifecycle.pre_stop)] {
        if let Some(hook) = hook {
            check_hook(report, &field.child(name), hook, grace);
        }
    }
    if let Some(signal) = &lifecycle.stop_signal {
        restart::stop_signal(report, &field.child("stopSignal"), signal, context.spec);
    }
}

fn check_probe(report: &mut Report, field: &Field, probe: &Probe, purpose: Purpose) {
    let mut handlers = 0;
    common(report, field, &mut handlers, &probe.exec, &probe.http_get, &probe.tcp_socket);
    if let Some(grpc) = &probe.grpc {
        handlers += 1;
        if let Some(why) = syntax::port(grpc.port) {
            report.invalid(&field.child("grpc").child("port"), grpc.port, why);
        }
    }
    exactly_one(report, field, handlers, "`exec`, `httpGet`, `tcpSocket` or `grpc`");
    for (name, value) in [
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ] {
        report.not_negative(&field.child(name), value);
    }
    let threshold = probe.success_threshold.unwrap_or(1);
    if purpose != Purpose::Readiness && threshold != 1 {
        report.invalid(&field.child("successThreshold"), threshold, "must be 1");
    }
    if let Some(seconds) = probe.termination_grace_period_seconds {
        let field = field.child("terminationGracePeriodSeconds");
        if purpose == Purpose::Readiness {
            report.invalid(&field, seconds, "must not be set for readinessProbes");
        } else if seconds < 1 {
            report.invalid(&field, seconds, "must be greater than 0");
        }
    }
}

fn check_hook(report: &mut Report, field: &Field, hook: &LifecycleHandler, grace: i64) {
    let mut handlers = 0;
    common(report, field, &mut handlers, &hook.exec, &hook.http_get, &hook.tcp_socket);
    if let Some(sleep) = &hook.sleep {
        handlers += 1;
        if !(0..=grace).contains(&sleep.seconds) {
            let why = format!("must be between 0 and terminationGracePeriodSeconds ({grace}), inclusive");
            report.invalid(&field.child("sleep").child("seconds"), sleep.seconds, why);
        }
    }
    exactly_one(report, field, handlers, "`exec`, `httpGet`, `tcpSocket` or `sleep`");
}

/// The handlers that probes and hooks both have.
fn common(
    report: &mut Report,
    field: &Field,
    handlers: &mut usize,
    exec: &Option<ExecAction>,
    http: &Option<HTTPGetAction>,
    tcp: &Option<TCPSocketAction>,
) {
    if let Some(exec) = exec {
        *handlers += 1;
        if exec.command.as_ref().is_none_or(Vec::is_empty) {
            report.required(&field.child("exec").child("command"), "");
        }
    }
    if let Some(http) = http {
        *handlers += 1;
        let field = field.child("httpGet");
        check_port(report, &field.child("port"), &http.port);
        report.one_of(&field.child("scheme"), http.scheme.as_deref(), &["HTTP", "HTTPS"]);
        for (index, header) in http.http_headers.iter().flatten().enumerate() {
            let field = field.child("httpHeaders").index(index).child("name");
            report.check(&field, &header.name, syntax::header_name(&header.name));
        }
    }
    if let Some(tcp) = tcp {
        *handlers += 1;
        check_port(report, &field.child("tcpSocket").child("port"), &tcp.port);
    }
}

fn exactly_one(report: &mut Report, field: &Field, handlers: usize, list: &str) {
    match handlers {
        0 => report.required(field, &format!("must specify a handler type: {list}")),
        1 => {}
        _ => report.forbidden(field, "may not specify more than 1 handler type"),
    }
}

fn check_port(report: &mut Report, field: &Field, port: &IntOrString) {
    match port {
        IntOrString::Int(number) => {
            if let Some(why) = syntax::port(*number) {
                report.invalid(field, number, why);
            }
        }
        IntOrString::String(name) => report.check(field, name, syntax::port_name(name)),
    }
}

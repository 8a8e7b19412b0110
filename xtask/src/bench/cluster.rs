//! `cargo xtask bench --cluster`: what being part of a cluster costs, on a real etcd and kube-apiserver.
//!
//! Three agents follow each other on one runtime: one with static pods and no API server, to compare with; one
//! whose pods are all bound at once, through a proxy that counts bytes; and one through a proxy that sees each
//! request, for single pods, commands and logs.
//!
//! A pod's status is late by the time from the runtime's word that its container runs (the answer to
//! StartContainer, as the runtime's log has it; the event leaves just before) until another client's watch shows
//! the pod Running and Ready.

mod pods;
mod streams;
mod traffic;
mod volumes;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use testkit::env::{Agent, Cluster, Containerd, Run};
use testkit::proxy::{Counts, HttpProxy, TcpProxy};

use super::agent::{self, Launch};
use super::bare::Bare;
use super::report::Report;
use super::trace::Mark;
use super::{Options, SINGLES};
use crate::ui;
use pods::Pods;
use traffic::Traffic;

/// Until memory and connections have settled.
const SETTLE: Duration = Duration::from_secs(5);
/// How long nothing happens.
const MINUTE: Duration = Duration::from_secs(60);

/// What all phases share.
struct Bench<'a> {
    launch: &'a Launch,
    run: &'a Arc<Run>,
    containerd: &'a Containerd,
    bare: Bare,
    cluster: Cluster,
    count: usize,
}

pub(super) fn measure(
    options: &Options,
    launch: &Launch,
    run: &Arc<Run>,
    containerd: &Containerd,
    report: &mut Report,
) -> Result<()> {
    ui::step("a control plane");
    let bare = Bare::new(containerd, run)?;
    let bench = Bench { launch, run, containerd, bare, cluster: Cluster::start(run)?, count: options.pods };
    if options.volumes {
        return bench.volumes(report);
    }
    let alone = bench.static_pods(report)?;
    bench.bound_at_once(alone, report)?;
    bench.one_by_one(report)
}

impl Bench<'_> {
    /// Static pods without an API server; returns the resident memory in MiB.
    fn static_pods(&self, report: &mut Report) -> Result<f64> {
        ui::step(&format!("{} static pods, without an API server", self.count));
        let (agent, _) = self.launch.start_with(self.run, self.containerd, "alone", &[])?;
        let log = Mark::now(&self.containerd.log());
        agent::add_pods(&agent, &log, 0..self.count)?;
        self.bare.wait_running(self.count)?;
        agent::watch(&agent, SETTLE)?;
        let rest = agent::watch(&agent, SETTLE)?;
        let cpu = agent::use_of(&agent)?.cpu;
        report.add("staticCpu", "static pods: CPU from process start", cpu.as_secs_f64(), "s");
        report.add("staticRss", "static pods: resident", rest.resident_mib, "MiB");
        agent::remove_pods(&agent)?;
        self.bare.wait_gone()?;
        Ok(rest.resident_mib)
    }

    /// Starts the node's agent, which reaches the API server at this address, and waits for its node. It has the
    /// same folder each time: one with another would be another agent, to which the node is taken.
    fn node(&self, server: &str) -> Result<Agent> {
        let login = self.cluster.token_login("system:node:node1")?;
        let kubeconfig = self.cluster.kubeconfig("node1", server, &login)?;
        let args = self.cluster.node_args("node1", &kubeconfig)?;
        let (agent, _) = self.launch.start_with(self.run, self.containerd, "node", &args)?;
        pods::wait_node(&self.cluster)?;
        agent::watch(&agent, SETTLE)?;
        Ok(agent)
    }

    /// All pods bound at once, and a minute without anything to do.
    fn bound_at_once(&self, alone: f64, report: &mut Report) -> Result<()> {
        ui::step(&format!("{} pods bound at once", self.count));
        let proxy = TcpProxy::start(self.cluster.address())?;
        let agent = self.node(&proxy.url())?;
        let pods = Pods::new(&self.cluster)?;

        let log = Mark::now(&self.containerd.log());
        let (asked, bytes) = (Traffic::audited(&self.cluster)?, proxy.counts());
        let bound = pods.bind(0..self.count, &log)?;
        let ready = pods.wait_ready(self.count)?;
        report.add("bound", "pods: all of them bound", bound.as_secs_f64(), "s");
        // The last events are sent after the last status.
        agent::watch(&agent, SETTLE)?;
        let traces = log.traces()?;
        pods::late(&self.cluster, &traces, &ready)?.tell("late", "at once", report);
        let cpu = agent::use_of(&agent)?.cpu;
        report.add("cpu", "pods: CPU from process start", cpu.as_secs_f64(), "s");
        Traffic::audited(&self.cluster)?.since(&asked).per_start(self.count, "at once", report);
        let (sent, received) = wire(bytes, proxy.counts());
        report.add("sent", "pods: sent on the wire per start", sent / self.count as f64, "KB");
        report.add("received", "pods: received on the wire per start", received / self.count as f64, "KB");

        ui::step("a minute at rest");
        let (asked, bytes) = (Traffic::audited(&self.cluster)?, proxy.counts());
        let rest = agent::watch(&agent, MINUTE)?;
        report.add("restCpu", "rest: CPU", rest.cpu_percent, "% of a core").budget(0.5);
        report.add("restSwitches", "rest: context switches", rest.switches_per_second, "/s");
        report.add("rss", "rest: resident", rest.resident_mib, "MiB");
        report
            .add("rssMore", "rest: resident, more than with static pods", rest.resident_mib - alone, "MiB")
            .budget(10.0);
        Traffic::audited(&self.cluster)?.since(&asked).of_rest(report);
        let (sent, received) = wire(bytes, proxy.counts());
        report.add("restSent", "rest: sent on the wire", sent, "KB");
        report.add("restReceived", "rest: received on the wire", received, "KB");

        ui::step("all pods deleted");
        let deleted = pods.delete_all()?;
        report.add("delete", "pods: all deleted", deleted.as_secs_f64(), "s");
        self.bare.wait_gone()
    }

    /// Pods one after the other, and what is asked of them.
    fn one_by_one(&self, report: &mut Report) -> Result<()> {
        ui::step(&format!("{SINGLES} pods one after the other"));
        let proxy = HttpProxy::start(self.cluster.ca(), self.cluster.address())?;
        let agent = self.node(&proxy.url())?;
        let pods = Pods::new(&self.cluster)?;

        let log = Mark::now(&self.containerd.log());
        let before = Traffic::proxied(&proxy);
        let mut ready = pods::Times::new();
        for number in 0..SINGLES {
            pods.bind(number..number + 1, &log)?;
            ready.extend(pods.wait_ready(1)?);
        }
        agent::watch(&agent, SETTLE)?;
        let traces = log.traces()?;
        report.add("singleP50", "single pod: bound to container started, p50", traces.total(50), "ms");
        report.add(
            "singleShareP50",
            "single pod: the agent's own share of it, p50",
            traces.own_share(50),
            "ms",
        );
        report.add(
            "singleShareP99",
            "single pod: the agent's own share of it, p99",
            traces.own_share(99),
            "ms",
        );
        pods::late(&self.cluster, &traces, &ready)?.tell("singleLate", "single", report);
        Traffic::proxied(&proxy).since(&before).per_start(SINGLES, "single", report);
        pods.delete_all()?;
        self.bare.wait_gone()?;

        streams::measure(&self.cluster, &self.bare, &agent, &pods, report)?;
        pods.delete_all()?;
        self.bare.wait_gone()
    }
}

/// What went over the wire between two counts, sent and received, in KB.
fn wire(before: Counts, after: Counts) -> (f64, f64) {
    let kb = |before: u64, after: u64| after.saturating_sub(before) as f64 / 1e3;
    (kb(before.sent, after.sent), kb(before.received, after.received))
}

//! What is to be done about a certificate now. Pure: what is held and the time are arguments.
//!
//! Rules: upstream `client-go/util/certificate/certificate_manager.go` (`nextRotationDeadline`, `jitteryDuration`),
//! `cmd/kubelet/app/server.go` (`buildKubeletClientConfig`).

use std::fmt;
use std::time::Duration;

use kube_model::Timestamp;

use crate::pair::Leaf;
use crate::template::Template;

/// A certificate is renewed after 70 to 90 % of its lifetime, so that nodes which came together do not renew together.
/// `share`, from 0 to 1, says where between the two; it is chosen once for a certificate.
pub fn rotation_deadline(leaf: &Leaf, share: f64) -> Timestamp {
    let lifetime = lifetime(leaf).mul_f64(0.7 + 0.2 * share.clamp(0.0, 1.0));
    leaf.not_before
        .checked_add(jiff::SignedDuration::try_from(lifetime).unwrap_or_default())
        .unwrap_or(leaf.not_after)
}

/// From its first to its last moment.
pub fn lifetime(leaf: &Leaf) -> Duration {
    Duration::try_from(leaf.not_after.duration_since(leaf.not_before)).unwrap_or_default()
}

/// The time as a certificate has it that was signed `age` ago. A clock that is outside its validity at that moment is
/// wrong, and would have it renewed without an end, or never: then its lifetime counts from when it came.
pub fn presumed_now(leaf: &Leaf, at_issue: Timestamp, now: Timestamp, age: Duration) -> Timestamp {
    if (leaf.not_before..=leaf.not_after).contains(&at_issue) {
        return now;
    }
    leaf.not_before.checked_add(jiff::SignedDuration::try_from(age).unwrap_or_default()).unwrap_or(now)
}

/// What is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held<'a> {
    /// No certificate.
    Nothing,
    /// Files that can not be used, and why.
    Unusable(&'a str),
    /// A certificate with its key.
    Certificate(&'a Leaf),
}

/// Who one is when a certificate is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// The node itself, as its kubeconfig says, or with the certificate that is to be renewed.
    Own,
    /// Who may only ask for a first certificate (`--bootstrap-kubeconfig`).
    Bootstrap,
}

/// Why a certificate is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// There is none.
    Missing,
    /// There are files, but no certificate in them.
    Unusable(String),
    /// It was valid until then.
    Expired(Timestamp),
    /// It says something else than it should.
    Lacking(String),
    /// Its time has come.
    Due,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("there is none yet"),
            Self::Unusable(why) => write!(f, "the one that there is cannot be used: {why}"),
            Self::Expired(at) => write!(f, "the one that there is was valid until {at}"),
            Self::Lacking(what) => write!(f, "the one that there is does not fit: {what}"),
            Self::Due => f.write_str("the one that there is ends soon"),
        }
    }
}

/// What is next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Nothing before that time; `None`: nothing at all.
    Use(Option<Timestamp>),
    /// The kubeconfig is to be written: it does not name the certificate that there is.
    WriteKubeconfig,
    /// A certificate is asked for.
    Ask(Identity, Why),
    /// It is not known yet for what names and addresses.
    NoTemplate,
    /// Nothing can be done here: somebody has to help.
    Stuck(Why),
}

/// All that it depends on.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// What there is.
    pub held: Held<'a>,
    /// What it should say; `None`: not known yet.
    pub template: Option<&'a Template>,
    /// The time, as [`presumed_now`] has it.
    pub now: Timestamp,
    /// From 0 to 1: see [`rotation_deadline`].
    pub share: f64,
    /// Whether it is renewed before it ends (`rotateCertificates`).
    pub rotate: bool,
    /// Whether there is a kubeconfig with an identity of the node's own.
    pub own: bool,
    /// Whether that identity does not depend on what is held.
    pub apart: bool,
    /// Whether there is one for bootstrapping.
    pub bootstrap: bool,
}

/// What is to be done now.
pub fn next(facts: Facts<'_>) -> Next {
    let Facts { held, template, now, share, rotate, own, apart, bootstrap } = facts;
    let ask = |why| match (bootstrap, own && rotate) {
        _ if template.is_none() => Next::NoTemplate,
        (_, true) if apart => Next::Ask(Identity::Own, why),
        (true, _) => Next::Ask(Identity::Bootstrap, why),
        // Also with one that has ended by our clock: the server has its own.
        (false, true) => Next::Ask(Identity::Own, why),
        (false, false) => Next::Stuck(why),
    };
    match held {
        // Who one is without a certificate of these files, the kubeconfig says.
        Held::Nothing if own && !rotate => Next::Use(None),
        Held::Nothing if own && template.is_some() => Next::Ask(Identity::Own, Why::Missing),
        Held::Nothing => ask(Why::Missing),
        Held::Unusable(why) => ask(Why::Unusable(why.to_owned())),
        Held::Certificate(leaf) if now > leaf.not_after => ask(Why::Expired(leaf.not_after)),
        Held::Certificate(_) if !own && bootstrap => Next::WriteKubeconfig,
        Held::Certificate(leaf) if !rotate => Next::Use(bootstrap.then_some(leaf.not_after)),
        Held::Certificate(leaf) => {
            let deadline = rotation_deadline(leaf, share);
            match template.and_then(|template| template.lacking(leaf)) {
                Some(what) => Next::Ask(Identity::Own, Why::Lacking(what)),
                None if now < deadline => Next::Use(Some(deadline)),
                None if template.is_none() => Next::NoTemplate,
                None => Next::Ask(Identity::Own, Why::Due),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// Of node1, from 1000 to 2000.
    fn leaf() -> Leaf {
        Leaf {
            common_name: "system:node:node1".to_owned(),
            organizations: ["system:nodes".to_owned()].into(),
            dns_names: BTreeSet::new(),
            ips: BTreeSet::new(),
            not_before: at(1000),
            not_after: at(2000),
        }
    }

    #[test]
    fn a_certificate_is_renewed_between_70_and_90_percent_of_its_life() {
        for (share, expected) in [(0.0, 1700), (0.5, 1800), (1.0, 1900), (7.0, 1900)] {
            assert_eq!(rotation_deadline(&leaf(), share), at(expected), "{share}");
        }
        let backwards = Leaf { not_after: at(500), ..leaf() };
        assert_eq!(rotation_deadline(&backwards, 0.5), at(1000));
    }

    #[test]
    fn a_clock_that_is_off_when_a_certificate_comes_is_not_asked_of_it() {
        let hour = Duration::from_secs(3600);
        // Right, and set far ahead later: what ends, ends.
        assert_eq!(presumed_now(&leaf(), at(1001), at(9_000_000), hour), at(9_000_000));
        // Years ahead, and years behind.
        for wrong in [9_000_000, 5] {
            let after =
                |seconds| presumed_now(&leaf(), at(wrong), at(wrong + 7), Duration::from_secs(seconds));
            assert_eq!((after(0), after(700)), (at(1000), at(1700)));
        }
    }

    #[test]
    fn what_is_next_follows_from_what_there_is() {
        let (template, other, good) = (Template::client("node1"), Template::client("node2"), leaf());
        let held = Held::Certificate(&good);
        let facts = Facts {
            held,
            template: Some(&template),
            now: at(1500),
            share: 0.5,
            rotate: true,
            own: true,
            apart: false,
            bootstrap: false,
        };
        let expired = || Why::Expired(at(2000));
        let lacking =
            Why::Lacking("it is for \"system:node:node1\", not for \"system:node:node2\"".to_owned());
        let nothing = Facts { held: Held::Nothing, ..facts };
        let broken = Facts { held: Held::Unusable("half"), ..facts };
        let late = Facts { now: at(3000), ..facts };
        let (own, bootstrap) = (Identity::Own, Identity::Bootstrap);
        let cases = [
            ("in the middle of its life", facts, Next::Use(Some(at(1800)))),
            ("a clock years behind", Facts { now: at(0), ..facts }, Next::Use(Some(at(1800)))),
            ("due", Facts { now: at(1800), ..facts }, Next::Ask(own, Why::Due)),
            ("due, not to be renewed", Facts { now: at(1800), rotate: false, ..facts }, Next::Use(None)),
            (
                "not to be renewed, but it may begin anew",
                Facts { rotate: false, bootstrap: true, ..facts },
                Next::Use(Some(at(2000))),
            ),
            ("of another node", Facts { template: Some(&other), ..facts }, Next::Ask(own, lacking)),
            (
                "nothing known to ask for, not due",
                Facts { template: None, ..facts },
                Next::Use(Some(at(1800))),
            ),
            ("nothing known to ask for", Facts { template: None, ..nothing }, Next::NoTemplate),
            ("due without a template", Facts { template: None, now: at(1900), ..facts }, Next::NoTemplate),
            ("ended", late, Next::Ask(own, expired())),
            ("ended, may begin anew", Facts { bootstrap: true, ..late }, Next::Ask(bootstrap, expired())),
            (
                "ended, but the kubeconfig has another",
                Facts { bootstrap: true, apart: true, ..late },
                Next::Ask(own, expired()),
            ),
            ("ended, not to be renewed", Facts { rotate: false, ..late }, Next::Stuck(expired())),
            ("the kubeconfig's own", nothing, Next::Ask(own, Why::Missing)),
            (
                "the kubeconfig's own, and one to begin with",
                Facts { bootstrap: true, ..nothing },
                Next::Ask(own, Why::Missing),
            ),
            ("the kubeconfig's own for ever", Facts { rotate: false, ..nothing }, Next::Use(None)),
            ("first", Facts { own: false, bootstrap: true, ..nothing }, Next::Ask(bootstrap, Why::Missing)),
            (
                "first, not to be renewed",
                Facts { own: false, bootstrap: true, rotate: false, ..nothing },
                Next::Ask(bootstrap, Why::Missing),
            ),
            ("nobody", Facts { own: false, ..nothing }, Next::Stuck(Why::Missing)),
            (
                "killed before the kubeconfig",
                Facts { own: false, bootstrap: true, ..facts },
                Next::WriteKubeconfig,
            ),
            (
                "half a file",
                Facts { bootstrap: true, ..broken },
                Next::Ask(bootstrap, Why::Unusable("half".to_owned())),
            ),
            ("half a file alone", broken, Next::Ask(own, Why::Unusable("half".to_owned()))),
        ];
        for (name, facts, expected) in cases {
            assert_eq!(next(facts), expected, "{name}");
        }
    }
}

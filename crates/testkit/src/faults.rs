//! What goes wrong, and for which calls. A request's type names its call.

use std::any::Any;
use std::time::Duration;

use tokio::sync::watch;
pub use tonic::Code;
use tonic::Status;

/// What goes wrong with a call.
#[derive(Debug, Clone)]
pub enum Fault {
    /// It fails with this code and message, and has no effect.
    Fail(Code, String),
    /// It does nothing until the faults are cleared.
    Hang,
    /// It has its effect this much later.
    Slow(Duration),
    /// It has its effect, but the answer comes only when the faults are cleared.
    LoseReply,
    /// All connections break, this call's too, and it has no effect.
    Disconnect,
}

/// The faults in force, oldest first.
#[derive(Default)]
pub(crate) struct Faults {
    rules: Vec<Rule>,
    cleared: watch::Sender<()>,
}

type Matcher = Box<dyn Fn(&dyn Any) -> bool + Send>;

struct Rule {
    fault: Fault,
    left: Option<u32>,
    applies: Matcher,
}

impl Faults {
    pub(crate) fn add<T: 'static>(
        &mut self,
        fault: Fault,
        left: Option<u32>,
        when: impl Fn(&T) -> bool + Send + 'static,
    ) {
        let applies = Box::new(move |request: &dyn Any| request.downcast_ref().is_some_and(&when));
        self.rules.push(Rule { fault, left, applies });
    }

    /// The fault for a request, used up if it was for a number of calls.
    pub(crate) fn take(&mut self, request: &dyn Any) -> Option<Fault> {
        let rule = self.rules.iter_mut().find(|rule| rule.left != Some(0) && (rule.applies)(request))?;
        if let Some(left) = &mut rule.left {
            *left -= 1;
        }
        Some(rule.fault.clone())
    }

    pub(crate) fn clear(&mut self) {
        self.rules.clear();
        self.cleared.send_replace(());
    }

    /// Changes when the faults are cleared next.
    pub(crate) fn cleared(&self) -> watch::Receiver<()> {
        self.cleared.subscribe()
    }
}

impl Fault {
    /// What comes before the effect; `Err` when there is to be none.
    pub(crate) async fn before(&self, cleared: &mut watch::Receiver<()>) -> Result<(), Status> {
        match self {
            Self::Fail(code, message) => return Err(Status::new(*code, message)),
            Self::Hang => wait(cleared).await,
            Self::Slow(delay) => tokio::time::sleep(*delay).await,
            // The caller has broken the connection; this call ends with it.
            Self::Disconnect => std::future::pending().await,
            Self::LoseReply => {}
        }
        Ok(())
    }

    /// What comes between the effect and the answer.
    pub(crate) async fn after(&self, cleared: &mut watch::Receiver<()>) {
        if matches!(self, Self::LoseReply) {
            wait(cleared).await;
        }
    }
}

async fn wait(cleared: &mut watch::Receiver<()>) {
    if cleared.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

//! What pods refer to came or changed: who makes something of it is told.

use apiserver_sync::objects::Objects;
use volumes::Volumes;

use crate::AgentWorkers;

/// Wakes the pods that refer to objects which change, and has volumes look at them. Ends never.
pub(crate) async fn follow(objects: Objects, workers: AgentWorkers, volumes: Volumes) {
    let changes = objects.changes();
    loop {
        let keys = changes.next().await;
        volumes.changed(&keys);
        for uid in objects.users(&keys) {
            workers.wake_to_retry(&uid);
        }
    }
}

//! What a cluster is made with.

/// What a cluster is made with; the default has one node called `node1`.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    pub(super) name: String,
    pub(super) users: Vec<User>,
    pub(super) args: Vec<String>,
    pub(super) verify_kubelets: bool,
}

/// Somebody with a token, known from the start of the server.
#[derive(Debug, Clone)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) groups: Vec<String>,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        let empty =
            Self { name: "cluster".to_owned(), users: Vec::new(), args: Vec::new(), verify_kubelets: true };
        empty.user("admin", &["system:masters"]).node("node1")
    }
}

impl ClusterOptions {
    /// The name of its folder, where one run has several; default `cluster`.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// One more node that can log in.
    #[must_use]
    pub fn node(self, name: &str) -> Self {
        self.user(&format!("system:node:{name}"), &["system:nodes"])
    }

    /// One more user that can log in with a token.
    #[must_use]
    pub fn user(mut self, name: &str, groups: &[&str]) -> Self {
        let groups = groups.iter().map(|&group| group.to_owned()).collect();
        self.users.push(User { name: name.to_owned(), groups });
        self
    }

    /// More arguments for kube-apiserver, after those that the harness gives.
    #[must_use]
    pub fn args<I: IntoIterator<Item: Into<String>>>(mut self, args: I) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Lets the server talk to kubelets with any certificate, self-signed ones too. By default it only talks to
    /// those with a certificate of the cluster's authority.
    #[must_use]
    pub fn any_kubelet_certificate(mut self) -> Self {
        self.verify_kubelets = false;
        self
    }
}

//! Asks the API server whose a token is and who may do what.

use kube::api::PostParams;
use kube::{Api, Client};
use kube_model::k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use kube_model::k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use server::auth::{Access, User};
use server::host::{AccessReviewer, Answer, HostError, TokenReviewer};

pub(crate) struct Reviewer {
    client: Client,
}

impl Reviewer {
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }
}

fn failed(error: kube::Error) -> HostError {
    HostError::Failed(error.to_string())
}

impl TokenReviewer for Reviewer {
    fn review<'a>(&'a self, token: &'a str) -> Answer<'a, Option<User>> {
        Box::pin(async move {
            let spec = TokenReviewSpec { token: token.to_owned(), ..TokenReviewSpec::default() };
            let review = TokenReview { spec, ..TokenReview::default() };
            let api = Api::<TokenReview>::all(self.client.clone());
            let answer = api.create(&PostParams::default(), &review).await.map_err(failed)?;
            let status = answer.status.unwrap_or_default();
            if status.authenticated != Some(true) {
                return Ok(None);
            }
            let user = status.user.unwrap_or_default();
            Ok(Some(User {
                name: user.username.unwrap_or_default(),
                uid: user.uid.unwrap_or_default(),
                groups: user.groups.unwrap_or_default(),
                extra: user.extra.unwrap_or_default(),
            }))
        })
    }
}

impl AccessReviewer for Reviewer {
    fn review<'a>(&'a self, user: &'a User, access: &'a Access) -> Answer<'a, bool> {
        Box::pin(async move {
            let spec = SubjectAccessReviewSpec {
                user: Some(user.name.clone()),
                uid: Some(user.uid.clone()).filter(|uid| !uid.is_empty()),
                groups: Some(user.groups.clone()),
                extra: Some(user.extra.clone()).filter(|extra| !extra.is_empty()),
                resource_attributes: Some(attributes(access)),
                ..SubjectAccessReviewSpec::default()
            };
            let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
            let api = Api::<SubjectAccessReview>::all(self.client.clone());
            let answer = api.create(&PostParams::default(), &review).await.map_err(failed)?;
            Ok(answer.status.is_some_and(|status| status.allowed))
        })
    }
}

fn attributes(access: &Access) -> ResourceAttributes {
    let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    ResourceAttributes {
        version: text("v1"),
        resource: text("nodes"),
        verb: text(access.verb),
        name: text(&access.node),
        subresource: text(access.subresource),
        ..ResourceAttributes::default()
    }
}

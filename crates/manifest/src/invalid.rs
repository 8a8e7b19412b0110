//! A mistake in a field, worded as Kubernetes words it, and the paths of fields.

use std::fmt;

use kube_model::yaml::Position;

/// Something wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Invalid {
    /// Path of the field: `spec.containers[0].image`.
    pub(super) field: String,
    /// Where it stands, if that can not be looked up by its path.
    pub(super) at: Option<Position>,
    pub(super) message: String,
}

impl Invalid {
    pub(super) fn new(field: impl Into<String>, message: String) -> Self {
        Self { field: field.into(), at: None, message }
    }

    /// The same in something that stands at `parent`.
    pub(super) fn within(self, parent: &Field) -> Self {
        let field = match (parent.0.as_str(), self.field.as_str()) {
            ("", _) => self.field,
            (parent, "") => parent.to_owned(),
            (parent, field) if field.starts_with('[') => format!("{parent}{field}"),
            (parent, field) => format!("{parent}.{field}"),
        };
        Self { field, ..self }
    }
}

/// Path of a field; the default is the whole document.
#[derive(Debug, Clone, Default)]
pub(super) struct Field(String);

impl Field {
    pub(super) fn new(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// The whole document.
    pub(super) const fn root() -> Self {
        Self(String::new())
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn child(&self, name: &str) -> Self {
        if self.0.is_empty() { Self::new(name) } else { Self(format!("{}.{name}", self.0)) }
    }

    pub(super) fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    pub(super) fn key(&self, key: &str) -> Self {
        Self(format!("{}[{key}]", self.0))
    }
}

/// Collects what is wrong.
#[derive(Debug, Default)]
pub(super) struct Report(Vec<Invalid>);

impl Report {
    pub(super) fn into_found(self) -> Vec<Invalid> {
        self.0
    }

    fn add(&mut self, field: &Field, message: String) {
        self.0.push(Invalid::new(field.as_str(), message));
    }

    pub(super) fn required(&mut self, field: &Field, hint: &str) {
        let colon = if hint.is_empty() { "" } else { ": " };
        self.add(field, format!("Required value{colon}{hint}"));
    }

    pub(super) fn invalid(&mut self, field: &Field, value: impl fmt::Debug, why: impl fmt::Display) {
        self.add(field, format!("Invalid value: {value:?}: {why}"));
    }

    pub(super) fn forbidden(&mut self, field: &Field, why: impl fmt::Display) {
        self.add(field, format!("Forbidden: {why}"));
    }

    pub(super) fn duplicate(&mut self, field: &Field, value: impl fmt::Debug) {
        self.add(field, format!("Duplicate value: {value:?}"));
    }

    pub(super) fn not_found(&mut self, field: &Field, value: &str) {
        self.add(field, format!("Not found: {value:?}"));
    }

    pub(super) fn too_long(&mut self, field: &Field, max: usize) {
        self.add(field, format!("Too long: may not be more than {max} bytes"));
    }

    pub(super) fn too_many(&mut self, field: &Field, found: usize, max: usize) {
        self.add(field, format!("Too many: {found}: must have at most {max} items"));
    }

    /// `value` must be one of `supported`; a missing one is fine, its default is a rule of its own.
    pub(super) fn one_of(&mut self, field: &Field, value: Option<&str>, supported: &[&str]) {
        if let Some(value) = value
            && !supported.contains(&value)
        {
            let list = supported.iter().map(|s| format!("{s:?}")).collect::<Vec<_>>().join(", ");
            self.add(field, format!("Unsupported value: {value:?}: supported values: {list}"));
        }
    }

    /// A check that gives its complaint.
    pub(super) fn check(&mut self, field: &Field, value: &str, complaint: Option<String>) {
        if let Some(why) = complaint {
            self.invalid(field, value, why);
        }
    }

    pub(super) fn not_negative<N: Copy + Into<i64>>(&mut self, field: &Field, value: Option<N>) {
        if let Some(value) = value.map(Into::into)
            && value < 0
        {
            self.invalid(field, value, "must be greater than or equal to 0");
        }
    }
}

//! How a request's method and path are read.

use std::borrow::Cow;

use http::Method;

use crate::catalogue::{Catalogue, OperationId};
use crate::guard::{Unclear, canonical, slash_readings};

/// A request as the rules see it. Made once for each request; allocates only where the path has a `%`.
#[derive(Debug, Clone)]
pub struct Reading<'p> {
    pub(super) method: &'p Method,
    /// As sent.
    pub(super) path: &'p str,
    /// With each `%2F` part of its segment.
    inside: Result<One<'p>, Unclear>,
    /// With each `%2F` a separator, where there is one.
    separated: Option<Box<Result<One<'p>, Unclear>>>,
}

/// One reading of a path.
#[derive(Debug, Clone)]
pub(super) struct One<'p> {
    /// Decoded.
    pub(super) path: Cow<'p, str>,
    pub(super) operation: Option<OperationId>,
    /// The operation's path that it is, with placeholders.
    pub(super) template: &'static str,
    pub(super) project: Option<Cow<'p, str>>,
    pub(super) organization: Option<Cow<'p, str>>,
}

impl<'p> One<'p> {
    fn plain(catalogue: &Catalogue, method: &Method, path: &'p str) -> Self {
        let found = catalogue.find(method, path);
        Self {
            path: Cow::Borrowed(path),
            operation: found.map(|found| found.operation),
            template: found.map_or("", |found| found.template),
            project: found.and_then(|found| found.project).map(Cow::Borrowed),
            organization: found.and_then(|found| found.organization).map(Cow::Borrowed),
        }
    }

    fn decoded(catalogue: &Catalogue, method: &Method, path: String) -> Self {
        let found = catalogue.find(method, &path);
        let owned = |id: &str| Cow::Owned(id.to_owned());
        Self {
            operation: found.map(|found| found.operation),
            template: found.map_or("", |found| found.template),
            project: found.and_then(|found| found.project).map(owned),
            organization: found.and_then(|found| found.organization).map(owned),
            path: Cow::Owned(path),
        }
    }
}

impl<'p> Reading<'p> {
    /// `path`: as sent, without query.
    pub fn of(catalogue: &Catalogue, method: &'p Method, path: &'p str) -> Self {
        let (mut separated, of_decoded) = (None, |path: Cow<'_, str>| {
            One::decoded(catalogue, method, path.into_owned())
        });
        let inside = if memchr::memchr(b'%', path.as_bytes()).is_none() {
            // Whether it is clear is looked at where there are rules: see `readings`.
            Ok(One::plain(catalogue, method, path))
        } else {
            match canonical(path) {
                Ok(path) => Ok(of_decoded(path)),
                Err(Unclear::EncodedSlash) => {
                    let [inside, apart] = slash_readings(path);
                    separated = Some(Box::new(apart.map(of_decoded)));
                    inside.map(of_decoded)
                }
                Err(why) => Err(why),
            }
        };
        Self {
            method,
            path,
            inside,
            separated,
        }
    }

    /// The operation, for the record: where the path has `%2F`, that of the reading in which it is part of a segment. None
    /// is `unknown`.
    pub fn operation(&self) -> Option<OperationId> {
        self.inside.as_ref().ok()?.operation
    }

    /// The path of the operation that it is, with placeholders; empty: it is none.
    pub fn template(&self) -> &'static str {
        self.inside.as_ref().map_or("", |one| one.template)
    }

    /// What stands at `{groupId}` of the operation's path.
    pub fn project(&self) -> Option<&str> {
        self.inside.as_ref().ok()?.project.as_deref()
    }

    /// What stands at `{orgId}` of the operation's path.
    pub fn organization(&self) -> Option<&str> {
        self.inside.as_ref().ok()?.organization.as_deref()
    }

    /// The readings of the path: one, and a second where it has `%2F`.
    pub(super) fn readings(&self) -> Result<(&One<'p>, Option<&One<'p>>), Unclear> {
        let inside = self.inside.as_ref().map_err(|why| *why)?;
        if let Cow::Borrowed(path) = inside.path {
            canonical(path)?;
        }
        match self.separated.as_deref() {
            None => Ok((inside, None)),
            Some(Ok(separated)) => Ok((inside, Some(separated))),
            Some(Err(why)) => Err(*why),
        }
    }
}

//! Lists: selectors, pages, and the rules of `resourceVersion`.
//!
//! A page token names the revision of the first page and the last key, so all pages show one
//! moment. It lives as long as the history does.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::{Api, Call, Content, Reply, object_key, shape};
use crate::selector::{Fields, Labels};
use crate::status::Status;
use crate::store::{Object, Scope};

/// Objects of one moment.
#[derive(Debug)]
pub(crate) struct List {
    pub(crate) revision: u64,
    pub(crate) items: Vec<Arc<Object>>,
    pub(crate) continue_token: String,
    pub(crate) remaining: Option<usize>,
}

impl List {
    pub(crate) fn empty(revision: u64) -> Self {
        Self {
            revision,
            items: Vec::new(),
            continue_token: String::new(),
            remaining: None,
        }
    }
}

/// Label and field selectors of a request.
#[derive(Debug)]
pub(crate) struct Selector {
    labels: Option<Labels>,
    fields: Option<Fields>,
}

impl Selector {
    /// Reads the selectors of a list or watch, and the scope that they leave.
    pub(crate) fn of(call: &Call) -> Result<(Self, Scope), Status> {
        let labels = match call.options.label_selector.as_str() {
            "" => None,
            text => Some(shape::parse_labels(text)?),
        };
        let mut scope = if call.namespace.is_empty() {
            Scope::All
        } else {
            Scope::Namespace(call.namespace.as_str().into())
        };
        let fields = match call.options.field_selector.as_str() {
            "" => None,
            text => Some(shape::parse_fields(&call.kind, text)?),
        };
        // One object by name is one lookup, not a scan; `kubectl wait` and controllers do it often.
        if let Some(name) = single_name(&call.options.field_selector)
            && (!call.namespace.is_empty() || !call.kind.namespaced)
        {
            scope = Scope::Key(object_key(&call.namespace, name).into());
        }
        if !call.name.is_empty() {
            scope = Scope::Key(call.key().into());
        }
        Ok((Self { labels, fields }, scope))
    }

    /// Whether every object is selected.
    pub(crate) fn is_all(&self) -> bool {
        self.labels.is_none() && self.fields.is_none()
    }

    /// Whether an object is selected.
    pub(crate) fn matches(&self, object: &Object) -> bool {
        if self.is_all() {
            return true;
        }
        let value = object.value();
        self.labels
            .as_ref()
            .is_none_or(|labels| labels.matches(&value))
            && self
                .fields
                .as_ref()
                .is_none_or(|fields| fields.matches(&value))
    }
}

pub(crate) fn single_name(selector: &str) -> Option<&str> {
    let name = selector.strip_prefix("metadata.name=")?;
    let name = name.strip_prefix('=').unwrap_or(name);
    (!name.is_empty() && !name.contains([',', '=', '!', '\\'])).then_some(name)
}

struct Token {
    revision: u64,
    after: String,
}

impl Token {
    fn encode(&self) -> String {
        let json = json!({ "v": "meta.k8s.io/v1", "rv": self.revision, "start": self.after });
        URL_SAFE_NO_PAD.encode(json.to_string())
    }

    fn decode(text: &str) -> Result<Self, Status> {
        let invalid = || {
            Status::bad_request("continue key is not valid: encoded by another server or damaged")
        };
        let json = URL_SAFE_NO_PAD.decode(text).map_err(|_| invalid())?;
        let value: Value = serde_json::from_slice(&json).map_err(|_| invalid())?;
        let (Some(revision), Some(after)) = (value["rv"].as_u64(), value["start"].as_str()) else {
            return Err(invalid());
        };
        Ok(Self {
            revision,
            after: after.to_owned(),
        })
    }
}

const EXPIRED: &str = "The provided continue parameter is too old to display a consistent list result. You can start \
    a new list without the continue parameter.";

impl Api {
    /// Lists the selected objects.
    pub(crate) fn list(&self, call: &Call) -> Result<Reply, Status> {
        let list = self.select(call)?;
        Ok(Reply {
            code: 200,
            content: Content::List(list),
            warnings: Vec::new(),
        })
    }

    /// The selected objects, one page of them if a limit is set.
    pub(super) fn select(&self, call: &Call) -> Result<List, Status> {
        let options = &call.options;
        options.check_list()?;
        let (selector, scope) = Selector::of(call)?;
        let resource = call.resource();
        let wanted = options.revision()?;
        if options.continue_token.is_empty() && options.resource_version_match != "Exact" {
            let (revision, objects) = self.store.list(&resource, &scope);
            if let Some(wanted) = wanted.filter(|wanted| *wanted > revision) {
                return Err(Status::too_large_resource_version(wanted, revision));
            }
            return Ok(page(objects, revision, options.limit, &selector));
        }
        let token = if options.continue_token.is_empty() {
            Token {
                revision: wanted.unwrap_or_default(),
                after: String::new(),
            }
        } else {
            Token::decode(&options.continue_token)?
        };
        let current = self.store.revision();
        if token.revision > current {
            return Err(Status::too_large_resource_version(token.revision, current));
        }
        let found = self
            .store
            .page(&resource, &scope, token.revision, &token.after);
        let found = found.map_err(|expired| {
            if options.continue_token.is_empty() {
                Status::expired(format!(
                    "The resourceVersion for the provided list is too old: {} ({})",
                    token.revision, expired.oldest
                ))
            } else {
                Status::expired(EXPIRED)
            }
        })?;
        let objects = found
            .objects
            .into_iter()
            .map(|(_, object)| object)
            .collect();
        Ok(page(objects, token.revision, options.limit, &selector))
    }
}

fn page(objects: Vec<Arc<Object>>, revision: u64, limit: u64, selector: &Selector) -> List {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    if limit == 0 || objects.len() <= limit {
        let items = objects
            .into_iter()
            .filter(|object| selector.matches(object))
            .collect();
        return List {
            revision,
            items,
            continue_token: String::new(),
            remaining: None,
        };
    }
    let total = objects.len();
    let mut items = Vec::new();
    let mut seen = 0;
    let mut more = false;
    for object in objects {
        if items.len() == limit {
            more = true;
            break;
        }
        seen += 1;
        if selector.matches(&object) {
            items.push(object);
        }
    }
    let after = items.last().filter(|_| more).map(|last| {
        let value = last.value();
        let text = |field: &str| {
            value["metadata"][field]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        object_key(&text("namespace"), &text("name"))
    });
    // Everything before the last item was seen, so the next page starts after it.
    let continue_token = after.map_or_else(String::new, |after| Token { revision, after }.encode());
    let remaining = (more && selector.is_all()).then(|| total - seen);
    List {
        revision,
        items,
        continue_token,
        remaining,
    }
}

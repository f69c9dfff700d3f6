//! Changes of heads, one after the other.

use std::sync::Arc;

use routing::model::{HeaderOps, Template};

/// Changes of one head.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::gloo) struct Change {
    pub(in crate::gloo) ops: HeaderOps,
    pub(in crate::gloo) templates: Vec<Template>,
}

impl Change {
    /// Both, this one first: what the later one sets or removes is no longer what this one said.
    pub(in crate::gloo) fn then(mut self, later: Self) -> Self {
        let is_set = |name: &Arc<str>| later.ops.set.iter().any(|(it, _)| it == name);
        let is_put =
            |name: &Arc<str>, all: &[Template]| all.iter().any(|it| !it.append && it.name == *name);
        let is_kept = |name: &Arc<str>| {
            !later.ops.remove.contains(name) && !is_set(name) && !is_put(name, &later.templates)
        };
        self.ops.set.retain(|(name, _)| is_kept(name));
        self.ops.add.retain(|(name, _)| is_kept(name));
        self.templates.retain(|template| is_kept(&template.name));
        self.ops.remove.extend(later.ops.remove);
        self.ops.set.extend(later.ops.set);
        for (name, value) in later.ops.add {
            if is_put(&name, &self.templates) {
                // Templates come last, and what replaces a header would replace this, too.
                self.templates.push(Template {
                    name,
                    value: value.replace('%', "%%").into(),
                    append: true,
                });
            } else {
                self.ops.add.push((name, value));
            }
        }
        self.templates.extend(later.templates);
        self
    }
}

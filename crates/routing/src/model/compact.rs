//! Gives back the room that a record grew while it was put together: it is kept for hours, and
//! there may be tens of thousands.

use super::{Action, Filters, HeaderOps, Respond, Route, Split};

impl Route {
    /// Says the same as before.
    pub fn shrink(&mut self) {
        self.hosts.shrink_to_fit();
        self.sort_key.0.shrink_to_fit();
        self.matches.shrink_to_fit();
        for one in &mut self.matches {
            one.headers.shrink_to_fit();
            one.query.shrink_to_fit();
            one.other.shrink_to_fit();
        }
        self.request_headers.shrink();
        self.filters.shrink();
        match &mut self.action {
            Action::Forward(split) | Action::ForwardSecure(split) => split.shrink(),
            Action::Respond(Respond { headers, .. }) => headers.shrink_to_fit(),
            Action::Redirect(_) => {}
        }
    }
}

impl Split {
    fn shrink(&mut self) {
        self.arms.shrink_to_fit();
        for arm in &mut self.arms {
            arm.request_headers.shrink();
            arm.filters.shrink();
        }
    }
}

impl Filters {
    fn shrink(&mut self) {
        if self.is_empty() {
            *self = Self::default();
            return;
        }
        self.response_headers.shrink();
        self.mirrors.shrink_to_fit();
        self.request_templates.shrink_to_fit();
        self.response_templates.shrink_to_fit();
        self.rewrites.shrink_to_fit();
    }
}

impl HeaderOps {
    fn shrink(&mut self) {
        self.remove.shrink_to_fit();
        self.set.shrink_to_fit();
        self.add.shrink_to_fit();
    }
}

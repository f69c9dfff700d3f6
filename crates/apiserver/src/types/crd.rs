//! CRDs → types. [`check`] says what is wrong with a CRD before it is stored; the table then takes
//! it without further questions.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use serde_json::Value;

use super::{
    ALL_VERBS, Columns, CustomColumn, Description, Durability, ResourceType, Scale, Storage,
    Subresources, TypeTable,
};
use crate::jsonpath::JsonPath;
use crate::rules;
use crate::schema::{Kind, Limits, Schema, pack, parse, structural};
use crate::status::{Fault, FieldError};
use crate::validate::meta::NameRule;
use crate::validate::name;

/// On a CRD: `lazy` if its objects are derived by controllers and need not be synced to disk.
pub const DURABILITY: &str = "suimon.dev/durability";

impl TypeTable {
    /// A table with the served versions of `crd`, replacing what it brought before. Nothing of it is
    /// served while another type of the group has one of its names.
    ///
    /// # Errors
    /// The findings of [`check`].
    pub fn with_crd(&self, crd: &Value) -> Result<Self, Vec<FieldError>> {
        let errors = check(crd);
        if !errors.is_empty() {
            return Err(errors);
        }
        if !self.conflicts(crd).is_empty() {
            return Ok(self.clone());
        }
        let mut table = self.clone();
        let spec = &crd["spec"];
        table.remove(text(spec, "/group"), text(spec, "/names/plural"));
        for version in list(spec, "/versions") {
            if version["served"] == true {
                table.insert(entry(crd, version));
            }
        }
        Ok(table)
    }

    /// A table without the versions that `crd` brought.
    #[must_use]
    pub fn without_crd(&self, crd: &Value) -> Self {
        let mut table = self.clone();
        table.remove(text(crd, "/spec/group"), text(crd, "/spec/names/plural"));
        table
    }

    /// Names of `crd` that another type of its group already has (condition `NamesAccepted`).
    pub fn conflicts(&self, crd: &Value) -> Vec<FieldError> {
        let spec = &crd["spec"];
        let (group, plural) = (text(spec, "/group"), text(spec, "/names/plural"));
        let mut errors = Vec::new();
        let others = self
            .iter()
            .filter(|other| other.group == group && other.plural != plural);
        for other in others {
            let mut taken = vec![other.plural.as_str(), other.singular.as_str()];
            taken.extend(other.short_names.iter().map(String::as_str));
            let mut wanted = vec![
                ("/names/singular", text(spec, "/names/singular")),
                ("/names/plural", plural),
            ];
            wanted.extend(
                list(spec, "/names/shortNames")
                    .iter()
                    .filter_map(Value::as_str)
                    .map(|name| ("/names/shortNames", name)),
            );
            for (place, name) in wanted {
                if !name.is_empty() && taken.contains(&name) {
                    let detail = format!("\"{name}\" is already in use");
                    errors.push(FieldError::invalid(
                        format!("spec{}", place.replace('/', ".")),
                        &name.into(),
                        detail,
                    ));
                }
            }
            if other.kind == text(spec, "/names/kind") {
                let detail = format!("\"{}\" is already in use", other.kind);
                errors.push(FieldError::invalid(
                    "spec.names.kind",
                    &other.kind.as_str().into(),
                    detail,
                ));
            }
        }
        errors.dedup();
        errors
    }
}

/// What is wrong with a CRD; empty means it can be established.
pub fn check(crd: &Value) -> Vec<FieldError> {
    let spec = &crd["spec"];
    let mut errors = Vec::new();
    let (group, plural) = (text(spec, "/group"), text(spec, "/names/plural"));
    for (field, value) in [
        ("spec.group", group),
        ("spec.names.plural", plural),
        ("spec.names.kind", text(spec, "/names/kind")),
    ] {
        if value.is_empty() {
            errors.push(FieldError::required(field, ""));
        }
    }
    if !errors.is_empty() {
        return errors;
    }
    if let Err(why) = name::dns_subdomain(group) {
        errors.push(FieldError::invalid("spec.group", &group.into(), why));
    } else if !group.contains('.') {
        errors.push(FieldError::invalid(
            "spec.group",
            &group.into(),
            "should be a domain with at least one dot",
        ));
    }
    if let Err(why) = name::dns_1035(plural) {
        errors.push(FieldError::invalid(
            "spec.names.plural",
            &plural.into(),
            why,
        ));
    }
    let given = text(crd, "/metadata/name");
    if given != format!("{plural}.{group}") {
        let detail = "must be spec.names.plural+\".\"+spec.group";
        errors.push(FieldError::invalid("metadata.name", &given.into(), detail));
    }
    if !matches!(text(spec, "/scope"), "Cluster" | "Namespaced") {
        let shown = spec
            .pointer("/scope")
            .cloned()
            .unwrap_or_else(|| "".into())
            .to_string();
        let detail = "supported values: \"Cluster\", \"Namespaced\"";
        errors.push(FieldError::with_value(
            Fault::NotSupported,
            "spec.scope",
            shown,
            detail,
        ));
    }
    if text(spec, "/conversion/strategy") == "Webhook" {
        let detail = "webhook conversion is not supported, use None";
        errors.push(FieldError::invalid(
            "spec.conversion.strategy",
            &"Webhook".into(),
            detail,
        ));
    }
    versions(spec, &mut errors);
    errors
}

fn versions(spec: &Value, errors: &mut Vec<FieldError>) {
    let versions = list(spec, "/versions");
    let stored = versions
        .iter()
        .filter(|version| version["storage"] == true)
        .count();
    if stored != 1 {
        let value = spec.get("versions").cloned().unwrap_or_default();
        let detail = "must have exactly one version marked as storage version";
        errors.push(FieldError::with_value(
            Fault::Invalid,
            "spec.versions",
            count(&value),
            detail,
        ));
    }
    for (index, version) in versions.iter().enumerate() {
        let path = format!("spec.versions[{index}]");
        if let Err(why) = name::dns_1035(text(version, "/name")) {
            errors.push(FieldError::invalid(
                format!("{path}.name"),
                &version["name"],
                why,
            ));
        }
        let here = format!("{path}.schema.openAPIV3Schema");
        let schema = &version["schema"]["openAPIV3Schema"];
        let unsound = structural::check(schema, &here);
        if unsound.is_empty() {
            errors.extend(rules::compile(schema, &here).err().into_iter().flatten());
        }
        errors.extend(unsound);
        for (index, column) in list(version, "/additionalPrinterColumns")
            .iter()
            .enumerate()
        {
            if let Err(why) = JsonPath::parse(text(column, "/jsonPath")) {
                let field = format!("{path}.additionalPrinterColumns[{index}].jsonPath");
                errors.push(FieldError::invalid(field, &column["jsonPath"], why));
            }
        }
    }
}

fn count(versions: &Value) -> String {
    let names = versions
        .as_array()
        .into_iter()
        .flatten()
        .map(|version| version["name"].to_string());
    format!("[{}]", names.collect::<Vec<_>>().join(","))
}

fn entry(crd: &Value, version: &Value) -> ResourceType {
    let spec = &crd["spec"];
    let names = &spec["names"];
    let owned = |pointer: &str| text(spec, pointer).to_owned();
    let kind = owned("/names/kind");
    let or = |given: &str, otherwise: String| {
        if given.is_empty() {
            otherwise
        } else {
            given.to_owned()
        }
    };
    let lazy = crd["metadata"]["annotations"][DURABILITY] == "lazy";
    let stored = list(spec, "/versions")
        .iter()
        .find(|version| version["storage"] == true);
    let raw = &version["schema"]["openAPIV3Schema"];
    ResourceType {
        group: owned("/group"),
        version: text(version, "/name").to_owned(),
        list_kind: or(text(names, "/listKind"), format!("{kind}List")),
        plural: owned("/names/plural"),
        singular: or(text(names, "/singular"), kind.to_ascii_lowercase()),
        kind,
        short_names: strings(names, "/shortNames"),
        categories: strings(names, "/categories"),
        namespaced: text(spec, "/scope") == "Namespaced",
        subresources: subresources(version),
        schema: Some(Arc::new(root(raw))),
        // Findings were told before: `check` compiles the same text.
        rules: rules::compile(raw, "").ok().flatten().map(Arc::new),
        description: Description::Custom(digest(raw)),
        columns: columns(version),
        durability: if lazy {
            Durability::Lazy
        } else {
            Durability::Durable
        },
        selectable: list(version, "/selectableFields")
            .iter()
            .map(|field| text(field, "/jsonPath").trim_start_matches('.').to_owned())
            .collect(),
        verbs: ALL_VERBS,
        name_rule: NameRule::Subdomain,
        storage: Storage {
            group: owned("/group"),
            plural: owned("/names/plural"),
            version: stored
                .map_or("", |version| text(version, "/name"))
                .to_owned(),
            renamed: &[],
            older_autoscaler: false,
        },
        custom: true,
        priority: text(crd, "/metadata/annotations/suimon.dev~1group-priority")
            .parse()
            .unwrap_or(0),
        warning: (version["deprecated"] == true).then(|| deprecation(spec, version)),
    }
}

/// Changes with the schema.
fn digest(raw: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    raw.to_string().hash(&mut hasher);
    hasher.finish()
}

/// The `openAPIV3Schema` that `crd` has for a version.
pub(crate) fn raw_schema<'a>(crd: &'a Value, version: &str) -> Option<&'a Value> {
    let mut versions = list(crd, "/spec/versions").iter();
    versions
        .find(|one| text(one, "/name") == version)?
        .pointer("/schema/openAPIV3Schema")
}

fn deprecation(spec: &Value, version: &Value) -> String {
    match text(version, "/deprecationWarning") {
        "" => format!(
            "{}/{} {} is deprecated",
            text(spec, "/group"),
            text(version, "/name"),
            text(spec, "/names/kind")
        ),
        given => given.to_owned(),
    }
}

/// The schema of a whole object: what every object has, and what the CRD says.
fn root(raw: &Value) -> Schema {
    let mut schema = parse(raw);
    schema.kind = Kind::Object;
    for field in ["apiVersion", "kind"] {
        schema.properties.insert(
            field.into(),
            Arc::new(Schema {
                kind: Kind::String,
                ..Schema::default()
            }),
        );
    }
    let limits = schema
        .properties
        .remove("metadata")
        .filter(|metadata| !metadata.properties.is_empty());
    if let Some(metadata) = pack::schema(pack::OBJECT_META) {
        schema.properties.insert("metadata".into(), metadata);
    }
    if let Some(metadata) = limits {
        // A CRD may restrict names and labels further; that is a check, not another structure.
        let mut wrapper = Schema::default();
        wrapper.properties.insert("metadata".into(), metadata);
        let limits = schema
            .limits
            .take()
            .and_then(Arc::into_inner)
            .unwrap_or_default();
        schema.limits = Some(Arc::new(with_branch(limits, wrapper)));
    }
    schema.seal()
}

fn with_branch(mut limits: Limits, branch: Schema) -> Limits {
    limits.all_of.push(branch);
    limits
}

fn subresources(version: &Value) -> Subresources {
    let scale = version
        .pointer("/subresources/scale")
        .filter(|scale| scale.is_object())
        .map(|scale| Scale {
            spec_replicas: pointer(text(scale, "/specReplicasPath")),
            status_replicas: pointer(text(scale, "/statusReplicasPath")),
            selector: Some(text(scale, "/labelSelectorPath"))
                .filter(|path| !path.is_empty())
                .map(pointer),
        });
    let status = version
        .pointer("/subresources/status")
        .is_some_and(Value::is_object);
    Subresources {
        status,
        scale,
        others: Vec::new(),
    }
}

/// `.spec.replicas` → `/spec/replicas`.
fn pointer(path: &str) -> String {
    path.replace('.', "/")
}

fn columns(version: &Value) -> Columns {
    let given = list(version, "/additionalPrinterColumns");
    if given.is_empty() {
        return Columns::Plain;
    }
    let column = |column: &Value| {
        Some(CustomColumn {
            name: text(column, "/name").to_owned(),
            kind: text(column, "/type").to_owned(),
            format: text(column, "/format").to_owned(),
            description: text(column, "/description").to_owned(),
            priority: column["priority"].as_i64().unwrap_or_default(),
            path: JsonPath::parse(text(column, "/jsonPath")).ok()?,
        })
    };
    Columns::Custom(given.iter().filter_map(column).collect())
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value
        .pointer(pointer)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

fn strings(value: &Value, pointer: &str) -> Vec<String> {
    list(value, pointer)
        .iter()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

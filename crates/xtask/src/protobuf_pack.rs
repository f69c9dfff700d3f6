//! Generates the table by which the embedded API server reads protobuf bodies of built-in kinds.
//!
//! Input: a directory with the `types*.go` of `k8s.io/api` as `<group>/<version>/types.go`, and in
//! the same form those of `k8s.io/apimachinery` (`meta/v1`), `k8s.io/apiextensions-apiserver`
//! (`apiextensions/v1`) and `k8s.io/kube-aggregator` (`apiregistration/v1`). The struct tags are
//! the only place that has field numbers, JSON names, `omitempty` and pointers together.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use flate2::Compression;
use flate2::write::ZlibEncoder;
use serde_json::{Map, Value, json};

const OUTPUT: &str = "crates/apiserver/src/protobuf/messages.json.z";

// Flags of a field; `apiserver::protobuf` has the same.
const REPEATED: u8 = 1;
const MAP: u8 = 2;
const POINTER: u8 = 4;
const OMIT_EMPTY: u8 = 8;
const INLINE: u8 = 16;

/// One `types.go`.
struct Package {
    /// Such as `core/v1`.
    name: String,
    /// Import names to packages.
    imports: BTreeMap<String, String>,
    /// `type A B` that are no structs.
    named: BTreeMap<String, String>,
    /// Structs: fields as (Go name or type, Go type, tag).
    structs: BTreeMap<String, Vec<Field>>,
}

struct Field {
    kind: String,
    json: String,
    embedded: bool,
    number: u32,
}

pub(crate) fn run(directory: &str) -> Result<()> {
    let mut packages = BTreeMap::new();
    for group in fs::read_dir(directory).with_context(|| format!("cannot read {directory}"))? {
        let group = group?;
        for version in fs::read_dir(group.path())? {
            let version = version?;
            let name = format!(
                "{}/{}",
                group.file_name().to_string_lossy(),
                version.file_name().to_string_lossy()
            );
            let mut text = String::new();
            for file in fs::read_dir(version.path())? {
                let path = file?.path();
                text += &fs::read_to_string(&path)
                    .with_context(|| format!("cannot read {}", path.display()))?;
            }
            packages.insert(name.clone(), parse(name, &text)?);
        }
    }
    let mut messages = Map::new();
    for package in packages.values() {
        for (name, fields) in &package.structs {
            let fields: Result<Vec<Value>> = fields
                .iter()
                .map(|field| entry(&packages, package, field))
                .collect();
            messages.insert(format!("{}.{name}", package.name), Value::Array(fields?));
        }
    }
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(Value::Object(messages).to_string().as_bytes())?;
    fs::create_dir_all(Path::new(OUTPUT).parent().unwrap_or_else(|| Path::new(".")))?;
    fs::write(OUTPUT, encoder.finish()?).with_context(|| format!("cannot write {OUTPUT}"))
}

fn parse(name: String, text: &str) -> Result<Package> {
    let mut package = Package {
        name,
        imports: BTreeMap::new(),
        named: BTreeMap::new(),
        structs: BTreeMap::new(),
    };
    let mut open: Option<(String, Vec<Field>)> = None;
    for line in text.lines() {
        let line = line.trim();
        if line.starts_with("//") {
            continue;
        }
        if let Some((name, fields)) = &mut open {
            if line == "}" {
                package
                    .structs
                    .insert(std::mem::take(name), std::mem::take(fields));
                open = None;
            } else if let Some(field) = field(line)? {
                fields.push(field);
            }
        } else if let Some(rest) = line.strip_prefix("type ") {
            match rest.split_once(' ') {
                Some((name, "struct {")) => open = Some((name.to_owned(), Vec::new())),
                Some((name, "struct{}")) => {
                    package.structs.insert(name.to_owned(), Vec::new());
                }
                Some((name, kind)) => {
                    let kind = kind.trim_start_matches("= ").trim_end_matches('{').trim();
                    package.named.insert(name.to_owned(), kind.to_owned());
                }
                None => {}
            }
        } else if let Some((alias, path)) = import(line) {
            package.imports.insert(alias, path);
        }
    }
    Ok(package)
}

/// `alias "k8s.io/api/core/v1"` → (alias, `core/v1`).
fn import(line: &str) -> Option<(String, String)> {
    let line = line.strip_prefix("import ").unwrap_or(line);
    let (alias, rest) = line.split_once('"')?;
    let path = rest.strip_suffix('"')?;
    let last = path.rsplit('/').next()?;
    let alias = if alias.trim().is_empty() {
        last
    } else {
        alias.trim()
    };
    let short = path
        .strip_prefix("k8s.io/api/")
        .or_else(|| path.strip_prefix("k8s.io/apimachinery/pkg/apis/"));
    Some((alias.to_owned(), short.unwrap_or(last).to_owned()))
}

fn field(line: &str) -> Result<Option<Field>> {
    let Some((declaration, tag)) = line.split_once('`') else {
        return Ok(None);
    };
    let Some(proto) = tag_value(tag, "protobuf") else {
        return Ok(None);
    };
    let json = tag_value(tag, "json").unwrap_or_default();
    let words: Vec<_> = declaration.split_whitespace().collect();
    let (kind, embedded) = match words.as_slice() {
        [kind] => (*kind, true),
        [_, kind] => (*kind, false),
        _ => bail!("cannot read the field {line}"),
    };
    let mut parts = proto.split(',').skip(1);
    let number = parts
        .next()
        .and_then(|number| number.parse().ok())
        .with_context(|| format!("no number in {line}"))?;
    Ok(Some(Field {
        kind: kind.to_owned(),
        json: json.to_owned(),
        embedded,
        number,
    }))
}

fn tag_value<'a>(tag: &'a str, name: &str) -> Option<&'a str> {
    let rest = &tag[tag.find(&format!("{name}:\""))? + name.len() + 2..];
    rest.split_once('"').map(|(value, _)| value)
}

/// `[number, json name, kind, flags]`, and for maps the kind of the values.
fn entry(packages: &BTreeMap<String, Package>, package: &Package, field: &Field) -> Result<Value> {
    let mut json = field.json.split(',');
    let name = json.next().unwrap_or_default();
    let mut flags = 0;
    if json.any(|option| option == "omitempty" || option == "omitzero") {
        flags |= OMIT_EMPTY;
    }
    if field.embedded && name.is_empty() {
        flags |= INLINE;
    }
    let (kind, more) = kind_of(packages, package, &field.kind)?;
    Ok(json!([field.number, name, kind, flags | more]))
}

fn kind_of(
    packages: &BTreeMap<String, Package>,
    package: &Package,
    kind: &str,
) -> Result<(String, u8)> {
    if let Some(kind) = kind.strip_prefix('*') {
        let (kind, flags) = kind_of(packages, package, kind)?;
        return Ok((kind, flags | POINTER));
    }
    if kind == "[]byte" {
        return Ok(("bytes".into(), 0));
    }
    if let Some(kind) = kind.strip_prefix("[]") {
        let (kind, flags) = kind_of(packages, package, kind)?;
        return Ok((kind, (flags & MAP) | REPEATED));
    }
    if let Some((_, value)) = kind
        .strip_prefix("map[")
        .and_then(|rest| rest.split_once(']'))
    {
        let (kind, _) = kind_of(packages, package, value)?;
        return Ok((kind, MAP));
    }
    let simple = match kind {
        "string" => Some("string"),
        "bool" => Some("bool"),
        "int" | "int32" | "int64" | "uint32" | "uint8" => Some("int"),
        "float64" => Some("double"),
        "types.UID" | "types.NodeName" => Some("string"),
        "resource.Quantity" => Some("quantity"),
        "intstr.IntOrString" => Some("int-or-string"),
        "runtime.RawExtension" => Some("raw"),
        _ => None,
    };
    if let Some(simple) = simple {
        return Ok((simple.into(), 0));
    }
    let (home, name) = match kind.split_once('.') {
        Some((alias, name)) => {
            let path = package
                .imports
                .get(alias)
                .with_context(|| format!("{alias} is not imported in {}", package.name))?;
            (path.as_str(), name)
        }
        None => (package.name.as_str(), kind),
    };
    match (home, name) {
        ("meta/v1", "Time") => return Ok(("time".into(), 0)),
        ("meta/v1", "MicroTime") => return Ok(("micro-time".into(), 0)),
        ("meta/v1", "Duration") => return Ok(("duration".into(), 0)),
        ("meta/v1", "FieldsV1") => return Ok(("raw".into(), 0)),
        // A named list that is repeated where it is used, not a message of its own.
        ("apiextensions/v1", "ValidationRules") => {
            return Ok(("apiextensions/v1.ValidationRule".into(), REPEATED));
        }
        ("apiextensions/v1", "JSON") => return Ok(("raw".into(), 0)),
        ("apiextensions/v1", "JSONSchemaPropsOrArray") => {
            return Ok(("schema-or-array".into(), 0));
        }
        ("apiextensions/v1", "JSONSchemaPropsOrBool") => return Ok(("schema-or-bool".into(), 0)),
        ("apiextensions/v1", "JSONSchemaPropsOrStringArray") => {
            return Ok(("schema-or-strings".into(), 0));
        }
        ("types", "UID" | "NodeName") => return Ok(("string".into(), 0)),
        _ => {}
    }
    let Some(other) = packages.get(home) else {
        // A package that no served kind needs, such as an alpha version of scheduling.
        return Ok(("skip".into(), 0));
    };
    match other.named.get(name) {
        // A named list is a message with one repeated field.
        Some(list) if list.starts_with("[]") => {
            let (kind, _) = kind_of(packages, other, &list[2..])?;
            Ok((format!("list:{kind}"), 0))
        }
        Some(under) => kind_of(packages, other, under),
        None if other.structs.contains_key(name) => Ok((format!("{home}.{name}"), 0)),
        None => bail!("{kind} of {} is not declared", package.name),
    }
}

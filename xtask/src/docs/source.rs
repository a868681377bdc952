//! Finds error enums in Rust source: messages, codes and hints.
//!
//! The source is read instead of the compiled errors because a code without a
//! value of its variant cannot be asked for, and because a variant that was
//! forgotten must be found.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use syn::visit::{self, Visit};
use syn::{Arm, Attribute, Expr, Fields, File, ImplItem, Item, ItemEnum, ItemImpl, Lit, Meta, Pat};

/// One way to fail, as the source declares it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Failure {
    /// `RDT-<AREA>-<NNN>`.
    pub(super) code: String,
    /// The message with its fields in braces.
    pub(super) message: String,
    /// What a user can do; more than one where it depends on the values.
    pub(super) hints: Vec<String>,
    /// `Enum::Variant` with its package, for messages of this task.
    pub(super) place: String,
}

#[derive(Default)]
struct Enumeration {
    variants: BTreeMap<String, Variant>,
}

#[derive(Default)]
struct Variant {
    message: String,
    carries_error: bool,
    delegates: bool,
    code: Option<String>,
    hints: Vec<String>,
}

/// Reads all Rust files below a package's source folder.
pub(super) fn failures(package: &str, folder: &Path) -> Result<Vec<Failure>> {
    let mut enumerations = BTreeMap::new();
    let mut impls = Vec::new();
    read_folder(folder, &mut enumerations, &mut impls)?;
    collect(package, enumerations, &impls)
}

fn read_folder(
    folder: &Path,
    enumerations: &mut BTreeMap<String, Enumeration>,
    impls: &mut Vec<ItemImpl>,
) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()));
    for entry in entries? {
        let path = entry?.path();
        if path.is_dir() {
            read_folder(&path, enumerations, impls)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path)?;
            let file = syn::parse_file(&text)
                .with_context(|| format!("cannot parse {}", path.display()))?;
            read_file(file, enumerations, impls);
        }
    }
    Ok(())
}

fn read_file(
    file: File,
    enumerations: &mut BTreeMap<String, Enumeration>,
    impls: &mut Vec<ItemImpl>,
) {
    for item in file.items {
        match item {
            Item::Enum(item) => {
                enumerations.insert(item.ident.to_string(), enumeration(&item));
            }
            // Modules within a file are tests here; errors stand at the top level.
            Item::Impl(item) => impls.push(item),
            _ => {}
        }
    }
}

fn enumeration(item: &ItemEnum) -> Enumeration {
    let variants = item.variants.iter().map(|variant| {
        let marked = |field: &syn::Field| {
            field
                .attrs
                .iter()
                .any(|a| a.path().is_ident("source") || a.path().is_ident("from"))
        };
        let carries_error = match &variant.fields {
            Fields::Named(fields) => fields.named.iter().any(marked),
            Fields::Unnamed(fields) => fields.unnamed.iter().any(marked),
            Fields::Unit => false,
        };
        let found = Variant {
            message: doc_text(&variant.attrs),
            carries_error,
            ..Variant::default()
        };
        (variant.ident.to_string(), found)
    });
    Enumeration {
        variants: variants.collect(),
    }
}

/// The first paragraph of a doc comment on one line, as `displaydoc` takes it.
fn doc_text(attributes: &[Attribute]) -> String {
    let lines = attributes.iter().filter_map(|attribute| {
        let Meta::NameValue(pair) = &attribute.meta else {
            return None;
        };
        match &pair.value {
            Expr::Lit(literal) if pair.path.is_ident("doc") => match &literal.lit {
                Lit::Str(text) => Some(text.value().trim().to_owned()),
                _ => None,
            },
            _ => None,
        }
    });
    lines
        .take_while(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

fn collect(
    package: &str,
    mut enumerations: BTreeMap<String, Enumeration>,
    impls: &[ItemImpl],
) -> Result<Vec<Failure>> {
    for item in impls {
        let Some(name) = self_name(item) else {
            continue;
        };
        let Some(enumeration) = enumerations.get_mut(&name) else {
            continue;
        };
        for function in &item.items {
            if let ImplItem::Fn(function) = function {
                let mut reader = ArmReader {
                    function: function.sig.ident.to_string(),
                    enumeration: &mut *enumeration,
                    problem: None,
                };
                reader.visit_block(&function.block);
                if let Some(problem) = reader.problem {
                    bail!("{package}: {name}: {problem}");
                }
            }
        }
    }
    let mut failures = Vec::new();
    for (name, enumeration) in enumerations {
        add_failures(&format!("{package}: {name}"), enumeration, &mut failures)?;
    }
    Ok(failures)
}

/// The coded variants of one enum; it is an error to forget one of them.
fn add_failures(place: &str, enumeration: Enumeration, all: &mut Vec<Failure>) -> Result<()> {
    if !enumeration.variants.values().any(|v| v.code.is_some()) {
        return Ok(());
    }
    for (name, variant) in enumeration.variants {
        let place = format!("{place}::{name}");
        match variant.code {
            Some(code) if variant.message.is_empty() => bail!("{place} ({code}) has no message"),
            Some(code) => all.push(Failure {
                code,
                message: variant.message,
                hints: variant.hints,
                place,
            }),
            None if variant.carries_error || variant.delegates => {}
            None => bail!("{place} has neither a code nor a cause with one"),
        }
    }
    Ok(())
}

/// The last name of the type that an `impl` block is for.
fn self_name(item: &ItemImpl) -> Option<String> {
    match &*item.self_ty {
        syn::Type::Path(path) => path.path.segments.last().map(|s| s.ident.to_string()),
        _ => None,
    }
}

/// Reads the arms of the matches of one function.
struct ArmReader<'a> {
    function: String,
    enumeration: &'a mut Enumeration,
    problem: Option<String>,
}

impl<'ast> Visit<'ast> for ArmReader<'_> {
    fn visit_arm(&mut self, arm: &'ast Arm) {
        let mut names = Vec::new();
        variant_names(&arm.pat, &mut names);
        if names.is_empty() {
            visit::visit_arm(self, arm);
        } else if self.function == "hint" {
            self.read_hint(&names, &arm.body);
        } else {
            self.read_code(&names, &arm.body);
        }
    }

    fn visit_lit_str(&mut self, literal: &'ast syn::LitStr) {
        // A hint outside of a match would be missing from the page.
        if self.function == "hint" {
            self.problem = Some(format!("hint {:?} is not in a match arm", literal.value()));
        }
    }
}

impl ArmReader<'_> {
    fn read_code(&mut self, names: &[String], body: &Expr) {
        match plain_text(body) {
            // Number 0 is never shown: it stands where the cause's code is used.
            Some(code) if code.starts_with("RDT-") && !code.ends_with("-000") => {
                for name in names {
                    if let Some(variant) = self.enumeration.variants.get_mut(name) {
                        variant.code = Some(code.clone());
                    }
                }
            }
            _ if self.function == "code" => {
                for name in names {
                    if let Some(variant) = self.enumeration.variants.get_mut(name) {
                        variant.delegates = true;
                    }
                }
            }
            _ => {}
        }
    }

    fn read_hint(&mut self, names: &[String], body: &Expr) {
        let Some(text) = plain_text(body) else {
            let mut literals = LiteralFinder(None);
            literals.visit_expr(body);
            if let Some(found) = literals.0 {
                self.problem = Some(format!("hint {found:?} is not in a form that is read here"));
            }
            return;
        };
        for name in names {
            if let Some(variant) = self.enumeration.variants.get_mut(name) {
                variant.hints.push(text.clone());
            }
        }
    }
}

struct LiteralFinder(Option<String>);

impl<'ast> Visit<'ast> for LiteralFinder {
    fn visit_lit_str(&mut self, literal: &'ast syn::LitStr) {
        self.0 = Some(literal.value());
    }
}

/// The variants that a pattern names as `Self::Name` or `Enum::Name`.
fn variant_names(pattern: &Pat, names: &mut Vec<String>) {
    let path = match pattern {
        Pat::Or(or) => {
            for case in &or.cases {
                variant_names(case, names);
            }
            return;
        }
        Pat::Struct(pattern) => &pattern.path,
        Pat::TupleStruct(pattern) => &pattern.path,
        Pat::Path(pattern) => &pattern.path,
        _ => return,
    };
    if path.segments.len() > 1 && path.segments.first().is_some_and(|s| s.ident == "Self") {
        names.extend(path.segments.last().map(|s| s.ident.to_string()));
    }
}

/// The text of a literal, alone, owned, in `Some`, in `return` or as a format.
fn plain_text(expression: &Expr) -> Option<String> {
    match expression {
        Expr::Lit(literal) => match &literal.lit {
            Lit::Str(text) => Some(text.value()),
            _ => None,
        },
        Expr::MethodCall(call) => plain_text(&call.receiver),
        Expr::Call(call) if call.args.len() == 1 => plain_text(call.args.first()?),
        Expr::Paren(inner) => plain_text(&inner.expr),
        Expr::Return(inner) => plain_text(inner.expr.as_deref()?),
        Expr::Block(block) => match block.block.stmts.as_slice() {
            [syn::Stmt::Expr(inner, _)] => plain_text(inner),
            _ => None,
        },
        Expr::Macro(call) if call.mac.path.is_ident("format") => format_text(&call.mac),
        _ => None,
    }
}

/// The text of `format!`; a place without a name gets its argument's first word.
fn format_text(call: &syn::Macro) -> Option<String> {
    let parser = syn::punctuated::Punctuated::<Expr, syn::Token![,]>::parse_terminated;
    let arguments = call.parse_body_with(parser).ok()?;
    let mut arguments = arguments.iter();
    let mut text = plain_text(arguments.next()?)?;
    for argument in arguments {
        text = text.replacen("{}", &format!("{{{}}}", first_word(argument)?), 1);
    }
    Some(text)
}

fn first_word(expression: &Expr) -> Option<String> {
    match expression {
        Expr::Path(path) => path.path.get_ident().map(ToString::to_string),
        Expr::MethodCall(call) => first_word(&call.receiver),
        Expr::Reference(inner) => first_word(&inner.expr),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Failure>> {
        let mut enumerations = BTreeMap::new();
        let mut impls = Vec::new();
        read_file(syn::parse_file(text)?, &mut enumerations, &mut impls);
        collect("p", enumerations, &impls)
    }

    const ENUM: &str = "
        enum E {
            /// file {path:?} is
            /// missing
            ///
            /// More.
            Missing { path: PathBuf },
            /// broken
            Broken(#[source] io::Error),
        }";

    #[test]
    fn message_code_and_hint_of_a_variant_are_found() {
        let found = read(&format!(
            "{ENUM}
            impl UserError for E {{
                fn code(&self) -> ErrorCode {{
                    ErrorCode(match self {{
                        Self::Missing {{ .. }} => \"RDT-X-001\",
                        Self::Broken(error) => return error.code(),
                    }})
                }}
                fn hint(&self) -> Option<String> {{
                    match self {{
                        Self::Missing {{ path }} => Some(format!(\"make {{}}\", path.display())),
                        _ => None,
                    }}
                }}
            }}"
        ))
        .unwrap();
        let [failure] = found.as_slice() else {
            panic!("{found:?}");
        };
        assert_eq!(failure.code, "RDT-X-001");
        assert_eq!(failure.message, "file {path:?} is missing");
        assert_eq!(failure.hints, ["make {path}"]);
    }

    #[test]
    fn a_variant_without_a_code_is_an_error() {
        let text = "
            enum E { /// one
                One, /// two
                Two }
            impl UserError for E {
                fn code(&self) -> ErrorCode {
                    ErrorCode(match self { Self::One => \"RDT-X-001\", _ => \"RDT-X-000\" })
                }
            }";
        let error = read(text).unwrap_err();
        assert!(error.to_string().contains("E::Two"), "{error}");
    }

    #[test]
    fn a_hint_that_cannot_be_read_is_an_error() {
        let text = format!(
            "{ENUM}
            impl UserError for E {{
                fn code(&self) -> ErrorCode {{
                    ErrorCode(match self {{ Self::Missing {{ .. }} => \"RDT-X-001\", Self::Broken(_) => \"RDT-X-002\" }})
                }}
                fn hint(&self) -> Option<String> {{ self.late().then(|| \"try again\".to_owned()) }}
            }}"
        );
        let error = read(&text).unwrap_err();
        assert!(error.to_string().contains("try again"), "{error}");
    }
}

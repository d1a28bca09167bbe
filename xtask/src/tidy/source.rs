//! A Rust file as the rules see it: what is test code and what is not, which paths and texts it names.

use std::path::Path;

use anyhow::Context as _;
use syn::spanned::Spanned as _;
use syn::visit::{self, Visit};

/// A function's place and size.
pub(super) struct Function {
    pub(super) name: String,
    pub(super) line: usize,
    /// From the signature to the closing brace.
    pub(super) lines: usize,
}

/// What is outside of test code, unless said otherwise.
pub(super) struct Source {
    /// Relative to the workspace.
    pub(super) path: String,
    /// Whether the whole file is test code, or is not shipped for another reason.
    pub(super) is_test: bool,
    /// Lines of the file.
    pub(super) lines: usize,
    pub(super) functions: Vec<Function>,
    /// Every path in code and in `use`, with `::` between segments, and its line.
    pub(super) paths: Vec<(String, usize)>,
    /// Every string literal and its line.
    pub(super) texts: Vec<(String, usize)>,
    /// Traits that are declared.
    pub(super) traits: Vec<(String, usize)>,
    /// Traits that are implemented, by their last segment.
    pub(super) implemented: Vec<String>,
}

impl Source {
    pub(super) fn read(root: &Path, path: &str) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(root.join(path)).with_context(|| format!("cannot read {path}"))?;
        Self::parse(path, &text)
    }

    pub(super) fn parse(path: &str, text: &str) -> anyhow::Result<Self> {
        let file = syn::parse_file(text).with_context(|| format!("{path} is not Rust"))?;
        let mut source = Self {
            path: path.to_owned(),
            is_test: ["/tests/", "/examples/", "/benches/"].iter().any(|folder| path.contains(folder))
                || path.ends_with("/tests.rs")
                || path.starts_with("crates/testkit/"),
            lines: text.lines().count(),
            functions: vec![],
            paths: vec![],
            texts: vec![],
            traits: vec![],
            implemented: vec![],
        };
        Collector { source: &mut source }.visit_file(&file);
        Ok(source)
    }

    /// The crate's folder under `crates/`, or the first folder of the path.
    pub(super) fn room(&self) -> &str {
        let mut parts = self.path.split('/');
        match parts.next() {
            Some("crates") => parts.next().unwrap_or(""),
            first => first.unwrap_or(""),
        }
    }
}

struct Collector<'a> {
    source: &'a mut Source,
}

impl Collector<'_> {
    fn function(&mut self, name: &syn::Ident, whole: proc_macro2::Span, signature: proc_macro2::Span) {
        let (line, end) = (signature.start().line, whole.end().line);
        self.source.functions.push(Function { name: name.to_string(), line, lines: end + 1 - line });
    }

    fn tree(&mut self, prefix: &str, tree: &syn::UseTree) {
        match tree {
            syn::UseTree::Path(path) => self.tree(&format!("{prefix}{}::", path.ident), &path.tree),
            syn::UseTree::Group(group) => group.items.iter().for_each(|item| self.tree(prefix, item)),
            syn::UseTree::Name(name) => self.source.paths.push((format!("{prefix}{}", name.ident), name.ident.span().start().line)),
            syn::UseTree::Rename(name) => self.source.paths.push((format!("{prefix}{}", name.ident), name.ident.span().start().line)),
            syn::UseTree::Glob(glob) => self.source.paths.push((format!("{prefix}*"), glob.span().start().line)),
        }
    }
}

/// Whether `attributes` make what follows test code.
fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let path = attribute.path();
        let named_test = path.segments.last().is_some_and(|segment| segment.ident == "test");
        let cfg_test = path.is_ident("cfg") && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"));
        named_test || cfg_test
    })
}

impl<'ast> Visit<'ast> for Collector<'_> {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if is_test(&item.attrs) {
            let span = item.span();
            self.source.lines -= span.end().line + 1 - span.start().line;
        } else {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if !is_test(&item.attrs) {
            self.function(&item.sig.ident, item.block.span(), item.sig.span());
            visit::visit_item_fn(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if !is_test(&item.attrs) {
            self.function(&item.sig.ident, item.block.span(), item.sig.span());
            visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        if is_test(&item.attrs) {
            return;
        }
        if let Some((_, path, _)) = &item.trait_
            && let Some(last) = path.segments.last()
        {
            self.source.implemented.push(last.ident.to_string());
        }
        visit::visit_item_impl(self, item);
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        self.source.traits.push((item.ident.to_string(), item.ident.span().start().line));
        visit::visit_item_trait(self, item);
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if !is_test(&item.attrs) {
            self.tree("", &item.tree);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let text = path.segments.iter().map(|segment| segment.ident.to_string()).collect::<Vec<_>>().join("::");
        self.source.paths.push((text, path.span().start().line));
        visit::visit_path(self, path);
    }

    fn visit_lit_str(&mut self, text: &'ast syn::LitStr) {
        self.source.texts.push((text.value(), text.span().start().line));
    }
}

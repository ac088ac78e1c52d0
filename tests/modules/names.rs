//! The names of a crate: its modules, what they define and import, and which file a path leads to.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

use super::graph::Graph;

/// The path of a module from the root of its crate, or a path in the sources.
type Names = Vec<String>;

/// A module, in a file of its own or inline.
#[derive(Debug, Default)]
struct Module {
    file: String,
    /// The names that it defines, without modules.
    defined: BTreeSet<String>,
    /// The paths that it imports, by the name that each has in it.
    imported: BTreeMap<String, Names>,
    /// The modules from which it imports everything.
    globs: Vec<Names>,
    /// All paths that occur in it, imports included.
    paths: BTreeSet<Names>,
    /// Its macros that are exported to the whole crate.
    exported: Vec<String>,
}

/// All modules of a crate.
#[derive(Debug, Default)]
pub struct Sources {
    modules: BTreeMap<Names, Module>,
}

impl Sources {
    /// Reads the crate whose root is this file. `read` returns the text of a file, given relative
    /// to the root's directory.
    pub fn read(root: &str, read: &dyn Fn(&str) -> Option<String>) -> Self {
        let mut sources = Self::default();
        let text = read(root).unwrap_or_else(|| panic!("there is no {root}"));
        sources.add(vec![], root, &parse(root, &text).items, read);
        sources.export_macros();
        sources
    }

    /// Adds exported macros to the root, whichever module defines them.
    fn export_macros(&mut self) {
        let all = self.modules.iter().flat_map(|(at, module)| {
            module.exported.iter().map(|name| (name.clone(), [&at[..], std::slice::from_ref(name)].concat()))
        });
        let all: Vec<(String, Names)> = all.collect();
        self.modules.entry(vec![]).or_default().imported.extend(all);
    }

    fn add(&mut self, at: Names, file: &str, items: &[syn::Item], read: &dyn Fn(&str) -> Option<String>) {
        let mut module = Module { file: file.to_owned(), ..Module::default() };
        for item in items.iter().filter(|item| !is_of_tests(attributes(item))) {
            match item {
                syn::Item::Mod(inner) => {
                    let at: Names = at.iter().cloned().chain([inner.ident.to_string()]).collect();
                    match &inner.content {
                        Some((_, items)) => self.add(at, file, items, read),
                        None => self.add_file(at, read),
                    }
                }
                item => module.visit_item(item),
            }
        }
        self.modules.insert(at, module);
    }

    fn add_file(&mut self, at: Names, read: &dyn Fn(&str) -> Option<String>) {
        let path = at.join("/");
        let found = [format!("{path}.rs"), format!("{path}/mod.rs")]
            .into_iter()
            .find_map(|file| read(&file).map(|text| (file, text)));
        let (file, text) = found.unwrap_or_else(|| panic!("there is no file of module {path}"));
        self.add(at, &file, &parse(&file, &text).items, read);
    }

    /// Which files use which.
    pub fn graph(&self) -> Graph {
        let mut graph = Graph::new();
        for (at, module) in &self.modules {
            let used = graph.entry(module.file.clone()).or_default();
            let files = module.paths.iter().filter_map(|path| self.resolve(at, path, 0));
            used.extend(files.filter(|file| *file != module.file).map(str::to_owned));
        }
        graph
    }

    /// The file that defines what a path in a module leads to. `None` if another crate does.
    fn resolve(&self, from: &Names, path: &[String], depth: usize) -> Option<&str> {
        const DEEPEST: usize = 16; // imports may go in a circle themselves
        let (first, rest) = path.split_first().filter(|_| depth < DEEPEST)?;
        let module = self.modules.get(from)?;
        let (mut at, rest) = match first.as_str() {
            "crate" => (vec![], rest),
            "self" => (from.clone(), rest),
            "super" => (parent(from)?, rest),
            // A name of this module, or of another crate.
            name if self.knows(from, name) => (from.clone(), path),
            name => {
                let globs = module.globs.iter().map(|glob| [&glob[..], path].concat());
                let local = globs.filter(|path| path[0] != *name);
                return local.into_iter().find_map(|path| self.resolve_exactly(from, &path, depth + 1));
            }
        };
        for (index, name) in rest.iter().enumerate() {
            let inner: Names = at.iter().cloned().chain([name.clone()]).collect();
            let module = self.modules.get(&at)?;
            if name == "super" {
                at = parent(&at)?;
            } else if self.modules.contains_key(&inner) {
                at = inner;
            } else if module.defined.contains(name) {
                return Some(&module.file);
            } else if let Some(import) = module.imported.get(name) {
                let path = [&import[..], &rest[index + 1..]].concat();
                return self.resolve(&at, &path, depth + 1);
            } else {
                let ways = module.globs.iter().map(|glob| [&glob[..], &rest[index..]].concat());
                let found = ways.into_iter().find_map(|path| self.resolve_exactly(&at, &path, depth + 1));
                return found.or(Some(&module.file)); // made by a macro, say
            }
        }
        self.modules.get(&at).map(|module| &*module.file)
    }

    /// Like [`Self::resolve`], but only if the last module of the path defines the name itself.
    fn resolve_exactly(&self, from: &Names, path: &[String], depth: usize) -> Option<&str> {
        let (name, way) = path.split_last()?;
        let file = self.resolve(from, way, depth)?;
        let defines = |module: &Module| module.file == file && module.defined.contains(name);
        if self.modules.values().any(defines) {
            Some(file)
        } else {
            self.resolve_handed_on(file, name, depth)
        }
    }

    fn resolve_handed_on(&self, file: &str, name: &str, depth: usize) -> Option<&str> {
        let mut handing = self.modules.iter().filter(|(_, module)| module.file == file);
        handing.find_map(|(at, module)| self.resolve(at, module.imported.get(name)?, depth + 1))
    }

    fn knows(&self, at: &Names, name: &str) -> bool {
        let inner: Names = at.iter().cloned().chain([name.to_owned()]).collect();
        let module = &self.modules[at];
        self.modules.contains_key(&inner)
            || module.defined.contains(name)
            || module.imported.contains_key(name)
    }
}

impl<'ast> Visit<'ast> for Module {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if is_of_tests(attributes(item)) {
            return;
        }
        self.defined.extend(name_of(item));
        if attributes(item).iter().any(|attribute| attribute.path().is_ident("macro_export")) {
            self.exported.extend(name_of(item));
        }
        visit::visit_item(self, item);
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.import(vec![], &item.tree);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.leading_colon.is_none() {
            self.paths.insert(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, made: &'ast syn::Macro) {
        self.visit_path(&made.path);
        self.read_tokens(made.tokens.clone());
    }

    fn visit_field(&mut self, field: &'ast syn::Field) {
        if !is_of_tests(&field.attrs) {
            visit::visit_field(self, field);
        }
    }

    fn visit_block(&mut self, block: &'ast syn::Block) {
        visit::visit_block(self, block);
    }

    fn visit_stmt(&mut self, statement: &'ast syn::Stmt) {
        let of_tests = match statement {
            syn::Stmt::Local(local) => is_of_tests(&local.attrs),
            syn::Stmt::Expr(syn::Expr::Return(it), _) => is_of_tests(&it.attrs),
            _ => false,
        };
        if !of_tests {
            visit::visit_stmt(self, statement);
        }
    }

    fn visit_field_value(&mut self, field: &'ast syn::FieldValue) {
        if !is_of_tests(&field.attrs) {
            visit::visit_field_value(self, field);
        }
    }

    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    fn visit_attribute(&mut self, _: &'ast syn::Attribute) {}
}

impl Module {
    fn import(&mut self, mut way: Names, tree: &syn::UseTree) {
        let (name, known_as) = match tree {
            syn::UseTree::Path(path) => {
                way.push(path.ident.to_string());
                return self.import(way, &path.tree);
            }
            syn::UseTree::Group(group) => {
                return group.items.iter().for_each(|tree| self.import(way.clone(), tree));
            }
            syn::UseTree::Glob(_) => {
                self.paths.insert(way.clone());
                return self.globs.push(way);
            }
            syn::UseTree::Name(name) => (name.ident.to_string(), name.ident.to_string()),
            syn::UseTree::Rename(name) => (name.ident.to_string(), name.rename.to_string()),
        };
        let known_as = match name.as_str() {
            "self" => way.last().cloned().unwrap_or_default(),
            _ => {
                way.push(name);
                known_as
            }
        };
        self.paths.insert(way.clone());
        if way[0] != known_as {
            self.imported.insert(known_as, way);
        }
    }

    /// Reads paths from the tokens of a macro's arguments: words with `::` between them.
    fn read_tokens(&mut self, tokens: TokenStream) {
        let (mut path, mut colons) = (Names::new(), 0);
        for token in tokens {
            match token {
                TokenTree::Ident(word) if colons == 2 || path.is_empty() => {
                    path.push(word.to_string());
                    colons = 0;
                    continue;
                }
                TokenTree::Ident(word) => {
                    self.note_tokens(std::mem::replace(&mut path, vec![word.to_string()]));
                }
                TokenTree::Punct(mark) if mark.as_char() == ':' && !path.is_empty() => {
                    colons += 1;
                    continue;
                }
                TokenTree::Group(group) => {
                    self.note_tokens(std::mem::take(&mut path));
                    self.read_tokens(group.stream());
                }
                _ => self.note_tokens(std::mem::take(&mut path)),
            }
            colons = 0;
        }
        self.note_tokens(path);
    }

    /// Notes a path. A single word is left out, because it may be a variable or part of
    /// `pub(crate)`.
    fn note_tokens(&mut self, path: Names) {
        if path.len() > 1 {
            self.paths.insert(path);
        }
    }
}

fn parse(file: &str, text: &str) -> syn::File {
    syn::parse_file(text).unwrap_or_else(|error| panic!("{file} can't be read: {error}"))
}

fn parent(at: &Names) -> Option<Names> {
    at.split_last().map(|(_, parent)| parent.to_vec())
}

/// Whether an item is compiled only for tests.
fn is_of_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        syn::Meta::List(list) => list.path.is_ident("cfg") && list.tokens.to_string() == "test",
        _ => false,
    })
}

fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Const(it) => &it.attrs,
        syn::Item::Enum(it) => &it.attrs,
        syn::Item::Fn(it) => &it.attrs,
        syn::Item::Impl(it) => &it.attrs,
        syn::Item::Macro(it) => &it.attrs,
        syn::Item::Mod(it) => &it.attrs,
        syn::Item::Static(it) => &it.attrs,
        syn::Item::Struct(it) => &it.attrs,
        syn::Item::Trait(it) => &it.attrs,
        syn::Item::Type(it) => &it.attrs,
        syn::Item::Use(it) => &it.attrs,
        _ => &[],
    }
}

fn name_of(item: &syn::Item) -> Option<String> {
    let name = match item {
        syn::Item::Const(it) => &it.ident,
        syn::Item::Enum(it) => &it.ident,
        syn::Item::Fn(it) => &it.sig.ident,
        syn::Item::Macro(it) => it.ident.as_ref()?,
        syn::Item::Static(it) => &it.ident,
        syn::Item::Struct(it) => &it.ident,
        syn::Item::Trait(it) => &it.ident,
        syn::Item::Type(it) => &it.ident,
        syn::Item::Union(it) => &it.ident,
        _ => return None,
    };
    Some(name.to_string())
}

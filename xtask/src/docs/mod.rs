//! The reference pages that are made from the code, so that they cannot drift from it.

mod commands;
mod errors;
mod notes;
mod source;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::build;
use crate::paths::Paths;
use crate::printer::Printer;

/// Options of the reference pages.
#[derive(Debug, Args)]
pub(crate) struct DocsOptions {
    /// Write nothing; fail where a page differs from the code.
    #[arg(long)]
    check: bool,
}

/// Builds the programs, then writes the pages or compares them.
pub(crate) fn run(printer: &Printer, options: &DocsOptions) -> Result<()> {
    let paths = Paths::find()?;
    build::host_programs(&paths)?;
    let pages = pages(&paths)?;
    if options.check {
        return compare(&pages);
    }
    for page in &pages {
        if fs::read_to_string(&page.path).is_ok_and(|old| old == page.text) {
            continue;
        }
        fs::write(&page.path, &page.text)
            .with_context(|| format!("cannot write {}", page.path.display()))?;
        printer.note(&format!("wrote {}", page.path.display()));
    }
    Ok(())
}

/// Fails where a page differs from what the programs, already built, would make of it.
pub(crate) fn check(printer: &Printer, paths: &Paths) -> Result<()> {
    printer.step("reference pages");
    compare(&pages(paths)?)
}

struct Page {
    path: PathBuf,
    text: String,
}

fn pages(paths: &Paths) -> Result<Vec<Page>> {
    let folder = paths.root.join("docs");
    let redoubt = paths.binary("redoubt");
    let page = |name: &str, text: String| Page {
        path: folder.join(name),
        text,
    };
    Ok(vec![
        page("errors.md", errors::page(&source_folders(paths)?)?),
        page("commands.md", commands::page(&redoubt)?),
        page(
            "configuration.md",
            output_of(&redoubt, &["config", "reference"])?,
        ),
    ])
}

fn compare(pages: &[Page]) -> Result<()> {
    let stale: Vec<_> = pages
        .iter()
        .filter(|page| fs::read_to_string(&page.path).map_or(true, |old| old != page.text))
        .map(|page| page.path.display().to_string())
        .collect();
    if stale.is_empty() {
        return Ok(());
    }
    bail!(
        "out of date: {}; `cargo xtask docs` writes them anew",
        stale.join(", ")
    )
}

/// The `src` folders of this workspace's packages, by package name.
fn source_folders(paths: &Paths) -> Result<Vec<(String, PathBuf)>> {
    let output = build::cargo(paths)
        .args(["metadata", "--no-deps", "--format-version", "1", "--locked"])
        .output()
        .context("cannot start cargo")?;
    ensure!(output.status.success(), "cargo metadata failed");
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"]
        .as_array()
        .context("cargo metadata names no packages")?;
    packages
        .iter()
        .map(|package| {
            let text = |key: &str| {
                package[key]
                    .as_str()
                    .with_context(|| format!("cargo metadata: a package without {key}"))
            };
            let folder = Path::new(text("manifest_path")?)
                .parent()
                .context("a manifest without a folder")?
                .join("src");
            Ok((text("name")?.to_owned(), folder))
        })
        .collect()
}

/// What a program writes to standard output.
fn output_of(program: &Path, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .with_context(|| format!("cannot start {}", program.display()))?;
    ensure!(
        output.status.success(),
        "{} {} failed",
        program.display(),
        arguments.join(" ")
    );
    String::from_utf8(output.stdout).context("the output is not text")
}

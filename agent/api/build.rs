//! Generates the messages and the ttRPC services from `proto/`, without `protoc`.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

use protobuf::reflect::RuntimeType;
use protobuf::reflect::{FieldDescriptor, MessageDescriptor, OneofDescriptor, RuntimeFieldType};
use ttrpc_codegen::{Codegen, Customize, ProtobufCustomize, ProtobufCustomizeCallback};

/// Adds serde so that a message becomes the JSON that policies are written for.
struct PolicyShape;

impl ProtobufCustomizeCallback for PolicyShape {
    fn message(&self, _: &MessageDescriptor) -> ProtobufCustomize {
        ProtobufCustomize::default()
            .before("#[derive(::serde::Serialize, ::serde::Deserialize)]\n#[serde(default)]")
    }

    fn field(&self, field: &FieldDescriptor) -> ProtobufCustomize {
        let RuntimeFieldType::Singular(kind) = field.runtime_field_type() else {
            return ProtobufCustomize::default();
        };
        match kind {
            RuntimeType::Message(_) => {
                ProtobufCustomize::default().before("#[serde(with = \"crate::shape::message\")]")
            }
            RuntimeType::Enum(_) => ProtobufCustomize::default()
                .before("#[serde(with = \"crate::shape::enumeration\")]"),
            _ => ProtobufCustomize::default(),
        }
    }

    fn oneof(&self, _: &OneofDescriptor) -> ProtobufCustomize {
        ProtobufCustomize::default().before("#[derive(::serde::Serialize, ::serde::Deserialize)]")
    }

    fn special_field(&self, _: &MessageDescriptor, _: &str) -> ProtobufCustomize {
        ProtobufCustomize::default().before("#[serde(skip)]")
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    println!("cargo::rerun-if-changed=build.rs");
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?).join("api");
    fs::create_dir_all(&out)?;
    Codegen::new()
        .out_dir(&out)
        .inputs([
            "proto/agent.proto",
            "proto/health.proto",
            "proto/oci.proto",
            "proto/csi.proto",
            "proto/types.proto",
        ])
        .include("proto")
        .rust_protobuf()
        .rust_protobuf_customize(
            ProtobufCustomize::default()
                .gen_mod_rs(true)
                .lite_runtime(true)
                .btreemaps(true)
                .generate_accessors(false)
                .generate_getter(false),
        )
        .rust_protobuf_customize_callback(PolicyShape)
        .customize(Customize {
            async_all: true,
            gen_mod: true,
            ..Customize::default()
        })
        .run()?;
    // The module list is included into a module of ours, where inner attributes
    // have no place.
    let list = out.join("mod.rs");
    let text = fs::read_to_string(&list)?;
    let kept: Vec<&str> = text
        .lines()
        .filter(|line| !line.starts_with("#!["))
        .collect();
    fs::write(&list, kept.join("\n"))?;
    Ok(())
}

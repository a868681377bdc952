//! The extension of PCK certificates (Intel, "SGX PCK Certificate and
//! Certificate Revocation List Profile Specification", section 1.3.5).

use crate::tdx::pki::Platform;

const SEQUENCE: u8 = 0x30;
const OCTET_STRING: u8 = 0x04;
const INTEGER: u8 = 0x02;
const ENUMERATED: u8 = 0x0A;
const BOOLEAN: u8 = 0x01;
const OBJECT_IDENTIFIER: u8 = 0x06;

/// 1.2.840.113741.1.13.1, below which everything stands.
const ARC: [u8; 9] = [0x2A, 0x86, 0x48, 0x86, 0xF8, 0x4D, 0x01, 0x0D, 0x01];

/// The same as numbers.
pub(super) const EXTENSION: [u64; 7] = [1, 2, 840, 113_741, 1, 13, 1];

/// Tag, length, content. Nothing here is longer than 64 KiB.
fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let [_, _, high, low] = u32::try_from(content.len())
        .unwrap_or(u32::MAX)
        .to_be_bytes();
    let mut out = vec![tag];
    match (high, low) {
        (0, low) if low < 0x80 => out.push(low),
        (0, low) => out.extend([0x81, low]),
        (high, low) => out.extend([0x82, high, low]),
    }
    out.extend_from_slice(content);
    out
}

/// An identifier below the arc with its value.
fn member(below: &[u8], value: &[u8]) -> Vec<u8> {
    let identifier = tlv(OBJECT_IDENTIFIER, &[&ARC, below].concat());
    tlv(SEQUENCE, &[identifier, value.to_vec()].concat())
}

/// A small number, without a sign.
fn number(value: u8) -> Vec<u8> {
    if value < 0x80 {
        tlv(INTEGER, &[value])
    } else {
        tlv(INTEGER, &[0, value])
    }
}

fn tcb(platform: &Platform) -> Vec<u8> {
    let mut members = Vec::new();
    for (index, svn) in (1_u8..).zip(platform.cpu_svn) {
        members.extend(member(&[2, index], &number(svn)));
    }
    members.extend(member(&[2, 17], &number(platform.pce_svn)));
    members.extend(member(&[2, 18], &tlv(OCTET_STRING, &platform.cpu_svn)));
    tlv(SEQUENCE, &members)
}

/// The extension's content for a platform.
pub(super) fn pck_extension(platform: &Platform) -> Vec<u8> {
    let flag = |index, set: bool| {
        let value = if set { 0xFF } else { 0 };
        member(&[7, index], &tlv(BOOLEAN, &[value]))
    };
    let configuration = [flag(1, false), flag(2, false), flag(3, true)].concat();
    let members = [
        member(&[1], &tlv(OCTET_STRING, &platform.ppid)),
        member(&[2], &tcb(platform)),
        member(&[3], &tlv(OCTET_STRING, &[0, 0])),
        member(&[4], &tlv(OCTET_STRING, &platform.fmspc)),
        member(&[5], &tlv(ENUMERATED, &[1])),
        member(&[6], &tlv(OCTET_STRING, &platform.instance_id)),
        member(&[7], &tlv(SEQUENCE, &configuration)),
    ];
    tlv(SEQUENCE, &members.concat())
}

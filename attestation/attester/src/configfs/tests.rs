//! The protocol with the kernel, against an emulated tree that behaves as
//! configfs-tsm does: attributes appear with the directory, every write moves
//! the generation, and reading `outblob` signs what was written last.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use redoubt_evidence::{CertKind, RawReport};

use super::*;

/// What somebody else does, or the kernel does wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// Another process writes its own data before `outblob` is read.
    Race,
    /// Another process writes, but what is signed is still ours.
    LateWrite,
    /// The generation attribute is no number.
    BadGeneration,
    /// The report is for other data with nothing written.
    OtherData,
    /// TDX instead of SNP.
    OtherProvider,
    /// The write is refused.
    Busy,
    /// No certificates.
    NoAuxblob,
    /// The report is too long.
    LongReport,
    /// The report is cut.
    ShortReport,
    /// The certificate table points outside of itself.
    BadTable,
}

struct Kernel {
    fault: Fault,
    requests: RefCell<BTreeMap<String, (u64, [u8; 64])>>,
    created: Cell<u32>,
}

impl Kernel {
    fn with(fault: Fault) -> Self {
        Self {
            fault,
            requests: RefCell::default(),
            created: Cell::new(0),
        }
    }

    fn sign(&self, request: &str) -> Vec<u8> {
        let mut requests = self.requests.borrow_mut();
        let (generation, data) = requests.get_mut(request).unwrap();
        match self.fault {
            Fault::Race => (*generation, *data) = (*generation + 1, [0xEE; 64]),
            Fault::LateWrite => *generation += 1,
            _ => {}
        }
        let mut raw = RawReport::zeroed();
        raw.version = 3.into();
        raw.report_data = if self.fault == Fault::OtherData {
            [9; 64]
        } else {
            *data
        };
        let mut bytes = SnpReport::from_raw(raw).unwrap().to_array().to_vec();
        match self.fault {
            Fault::LongReport => bytes.resize(MAX_REPORT_BYTES + 1, 0),
            Fault::ShortReport => bytes.truncate(1183),
            _ => {}
        }
        bytes
    }

    fn table(&self) -> io::Result<Vec<u8>> {
        let mut table = CertTable::default();
        table.insert(CertKind::Vcek, vec![0x30; 8]).unwrap();
        let mut bytes = table.build().unwrap();
        match self.fault {
            Fault::NoAuxblob => return Err(io::ErrorKind::NotFound.into()),
            Fault::BadTable => bytes[20] = 0xFF,
            _ => {}
        }
        Ok(bytes)
    }
}

impl ReportTree for Kernel {
    fn path(&self, request: &str, attribute: &str) -> PathBuf {
        PathBuf::from("/emulated").join(request).join(attribute)
    }

    fn create(&self, request: &str) -> io::Result<()> {
        self.created.set(self.created.get() + 1);
        self.requests
            .borrow_mut()
            .insert(request.to_owned(), (0, [0; 64]));
        Ok(())
    }

    fn read(&self, request: &str, attribute: &str, limit: usize) -> io::Result<Option<Vec<u8>>> {
        let bytes = match attribute {
            "provider" if self.fault == Fault::OtherProvider => b"tdx_guest\n".to_vec(),
            "provider" => b"sev_guest\n".to_vec(),
            "outblob" => self.sign(request),
            "auxblob" => self.table()?,
            "generation" if self.fault == Fault::BadGeneration => b"one\n".to_vec(),
            "generation" => format!("{}\n", self.requests.borrow()[request].0).into_bytes(),
            _ => return Err(io::ErrorKind::NotFound.into()),
        };
        Ok((bytes.len() <= limit).then_some(bytes))
    }

    fn write(&self, request: &str, attribute: &str, bytes: &[u8]) -> io::Result<()> {
        assert_eq!(attribute, "inblob");
        if self.fault == Fault::Busy {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        let mut requests = self.requests.borrow_mut();
        let (generation, data) = requests.get_mut(request).unwrap();
        *generation += 1;
        *data = bytes.try_into().unwrap();
        Ok(())
    }

    fn remove(&self, request: &str) -> io::Result<()> {
        self.requests
            .borrow_mut()
            .remove(request)
            .map(|_| ())
            .ok_or(io::ErrorKind::NotFound.into())
    }
}

/// One request as the attester makes it, echo check included; afterwards no
/// directory may be left.
fn ask(fault: Fault) -> Result<SnpEvidence, AttesterError> {
    let kernel = Kernel::with(fault);
    let data = [7; 64];
    let result = request(&kernel, &data).and_then(|evidence| check_echo(evidence, &data));
    assert_eq!(
        kernel.created.get(),
        1,
        "a request is made once, whatever happens"
    );
    assert!(
        kernel.requests.borrow().is_empty(),
        "the request's directory is removed"
    );
    result
}

#[test]
fn emulated_tree_gives_report_and_certificates() {
    let evidence = ask(Fault::None).unwrap();
    assert_eq!(evidence.report.report_data(), &[7; 64]);
    assert_eq!(
        evidence.certs.get(CertKind::Vcek),
        Some([0x30; 8].as_slice())
    );
}

#[test]
fn emulated_tree_without_certificates_gives_the_report_alone() {
    assert!(ask(Fault::NoAuxblob).unwrap().certs.is_empty());
}

#[test]
fn emulated_tree_with_a_second_writer_is_refused() {
    for fault in [Fault::Race, Fault::LateWrite] {
        let error = ask(fault).unwrap_err();
        assert!(
            matches!(error, AttesterError::Generation { expected: 1, actual } if actual == "2")
        );
    }
    let error = ask(Fault::BadGeneration).unwrap_err();
    assert!(matches!(error, AttesterError::Generation { actual, .. } if actual == "one"));
}

#[test]
fn emulated_tree_that_signs_other_data_is_refused() {
    assert!(matches!(
        ask(Fault::OtherData),
        Err(AttesterError::ReportDataDiffers)
    ));
}

#[test]
fn emulated_tree_of_another_tee_is_refused_before_anything_is_written() {
    let error = ask(Fault::OtherProvider).unwrap_err();
    assert!(matches!(error, AttesterError::Provider { provider } if provider == "tdx_guest"));
}

#[test]
fn emulated_tree_that_is_busy_is_not_asked_again() {
    let error = ask(Fault::Busy).unwrap_err();
    assert!(matches!(
        error,
        AttesterError::Configfs {
            action: "written",
            ..
        }
    ));
}

#[test]
fn emulated_tree_with_malformed_blobs_is_refused() {
    assert!(matches!(
        ask(Fault::LongReport),
        Err(AttesterError::AttributeTooLong {
            limit: MAX_REPORT_BYTES,
            ..
        })
    ));
    assert!(matches!(
        ask(Fault::ShortReport),
        Err(AttesterError::Evidence(_))
    ));
    assert!(matches!(
        ask(Fault::BadTable),
        Err(AttesterError::Evidence(_))
    ));
}

#[tokio::test]
async fn a_plain_directory_is_no_report_tree_and_stays_clean() {
    let dir = tempfile::tempdir().unwrap();
    let attester = ConfigfsAttester::at(dir.path());
    assert!(attester.is_present());
    let error = attester.evidence(&[0; 64]).await.unwrap_err();
    assert!(
        matches!(error, AttesterError::Configfs { action: "read", .. }),
        "{error:?}"
    );
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn files_are_read_up_to_the_limit_and_written_in_place() {
    let dir = tempfile::tempdir().unwrap();
    let tree = Directory {
        base: dir.path().to_owned(),
    };
    tree.create("request").unwrap();
    assert_eq!(
        tree.create("request").unwrap_err().kind(),
        io::ErrorKind::AlreadyExists
    );
    // An attribute that the kernel did not make is not made by us either.
    assert!(tree.write("request", "inblob", b"data").is_err());
    fs::write(tree.path("request", "inblob"), b"0123456789").unwrap();
    assert_eq!(tree.read("request", "inblob", 9).unwrap(), None);
    assert_eq!(
        tree.read("request", "inblob", 10).unwrap().unwrap(),
        b"0123456789"
    );
    tree.write("request", "inblob", b"abc").unwrap();
    assert_eq!(
        tree.read("request", "inblob", 10).unwrap().unwrap(),
        b"abc3456789"
    );
}

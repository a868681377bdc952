//! The launch of a TDX guest.

use redoubt_initdata::Initdata;

use super::protection::{Shape, firmware};
use super::{QuoteService, TdxLaunchPlan};
use crate::config::HypervisorSettings;
use crate::error::PlanError;
use crate::files::MeasuredFiles;

/// Where Intel's quote generation service listens.
const QUOTE_SOCKET: &str = "/var/run/tdx-qgs/qgs.socket";
/// Where it listens unless it is told otherwise.
const QUOTE_PORT: u32 = 4050;

pub(super) fn launch(
    settings: &HypervisorSettings,
    files: &MeasuredFiles,
    shape: &Shape<'_>,
    quote_socket: bool,
) -> Result<TdxLaunchPlan, PlanError> {
    let (path, image) = firmware(files)?;
    image
        .require_tdx_sections()
        .map_err(|cause| PlanError::NoTdxMetadata {
            path: path.to_owned(),
            cause,
        })?;
    let quote_service = match settings.tdx_quote_generation_service_socket_port {
        0 if quote_socket => QuoteService::Unix {
            path: QUOTE_SOCKET.into(),
        },
        0 => QuoteService::Vsock { port: QUOTE_PORT },
        port => QuoteService::Vsock { port },
    };
    let initdata = shape.initdata.map(Initdata::mr_config_id);
    Ok(TdxLaunchPlan {
        mr_config_id: initdata.unwrap_or([0; 48]),
        quote_service,
    })
}

//! Evidence sources of the guest.

//! Pull, verify, decrypt and unpack images inside the guest.

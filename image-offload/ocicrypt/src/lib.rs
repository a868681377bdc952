//! Encrypted image layers: ocicrypt format, key wrapping and the layer cipher.

//! Containers in the guest: libcontainer in a fresh process, standard streams, statistics.

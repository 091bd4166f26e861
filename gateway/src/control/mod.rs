//! The control plane: one tokio thread for admin, signals, names; one thread for the access log.

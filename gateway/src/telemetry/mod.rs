//! Every metric name and log field in one place, and the per-worker counters. A leaf.

//! The storage engine: partitions, files, threads.

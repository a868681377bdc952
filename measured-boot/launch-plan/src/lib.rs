//! Configuration, annotations and the launch plan with its readers.

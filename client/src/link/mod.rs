//! One logical connection over many physical ones.

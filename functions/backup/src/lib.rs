//! Keepsake

//! Connections over a real Driver on loopback.

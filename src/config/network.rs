//! The network part of the kernel command line (dracut.cmdline(7)), parsed. Pure.

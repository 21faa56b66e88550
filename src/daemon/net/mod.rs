//! Network bring-up over netlink, and its undoing.

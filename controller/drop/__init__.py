"""Drop folders: what lies in a watched prefix becomes jobs. `scan` decides, `bucket` does IO."""

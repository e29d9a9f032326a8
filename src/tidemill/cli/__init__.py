"""`tidemill …`: one file per command, on top of `tidemill.sdk`, on top of HTTP."""

"""Any stretch of the log, answered again or made a dataset."""

"""Jobs on the command line: the connection, tables and JSON, progress of a running job."""
